/* Residuals are recomputed block by block in each of three passes (extremes and
 * moments, histogram, collection of the few bins that hold a wanted rank), which
 * costs less than storing them.  A distribution so concentrated that a bin stays
 * long is resolved digit by digit on the ordered bit pattern instead. */
#include "flm_quantiles.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 1024
#define PIECES 64
#define BIN_BITS 13
#define BINS (1 << BIN_BITS)

typedef struct {
    const double *y, *eta, *weights;
    double inverse_sigma;
    flm_index n;
    int n_threads;
} flm_residuals;

FLM_CLONES static int residual_block(const flm_residuals *source, flm_index at, flm_index end,
                                     double *restrict r)
{
    const int m = (int)(end - at < ROWS ? end - at : ROWS);
    const double *restrict y = source->y + at, *restrict eta = source->eta + at;
    FLM_SIMD
    for (int i = 0; i < m; i++)
        r[i] = (y[i] - eta[i]) * source->inverse_sigma;
    if (source->weights)
        for (int i = 0; i < m; i++)
            r[i] *= sqrt(source->weights[at + i]);
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

/* The value of one rank, BIN_BITS bits at a time from the top. */
static double by_digits(const flm_residuals *source, flm_index rank, flm_index *count)
{
    uint64_t prefix = 0;
    for (int top = 64; top > 0;) {
        const int low = top > BIN_BITS ? top - BIN_BITS : 0;
        const uint64_t mask = ((uint64_t)1 << (top - low)) - 1;
        double r[ROWS];
        memset(count, 0, sizeof(flm_index) * BINS);
        for (flm_index at = 0; at < source->n; at += ROWS) {
            const int m = residual_block(source, at, source->n, r);
            for (int i = 0; i < m; i++) {
                const uint64_t bits = ordered_bits(r[i]);
                if (top == 64 || bits >> top == prefix)
                    count[bits >> low & mask]++;
            }
        }
        uint64_t digit = 0;
        while (rank >= count[digit])
            rank -= count[digit++];
        prefix = prefix << (top - low) | digit;
        top = low;
    }
    return from_ordered_bits(prefix);
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

flm_status flm_residual_summary(const double *y, const double *eta, const double *weights, double sigma,
                                flm_index n, int n_ranks, const flm_index *ranks, double *order, double *sums,
                                int n_threads)
{
    const flm_residuals source = {y, eta, weights, 1 / sigma, n, n_threads};
    const flm_extremes all = extremes(&source);
    sums[0] = all.sum, sums[1] = all.square;
    if (!isfinite(all.square))
        return FLM_BAD_ARGUMENT;
    const flm_bins bins = {all.smallest, BINS / (all.largest - all.smallest)};
    flm_index *count = malloc(sizeof(flm_index) * BINS);
    unsigned char *wanted = malloc(BINS);
    double *values = NULL;
    flm_status status = count && wanted ? FLM_OK : FLM_NO_MEMORY;
    if (status == FLM_OK && !isfinite(bins.scale)) {
        for (int j = 0; j < n_ranks; j++)
            order[j] = by_digits(&source, ranks[j], count);
    } else if (status == FLM_OK && histogram(&source, bins, count)) {
        status = FLM_NO_MEMORY;
    } else if (status == FLM_OK) {
        const flm_index total = want_bins(count, n_ranks, ranks, wanted);
        if (total > 65536 + n / 32) {
            for (int j = 0; j < n_ranks; j++)
                order[j] = by_digits(&source, ranks[j], count);
        } else if (!(values = malloc(sizeof(double) * (size_t)(total + 1)))) {
            status = FLM_NO_MEMORY;
        } else {
            collect(&source, bins, wanted, values);
            qsort(values, (size_t)total, sizeof(double), ascending);
            pick(count, wanted, n_ranks, ranks, values, order);
        }
    }
    free(values);
    free(wanted);
    free(count);
    return status;
}
