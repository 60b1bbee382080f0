/* Diagonal blocks: of N'J N, and of what Z_a'V_0^-1 Z_a loses to the other factors. */
#include "lanes.h"

#include <string.h>

/* Adds the blocks N_ij'J_i N_ij of one leaf level. */
FLM_INLINE void diagonal_level(const flm_iterative *s, int64_t i, double *sum, const int k, const int single)
{
    const double *J = s->J + i * k * k;
    const int stride = s->width_max;
    double JN[MAX_K];
    for (int64_t e = s->row_ptr[i]; e < s->row_ptr[i + 1];) {
        const int width = s->unit_width[s->index[e]];
        for (int b = 0; b < width; b++) {
            for (int a = 0; a < k; a++) {
                JN[a] = 0;
                for (int d = 0; d < k; d++)
                    JN[a] += J[a * k + d] * value_of(s, single, (e + b) * k + d);
            }
            for (int c = 0; c < width; c++) {
                double dot = 0;
                for (int a = 0; a < k; a++)
                    dot += value_of(s, single, (e + c) * k + a) * JN[a];
                sum[(int64_t)s->index[e + c] * stride + b] += dot;
            }
        }
        e += width;
    }
}

static void diagonal_chunk(const flm_iterative *s, int chunk, double *sum)
{
    const int single = s->N_single != NULL;
    memset(sum, 0, sizeof(double) * (size_t)s->m * (size_t)s->width_max);
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++)
        if (s->k == 1)
            diagonal_level(s, i, sum, 1, single);
        else
            diagonal_level(s, i, sum, s->k, single);
}

flm_status flm_iterative_diagonal(const flm_iterative *s, double *out)
{
    const int64_t stride = s->m * s->width_max;
    double *sums = flm_aligned(s->n_level_chunks * stride);
    if (!sums)
        return FLM_NO_MEMORY;
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_level_chunks; c++)
        diagonal_chunk(s, c, sums + c * stride);
    memcpy(out, sums, sizeof(double) * (size_t)stride);
    for (int q = 1; q < s->n_level_chunks; q++)
        for (int64_t j = 0; j < stride; j++)
            out[j] += sums[q * stride + j];
    flm_aligned_free(sums);
    return FLM_OK;
}

/* out = B M B' for small square matrices. */
FLM_INLINE void sandwich(const double *B, const double *M, double *out, const int k)
{
    double half[MAX_K];
    for (int a = 0; a < k; a++) {
        for (int d = 0; d < k; d++) {
            half[d] = 0;
            for (int b = 0; b < k; b++)
                half[d] += B[a * k + b] * M[b * k + d];
        }
        for (int c = 0; c < k; c++) {
            out[a * k + c] = 0;
            for (int d = 0; d < k; d++)
                out[a * k + c] += half[d] * B[c * k + d];
        }
    }
}

FLM_INLINE void block_level(const flm_iterative *s, int64_t i, const double *B, const double *Q, double *M,
                            double *out, const int k, const int single)
{
    const int stride = s->width_max;
    for (int a = 0; a < k * k; a++)
        M[a] = 0;
    for (int64_t e = s->row_ptr[i]; e < s->row_ptr[i + 1];) {
        const int width = s->unit_width[s->index[e]];
        for (int b = 0; b < width; b++)
            for (int c = 0; c < width; c++) {
                const double q = Q[(int64_t)s->index[e + b] * stride + c];
                for (int a = 0; a < k; a++)
                    for (int d = 0; d < k; d++)
                        M[a * k + d] +=
                            value_of(s, single, (e + b) * k + a) * q * value_of(s, single, (e + c) * k + d);
            }
        e += width;
    }
    sandwich(B + i * k * k, M, out + i * k * k, k);
}

void flm_iterative_level_blocks(const flm_iterative *s, const double *B, const double *Q, double *out)
{
    const int single = s->N_single != NULL;
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_level_chunks; c++) {
        double M[MAX_K * MAX_K];
        for (int64_t i = s->level_chunk[c]; i < s->level_chunk[c + 1]; i++)
            if (s->k == 1)
                block_level(s, i, B, Q, M, out, 1, single);
            else
                block_level(s, i, B, Q, M, out, s->k, single);
    }
}

FLM_INLINE void samples_body(const flm_iterative *s, int chunk, const double *B, const double *X,
                             const double *Y, const double *weight, double *sum, double *by_level,
                             const int k, const int NV, const int single)
{
    flm_vec acc[MAX_K * MAX_NV], x[MAX_K * MAX_NV], y[MAX_K * MAX_NV];
    memset(sum, 0, sizeof(double) * (size_t)(k * k * 8 * NV));
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        const double *Bi = B + i * k * k;
        level_times(s, i, X, NULL, acc, k, NV, single);
        small_times(Bi, acc, x, k, NV);
        level_times(s, i, Y, NULL, acc, k, NV, single);
        small_times(Bi, acc, y, k, NV);
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++) {
                double over_lanes = 0;
                for (int v = 0; v < NV; v++) {
                    const flm_vec product = x[a * NV + v] * y[b * NV + v];
                    *(flm_vec *)(sum + ((a * k + b) * NV + v) * 8) += product;
                    if (by_level)
                        for (int l = 0; l < 8; l++)
                            over_lanes += weight[8 * v + l] * product[l];
                }
                if (by_level)
                    by_level[(i * k + a) * k + b] += over_lanes;
            }
    }
}

static FLM_CLONES void samples_chunk(const flm_iterative *s, int lanes, int chunk, const double *B,
                                     const double *X, const double *Y, const double *weight, double *sum,
                                     double *by_level)
{
    FLM_WITH_LANES(s, lanes, samples_body, s, chunk, B, X, Y, weight, sum, by_level);
}

void flm_iterative_samples(const flm_iterative *s, int lanes, const double *B, const double *X,
                           const double *Y, const double *weight, double *partial, double *by_level)
{
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_level_chunks; c++)
        samples_chunk(s, lanes, c, B, X, Y, weight, partial + (int64_t)c * s->k * s->k * lanes, by_level);
}
