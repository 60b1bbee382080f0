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

/* La (k x k, lower) and E (k x u) of one level. */
static flm_status factor_level(int k, int u, flm_index ld, const double *R, const int64_t *z,
                               const int64_t *xy, double *La, double *E)
{
    double finite = 0;
    for (int a = 0; a < k; a++) {
        for (int b = 0; b <= a; b++)
            finite += 0 * R[a * ld + z[b]];
        for (int c = 0; c < u; c++)
            finite += 0 * R[a * ld + xy[c]];
    }
    if (finite != 0)
        return FLM_BAD_ARGUMENT;
    for (int j = 0; j < k; j++) {
        const double diagonal = R[j * ld + z[j]];
        double pivot = diagonal;
        for (int c = 0; c < j; c++)
            pivot -= La[j * k + c] * La[j * k + c];
        if (diagonal < 0 || pivot < NOT_A_GRAM_MATRIX * diagonal)
            return FLM_NOT_POSITIVE;
        const double inverse = pivot > PIVOT_TOLERANCE * diagonal ? 1 / sqrt(pivot) : 0;
        for (int i = j; i < k; i++) { /* La[:, j] */
            double sum = R[i * ld + z[j]];
            for (int c = 0; c < j; c++)
                sum -= La[i * k + c] * La[j * k + c];
            La[i * k + j] = sum * inverse;
        }
        for (int c = 0; c < u; c++) { /* E[j] = (B[j] - La[j, :j] E[:j]) / La[j, j] */
            double sum = R[j * ld + xy[c]];
            for (int b = 0; b < j; b++)
                sum -= La[j * k + b] * E[b * u + c];
            E[j * u + c] = sum * inverse;
        }
    }
    return FLM_OK;
}

typedef struct {
    flm_index levels, ld;
    int k, u;
    const double *R;
    const int64_t *z, *xy;
    double *pack;
} packing;

FLM_CLONES static flm_status pack_chunk(const packing *job, flm_index first, flm_index last, double *within,
                                        flm_index *level)
{
    const int k = job->k, u = job->u;
    const flm_index half = k * (k + 1) / 2, stride = half + (flm_index)k * u;
    double *La = malloc((size_t)(k * k + (flm_index)k * u) * sizeof(double));
    if (!La)
        return FLM_NO_MEMORY;
    double *E = La + k * k;
    memset(within, 0, (size_t)u * u * sizeof(double));
    flm_status status = FLM_OK;
    for (flm_index i = first; i < last; i++) {
        status = factor_level(k, u, job->ld, job->R + i * k * job->ld, job->z, job->xy, La, E);
        if (status != FLM_OK) {
            *level = i;
            break;
        }
        double *out = job->pack + i / FLM_LANES * FLM_LANES * stride + i % FLM_LANES;
        for (int a = 0; a < k; a++)
            for (int b = 0; b <= a; b++)
                out[(a * (a + 1) / 2 + b) * FLM_LANES] = La[a * k + b];
        out += half * FLM_LANES;
        for (flm_index e = 0; e < (flm_index)k * u; e++)
            out[e * FLM_LANES] = E[e];
        for (int a = 0; a < k; a++) /* within += E'E */
            for (int c = 0; c < u; c++) {
                const double *restrict row = E + (flm_index)a * u;
                double *restrict sum = within + (flm_index)c * u;
                const double x = row[c];
                for (int d = 0; d <= c; d++)
                    sum[d] += x * row[d];
            }
    }
    free(La);
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
    const flm_index stride = (k * (k + 1) / 2 + (flm_index)k * u) * FLM_LANES;
    double *sums = malloc((size_t)(chunks * size) * sizeof(double));
    if (!sums)
        return FLM_NO_MEMORY;
    if (levels % FLM_LANES) /* levels that do not exist: zeros */
        memset(pack + levels / FLM_LANES * stride, 0, (size_t)stride * sizeof(double));
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
