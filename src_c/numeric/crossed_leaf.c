/* Leaf levels: k x k Cholesky factors and the rows of the equations that belong to them. */
#include "crossed_small.h"

#include <math.h>

/* W_i = L^-1 D'N_i D_c, block by block of the stacked factors. */
FLM_INLINE void scale_entries(const flm_crossed *s, int k, int64_t i, const double *L)
{
    double column[FLM_CROSSED_MAX_K];
    const double *Df = s->Dc;
    int f = 0;
    for (int64_t e = s->row_ptr[i]; e < s->row_ptr[i + 1];) {
        while (s->index[e] >= s->offset[f + 1]) Df += s->width[f] * s->width[f], f++;
        const int kf = s->width[f];
        for (int b = 0; b < kf; b++) {
            double *w = s->W + (e + b) * k;
            for (int a = 0; a < k; a++) { /* column b of N_ij D_f */
                double sum = 0;
                for (int c = 0; c < kf; c++) sum += s->N[(e + c) * k + a] * Df[c * kf + b];
                column[a] = sum;
            }
            times_transposed(k, 1, s->D, column, w);
            solve_lower(k, 1, L, w);
        }
        e += kf;
    }
}

FLM_INLINE int factor_levels(const flm_crossed *s, int k, int chunk, double *logdet)
{
    double P[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K], sum = 0;
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        double *L = s->L + i * k * k;
        congruence(k, s->D, s->A + i * k * k, P);
        if (!cholesky(k, P, L)) return 0;
        for (int a = 0; a < k; a++) sum += log(L[a * k + a]);
        scale_entries(s, k, i, L);
    }
    *logdet = 2 * sum;
    return 1;
}

static int factor_chunk(const flm_crossed *s, int chunk, double *logdet)
{
    switch (s->k) {
    case 1: return factor_levels(s, 1, chunk, logdet);
    case 2: return factor_levels(s, 2, chunk, logdet);
    case 3: return factor_levels(s, 3, chunk, logdet);
    default: return factor_levels(s, s->k, chunk, logdet);
    }
}

flm_status flm_crossed_leaf_factor(const flm_crossed *s, double *logdet_partial)
{
    int failed = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) reduction(| : failed)
    for (int chunk = 0; chunk < s->n_level_chunks; chunk++)
        failed |= !factor_chunk(s, chunk, logdet_partial + chunk);
    return failed ? FLM_NOT_POSITIVE : FLM_OK;
}

void flm_crossed_forward(const flm_crossed *s, int64_t r, const double *rhs, double *Y)
{
    const int k = s->k;
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_level_chunks; chunk++)
        for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
            times_transposed(k, r, s->D, rhs + i * k * r, Y + i * k * r);
            solve_lower(k, r, s->L + i * k * k, Y + i * k * r);
        }
}

/* out (k, r) += alpha V_i x for the entries of level i */
FLM_INLINE void add_entries(const flm_crossed *s, int k, int64_t i, int64_t r, double alpha, const double *V,
                            const double *x, double *out)
{
    for (int64_t e = s->row_ptr[i]; e < s->row_ptr[i + 1]; e++) {
        const double *row = x + s->index[e] * r;
        for (int a = 0; a < k; a++) {
            const double v = alpha * V[e * k + a];
            FLM_SIMD
            for (int64_t c = 0; c < r; c++) out[a * r + c] += v * row[c];
        }
    }
}

FLM_CLONES static void backward_chunk(const flm_crossed *s, int chunk, int64_t r, const double *Y,
                                      const double *x, double *out)
{
    const int k = s->k;
    double column[FLM_CROSSED_MAX_K];
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        double *o = out + i * k * r;
        for (int64_t c = 0; c < k * r; c++) o[c] = Y[i * k * r + c];
        add_entries(s, k, i, r, -1, s->W, x, o);
        solve_upper(k, r, s->L + i * k * k, o);
        for (int64_t c = 0; c < r; c++) { /* D^-T o, column by column */
            for (int a = 0; a < k; a++) column[a] = o[a * r + c];
            for (int b = 0; b < k; b++) {
                double sum = 0;
                for (int a = 0; a < k; a++) sum += s->D_inverse[a * k + b] * column[a];
                o[b * r + c] = sum;
            }
        }
    }
}

void flm_crossed_backward(const flm_crossed *s, int64_t r, const double *Y, const double *x, double *out)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_level_chunks; chunk++) backward_chunk(s, chunk, r, Y, x, out);
}

FLM_CLONES static void multiply_chunk(const flm_crossed *s, int chunk, int64_t r, const double *h,
                                      const double *hc, double *out)
{
    const int k = s->k;
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        times_transposed(k, r, s->A + i * k * k, h + i * k * r, out + i * k * r); /* A_i is symmetric */
        add_entries(s, k, i, r, 1, s->N, hc, out + i * k * r);
    }
}

void flm_crossed_multiply(const flm_crossed *s, int64_t r, const double *h, const double *hc, double *out)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_level_chunks; chunk++) multiply_chunk(s, chunk, r, h, hc, out);
}

FLM_INLINE void information_levels(const flm_crossed *s, int k, int chunk, double *total)
{
    double P[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K];
    for (int a = 0; a < k * k; a++) total[a] = 0;
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        const double *L = s->L + i * k * k;
        congruence(k, s->D, s->A + i * k * k, P);
        solve_lower(k, k, L, P);
        solve_upper(k, k, L, P);
        for (int a = 0; a < k * k; a++) total[a] += P[a];
    }
}

void flm_crossed_information(const flm_crossed *s, double *partial)
{
    const int k = s->k;
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_level_chunks; chunk++) {
        if (k == 1)
            information_levels(s, 1, chunk, partial + chunk);
        else
            information_levels(s, k, chunk, partial + (int64_t)chunk * k * k);
    }
}

/* Q (k, k) = I + W_i Minv W_i', reading the lower triangle of Minv. */
static void inner_level(const flm_crossed *s, int64_t i, const double *Minv, double *Q)
{
    const int k = s->k;
    double product[FLM_CROSSED_MAX_K];
    const int64_t end = s->row_ptr[i + 1];
    for (int a = 0; a < k * k; a++) Q[a] = a % (k + 1) == 0;
    for (int64_t e = s->row_ptr[i]; e < end; e++) {
        const double *column = Minv + s->index[e] * s->m, *w = s->W + e * k;
        for (int a = 0; a < k; a++) product[a] = 0.5 * column[s->index[e]] * w[a];
        for (int64_t t = e + 1; t < end; t++)
            for (int a = 0; a < k; a++) product[a] += column[s->index[t]] * s->W[t * k + a];
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++) Q[a * k + b] += w[a] * product[b] + product[a] * w[b];
    }
}

void flm_crossed_leaf_covariance(const flm_crossed *s, const double *Minv, double *out)
{
    const int k = s->k;
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_level_chunks; chunk++) {
        double Q[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K], half[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K];
        for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
            double *o = out + i * k * k;
            inner_level(s, i, Minv, Q);
            unwhiten(k, s->L + i * k * k, Q, half);
            for (int a = 0; a < k; a++) /* Q = D half */
                for (int b = 0; b < k; b++) {
                    double sum = 0;
                    for (int c = 0; c < k; c++) sum += s->D[a * k + c] * half[c * k + b];
                    Q[a * k + b] = sum;
                }
            for (int a = 0; a < k; a++)
                for (int b = 0; b < k; b++) {
                    double sum = 0;
                    for (int c = 0; c < k; c++) sum += Q[a * k + c] * s->D[b * k + c];
                    o[a * k + b] = sum;
                }
        }
    }
}
