/* Products with N, N', A_cc and K = A_cc - N'J N. */
#include "lanes.h"

#include <string.h>

FLM_INLINE void chunk_body(const flm_iterative *s, int chunk, const double *X, double *sum, const int k,
                           const int NV, const int single)
{
    flm_vec acc[MAX_K * MAX_NV], y[MAX_K * MAX_NV];
    memset(sum, 0, sizeof(double) * (size_t)s->m * 8 * NV);
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        level_times(s, i, X, sum, acc, k, NV, single);
        small_times(s->J + i * k * k, acc, y, k, NV);
        level_add(s, i, y, sum, k, NV, single);
    }
}

FLM_CLONES void flm_iterative_chunk(const flm_iterative *s, int lanes, int chunk, const double *X,
                                    double *sum)
{
    FLM_WITH_LANES(s, lanes, chunk_body, s, chunk, X, sum);
}

FLM_INLINE void rows_body(const flm_iterative *s, int64_t first, int64_t last, const double *X,
                          const double *sums, double *out, const int NV)
{
    const int64_t stride = s->m * 8 * NV;
    const int n_sums = sums ? s->n_level_chunks : 0;
    for (int64_t c = first; c < last; c++) {
        flm_vec total[MAX_NV], minus[MAX_NV];
        for (int v = 0; v < NV; v++)
            total[v] = minus[v] = (flm_vec){0};
        for (int64_t e = s->own_ptr[c]; e < s->own_ptr[c + 1]; e++)
            for (int v = 0; v < NV; v++)
                total[v] += s->own_value[e] * ((const flm_vec *)(X + (int64_t)s->own_index[e] * 8 * NV))[v];
        for (int q = 0; q < n_sums; q++)
            for (int v = 0; v < NV; v++)
                minus[v] += ((const flm_vec *)(sums + q * stride + c * 8 * NV))[v];
        for (int v = 0; v < NV; v++)
            ((flm_vec *)(out + c * 8 * NV))[v] = total[v] - minus[v];
    }
}

FLM_CLONES void flm_iterative_rows(const flm_iterative *s, int lanes, int64_t first, int64_t last,
                                   const double *X, const double *sums, double *out)
{
    if (lanes == 8)
        rows_body(s, first, last, X, sums, out, 1);
    else
        rows_body(s, first, last, X, sums, out, 2);
}

static void add_rows(const flm_iterative *s, int lanes, const double *X, const double *sums, double *out)
{
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_column_chunks; c++)
        flm_iterative_rows(s, lanes, s->column_chunk[c], s->column_chunk[c + 1], X, sums, out);
}

flm_status flm_iterative_apply(const flm_iterative *s, int lanes, const double *X, double *out)
{
    double *sums = flm_aligned(s->n_level_chunks * s->m * lanes);
    if (!sums)
        return FLM_NO_MEMORY;
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_level_chunks; c++)
        flm_iterative_chunk(s, lanes, c, X, sums + c * s->m * lanes);
    add_rows(s, lanes, X, sums, out);
    flm_aligned_free(sums);
    return FLM_OK;
}

void flm_iterative_own(const flm_iterative *s, int lanes, const double *X, double *out)
{
    add_rows(s, lanes, X, NULL, out);
}

FLM_INLINE void multiply_body(const flm_iterative *s, int chunk, const double *X, double *out, const int k,
                              const int NV, const int single)
{
    flm_vec acc[MAX_K * MAX_NV];
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        level_times(s, i, X, NULL, acc, k, NV, single);
        memcpy(out + i * k * 8 * NV, acc, sizeof(flm_vec) * (size_t)(k * NV));
    }
}

static FLM_CLONES void multiply_chunk(const flm_iterative *s, int lanes, int chunk, const double *X,
                                      double *out)
{
    FLM_WITH_LANES(s, lanes, multiply_body, s, chunk, X, out);
}

void flm_iterative_multiply(const flm_iterative *s, int lanes, const double *X, double *out)
{
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_level_chunks; c++)
        multiply_chunk(s, lanes, c, X, out);
}

FLM_INLINE void reduce_body(const flm_iterative *s, int chunk, const double *Y, double *sum, const int k,
                            const int NV, const int single)
{
    flm_vec y[MAX_K * MAX_NV];
    memset(sum, 0, sizeof(double) * (size_t)s->m * 8 * NV);
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        memcpy(y, Y + i * k * 8 * NV, sizeof(flm_vec) * (size_t)(k * NV));
        level_add(s, i, y, sum, k, NV, single);
    }
}

static FLM_CLONES void reduce_chunk(const flm_iterative *s, int lanes, int chunk, const double *Y,
                                    double *sum)
{
    FLM_WITH_LANES(s, lanes, reduce_body, s, chunk, Y, sum);
}

static void add_sums(const double *sums, int n, int64_t stride, int64_t first, int64_t last, double *out)
{
    memcpy(out + first, sums + first, sizeof(double) * (size_t)(last - first));
    for (int q = 1; q < n; q++)
        for (int64_t j = first; j < last; j++)
            out[j] += sums[q * stride + j];
}

flm_status flm_iterative_reduce(const flm_iterative *s, int lanes, const double *Y, double *out)
{
    const int64_t stride = s->m * lanes;
    double *sums = flm_aligned(s->n_level_chunks * stride);
    if (!sums)
        return FLM_NO_MEMORY;
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_level_chunks; c++)
        reduce_chunk(s, lanes, c, Y, sums + c * stride);
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_column_chunks; c++)
        add_sums(sums, s->n_level_chunks, stride, s->column_chunk[c] * lanes, s->column_chunk[c + 1] * lanes,
                 out);
    flm_aligned_free(sums);
    return FLM_OK;
}
