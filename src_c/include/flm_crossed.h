/* The mixed-model equations of crossed factors, in spherical coordinates.
 *
 * One factor, the leaf, has `levels` levels of k columns; the columns of all
 * other factors are stacked, m in number.  With T_f = D_f D_f' the equations
 * of u = D^-1 b are (I + D'Z'WZ D) u = D'Z'W [X y], and their block Cholesky is
 *
 *     L_i = chol(I + D'A_i D)           (k x k)    one per leaf level
 *     W_i = L_i^-1 D' N_i D_c           (k x d_i)  on the pattern of N_i
 *     Y_i = L_i^-1 D' B_i               (k x r)
 *     P_c = D_c'A_cc D_c - sum W_i'W_i  (m x m)    dense, column-major
 *
 * N_i is kept by entries: one stacked column index and k values per entry, the
 * k_f columns of one level of a stacked factor side by side, indices ascending
 * within a leaf level.  Right-hand sides are row-major (levels, k, r), (m, r).
 *
 * Work is cut in chunks that do not depend on the number of threads; a dense
 * column, like a leaf level, is written by one thread in a fixed order. */
#ifndef FLM_CROSSED_H
#define FLM_CROSSED_H

#include "flm_blas.h"
#include "flm_common.h"

#define FLM_CROSSED_MAX_K 64 /* columns of one term: k x k scratch lives on the stack */

typedef struct {
    int64_t levels, m, n_units; /* units: levels of all stacked factors */
    int32_t k, n_stacked, n_threads;
    const int64_t *offset; /* (n_stacked + 1) first stacked column of each factor */
    const int64_t *unit;   /* (n_stacked + 1) first unit of each factor */
    const int32_t *width;  /* (n_stacked) k_f */

    const double *A;        /* (levels, k, k) */
    const int64_t *row_ptr; /* (levels + 1) entries of each leaf level */
    const int32_t *index;   /* (entries) stacked column */
    const double *N;        /* (entries, k) */

    const int64_t *col_ptr;   /* (m + 1) the same entries by stacked column ... */
    const int64_t *light_end; /* (m) ... those of light leaf levels first */
    const int64_t *entry;     /* (entries) position in index and N */
    const int32_t *level;     /* (entries) leaf level */
    const int32_t *heavy;     /* (n_heavy) leaf levels that touch so many columns that BLAS is faster */
    int64_t n_heavy;

    const int64_t *stacked_ptr;   /* (n_units + 1) blocks of A_cc on and right of the diagonal, by unit */
    const int32_t *stacked_unit;  /* unit of the block's columns, not before that of its rows */
    const int64_t *stacked_start; /* first value of the block (k_f, k_g) */
    const double *stacked_value;

    const int64_t *level_chunk, *column_chunk; /* (n + 1) bounds */
    int32_t n_level_chunks, n_column_chunks;

    const double *D, *D_inverse;   /* (k, k) leaf */
    const double *Dc, *Dc_inverse; /* (k_f, k_f) of each stacked factor, one after the other */
    double *L;                     /* (levels, k, k) */
    double *W;                     /* (entries, k) */
} flm_crossed;

/* Once per model: entries by column; work (m) receives the cost of each dense column. */
flm_status flm_crossed_transpose(int64_t levels, int64_t m, const int64_t *row_ptr, const int32_t *index,
                                 const uint8_t *heavy, int64_t *col_ptr, int64_t *light_end, int64_t *entry,
                                 int32_t *level, int64_t *work);

/* --- leaf (crossed_leaf.c) --- */

/* L_i and W_i; logdet_partial (n_level_chunks) receives 2 sum log diag L_i. */
flm_status flm_crossed_leaf_factor(const flm_crossed *s, double *logdet_partial);

/* Y_i = L_i^-1 D' rhs_i; Y is not rhs. */
void flm_crossed_forward(const flm_crossed *s, int64_t r, const double *rhs, double *Y);

/* out_i = D^-T L_i^-T (Y_i - W_i x), x (m, r): the leaf rows of Z'V0^-1 times what gave Y. */
void flm_crossed_backward(const flm_crossed *s, int64_t r, const double *Y, const double *x, double *out);

/* out_i = A_i h_i + N_i hc. */
void flm_crossed_multiply(const flm_crossed *s, int64_t r, const double *h, const double *hc, double *out);

/* partial (n_level_chunks, k, k) = sum M_i^-1 D'A_i D, M_i = L_i L_i'. */
void flm_crossed_information(const flm_crossed *s, double *partial);

/* out_i = D (M_i^-1 + L_i^-T W_i Minv W_i' L_i^-1) D', (levels, k, k); Minv (m, m) lower triangle. */
void flm_crossed_leaf_covariance(const flm_crossed *s, const double *Minv, double *out);

/* --- columns (crossed_columns.c) --- */

/* t (m, r) += alpha sum_i V_i' Y_i for V = W or N, (entries, k). */
void flm_crossed_reduce(const flm_crossed *s, int64_t r, double alpha, const double *V, const double *Y,
                        double *t);

/* Lower (or upper) triangle of P_c without the heavy leaf levels. */
void flm_crossed_assemble(const flm_crossed *s, int upper, double *P);

/* partial (n_column_chunks, k, k) = sum over light i of L_i^-T W_i Minv W_i' L_i^-1. */
void flm_crossed_gather(const flm_crossed *s, const double *Minv, double *partial);

/* --- stacked factors (crossed_stacked.c) --- */

/* out = D_c' t, or D_c^-T t when `inverse`; (m, r), not in place. */
void flm_crossed_scale(const flm_crossed *s, int inverse, int64_t r, const double *t, double *out);

/* t += A_cc h. */
void flm_crossed_stacked_multiply(const flm_crossed *s, int64_t r, const double *h, double *t);

/* Adds D_c'A_cc D_c to one triangle of P. */
void flm_crossed_add_stacked(const flm_crossed *s, int upper, double *P);

/* out (k_f, k_f) = sum of the diagonal blocks of Minv for stacked factor f. */
void flm_crossed_block_sum(const flm_crossed *s, int f, const double *Minv, double *out);

/* blocks (levels_f, k_f, k_f) = D_f Minv_jj D_f'. */
void flm_crossed_blocks(const flm_crossed *s, int f, const double *Minv, double *blocks);

/* out (k_f, k_f) = sum_j (P Minv)_jj: Minv in the strict lower triangle of A with its diagonal aside,
 * P in the upper triangle with its diagonal.  partial (n_column_chunks, k_f, k_f) is scratch. */
void flm_crossed_product_sum(const flm_crossed *s, int f, const double *A, const double *Minv_diagonal,
                             double *partial, double *out);

/* --- dense (crossed_dense.c) --- */

/* Heavy leaf levels, panel columns at a time: P -= W_i'W_i in one triangle. */
void flm_crossed_heavy_update(const flm_crossed *s, const flm_blas *blas, int upper, int64_t panel_columns,
                              double *panel, double *P, int n_threads);

/* total (k, k) += sum over heavy i of L_i^-T W_i Minv W_i' L_i^-1; panel, product (m, panel_columns). */
void flm_crossed_heavy_gather(const flm_crossed *s, const flm_blas *blas, int64_t panel_columns,
                              double *panel, double *product, double *Minv, double *total, int n_threads);

/* --- tiles (crossed_tiles.c); BLAS must keep to one thread --- */

/* P (lower) -> Cholesky factor of I + P in place; logdet = log|I + P|. */
flm_status flm_crossed_dense_factor(const flm_blas *blas, int64_t m, double *A, double *logdet,
                                    int n_threads);

/* Factor -> inverse, lower triangle, in place; the upper triangle is scratch. */
flm_status flm_crossed_dense_invert(const flm_blas *blas, int64_t m, double *A, int n_threads);

/* P -= panel panel' in one triangle, panel (m, columns). */
void flm_crossed_rank_update(const flm_blas *blas, int64_t m, int upper, int64_t columns, double *panel,
                             double *P, int n_threads);

/* out = Minv panel, (m, columns). */
void flm_crossed_apply_panel(const flm_blas *blas, int64_t m, int64_t columns, double *Minv, double *panel,
                             double *out, int n_threads);

/* --- solves (crossed_dense.c) --- */

/* t (m, r) -> L^-1 t, or L^-T t, in place. */
void flm_crossed_dense_halfsolve(const flm_blas *blas, int64_t m, int64_t r, int transposed, double *A,
                                 double *t);

/* out = Minv t. */
void flm_crossed_dense_apply(const flm_blas *blas, int64_t m, int64_t r, double *A, double *t, double *out);

/* S (r, r) -= t't for t (rows, r), both triangles. */
void flm_crossed_downdate(const flm_blas *blas, int64_t rows, int64_t r, double *t, double *S);

#endif
