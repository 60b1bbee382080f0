/* Crossed factors whose Schur complement is too large to form.
 *
 * One factor, the leaf, has `levels` levels of k columns and is eliminated
 * exactly; the columns of all other factors are stacked, m in number.  With
 * J_i = T (I + A_i T)^-1 of the leaf and T_f = D_f D_f',
 *
 *     K = Z_c'V_a^-1 Z_c = A_cc - sum_i N_i'J_i N_i        S = I + D_c'K D_c
 *
 * are applied to blocks of 8 or 16 columns at once; neither is ever formed.
 * N_i is kept by entries, one stacked column index and k values per entry; the
 * columns of one unit (level of a stacked factor) are adjacent entries.
 *
 * Leaf levels are cut in chunks that do not depend on the number of threads.
 * Each chunk has its own m x lanes sum, added in the order of the chunks.
 */
#ifndef FLM_ITERATIVE_H
#define FLM_ITERATIVE_H

#include "flm_common.h"

#define FLM_ITERATIVE_MAX_K 64
#define FLM_ITERATIVE_MAX_LANES 16

typedef struct {
    int64_t levels, m;
    int32_t k, width_max, n_stacked, n_threads;
    const int64_t *offset; /* (n_stacked + 1) first stacked column of each factor */
    const int32_t *width;  /* (n_stacked) k_f */
    const int32_t *unit_width; /* (m) k_f of the factor of each column */

    const int64_t *row_ptr; /* (levels + 1) entries of each leaf level */
    const int32_t *index;   /* (entries) stacked column */
    const float *N_single;  /* (entries, k), or NULL: values that are exact in single precision ... */
    const double *N;        /* ... or these */

    const int64_t *own_ptr; /* (m + 1) A_cc, both triangles, by rows */
    const int32_t *own_index;
    const double *own_value;

    const int64_t *level_chunk, *column_chunk; /* (n + 1) bounds; columns are cut between units */
    int32_t n_level_chunks, n_column_chunks;

    const double *J; /* (levels, k, k) */
    const double *D; /* (k_f, k_f) of each stacked factor, one after the other */
} flm_iterative;

/* Blocks of `lanes` (8 or 16) columns are row-major, (m, lanes) or (levels, k, lanes). */

/* out = K X. */
flm_status flm_iterative_apply(const flm_iterative *s, int lanes, const double *X, double *out);

/* out_i = N_i X. */
void flm_iterative_multiply(const flm_iterative *s, int lanes, const double *X, double *out);

/* out = A_cc X. */
void flm_iterative_own(const flm_iterative *s, int lanes, const double *X, double *out);

/* out = sum_i N_i'Y_i. */
flm_status flm_iterative_reduce(const flm_iterative *s, int lanes, const double *Y, double *out);

/* out (m, width_max): row c holds row c of its unit's block of sum_i N_i'J_i N_i. */
flm_status flm_iterative_diagonal(const flm_iterative *s, double *out);

/* out_i = B_i (sum over units of N_ij Q_j N_ij') B_i', (levels, k, k); Q (m, width_max). */
void flm_iterative_level_blocks(const flm_iterative *s, const double *B, const double *Q, double *out);

/* With a_i = B_i N_i X and b_i = B_i N_i Y per lane: partial (n_level_chunks, k, k, lanes) = sum a_i b_i',
 * and, unless NULL, by_level (levels, k, k) += sum over lanes of weight a_i b_i'. */
void flm_iterative_samples(const flm_iterative *s, int lanes, const double *B, const double *X,
                           const double *Y, const double *weight, double *partial, double *by_level);

/* Preconditioned conjugate gradients for S x = rhs, each lane until the preconditioned norm of its
 * residual is below tol times that of rhs.  `inverse` (m, width_max): blocks of the preconditioner's
 * inverse.  step, ratio (max_iter, lanes): the coefficients alpha and beta; used (lanes): iterations,
 * -1 where max_iter did not suffice; norm2 (lanes): rhs' P^-1 rhs.  `single` (16 lanes only): N'J N is
 * applied in single precision, at half the traffic, for a tol of 1e-6 and more. */
flm_status flm_iterative_solve(const flm_iterative *s, int lanes, int single, const double *inverse,
                               const double *rhs, double tol, int max_iter, double *x, double *step,
                               double *ratio, int32_t *used, double *norm2);

#endif
