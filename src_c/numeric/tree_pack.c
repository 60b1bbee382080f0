/* Once per model: pack the levels of one factor, sum them by group size; and the
 * posterior covariance of each level, once per fit. */
#include "flm_lanes.h"
#include "flm_tree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHUNKS 32
#define LEVELS_PER_CHUNK 1024 /* a multiple of FLM_LANES */

/* A pivot this small against its diagonal is rounding: the column of Z_i is a
 * combination of the others within the level. */
#define PIVOT_TOLERANCE 2e-15
#define NOT_A_GRAM_MATRIX (-1e-6)

#define LOWER(i, j) ((i) * ((i) + 1) / 2 + (j))
#define BATCH 4 /* packs added to the sums together: a fourth of the traffic */

typedef struct {
    flm_index levels, ld;
    int k, u;
    const double *R;
    const int64_t *z, *xy;
    double *pack;
} packing;

/* One number of eight levels that lie `stride` apart. */
FLM_INLINE void gather(const double *x, flm_index stride, flm_lanes *out)
{
    *out = (flm_lanes){x[0],          x[stride],     x[2 * stride], x[3 * stride],
                       x[4 * stride], x[5 * stride], x[6 * stride], x[7 * stride]};
}

/* All bits set in the lanes where a < b, none in the others.  By the sign of the difference, which + 0.0
 * keeps from being -0: GCC 12 takes comparisons of vectors apart. */
FLM_INLINE void below(const flm_lanes *a, const flm_lanes *b, flm_bits *out)
{
    *out = (flm_bits)(*a - *b + 0.0) >> 63;
}

/* 1 / sqrt(pivot) in the lanes of `good`, 0 in the others. */
FLM_INLINE void inverse_root(const flm_lanes *pivot, const flm_bits *good, flm_lanes *out)
{
    const flm_lanes one = {1, 1, 1, 1, 1, 1, 1, 1};
    const flm_lanes safe = (flm_lanes)(((flm_bits)*pivot & *good) | ((flm_bits)one & ~*good));
    flm_lanes root = {0};
    for (int l = 0; l < FLM_LANES; l++)
        root[l] = sqrt(safe[l]);
    *out = (flm_lanes)((flm_bits)(1.0 / root) & *good);
}

/* La (lower k) and E (k x u) of the eight levels from R on; lanes that are not finite, or no Gram matrix. */
FLM_INLINE void factor_pack(const int k, const packing *job, const double *R, flm_lanes *La, flm_bits *infinite,
                            flm_bits *negative)
{
    const int u = job->u;
    const flm_index ld = job->ld, stride = k * ld;
    flm_lanes *E = La + LOWER(k, 0), finite = {0};
    for (int a = 0; a < k; a++) {
        for (int b = 0; b <= a; b++) {
            gather(R + a * ld + job->z[b], stride, La + LOWER(a, b));
            finite += 0 * La[LOWER(a, b)];
        }
        for (int c = 0; c < u; c++) {
            gather(R + a * ld + job->xy[c], stride, E + (flm_index)a * u + c);
            finite += 0 * E[(flm_index)a * u + c];
        }
    }
    *infinite = (flm_bits)finite; /* +0 or NaN */
    *negative = (flm_bits){0};
    for (int j = 0; j < k; j++) {
        const flm_lanes diagonal = La[LOWER(j, j)];
        flm_lanes pivot = diagonal, inverse;
        for (int c = 0; c < j; c++)
            pivot -= La[LOWER(j, c)] * La[LOWER(j, c)];
        const flm_lanes negligible = PIVOT_TOLERANCE * diagonal, least = NOT_A_GRAM_MATRIX * diagonal;
        flm_bits good, wrong; /* also where the diagonal is negative */
        below(&negligible, &pivot, &good);
        below(&pivot, &least, &wrong);
        *negative |= wrong;
        inverse_root(&pivot, &good, &inverse);
        for (int i = j; i < k; i++) { /* La[:, j] */
            flm_lanes sum = La[LOWER(i, j)];
            for (int c = 0; c < j; c++)
                sum -= La[LOWER(i, c)] * La[LOWER(j, c)];
            La[LOWER(i, j)] = sum * inverse;
        }
        for (int c = 0; c < u; c++) { /* E[j] = (B[j] - La[j, :j] E[:j]) / La[j, j] */
            flm_lanes sum = E[(flm_index)j * u + c];
            for (int b = 0; b < j; b++)
                sum -= La[LOWER(j, b)] * E[(flm_index)b * u + c];
            E[(flm_index)j * u + c] = sum * inverse;
        }
    }
}

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

/* Levels [first, last), first a multiple of FLM_LANES; sum (u (u + 1) / 2), tail room for eight levels. */
FLM_INLINE flm_status pack_levels(const int k, const packing *job, flm_index first, flm_index last, flm_lanes *sum,
                                  double *tail, flm_index *level)
{
    const int u = job->u;
    const flm_index stride = LOWER(k, 0) + (flm_index)k * u, record = k * job->ld;
    flm_lanes *const begin = (flm_lanes *)job->pack + first / FLM_LANES * stride;
    flm_lanes *out = begin;
    int waiting = 0;
    for (flm_index i = first; i < last; i += FLM_LANES, out += stride) {
        const double *R = job->R + i * record;
        if (last - i < FLM_LANES) { /* levels that do not exist: zeros */
            memset(tail, 0, (size_t)(FLM_LANES * record) * sizeof(double));
            R = memcpy(tail, R, (size_t)((last - i) * record) * sizeof(double));
        }
        flm_bits infinite, negative;
        factor_pack(k, job, R, out, &infinite, &negative);
        const flm_bits bad = infinite | negative;
        for (int l = 0; l < FLM_LANES; l++)
            if (bad[l]) {
                *level = i + l;
                return infinite[l] ? FLM_BAD_ARGUMENT : FLM_NOT_POSITIVE;
            }
        if (++waiting == BATCH) {
            add_within(k, u, out - (BATCH - 1) * stride, stride, BATCH, sum);
            waiting = 0;
        }
    }
    add_within(k, u, out - waiting * stride, stride, waiting, sum);
    return FLM_OK;
}

FLM_CLONES static flm_status pack_some(const packing *job, flm_index first, flm_index last, flm_lanes *sum,
                                       double *tail, flm_index *level)
{
    switch (job->k) { /* sizes met in practice are compiled with k known */
    case 1: return pack_levels(1, job, first, last, sum, tail, level);
    case 2: return pack_levels(2, job, first, last, sum, tail, level);
    case 3: return pack_levels(3, job, first, last, sum, tail, level);
    default: return pack_levels(job->k, job, first, last, sum, tail, level);
    }
}

/* Packs levels [first, last); within (u x u): the lower triangle of their sum of E'E. */
static flm_status pack_chunk(const packing *job, flm_index first, flm_index last, double *within,
                             flm_index *level)
{
    const size_t u = (size_t)job->u, triangle = u * (u + 1) / 2;
    void *memory = malloc((triangle + (size_t)(job->k * job->ld) + 1) * FLM_ALIGN);
    if (!memory)
        return FLM_NO_MEMORY;
    flm_lanes *sum = (void *)(((uintptr_t)memory + FLM_ALIGN - 1) & ~(uintptr_t)(FLM_ALIGN - 1));
    memset(sum, 0, triangle * FLM_ALIGN);
    const flm_status status = pack_some(job, first, last, sum, (double *)(sum + triangle), level);
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
    const packing job = {levels, ld, k, u, R, z, xy, pack};
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
        status[c] = pack_chunk(&job, boundary(levels, chunks, c), boundary(levels, chunks, c + 1),
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

void flm_levels_collapse(flm_index levels, int u, flm_index ld, const double *R, const int64_t *xy,
                         const int32_t *group, double *sums)
{
    const flm_index size = (flm_index)u * u;
    for (flm_index i = 0; i < levels; i++) {
        const double *row = R + i * ld;
        double *sum = sums + group[i] * size;
        for (int c = 0; c < u; c++)
            for (int d = 0; d <= c; d++)
                sum[(flm_index)c * u + d] += row[xy[c]] * row[xy[d]];
    }
}
