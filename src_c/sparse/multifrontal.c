/* Multifrontal Cholesky (Duff & Reid 1983, doi:10.1145/356044.356047; Liu 1992, doi:10.1137/1034004).
 *
 * Node J waits for its children, adds their update matrices to its columns and to
 * its own update matrix, factors its columns and passes the rest up:
 *
 *     L_JJ = chol(F_JJ),  L_IJ = F_IJ L_JJ^-T,  U_J = sum of children - L_IJ L_IJ' */
#include "flm_sparse.h"
#include "rank_update.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STRIP 8 /* columns factored at a time */

/* Columns j < nc of a panel, `rows` long and nr apart.  Returns 0 at a pivot that is not positive. */
FLM_CLONES static int factor_strip(int64_t rows, int64_t nc, int64_t nr, double *restrict panel)
{
    for (int64_t j = 0; j < nc; j++) {
        double *column = panel + j * nr;
        for (int64_t l = 0; l < j; l++) {
            const double *left = panel + l * nr;
            const double x = left[j];
            FLM_SIMD
            for (int64_t i = j; i < rows; i++) column[i] -= x * left[i];
        }
        if (!(column[j] > 0) || isinf(column[j])) return 0;
        const double root = sqrt(column[j]), scale = 1 / root;
        column[j] = root;
        FLM_SIMD
        for (int64_t i = j + 1; i < rows; i++) column[i] *= scale;
    }
    return 1;
}

/* L_JJ over L_IJ in place, strip by strip: each receives the columns before it. */
static int factor_panel(int64_t nr, int64_t nc, double *panel)
{
    for (int64_t j = 0; j < nc; j += STRIP) {
        const int64_t width = nc - j < STRIP ? nc - j : STRIP;
        double *corner = panel + j * nr + j;
        flm_rank_update(nr - j, width, j, panel + j, nr, panel + j, 1, nr, corner, nr, 1);
        if (!factor_strip(nr - j, width, nr, corner)) return 0;
    }
    return 1;
}

/* The front += update matrix of a child, row by row of the same places. */
static void add_child(int64_t n, const int32_t *rel, const double *restrict U, int64_t nc, int64_t ni,
                      double *restrict panel, double *restrict update)
{
    const int64_t nr = nc + ni;
    for (int64_t b = 0; b < n; b++) {
        const double *from = U + b * n;
        double *to = rel[b] < nc ? panel + rel[b] * nr : update + (rel[b] - nc) * ni - nc;
        for (int64_t a = b; a < n; a++) to[rel[a]] += from[a];
    }
}

static flm_status factor_node(const flm_factor *f, const flm_blas *blas, int64_t s, double *L,
                              double **update)
{
    const int64_t nc = f->first[s + 1] - f->first[s], ni = f->row_ptr[s + 1] - f->row_ptr[s], nr = nc + ni;
    double *panel = L + f->panel[s], *U = NULL;
    const int64_t c0 = f->child_ptr[s], c1 = f->child_ptr[s + 1];
    if (ni > 0) {
        U = malloc((size_t)(ni * ni) * sizeof *U);
        if (!U) return FLM_NO_MEMORY;
        memset(U, 0, (size_t)(ni * ni) * sizeof *U);
    }
    update[s] = U;
    for (int64_t c = c0; c < c1; c++) {
        const int32_t child = f->child[c];
        const int64_t n = f->row_ptr[child + 1] - f->row_ptr[child];
        if (n > 0) add_child(n, f->rel + f->row_ptr[child], update[child], nc, ni, panel, U);
        free(update[child]);
        update[child] = NULL;
    }
    flm_blas_int n = (flm_blas_int)nc, m = (flm_blas_int)ni, ld = (flm_blas_int)nr, info = 0;
    double one = 1, minus = -1;
    if ((double)nr * nc * nc < FLM_BLAS_WORK) {
        if (!factor_panel(nr, nc, panel)) return FLM_NOT_POSITIVE;
    } else {
        blas->dpotrf("L", &n, panel, &ld, &info);
        if (info != 0) return FLM_NOT_POSITIVE;
        if (ni > 0) blas->dtrsm("R", "L", "T", "N", &m, &n, &one, panel, &ld, panel + nc, &ld);
    }
    if (ni == 0) return FLM_OK;
    if ((double)ni * ni * nc < FLM_BLAS_WORK)
        flm_rank_update(ni, ni, nc, panel + nc, nr, panel + nc, 1, nr, U, ni, 1);
    else
        blas->dsyrk("L", "N", &m, &n, &minus, panel + nc, &ld, &one, U, &m);
    return FLM_OK;
}

static double node_logdet(const flm_factor *f, int64_t s, const double *L)
{
    const int64_t nc = f->first[s + 1] - f->first[s], nr = nc + f->row_ptr[s + 1] - f->row_ptr[s];
    double sum = 0;
    for (int64_t j = 0; j < nc; j++) sum += log(L[f->panel[s] + j * (nr + 1)]);
    return sum;
}

flm_status flm_factor_numeric(const flm_factor *f, const flm_blas *blas, int64_t n_values,
                              const int64_t *target, const double *values, double shift, double *L,
                              double *logdet)
{
    double **update = calloc((size_t)(f->nodes + 1), sizeof *update);
    if (!update) return FLM_NO_MEMORY;
    int failed = 0; /* the largest status */
    memset(L, 0, (size_t)f->panel[f->nodes] * sizeof *L);
#pragma omp parallel for schedule(static) num_threads(f->n_threads) if (f->n_threads > 1 && n_values > 100000)
    for (int64_t q = 0; q < n_values; q++)
        if (target[q] >= 0) L[target[q]] = values[q]; /* places are distinct */
    for (int64_t s = 0; s < f->nodes; s++) {
        const int64_t nc = f->first[s + 1] - f->first[s], nr = nc + f->row_ptr[s + 1] - f->row_ptr[s];
        for (int64_t j = 0; j < nc; j++) L[f->panel[s] + j * (nr + 1)] += shift;
    }
#pragma omp parallel for schedule(dynamic, 4) num_threads(f->n_threads) reduction(max : failed) \
    if (f->n_threads > 1)
    for (int64_t t = 0; t < f->n_tasks; t++) {
        int status = FLM_OK;
        for (int64_t s = f->start[f->task[t]]; s <= f->task[t] && status == FLM_OK; s++)
            status = factor_node(f, blas, s, L, update);
        if (status > failed) failed = status;
    }
    for (int64_t t = 0; t < f->n_top && failed == FLM_OK; t++)
        failed = factor_node(f, blas, f->top[t], L, update);
    double sum = 0;
    for (int64_t s = 0; s < f->nodes; s++) {
        free(update[s]);
        if (failed == FLM_OK) sum += node_logdet(f, s, L);
    }
    free(update);
    *logdet = 2 * sum;
    if (failed == FLM_OK && !isfinite(sum)) failed = FLM_NOT_POSITIVE;
    return (flm_status)failed;
}
