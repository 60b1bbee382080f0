/* Triangular solves with many right-hand sides, row-major: the r values of a row side by side. */
#include "flm_sparse.h"

#include <stdlib.h>

#define SMALL_WORK 4096 /* multiplications of a node up to which loops beat a BLAS call */

/* B = L_JJ^-1 B, then x_I -= L_IJ B. */
FLM_CLONES static void forward_small(int64_t nc, int64_t ni, int64_t r, const double *panel,
                                     const int32_t *rows, double *restrict B, double *restrict x)
{
    const int64_t nr = nc + ni;
    for (int64_t j = 0; j < nc; j++) {
        const double *column = panel + j * nr;
        double *own = B + j * r;
        const double scale = 1 / column[j];
        for (int64_t c = 0; c < r; c++) own[c] *= scale;
        for (int64_t i = j + 1; i < nc; i++)
            for (int64_t c = 0; c < r; c++) B[i * r + c] -= column[i] * own[c];
        for (int64_t t = 0; t < ni; t++) {
            double *row = x + rows[t] * r;
            const double l = column[nc + t];
            for (int64_t c = 0; c < r; c++) row[c] -= l * own[c];
        }
    }
}

/* B = L_JJ^-T (B - L_IJ' x_I). */
FLM_CLONES static void backward_small(int64_t nc, int64_t ni, int64_t r, const double *panel,
                                      const int32_t *rows, double *restrict B, const double *restrict x)
{
    const int64_t nr = nc + ni;
    for (int64_t j = nc; j-- > 0;) {
        const double *column = panel + j * nr;
        double *own = B + j * r;
        for (int64_t t = 0; t < ni; t++) {
            const double *row = x + rows[t] * r;
            const double l = column[nc + t];
            for (int64_t c = 0; c < r; c++) own[c] -= l * row[c];
        }
        for (int64_t i = j + 1; i < nc; i++)
            for (int64_t c = 0; c < r; c++) own[c] -= column[i] * B[i * r + c];
        const double scale = 1 / column[j];
        for (int64_t c = 0; c < r; c++) own[c] *= scale;
    }
}

/* Row-major (nc, r) is BLAS's (r, nc): factors stand on the right, transposed. */
flm_status flm_factor_solve(const flm_factor *f, const flm_blas *blas, int transposed, int64_t r,
                            const double *L, double *x)
{
    int64_t most = 1;
    for (int64_t s = 0; s < f->nodes; s++)
        if (f->row_ptr[s + 1] - f->row_ptr[s] > most) most = f->row_ptr[s + 1] - f->row_ptr[s];
    double *T = malloc((size_t)(most * r) * sizeof *T);
    if (!T) return FLM_NO_MEMORY;
    double one = 1, minus = -1, zero = 0;
    for (int64_t step = 0; step < f->nodes; step++) {
        const int64_t s = transposed ? f->nodes - 1 - step : step;
        const int64_t nc = f->first[s + 1] - f->first[s], ni = f->row_ptr[s + 1] - f->row_ptr[s];
        const int32_t *rows = f->rows + f->row_ptr[s];
        double *panel = (double *)L + f->panel[s]; /* BLAS takes no const */
        double *B = x + f->first[s] * r;
        if (nc * (nc + ni) * r <= SMALL_WORK) {
            if (transposed)
                backward_small(nc, ni, r, panel, rows, B, x);
            else
                forward_small(nc, ni, r, panel, rows, B, x);
            continue;
        }
        flm_blas_int n = (flm_blas_int)nc, m = (flm_blas_int)ni, k = (flm_blas_int)r, ld = n + m;
        if (!transposed) {
            blas->dtrsm("R", "L", "T", "N", &k, &n, &one, panel, &ld, B, &k);
            if (ni > 0) blas->dgemm("N", "T", &k, &m, &n, &one, B, &k, panel + nc, &ld, &zero, T, &k);
            for (int64_t t = 0; t < ni; t++)
                for (int64_t c = 0; c < r; c++) x[rows[t] * r + c] -= T[t * r + c];
        } else {
            for (int64_t t = 0; t < ni; t++)
                for (int64_t c = 0; c < r; c++) T[t * r + c] = x[rows[t] * r + c];
            if (ni > 0) blas->dgemm("N", "N", &k, &n, &m, &minus, T, &k, panel + nc, &ld, &one, B, &k);
            blas->dtrsm("R", "L", "N", "N", &k, &n, &one, panel, &ld, B, &k);
        }
    }
    free(T);
    return FLM_OK;
}
