/* The inverse on the pattern of the factor, from the root down.
 *
 * Takahashi, Fagan & Chin (1973); Erisman & Tinney (1975, doi:10.1145/360680.360704), by
 * supernodes: with Y = L_IJ L_JJ^-1,
 *
 *     Z_IJ = -Z_II Y,   Z_JJ = (L_JJ L_JJ')^-1 - Y' Z_IJ
 *
 * and Z_II, among the rows of J, lies in the panels of J's ancestors. */
#include "flm_sparse.h"
#include "rank_update.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STRIP 8
#define BLOCK 16
#define SMALL_BLOCK 48 /* columns of L_JJ up to which LAPACK is not asked */

typedef struct {
    double *R, *Y;    /* (ni, ni) and (ni, nc) of the largest node */
    int32_t *places;  /* (ni) */
} scratch;

/* R = lower triangle of Z_II, column-major. */
static void gather(const flm_factor *f, int64_t s, const double *Z, int32_t *places, double *R)
{
    const int64_t ni = f->row_ptr[s + 1] - f->row_ptr[s];
    memcpy(places, f->rel + f->row_ptr[s], (size_t)ni * sizeof *places);
    int64_t up = f->parent[s];
    for (int64_t t = 0; t < ni;) {
        const int64_t nc = f->first[up + 1] - f->first[up], nr = nc + f->row_ptr[up + 1] - f->row_ptr[up];
        for (; t < ni && places[t] < nc; t++) { /* rows that are columns of this ancestor */
            const double *restrict from = Z + f->panel[up] + places[t] * nr;
            double *restrict to = R + t * ni;
            for (int64_t a = t; a < ni; a++) to[a] = from[places[a]];
        }
        const int32_t *rel = f->rel + f->row_ptr[up];
        for (int64_t a = t; a < ni; a++) places[a] = rel[places[a] - nc]; /* among the next ancestor's */
        up = f->parent[up];
    }
}

/* Column j of (ni, nc) out = -R Y for a symmetric R given by its lower triangle. */
FLM_CLONES static void times_small(int64_t ni, int64_t nc, int64_t ld, const double *restrict R,
                                   const double *Y, double *out)
{
    for (int64_t j = 0; j < nc; j++) {
        const double *restrict y = Y + j * ni;
        double *restrict z = out + j * ld;
        for (int64_t a = 0; a < ni; a++) z[a] = 0;
        for (int64_t b = 0; b < ni; b++) {
            const double *column = R + b * ni;
            const double x = y[b];
            double sum = column[b] * x;
            FLM_SIMD_SUM(sum)
            for (int64_t a = b + 1; a < ni; a++) {
                z[a] -= column[a] * x;
                sum += column[a] * y[a];
            }
            z[b] -= sum;
        }
    }
}

/* R from its lower triangle, in blocks that stay in cache. */
static void mirror(int64_t n, double *R)
{
    for (int64_t first = 0; first < n; first += BLOCK)
        for (int64_t block = first; block < n; block += BLOCK)
            for (int64_t b = first; b < first + BLOCK && b < n; b++)
                for (int64_t a = block > b ? block : b + 1; a < block + BLOCK && a < n; a++)
                    R[b + a * n] = R[a + b * n];
}

/* Y = L_IJ L_JJ^-1, strips of columns from the last to the first. */
FLM_CLONES static void divide_strip(int64_t ni, int64_t first, int64_t width, int64_t nr,
                                    const double *factor, double *Y)
{
    for (int64_t j = first + width; j-- > first;) {
        double *restrict own = Y + j * ni;
        for (int64_t i = j + 1; i < first + width; i++) {
            const double *other = Y + i * ni;
            const double x = factor[i + j * nr];
            FLM_SIMD
            for (int64_t a = 0; a < ni; a++) own[a] -= x * other[a];
        }
        const double scale = 1 / factor[j + j * nr];
        FLM_SIMD
        for (int64_t a = 0; a < ni; a++) own[a] *= scale;
    }
}

static void divide(int64_t ni, int64_t nc, int64_t nr, const double *factor, double *Y)
{
    for (int64_t end = nc; end > 0;) {
        const int64_t width = end < STRIP ? end : STRIP, first = end - width;
        flm_rank_update(ni, width, nc - end, Y + end * ni, ni, factor + end + first * nr, nr, 1,
                        Y + first * ni, ni, 0);
        divide_strip(ni, first, width, nr, factor, Y);
        end = first;
    }
}

/* Z_IJ (ni, nc) and the products Y'Z_IJ in out, L_JJ and L_IJ in factor. */
static void below_by_hand(int64_t ni, int64_t nc, const double *factor, double *out, scratch *w)
{
    const int64_t nr = ni + nc;
    divide(ni, nc, nr, factor, w->Y);
    if (nc < STRIP) {
        times_small(ni, nc, nr, w->R, w->Y, out + nc);
    } else {
        mirror(ni, w->R);
        for (int64_t j = 0; j < nc; j++) memset(out + j * nr + nc, 0, (size_t)ni * sizeof *out);
        flm_rank_update(ni, nc, ni, w->R, ni, w->Y, ni, 1, out + nc, nr, 0);
    }
    for (int64_t j = 0; j < nc; j++)
        for (int64_t i = j; i < nc; i++) {
            const double *y = w->Y + i * ni, *z = out + j * nr + nc;
            double sum = 0;
            FLM_SIMD_SUM(sum)
            for (int64_t a = 0; a < ni; a++) sum += y[a] * z[a];
            out[j * nr + i] -= sum;
        }
}

static void below_by_blas(const flm_blas *blas, int64_t ni, int64_t nc, double *factor, double *out,
                          scratch *w)
{
    flm_blas_int n = (flm_blas_int)nc, m = (flm_blas_int)ni, ld = (flm_blas_int)(ni + nc);
    double one = 1, minus = -1, zero = 0;
    blas->dtrsm("R", "L", "N", "N", &m, &n, &one, factor, &ld, w->Y, &m);
    blas->dsymm("L", "L", &m, &n, &minus, w->R, &m, w->Y, &m, &zero, out + nc, &ld);
    blas->dgemm("T", "N", &n, &n, &m, &minus, w->Y, &m, out + nc, &ld, &one, out, &ld);
}

/* (L L')^-1, lower triangle, of a small L in place: inv(L) by columns, then its Gram matrix. */
static void invert_small(int64_t nc, int64_t nr, double *L)
{
    for (int64_t j = 0; j < nc; j++) { /* row j of inv(L) from the rows above it */
        const double scale = 1 / L[j + j * nr];
        for (int64_t c = 0; c < j; c++) {
            double sum = 0;
            for (int64_t l = c; l < j; l++) sum += L[j + l * nr] * L[l + c * nr];
            L[c + j * nr] = -scale * sum; /* kept in the upper triangle until row j is read */
        }
        for (int64_t c = 0; c < j; c++) L[j + c * nr] = L[c + j * nr];
        L[j + j * nr] = scale;
    }
    for (int64_t c = 0; c < nc; c++)
        for (int64_t r = c; r < nc; r++) { /* rows above r of these columns are done with */
            double sum = 0;
            for (int64_t l = r; l < nc; l++) sum += L[l + r * nr] * L[l + c * nr];
            L[r + c * nr] = sum;
        }
}

static flm_status invert_node(const flm_factor *f, const flm_blas *blas, int64_t s, const double *L,
                              double *Z, scratch *w)
{
    const int64_t nc = f->first[s + 1] - f->first[s], ni = f->row_ptr[s + 1] - f->row_ptr[s], nr = nc + ni;
    double *factor = (double *)L + f->panel[s], *out = Z + f->panel[s]; /* BLAS takes no const */
    for (int64_t j = 0; j < nc; j++) memcpy(out + j * nr, factor + j * nr, (size_t)nc * sizeof *out);
    if (nc < SMALL_BLOCK) {
        invert_small(nc, nr, out);
    } else {
        flm_blas_int n = (flm_blas_int)nc, ld = (flm_blas_int)nr, info = 0;
        blas->dpotri("L", &n, out, &ld, &info);
        if (info != 0) return FLM_NOT_POSITIVE;
    }
    if (ni == 0) return FLM_OK;
    gather(f, s, Z, w->places, w->R);
    for (int64_t j = 0; j < nc; j++) memcpy(w->Y + j * ni, factor + j * nr + nc, (size_t)ni * sizeof *w->Y);
    if ((double)ni * ni * nc < FLM_BLAS_WORK)
        below_by_hand(ni, nc, factor, out, w);
    else
        below_by_blas(blas, ni, nc, factor, out, w);
    return FLM_OK;
}

static flm_status invert_nodes(const flm_factor *f, const flm_blas *blas, const int32_t *list,
                               int64_t first, int64_t last, const double *L, double *Z)
{
    int64_t rows = 1, cells = 1;
    for (int64_t q = first; q <= last; q++) {
        const int64_t s = list ? list[q] : q;
        const int64_t ni = f->row_ptr[s + 1] - f->row_ptr[s], nc = f->first[s + 1] - f->first[s];
        if (ni > rows) rows = ni;
        if (ni * nc > cells) cells = ni * nc;
    }
    scratch w = {malloc((size_t)(rows * rows) * sizeof(double)),
                 malloc((size_t)(cells) * sizeof(double)),
                 malloc((size_t)rows * sizeof(int32_t))};
    flm_status status = w.R && w.Y && w.places ? FLM_OK : FLM_NO_MEMORY;
    for (int64_t q = last; q >= first && status == FLM_OK; q--)
        status = invert_node(f, blas, list ? list[q] : q, L, Z, &w);
    free(w.R);
    free(w.Y);
    free(w.places);
    return status;
}

flm_status flm_factor_selected_inverse(const flm_factor *f, const flm_blas *blas, const double *L,
                                       double *Z)
{
    int failed = FLM_OK;
    if (f->n_top > 0) failed = invert_nodes(f, blas, f->top, 0, f->n_top - 1, L, Z);
    if (failed != FLM_OK) return (flm_status)failed;
#pragma omp parallel for schedule(dynamic, 4) num_threads(f->n_threads) reduction(max : failed) \
    if (f->n_threads > 1)
    for (int64_t t = 0; t < f->n_tasks; t++) {
        const int status = invert_nodes(f, blas, NULL, f->start[f->task[t]], f->task[t], L, Z);
        if (status > failed) failed = status;
    }
    return (flm_status)failed;
}
