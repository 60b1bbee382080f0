#include "flm_merge.h"

#include <stdlib.h>

#define MAX_CHUNKS FLM_UNION_PIECES
#define KEYS_PER_PIECE 8192
#define ENTRIES_PER_CHUNK 4096
#define SERIAL 65536 /* waking up threads takes longer than so many entries */

static int count_chunks(flm_index n, flm_index each)
{
    const flm_index chunks = n / each;
    return chunks < 1 ? 1 : chunks > MAX_CHUNKS ? MAX_CHUNKS : (int)chunks;
}

/* ---- the union of keys -------------------------------------------------------------- */

/* How many of b[0 .. nb) are below the key. */
static flm_index count_below(flm_index nb, const int64_t *b, int64_t key)
{
    flm_index low = 0;
    while (nb > 0) {
        const flm_index half = nb / 2;
        if (b[low + half] < key) {
            low += half + 1;
            nb -= half + 1;
        } else {
            nb = half;
        }
    }
    return low;
}

/* Keys that both have, without branches that random keys would mispredict. */
static flm_index count_shared(const int64_t *restrict a, flm_index i, flm_index na, const int64_t *restrict b,
                              flm_index j, flm_index nb)
{
    flm_index shared = 0;
    while (i < na && j < nb) {
        const int64_t x = a[i], y = b[j];
        shared += x == y;
        i += x <= y;
        j += y <= x;
    }
    return shared;
}

flm_index flm_union_count(flm_union *self, int n_threads)
{
    const flm_index na = self->na, nb = self->nb;
    const int swapped = na < nb; /* the longer one is cut evenly */
    const int64_t *longer = swapped ? self->b : self->a, *other = swapped ? self->a : self->b;
    const flm_index most = swapped ? nb : na, least = swapped ? na : nb;
    flm_index *at_longer = swapped ? self->start_b : self->start_a;
    flm_index *at_other = swapped ? self->start_a : self->start_b;
    const int pieces = self->pieces = count_chunks(most, KEYS_PER_PIECE);
    for (int c = 0; c <= pieces; c++) {
        at_longer[c] = most * c / pieces;
        at_other[c] = c == 0 ? 0 : c == pieces ? least : count_below(least, other, longer[at_longer[c]]);
    }
    self->start[0] = 0;
#pragma omp parallel for schedule(static, 1) num_threads(n_threads) if (n_threads > 1 && most > SERIAL)
    for (int c = 0; c < pieces; c++)
        self->start[c + 1] = self->start_a[c + 1] - self->start_a[c] + self->start_b[c + 1] - self->start_b[c] -
                             count_shared(self->a, self->start_a[c], self->start_a[c + 1], self->b,
                                          self->start_b[c], self->start_b[c + 1]);
    for (int c = 0; c < pieces; c++)
        self->start[c + 1] += self->start[c];
    return self->start[pieces];
}

/* Entries of a piece; what is not wanted is NULL, and known to be when this is compiled. */
FLM_INLINE void list_piece(const flm_union *self, int c, int64_t *restrict keys, flm_index *restrict from_a,
                           flm_index *restrict from_b)
{
    const int64_t *restrict a = self->a, *restrict b = self->b;
    flm_index i = self->start_a[c], j = self->start_b[c], n = self->start[c];
    const flm_index na = self->start_a[c + 1], nb = self->start_b[c + 1];
    while (n < self->start[c + 1]) {
        const int64_t x = i < na ? a[i] : INT64_MAX, y = j < nb ? b[j] : INT64_MAX;
        const int in_a = (i < na) & ((x <= y) | (j >= nb)), in_b = (j < nb) & ((y <= x) | (i >= na));
        if (keys)
            keys[n] = in_a ? x : y;
        if (from_a)
            from_a[n] = in_a ? i : -1;
        if (from_b)
            from_b[n] = in_b ? j : -1;
        i += in_a;
        j += in_b;
        n++;
    }
}

void flm_union_list(const flm_union *self, int64_t *keys, flm_index *from_a, flm_index *from_b, int n_threads)
{
#pragma omp parallel for schedule(static, 1) num_threads(n_threads) \
    if (n_threads > 1 && self->na + self->nb > SERIAL)
    for (int c = 0; c < self->pieces; c++) {
        if (!keys && !from_a) /* b lies in a */
            list_piece(self, c, NULL, NULL, from_b);
        else if (!keys && !from_b)
            list_piece(self, c, NULL, from_a, NULL);
        else
            list_piece(self, c, keys, from_a, from_b);
    }
}

/* ---- the sums ------------------------------------------------------------------------ */

/* Whether all places lie in [-1, n). */
FLM_CLONES static int are_places(const flm_index *restrict from, flm_index lo, flm_index hi, flm_index n)
{
    int64_t outside = 0;
#ifdef _OPENMP
#pragma omp simd reduction(| : outside)
#endif
    for (flm_index i = lo; i < hi; i++)
        outside |= (from[i] < -1) | (from[i] >= n);
    return !outside;
}

typedef struct {
    flm_index width, na, nb;
    const double *A, *B, *zeros; /* zeros (width): what an absent level has */
    const flm_index *from_a, *from_b;
    double *out;
} addition;

FLM_INLINE const double *row_of(const double *X, const flm_index *from, flm_index i, flm_index width,
                                const double *zeros)
{
    const flm_index place = from ? from[i] : i;
    return place < 0 ? zeros : X + place * width;
}

FLM_INLINE void add_width(const addition *job, const flm_index width, flm_index lo, flm_index hi)
{
    for (flm_index i = lo; i < hi; i++) {
        const double *x = row_of(job->A, job->from_a, i, width, job->zeros);
        const double *y = row_of(job->B, job->from_b, i, width, job->zeros);
        double *restrict sum = job->out + i * width;
        FLM_SIMD
        for (flm_index j = 0; j < width; j++)
            sum[j] = x[j] + y[j];
    }
}

FLM_CLONES static void add_chunk(const addition *job, flm_index lo, flm_index hi)
{
    switch (job->width) { /* widths met in practice are compiled with the size known */
    case 1: add_width(job, 1, lo, hi); break;
    case 2: add_width(job, 2, lo, hi); break;
    case 3: add_width(job, 3, lo, hi); break;
    case 4: add_width(job, 4, lo, hi); break;
    case 5: add_width(job, 5, lo, hi); break;
    case 6: add_width(job, 6, lo, hi); break;
    case 8: add_width(job, 8, lo, hi); break;
    case 10: add_width(job, 10, lo, hi); break;
    case 12: add_width(job, 12, lo, hi); break;
    default: add_width(job, job->width, lo, hi);
    }
}

flm_status flm_add_rows(flm_index n, flm_index width, flm_index na, const double *A, const flm_index *from_a,
                        flm_index nb, const double *B, const flm_index *from_b, double *out, int n_threads)
{
    double *zeros = calloc((size_t)width, sizeof(double));
    if (!zeros)
        return FLM_NO_MEMORY;
    const addition job = {width, na, nb, A, B, zeros, from_a, from_b, out};
    const flm_index chunks = count_chunks(n, ENTRIES_PER_CHUNK);
    int outside = 0;
#pragma omp parallel for schedule(static) num_threads(n_threads) reduction(| : outside) \
    if (n_threads > 1 && n * width > SERIAL)
    for (flm_index c = 0; c < chunks; c++) {
        const flm_index lo = n * c / chunks, hi = n * (c + 1) / chunks;
        if ((from_a && !are_places(from_a, lo, hi, na)) || (from_b && !are_places(from_b, lo, hi, nb)))
            outside = 1;
        else
            add_chunk(&job, lo, hi);
    }
    free(zeros);
    return outside ? FLM_BAD_ARGUMENT : FLM_OK;
}

FLM_INLINE int64_t count_of(const int64_t *X, const flm_index *from, flm_index i)
{
    return !from ? X[i] : from[i] < 0 ? 0 : X[from[i]];
}

flm_status flm_add_counts(flm_index n, flm_index na, const int64_t *A, const flm_index *from_a, flm_index nb,
                          const int64_t *B, const flm_index *from_b, int64_t *out, int n_threads)
{
    const flm_index chunks = count_chunks(n, ENTRIES_PER_CHUNK);
    int outside = 0;
#pragma omp parallel for schedule(static) num_threads(n_threads) reduction(| : outside) \
    if (n_threads > 1 && n > SERIAL)
    for (flm_index c = 0; c < chunks; c++) {
        const flm_index lo = n * c / chunks, hi = n * (c + 1) / chunks;
        if ((from_a && !are_places(from_a, lo, hi, na)) || (from_b && !are_places(from_b, lo, hi, nb))) {
            outside = 1;
            continue;
        }
        for (flm_index i = lo; i < hi; i++)
            out[i] = count_of(A, from_a, i) + count_of(B, from_b, i);
    }
    return outside ? FLM_BAD_ARGUMENT : FLM_OK;
}

flm_status flm_order_codes(flm_index n, const flm_code *codes, flm_index levels, flm_index *order)
{
    flm_index *next = calloc((size_t)levels + 1, sizeof(flm_index));
    if (!next)
        return FLM_NO_MEMORY;
    int outside = 0;
    for (flm_index i = 0; i < n; i++) {
        const int wrong = codes[i] < 0 || codes[i] >= levels;
        outside |= wrong;
        next[wrong ? 0 : codes[i] + 1]++;
    }
    for (flm_index l = 0; l < levels; l++)
        next[l + 1] += next[l];
    for (flm_index i = 0; i < n && !outside; i++)
        order[next[codes[i]]++] = i;
    free(next);
    return outside ? FLM_BAD_ARGUMENT : FLM_OK;
}
