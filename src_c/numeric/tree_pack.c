/* Once per model: pack the levels of one factor, sum them by group size; and the
 * posterior covariance of each level, once per fit. */
#include "tree_reduce.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CHUNKS 32
#define LEVELS_PER_CHUNK 1024 /* a multiple of FLM_LANES */

#define COLLAPSE_CHUNKS 8
#define MANY_LEVELS 65536
#define SMALL_SUMS 65536 /* numbers, which stay in a cache */
#define BATCH 4 /* packs added to the sums together: a fourth of the traffic */

/* sum[c, d] += E'E, d <= c < u, of `packs` packs in a row */
FLM_INLINE void add_within(const int k, const int u, const flm_lanes *pack, flm_index stride, int packs,
                           flm_lanes *restrict sum)
{
    for (int c = 0; c < u; c++)
        for (int d = 0; d <= c; d++) {
            const flm_lanes *E = pack + LOWER(k, 0);
            flm_lanes product = {0};
            for (int q = 0; q < packs; q++, E += stride)
                for (int a = 0; a < k; a++)
                    product += E[(flm_index)a * u + c] * E[(flm_index)a * u + d];
            *sum++ += product;
        }
}

/* Levels [first, last), first a multiple of FLM_LANES, into `pack`, or nowhere when that is NULL.  `sum`: the
 * lower triangle (u (u + 1) / 2); `room`: a batch of packs, and a tail. */
FLM_INLINE flm_status pack_levels(const int k, const flm_levels *self, flm_index first, flm_index last, double *pack,
                                  flm_lanes *sum, flm_lanes *room, flm_index *level)
{
    const int u = self->u;
    const flm_index stride = LOWER(k, 0) + (flm_index)k * u;
    double *tail = (double *)(room + BATCH * stride);
    flm_lanes *batch = pack ? (flm_lanes *)pack + first / FLM_LANES * stride : room;
    int waiting = 0;
    for (flm_index i = first; i < last; i += FLM_LANES) {
        flm_bits infinite, negative;
        reduce_pack(k, self, pack_of_levels(self, i, tail), batch + waiting * stride, &infinite, &negative);
        const flm_bits bad = infinite | negative;
        for (int l = 0; l < FLM_LANES; l++)
            if (bad[l]) {
                *level = i + l;
                return infinite[l] ? FLM_BAD_ARGUMENT : FLM_NOT_POSITIVE;
            }
        if (++waiting == BATCH) {
            add_within(k, u, batch, stride, BATCH, sum);
            waiting = 0;
            if (pack)
                batch += BATCH * stride;
        }
    }
    add_within(k, u, batch, stride, waiting, sum);
    return FLM_OK;
}

FLM_CLONES static flm_status pack_some(const flm_levels *self, flm_index first, flm_index last, double *pack,
                                       flm_lanes *sum, flm_lanes *room, flm_index *level)
{
    switch (self->k) { /* sizes met in practice are compiled with k known */
    case 1: return pack_levels(1, self, first, last, pack, sum, room, level);
    case 2: return pack_levels(2, self, first, last, pack, sum, room, level);
    case 3: return pack_levels(3, self, first, last, pack, sum, room, level);
    default: return pack_levels(self->k, self, first, last, pack, sum, room, level);
    }
}

/* Packs levels [first, last); within (u x u): the lower triangle of their sum of E'E. */
static flm_status pack_chunk(const flm_levels *self, flm_index first, flm_index last, double *pack, double *within,
                             flm_index *level)
{
    const size_t u = (size_t)self->u, k = (size_t)self->k, triangle = u * (u + 1) / 2;
    const size_t record = k * (k + 1) / 2 + k * u;
    void *memory = malloc((triangle + BATCH * record + k * (size_t)self->ld + 1) * FLM_ALIGN);
    if (!memory)
        return FLM_NO_MEMORY;
    flm_lanes *sum = (void *)(((uintptr_t)memory + FLM_ALIGN - 1) & ~(uintptr_t)(FLM_ALIGN - 1));
    memset(sum, 0, triangle * FLM_ALIGN);
    const flm_status status = pack_some(self, first, last, pack, sum, sum + triangle, level);
    const double *lanes = (const double *)sum;
    for (size_t c = 0; c < u; c++)
        for (size_t d = 0; d <= c; d++, lanes += FLM_LANES)
            within[c * u + d] = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
                                ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    free(memory);
    return status;
}

static flm_index count_chunks(flm_index levels)
{
    const flm_index chunks = levels / LEVELS_PER_CHUNK;
    return chunks < 1 ? 1 : chunks > MAX_CHUNKS ? MAX_CHUNKS : chunks;
}

/* chunk boundaries fall between packs */
static flm_index boundary(flm_index levels, flm_index chunks, flm_index c)
{
    return c == chunks ? levels : levels * c / chunks / FLM_LANES * FLM_LANES;
}

flm_status flm_levels_pack(flm_index levels, int k, int u, flm_index ld, const double *R, const int64_t *z,
                           const int64_t *xy, double *pack, double *within, flm_index *level, int n_threads)
{
    const flm_levels self = {levels, k, u, NULL, R, ld, z, xy};
    const flm_index chunks = count_chunks(levels), size = (flm_index)u * u;
    double *sums = calloc((size_t)(chunks * size), sizeof(double));
    if (!sums)
        return FLM_NO_MEMORY;
    flm_status status[MAX_CHUNKS];
    flm_index bad[MAX_CHUNKS];
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads) if (n_threads > 1 && chunks > 16)
#endif
    for (flm_index c = 0; c < chunks; c++)
        status[c] = pack_chunk(&self, boundary(levels, chunks, c), boundary(levels, chunks, c + 1), pack,
                               sums + c * size, bad + c);
    flm_status result = FLM_OK;
    memset(within, 0, (size_t)size * sizeof(double));
    for (flm_index c = 0; c < chunks && result == FLM_OK; c++) {
        result = status[c];
        if (result != FLM_OK)
            *level = bad[c];
        for (flm_index s = 0; s < size; s++)
            within[s] += sums[c * size + s];
    }
    for (int i = 0; i < u; i++)
        for (int j = 0; j < i; j++)
            within[(flm_index)j * u + i] = within[(flm_index)i * u + j];
    free(sums);
    return result;
}

flm_status flm_levels_posterior(flm_index levels, int k, flm_index ld, const double *R, const int64_t *z,
                                const double *Lambda, double *out, flm_index *level, int n_threads)
{
    double *records = malloc((size_t)(levels * k * k) * sizeof(double));
    if (!records)
        return FLM_NO_MEMORY;
    for (flm_index i = 0; i < levels; i++)
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++)
                records[(i * k + a) * k + b] = R[(i * k + a) * ld + z[b]];
    flm_chain chain = {.depth = 1, .u = 0, .offset = {0, k}, .k = {k}, .width = {k}, .nodes = {levels}};
    chain.R[0] = records;
    chain.H[0] = out; /* nothing above: H_i is the posterior */
    double logdet, nothing = 0;
    int factor;
    const flm_status status =
        flm_chain_factorize(&chain, &Lambda, &nothing, &logdet, &nothing, level, &factor, n_threads);
    free(records);
    return status;
}

void flm_levels_ratios(flm_index levels, flm_index stride, const double *A, const int64_t *counts, double *low,
                       double *high, int n_threads)
{
    double smallest = INFINITY, largest = -INFINITY;
    int wrong = 0;
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(n_threads) reduction(min : smallest) reduction(max : largest) \
    reduction(| : wrong) if (n_threads > 1 && levels > 65536)
#endif
    for (flm_index i = 0; i < levels; i++) {
        const double ratio = A[i * stride] / (double)counts[i];
        wrong |= (counts[i] < 1) | !(fabs(ratio) < INFINITY);
        smallest = ratio < smallest ? ratio : smallest;
        largest = ratio > largest ? ratio : largest;
    }
    *low = wrong ? NAN : smallest;
    *high = wrong ? NAN : largest;
}

static void collapse_chunk(flm_index first, flm_index last, int u, flm_index ld, const double *R,
                           const int64_t *xy, const int32_t *group, double *sums)
{
    const flm_index size = (flm_index)u * u;
    for (flm_index i = first; i < last; i++) {
        const double *row = R + i * ld;
        double *sum = sums + group[i] * size;
        for (int c = 0; c < u; c++)
            for (int d = 0; d <= c; d++)
                sum[(flm_index)c * u + d] += row[xy[c]] * row[xy[d]];
    }
}

flm_status flm_levels_collapse(flm_index levels, int u, flm_index ld, const double *R, const int64_t *xy,
                               const int32_t *group, flm_index groups, double *sums, int n_threads)
{
    const flm_index size = groups * u * u;
    const int chunks = levels > MANY_LEVELS && size <= SMALL_SUMS ? COLLAPSE_CHUNKS : 1;
    double *partial = chunks == 1 ? sums : calloc((size_t)(chunks * size), sizeof(double));
    if (!partial)
        return FLM_NO_MEMORY;
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 1) num_threads(n_threads) if (n_threads > 1 && chunks > 1)
#endif
    for (int c = 0; c < chunks; c++)
        collapse_chunk(levels * c / chunks, levels * (c + 1) / chunks, u, ld, R, xy, group, partial + c * size);
    if (chunks > 1) {
        for (flm_index s = 0; s < chunks * size; s++)
            sums[s % size] += partial[s];
        free(partial);
    }
    return FLM_OK;
}
