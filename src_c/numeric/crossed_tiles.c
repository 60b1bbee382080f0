/* Cholesky factor and inverse of one dense symmetric matrix by columns of tiles.
 *
 * Every tile operation is one call of a BLAS that keeps to one thread; the calls
 * are shared out among our own threads.  A factorization has three barriers per
 * column of tiles and an inverse has two, so a busy machine delays it little.
 * Results do not depend on the number of threads.
 *
 *     factor:   L_kk L_kk' = A_kk,  L_ik = A_ik L_kk^-T,  A_ij -= L_ik L_jk'
 *     inverse:  U = L^-T by rows of tiles, then A^-1 = U U'
 *
 * Off-diagonal tiles of U go to the upper triangle, diagonal ones to scratch. */
#include "crossed_small.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TILE 320 /* with 128 an inverse takes 1.3 times as long, m = 5000 */
#define SERIAL_FACTOR 2048 /* below, waiting at barriers on a busy machine takes longer than the work */

typedef struct {
    const flm_blas *blas;
    double *A;
    int64_t m;
    int n_tiles, n_threads;
} tiles;

static tiles cut(const flm_blas *blas, int64_t m, double *A, int n_threads)
{
    const tiles t = {blas, A, m, (int)((m + TILE - 1) / TILE), n_threads};
    return t;
}

static int64_t start(const tiles *t, int i)
{
    return i < t->n_tiles ? (int64_t)i * TILE : t->m;
}

static flm_blas_int width(const tiles *t, int i)
{
    return (flm_blas_int)(start(t, i + 1) - start(t, i));
}

static double *at(const tiles *t, int64_t row, int64_t column)
{
    return t->A + row + column * t->m;
}

/* Rows of L_ik, i > k. */
static void solve_tile(const tiles *t, int i, int k)
{
    flm_blas_int rows = width(t, i), columns = width(t, k), ld = (flm_blas_int)t->m;
    double one = 1;
    t->blas->dtrsm("R", "L", "T", "N", &rows, &columns, &one, at(t, start(t, k), start(t, k)), &ld,
                   at(t, start(t, i), start(t, k)), &ld);
}

/* A_ij -= L_ik L_jk' for all i >= j. */
static void update_column(const tiles *t, int j, int k)
{
    const int64_t row = start(t, j), below = start(t, j + 1), column = start(t, k);
    flm_blas_int columns = width(t, j), inner = width(t, k), rows = (flm_blas_int)(t->m - below);
    flm_blas_int ld = (flm_blas_int)t->m;
    double minus = -1, one = 1;
    t->blas->dsyrk("L", "N", &columns, &inner, &minus, at(t, row, column), &ld, &one, at(t, row, row), &ld);
    if (rows)
        t->blas->dgemm("N", "T", &rows, &columns, &inner, &minus, at(t, below, column), &ld,
                       at(t, row, column), &ld, &one, at(t, below, row), &ld);
}

flm_status flm_crossed_dense_factor(const flm_blas *blas, int64_t m, double *A, double *logdet, int n_threads)
{
    const tiles all = cut(blas, m, A, n_threads), *t = &all;
    flm_blas_int ld = (flm_blas_int)m, info = 0;
    double sum = 0;
    for (int64_t c = 0; c < m; c++) A[c + c * m] += 1;
    if (m < SERIAL_FACTOR) {
        flm_blas_int n = (flm_blas_int)m;
        blas->dpotrf("L", &n, A, &ld, &info);
    } else
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
    for (int k = 0; k < t->n_tiles; k++) {
        flm_blas_int n = width(t, k);
#pragma omp single
        if (info == 0) blas->dpotrf("L", &n, at(t, start(t, k), start(t, k)), &ld, &info);
        if (info == 0) { /* once it is not, nobody writes it any more */
#pragma omp for schedule(dynamic, 1)
            for (int i = k + 1; i < t->n_tiles; i++) solve_tile(t, i, k);
#pragma omp for schedule(dynamic, 1)
            for (int j = k + 1; j < t->n_tiles; j++) update_column(t, j, k);
        }
    }
    if (info != 0) return FLM_NOT_POSITIVE;
    for (int64_t c = 0; c < m; c++) sum += log(A[c + c * m]);
    *logdet = 2 * sum;
    return isfinite(sum) ? FLM_OK : FLM_NOT_POSITIVE;
}

/* Row k of U: U_kk L_kk' = I, then U_k,rest L_rest,rest' = -U_kk L_rest,k'. */
static void inverse_row(const tiles *t, int k, double *U_kk)
{
    const int64_t row = start(t, k), next = start(t, k + 1);
    flm_blas_int n = width(t, k), tile = TILE, rest = (flm_blas_int)(t->m - next), ld = (flm_blas_int)t->m;
    double one = 1, minus = -1, zero = 0;
    memset(U_kk, 0, sizeof(double) * TILE * TILE);
    for (int c = 0; c < n; c++) U_kk[c + c * TILE] = 1;
    t->blas->dtrsm("R", "L", "T", "N", &n, &n, &one, at(t, row, row), &ld, U_kk, &tile);
    if (!rest) return;
    t->blas->dgemm("N", "T", &n, &rest, &n, &minus, U_kk, &tile, at(t, next, row), &ld, &zero,
                   at(t, row, next), &ld);
    t->blas->dtrsm("R", "L", "T", "N", &n, &rest, &one, at(t, next, next), &ld, at(t, row, next), &ld);
}

/* Row i of the inverse, columns up to its diagonal: sum over k >= i of U_ik U_jk'. */
static void product_row(const tiles *t, int i, double *U_ii)
{
    const int64_t row = start(t, i), next = start(t, i + 1);
    flm_blas_int n = width(t, i), tile = TILE, before = (flm_blas_int)row;
    flm_blas_int rest = (flm_blas_int)(t->m - next), ld = (flm_blas_int)t->m;
    double one = 1, zero = 0;
    if (before)
        t->blas->dgemm("N", "T", &n, &before, &n, &one, U_ii, &tile, at(t, 0, row), &ld, &zero,
                       at(t, row, 0), &ld);
    t->blas->dsyrk("L", "N", &n, &n, &one, U_ii, &tile, &zero, at(t, row, row), &ld);
    if (!rest) return;
    if (before)
        t->blas->dgemm("N", "T", &n, &before, &rest, &one, at(t, row, next), &ld, at(t, 0, next), &ld, &one,
                       at(t, row, 0), &ld);
    t->blas->dsyrk("L", "N", &n, &rest, &one, at(t, row, next), &ld, &one, at(t, row, row), &ld);
}

flm_status flm_crossed_dense_invert(const flm_blas *blas, int64_t m, double *A, int n_threads)
{
    const tiles all = cut(blas, m, A, n_threads), *t = &all;
    double *U = malloc(sizeof(double) * TILE * TILE * (size_t)t->n_tiles);
    if (!U) return FLM_NO_MEMORY;
#pragma omp parallel num_threads(n_threads) if (n_threads > 1 && t->n_tiles > 2)
    {
#pragma omp for schedule(dynamic, 1)
        for (int k = 0; k < t->n_tiles; k++) inverse_row(t, k, U + (ptrdiff_t)k * TILE * TILE);
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < t->n_tiles; i++) product_row(t, i, U + (ptrdiff_t)i * TILE * TILE);
    }
    free(U);
    return FLM_OK;
}

/* One triangle of P -= panel panel', panel (m, columns). */
void flm_crossed_rank_update(const flm_blas *blas, int64_t m, int upper, int64_t columns, double *panel,
                             double *P, int n_threads)
{
    const tiles all = cut(blas, m, P, n_threads), *t = &all;
    flm_blas_int ld = (flm_blas_int)m, inner = (flm_blas_int)columns;
    double minus = -1, one = 1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads) if (n_threads > 1 && t->n_tiles > 2)
    for (int j = 0; j < t->n_tiles; j++) {
        const int64_t row = start(t, j), first = upper ? 0 : start(t, j + 1);
        flm_blas_int n = width(t, j), rows = (flm_blas_int)((upper ? row : m) - first);
        blas->dsyrk(upper ? "U" : "L", "N", &n, &inner, &minus, panel + row, &ld, &one, at(t, row, row), &ld);
        if (rows)
            blas->dgemm("N", "T", &rows, &n, &inner, &minus, panel + first, &ld, panel + row, &ld, &one,
                        at(t, first, row), &ld);
    }
}

/* out = Minv panel, (m, columns), by 32 columns. */
void flm_crossed_apply_panel(const flm_blas *blas, int64_t m, int64_t columns, double *Minv, double *panel,
                             double *out, int n_threads)
{
    const int64_t pieces = (columns + 31) / 32;
    flm_blas_int ld = (flm_blas_int)m;
    double one = 1, zero = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads) if (n_threads > 1 && m > 512)
    for (int64_t q = 0; q < pieces; q++) {
        flm_blas_int n = (flm_blas_int)(columns - 32 * q < 32 ? columns - 32 * q : 32);
        blas->dsymm("L", "L", &ld, &n, &one, Minv, &ld, panel + 32 * q * m, &ld, &zero, out + 32 * q * m, &ld);
    }
}
