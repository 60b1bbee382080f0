/* Residuals are recomputed block by block in each of three passes (extremes and
 * moments, histogram, collection of the few bins that hold a wanted rank), which
 * costs less than storing them.  A distribution so concentrated that a bin stays
 * long is resolved digit by digit on the ordered bit pattern instead. */
#include "flm_quantiles.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define ROWS FLM_BLOCK
#define PIECES 64
#define BIN_BITS 13
#define BINS (1 << BIN_BITS)

typedef struct {
    const flm_residual_source *rows;
    double inverse_sigma;
    double *scratch; /* (threads, scratch_size), for the columns of a block */
    ptrdiff_t scratch_size;
    flm_index n;
    int n_threads;
} flm_residuals;

static double *own_scratch(const flm_residuals *source)
{
#ifdef _OPENMP
    return source->scratch + omp_get_thread_num() * source->scratch_size;
#else
    return source->scratch;
#endif
}

FLM_CLONES static void scale_block(const double *restrict y, const double *restrict eta,
                                   const double *restrict weights, double inverse_sigma, int m,
                                   double *restrict r)
{
    FLM_SIMD
    for (int i = 0; i < m; i++)
        r[i] = (y[i] - eta[i]) * inverse_sigma;
    if (weights)
        for (int i = 0; i < m; i++)
            r[i] *= sqrt(weights[i]);
}

/* Residuals of one block of rows; the linear predictor is stored, or summed from its parts. */
static int residual_block(const flm_residuals *source, flm_index at, flm_index end, double *r)
{
    const flm_residual_source *rows = source->rows;
    const int m = (int)(end - at < ROWS ? end - at : ROWS);
    const double *eta = rows->eta ? rows->eta + at : NULL;
    double predicted[ROWS];
    if (!eta) {
        double *scratch = own_scratch(source);
        memset(predicted, 0, sizeof(double) * (size_t)m);
        for (int p = 0; p < rows->n_parts; p++)
            flm_add_part(rows->parts + p, at, m, scratch, predicted);
        eta = predicted;
    }
    scale_block(rows->y + at, eta, rows->weights ? rows->weights + at : NULL, source->inverse_sigma, m, r);
    return m;
}

static flm_index piece_start(flm_index n, int piece)
{
    const flm_index step = ((n + PIECES - 1) / PIECES + ROWS - 1) / ROWS * ROWS;
    return piece * step < n ? piece * step : n;
}

typedef struct {
    double smallest, largest, sum, square;
} flm_extremes;

FLM_CLONES static void add_block(const double *restrict r, int m, flm_extremes *piece)
{
    double lo = piece->smallest, hi = piece->largest, sum = 0, square = 0;
#ifdef _OPENMP
#pragma omp simd reduction(min : lo) reduction(max : hi) reduction(+ : sum, square)
#endif
    for (int i = 0; i < m; i++) {
        lo = r[i] < lo ? r[i] : lo;
        hi = r[i] > hi ? r[i] : hi;
        sum += r[i];
        square += r[i] * r[i];
    }
    piece->smallest = lo, piece->largest = hi;
    piece->sum += sum, piece->square += square;
}

static flm_extremes extremes(const flm_residuals *source)
{
    flm_extremes pieces[PIECES], all = {INFINITY, -INFINITY, 0, 0};
#pragma omp parallel for num_threads(source->n_threads) schedule(static) if (source->n > 65536)
    for (int p = 0; p < PIECES; p++) {
        double r[ROWS];
        const flm_index end = piece_start(source->n, p + 1);
        pieces[p] = all;
        for (flm_index at = piece_start(source->n, p); at < end; at += ROWS)
            add_block(r, residual_block(source, at, end, r), pieces + p);
    }
    for (int p = 0; p < PIECES; p++) {
        all.smallest = fmin(all.smallest, pieces[p].smallest);
        all.largest = fmax(all.largest, pieces[p].largest);
        all.sum += pieces[p].sum;
        all.square += pieces[p].square;
    }
    return all;
}

typedef struct {
    double low, scale;
} flm_bins;

FLM_INLINE int bin_of(flm_bins bins, double r)
{
    const int bin = (int)((r - bins.low) * bins.scale);
    return bin < BINS ? bin : BINS - 1;
}

static int histogram(const flm_residuals *source, flm_bins bins, flm_index *count)
{
    int failed = 0;
    memset(count, 0, sizeof(flm_index) * BINS);
#pragma omp parallel num_threads(source->n_threads) if (source->n > 65536)
    {
        flm_index *own = calloc(BINS, sizeof(flm_index));
        double r[ROWS];
        if (!own) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int p = 0; p < PIECES; p++) {
            const flm_index end = piece_start(source->n, p + 1);
            for (flm_index at = piece_start(source->n, p); own && at < end; at += ROWS) {
                const int m = residual_block(source, at, end, r);
                for (int i = 0; i < m; i++)
                    own[bin_of(bins, r[i])]++;
            }
        }
#pragma omp critical
        for (int b = 0; own && b < BINS; b++)
            count[b] += own[b];
        free(own);
    }
    return failed;
}

/* Values of the wanted bins, in no particular order. */
static void collect(const flm_residuals *source, flm_bins bins, const unsigned char *wanted, double *values)
{
    flm_index filled = 0;
#pragma omp parallel for num_threads(source->n_threads) schedule(static) if (source->n > 65536)
    for (int p = 0; p < PIECES; p++) {
        double r[ROWS], found[ROWS];
        const flm_index end = piece_start(source->n, p + 1);
        for (flm_index at = piece_start(source->n, p); at < end; at += ROWS) {
            const int m = residual_block(source, at, end, r);
            int hits = 0;
            for (int i = 0; i < m; i++) {
                found[hits] = r[i];
                hits += wanted[bin_of(bins, r[i])];
            }
            flm_index to;
#pragma omp atomic capture
            {
                to = filled;
                filled += hits;
            }
            memcpy(values + to, found, sizeof(double) * (size_t)hits);
        }
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Doubles in order of value as unsigned integers, and back. */
static uint64_t ordered_bits(double x)
{
    uint64_t bits;
    x += 0.0; /* -0 -> 0 */
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

static double from_ordered_bits(uint64_t bits)
{
    double x;
    bits = bits >> 63 ? bits & ~((uint64_t)1 << 63) : ~bits;
    memcpy(&x, &bits, sizeof x);
    return x;
}

typedef struct {
    int n_prefixes, top, low; /* bits top - 1 .. low make the digit, those above must be a prefix */
    uint64_t *prefix;
    flm_index *count; /* (n_prefixes, BINS) */
} flm_digits;

static void count_digits(const flm_digits *digits, const double *r, int m, flm_index *restrict count)
{
    const uint64_t mask = ((uint64_t)1 << (digits->top - digits->low)) - 1;
    for (int i = 0; i < m; i++) {
        const uint64_t bits = ordered_bits(r[i]), above = digits->top == 64 ? 0 : bits >> digits->top;
        for (int d = 0; d < digits->n_prefixes; d++)
            if (digits->prefix[d] == above)
                count[(ptrdiff_t)d * BINS + (ptrdiff_t)(bits >> digits->low & mask)]++;
    }
}

static int digit_histogram(const flm_residuals *source, const flm_digits *digits)
{
    const size_t size = (size_t)digits->n_prefixes * BINS;
    int failed = 0;
    memset(digits->count, 0, sizeof(flm_index) * size);
#pragma omp parallel num_threads(source->n_threads) if (source->n > 65536)
    {
        flm_index *own = calloc(size, sizeof(flm_index));
        double r[ROWS];
        if (!own) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int p = 0; p < PIECES; p++) {
            const flm_index end = piece_start(source->n, p + 1);
            for (flm_index at = piece_start(source->n, p); own && at < end; at += ROWS)
                count_digits(digits, r, residual_block(source, at, end, r), own);
        }
#pragma omp critical
        for (size_t b = 0; own && b < size; b++)
            digits->count[b] += own[b];
        free(own);
    }
    return failed;
}

/* The distinct ones among the prefixes of the ranks. */
static void list_prefixes(flm_digits *digits, int n_ranks, const uint64_t *known, int *place)
{
    digits->n_prefixes = 0;
    for (int j = 0; j < n_ranks; j++) {
        place[j] = 0;
        while (place[j] < digits->n_prefixes && digits->prefix[place[j]] != known[j])
            place[j]++;
        if (place[j] == digits->n_prefixes)
            digits->prefix[digits->n_prefixes++] = known[j];
    }
}

/* The values of all ranks, BIN_BITS bits at a time from the top. */
static flm_status by_digits(const flm_residuals *source, int n_ranks, const flm_index *ranks, double *order)
{
    const size_t m = (size_t)n_ranks;
    flm_index *left = malloc(sizeof(flm_index) * m);
    uint64_t *known = calloc(m, sizeof(uint64_t));
    int *place = malloc(sizeof(int) * m);
    flm_digits digits = {.prefix = malloc(sizeof(uint64_t) * m), .count = malloc(sizeof(flm_index) * m * BINS)};
    int failed = !left || !known || !place || !digits.prefix || !digits.count;
    if (!failed)
        memcpy(left, ranks, sizeof(flm_index) * m);
    for (int top = 64; top > 0 && !failed; top = digits.low) {
        digits.top = top, digits.low = top > BIN_BITS ? top - BIN_BITS : 0;
        list_prefixes(&digits, n_ranks, known, place);
        failed = digit_histogram(source, &digits);
        for (int j = 0; j < n_ranks && !failed; j++) {
            const flm_index *count = digits.count + (ptrdiff_t)place[j] * BINS;
            uint64_t digit = 0;
            while (left[j] >= count[digit])
                left[j] -= count[digit++];
            known[j] = known[j] << (digits.top - digits.low) | digit;
        }
    }
    for (int j = 0; j < n_ranks && !failed; j++)
        order[j] = from_ordered_bits(known[j]);
    free(left), free(known), free(place), free(digits.prefix), free(digits.count);
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

/* Marks the bins that hold a rank; returns how many values they have. */
static flm_index want_bins(const flm_index *count, int n_ranks, const flm_index *ranks, unsigned char *wanted)
{
    flm_index total = 0, below = 0;
    for (int b = 0; b < BINS; b++) {
        wanted[b] = 0;
        for (int j = 0; j < n_ranks; j++)
            if (ranks[j] >= below && ranks[j] < below + count[b])
                wanted[b] = 1;
        below += count[b];
        total += wanted[b] ? count[b] : 0;
    }
    return total;
}

static void pick(const flm_index *count, const unsigned char *wanted, int n_ranks, const flm_index *ranks,
                 const double *values, double *order)
{
    flm_index below = 0, kept = 0;
    for (int b = 0; b < BINS; b++) {
        for (int j = 0; wanted[b] && j < n_ranks; j++)
            if (ranks[j] >= below && ranks[j] < below + count[b])
                order[j] = values[kept + ranks[j] - below];
        below += count[b];
        kept += wanted[b] ? count[b] : 0;
    }
}

/* Order statistics from a histogram between the extremes, or by digits where its bins are too long. */
static flm_status order_statistics(const flm_residuals *source, flm_bins bins, int n_ranks,
                                   const flm_index *ranks, double *order)
{
    if (!isfinite(bins.scale))
        return by_digits(source, n_ranks, ranks, order);
    flm_index *count = malloc(sizeof(flm_index) * BINS);
    unsigned char *wanted = malloc(BINS);
    double *values = NULL;
    flm_status status = count && wanted && !histogram(source, bins, count) ? FLM_OK : FLM_NO_MEMORY;
    if (status == FLM_OK) {
        const flm_index total = want_bins(count, n_ranks, ranks, wanted);
        if (total > 65536 + source->n / 32) {
            status = by_digits(source, n_ranks, ranks, order);
        } else if (!(values = malloc(sizeof(double) * (size_t)(total + 1)))) {
            status = FLM_NO_MEMORY;
        } else {
            collect(source, bins, wanted, values);
            qsort(values, (size_t)total, sizeof(double), ascending);
            pick(count, wanted, n_ranks, ranks, values, order);
        }
    }
    free(values);
    free(wanted);
    free(count);
    return status;
}

flm_status flm_residual_summary(const flm_residual_source *rows, double sigma, flm_index n, int n_ranks,
                                const flm_index *ranks, double *order, double *sums, int n_threads)
{
    flm_residuals source = {.rows = rows, .inverse_sigma = 1 / sigma, .n = n, .n_threads = n_threads};
    int widest = 1;
    for (int p = 0; p < rows->n_parts; p++)
        if (rows->parts[p].columns->n_columns > widest)
            widest = rows->parts[p].columns->n_columns;
    source.scratch_size = (ptrdiff_t)widest * FLM_BLOCK;
    source.scratch = malloc(sizeof(double) * (size_t)source.scratch_size * (size_t)n_threads);
    if (!source.scratch)
        return FLM_NO_MEMORY;
    const flm_extremes all = extremes(&source);
    const flm_bins bins = {all.smallest, BINS / (all.largest - all.smallest)};
    sums[0] = all.sum, sums[1] = all.square;
    const flm_status status =
        isfinite(all.square) ? order_statistics(&source, bins, n_ranks, ranks, order) : FLM_BAD_ARGUMENT;
    free(source.scratch);
    return status;
}
