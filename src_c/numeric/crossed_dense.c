/* The dense Schur complement: solves, and BLAS for leaf levels that touch many columns. */
#include "crossed_small.h"

#include <string.h>

/* panel (m, nb) column-major = W_i' of the next heavy levels; returns how many levels fit. */
static int64_t fill_panel(const flm_crossed *s, int64_t first, int64_t panel_columns, double *panel)
{
    const int k = s->k;
    int64_t count = panel_columns / k;
    if (count > s->n_heavy - first) count = s->n_heavy - first;
    memset(panel, 0, (size_t)(count * k * s->m) * sizeof *panel);
    for (int64_t h = 0; h < count; h++) {
        const int64_t i = s->heavy[first + h];
        for (int64_t e = s->row_ptr[i]; e < s->row_ptr[i + 1]; e++)
            for (int a = 0; a < k; a++) panel[s->index[e] + (h * k + a) * s->m] = s->W[e * k + a];
    }
    return count;
}

void flm_crossed_heavy_update(const flm_crossed *s, const flm_blas *blas, int upper, int64_t panel_columns,
                              double *panel, double *P, int n_threads)
{
    for (int64_t first = 0; first < s->n_heavy;) {
        const int64_t count = fill_panel(s, first, panel_columns, panel);
        flm_crossed_rank_update(blas, s->m, upper, count * s->k, panel, P, n_threads);
        first += count;
    }
}

void flm_crossed_heavy_gather(const flm_crossed *s, const flm_blas *blas, int64_t panel_columns,
                              double *panel, double *product, double *Minv, double *total, int n_threads)
{
    const int k = s->k;
    double Q[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K], half[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K];
    for (int64_t first = 0; first < s->n_heavy;) {
        const int64_t count = fill_panel(s, first, panel_columns, panel);
        flm_crossed_apply_panel(blas, s->m, count * k, Minv, panel, product, n_threads);
        for (int64_t h = 0; h < count; h++) {
            const int64_t i = s->heavy[first + h];
            memset(Q, 0, (size_t)(k * k) * sizeof *Q);
            for (int64_t e = s->row_ptr[i]; e < s->row_ptr[i + 1]; e++) /* W_i (Minv W_i') */
                for (int a = 0; a < k; a++)
                    for (int b = 0; b < k; b++)
                        Q[a * k + b] += s->W[e * k + a] * product[s->index[e] + (h * k + b) * s->m];
            unwhiten(k, s->L + i * k * k, Q, half);
            for (int a = 0; a < k * k; a++) total[a] += half[a];
        }
        first += count;
    }
}

/* Row-major (m, r) is BLAS's (r, m): solves stand on the right, transposed. */
void flm_crossed_dense_halfsolve(const flm_blas *blas, int64_t m, int64_t r, int transposed, double *A,
                                 double *t)
{
    flm_blas_int n = (flm_blas_int)m, rows = (flm_blas_int)r;
    double one = 1;
    blas->dtrsm("R", "L", transposed ? "N" : "T", "N", &rows, &n, &one, A, &n, t, &rows);
}

void flm_crossed_dense_apply(const flm_blas *blas, int64_t m, int64_t r, double *A, double *t, double *out)
{
    flm_blas_int n = (flm_blas_int)m, rows = (flm_blas_int)r;
    double one = 1, zero = 0;
    blas->dsymm("R", "L", &rows, &n, &one, A, &n, t, &rows, &zero, out, &rows);
}

void flm_crossed_downdate(const flm_blas *blas, int64_t rows, int64_t r, double *t, double *S)
{
    flm_blas_int n = (flm_blas_int)r, count;
    double minus = -1, one = 1;
    for (int64_t first = 0; first < rows; first += count) {
        count = (flm_blas_int)(rows - first < 1 << 20 ? rows - first : 1 << 20);
        blas->dsyrk("L", "N", &n, &count, &minus, t + first * r, &n, &one, S, &n);
    }
    for (int64_t a = 0; a < r; a++)
        for (int64_t b = 0; b < a; b++) S[a * r + b] = S[b * r + a];
}
