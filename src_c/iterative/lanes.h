/* Columns worked on at once: NV vectors of eight doubles, NV a constant of the caller. */
#ifndef FLM_ITERATIVE_LANES_H
#define FLM_ITERATIVE_LANES_H

#include "flm_iterative.h"

#include <stdlib.h>
#if defined(_WIN32)
#include <malloc.h>
#endif

typedef double flm_vec __attribute__((vector_size(64), aligned(8)));

typedef float flm_single __attribute__((vector_size(64), aligned(4))); /* 16 lanes */

#define MAX_NV (FLM_ITERATIVE_MAX_LANES / 8)
#define MAX_K FLM_ITERATIVE_MAX_K

/* Buffers whose rows of 8 doubles are cache lines; given back by flm_aligned_free. */
FLM_INLINE void *flm_aligned_bytes(size_t bytes)
{
    const size_t whole = bytes ? (bytes + 63) / 64 * 64 : 64;
#if defined(_WIN32)
    return _aligned_malloc(whole, 64);
#else
    return aligned_alloc(64, whole);
#endif
}

FLM_INLINE void flm_aligned_free(void *memory)
{
#if defined(_WIN32)
    _aligned_free(memory);
#else
    free(memory);
#endif
}

FLM_INLINE double *flm_aligned(int64_t doubles)
{
    return flm_aligned_bytes((size_t)doubles * sizeof(double));
}

FLM_INLINE double value_of(const flm_iterative *s, const int single, int64_t at)
{
    return single ? (double)s->N_single[at] : s->N[at];
}

/* acc (k, NV) = N_i X; the lines of `next` are asked for on the way. */
FLM_INLINE void level_times(const flm_iterative *s, int64_t i, const double *X, const double *next,
                            flm_vec *acc, const int k, const int NV, const int single)
{
    const int64_t first = s->row_ptr[i], last = s->row_ptr[i + 1];
    const int lanes = 8 * NV;
    for (int a = 0; a < k * NV; a++)
        acc[a] = (flm_vec){0};
    for (int64_t e = first; e < last; e++) {
        const flm_vec *x = (const flm_vec *)(X + (int64_t)s->index[e] * lanes);
        if (next)
            __builtin_prefetch(next + (int64_t)s->index[e] * lanes, 1, 2);
        for (int a = 0; a < k; a++) {
            const double n = value_of(s, single, e * k + a);
            for (int v = 0; v < NV; v++)
                acc[a * NV + v] += n * x[v];
        }
    }
}

/* out (k, NV) = B in, B (k, k). */
FLM_INLINE void small_times(const double *B, const flm_vec *in, flm_vec *out, const int k, const int NV)
{
    for (int a = 0; a < k; a++)
        for (int v = 0; v < NV; v++) {
            flm_vec sum = B[a * k] * in[v];
            for (int b = 1; b < k; b++)
                sum += B[a * k + b] * in[b * NV + v];
            out[a * NV + v] = sum;
        }
}

/* sum += N_i' y. */
FLM_INLINE void level_add(const flm_iterative *s, int64_t i, const flm_vec *y, double *sum, const int k,
                          const int NV, const int single)
{
    const int64_t first = s->row_ptr[i], last = s->row_ptr[i + 1];
    for (int64_t e = first; e < last; e++) {
        flm_vec *to = (flm_vec *)(sum + (int64_t)s->index[e] * 8 * NV);
        for (int v = 0; v < NV; v++) {
            flm_vec add = value_of(s, single, e * k) * y[v];
            for (int a = 1; a < k; a++)
                add += value_of(s, single, e * k + a) * y[a * NV + v];
            to[v] += add;
        }
    }
}

/* Calls body(..., k, NV, single) with the common widths as constants. */
#define FLM_WITH_WIDTHS(s, NV, single, body, ...)          \
    do {                                                   \
        if ((s)->k == 1 && (single))                       \
            body(__VA_ARGS__, 1, NV, 1);                   \
        else if ((s)->k == 1)                              \
            body(__VA_ARGS__, 1, NV, 0);                   \
        else if ((s)->k == 2)                              \
            body(__VA_ARGS__, 2, NV, single);              \
        else                                               \
            body(__VA_ARGS__, (s)->k, NV, single);         \
    } while (0)

/* The same for the number of lanes. */
#define FLM_WITH_LANES(s, lanes, body, ...)                                        \
    do {                                                                           \
        const int single_ = (s)->N_single != NULL;                                 \
        if ((lanes) == 8)                                                          \
            FLM_WITH_WIDTHS(s, 1, single_, body, __VA_ARGS__);                     \
        else                                                                       \
            FLM_WITH_WIDTHS(s, 2, single_, body, __VA_ARGS__);                     \
    } while (0)

/* One chunk of leaf levels: sum (m, lanes) = sum_i N_i'J_i N_i X. */
void flm_iterative_chunk(const flm_iterative *s, int lanes, int chunk, const double *X, double *sum);

/* The same with 16 lanes in single precision. */
void flm_iterative_chunk_single(const flm_iterative *s, int chunk, const float *X, float *sum);

/* One row of K X given the chunks' sums: A_cc X - sum. */
void flm_iterative_rows(const flm_iterative *s, int lanes, int64_t first, int64_t last, const double *X,
                        const double *sums, double *out);

/* The same with sums (16 lanes) in single precision. */
void flm_iterative_rows_single(const flm_iterative *s, int64_t first, int64_t last, const double *X,
                               const float *sums, double *out);

#endif
