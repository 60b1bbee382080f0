/* Mixed-model equations that stay block diagonal: one grouping factor, or a
 * chain of nested ones.
 *
 * One factor ("levels").  For level i with Z_i (n_i x k) and Y_i = [X_i y_i]
 * (n_i x u), A_i = Z_i'WZ_i = La La' (La lower triangular, zero columns where A_i
 * is singular) and E_i = La^+ Z_i'W Y_i.  With N_i = I + La' T La:
 *
 *   log|V0| = sum log|N_i|                 S = (C - sum E_i'E_i) + sum E_i' N_i^-1 E_i
 *   G_i = Z_i'V0^-1 Y = La N_i^-1 E_i      F_i = Z_i'V0^-1 Z_i = La N_i^-1 La'
 *
 * No term cancels, whatever the size of T, and T = 0 is nothing special.
 * (La, E) is packed once, eight levels side by side; or found again by every sweep,
 * with the same bits, which takes a quarter longer and no memory.
 */
#ifndef FLM_TREE_H
#define FLM_TREE_H

#include "flm_common.h"

/* ---- one factor ------------------------------------------------------------------ */

typedef struct {
    flm_index levels;
    int k, u;
    const double *pack; /* flm_levels_pack_size doubles, 64-byte aligned; or NULL, and from here on: */
    const double *R;    /* levels x k x ld */
    flm_index ld;
    const int64_t *z, *xy; /* k and u columns of R */
} flm_levels;

/* Doubles needed for `pack`. */
flm_index flm_levels_pack_size(flm_index levels, int k, int u);

/* R (levels x k x ld): its columns z (k) against itself and columns xy (u).
 * Writes pack, unless it is NULL, and within (u x u) = sum E_i'E_i.  *level is the first offender on
 * FLM_BAD_ARGUMENT (not finite) or FLM_NOT_POSITIVE (A_i not a Gram matrix). */
flm_status flm_levels_pack(flm_index levels, int k, int u, flm_index ld, const double *R, const int64_t *z,
                           const int64_t *xy, double *pack, double *within, flm_index *level, int n_threads);

/* One sweep: log|V0|, sum E_i'N_i^-1E_i (u x u), F (k x k), GG (k x k x u x u).
 * Lambda (k x k) row-major, its upper triangle is not read. */
flm_status flm_levels_sweep(const flm_levels *self, const double *Lambda, double *logdet, double *between,
                            double *F, double *GG, flm_index *level, int n_threads);

/* Sums over levels of vech(F_i) vech(.)' (k(k+1)/2 squared each, row-major lower
 * vech) with F_i, P_i = G_X Q G_X', g_i g_i' (g_i = G_i v) in the second place. */
flm_status flm_levels_second(const flm_levels *self, const double *Lambda, const double *Q, const double *v,
                             double *FF, double *FP, double *Fg, int n_threads);

/* g (levels x k), g_i = G_i v. */
flm_status flm_levels_effects(const flm_levels *self, const double *Lambda, const double *v, double *g,
                              int n_threads);

/* out (levels x k x k) = Lambda (I + Lambda'A_i Lambda)^-1 Lambda', A_i from R as in flm_levels_pack. */
flm_status flm_levels_posterior(flm_index levels, int k, flm_index ld, const double *R, const int64_t *z,
                                const double *Lambda, double *out, flm_index *level, int n_threads);

/* Smallest and largest A[i * stride] / counts[i]; both NaN unless all are finite and all counts positive. */
void flm_levels_ratios(flm_index levels, flm_index stride, const double *A, const int64_t *counts, double *low,
                       double *high, int n_threads);

/* sums (groups x u x u) += R_i'R_i by group[i], for k = 1. */
flm_status flm_levels_collapse(flm_index levels, int u, flm_index ld, const double *R, const int64_t *xy,
                               const int32_t *group, flm_index groups, double *sums, int n_threads);

/* ---- a chain of nested factors --------------------------------------------------- */

#define FLM_MAX_DEPTH 32

/* Factors are numbered innermost first; nodes of every factor are ordered so that
 * the children of a node, hence whole subtrees, are contiguous.  The record of a
 * node is k x width row-major, its columns [own Z | Z of each ancestor, nearest
 * first | X y]; offset[d] is the sum of k over factors before d. */
typedef struct {
    int depth, u, offset[FLM_MAX_DEPTH + 1];
    int k[FLM_MAX_DEPTH], width[FLM_MAX_DEPTH];
    flm_index nodes[FLM_MAX_DEPTH];
    const double *R[FLM_MAX_DEPTH];          /* original records */
    const int32_t *parent[FLM_MAX_DEPTH];    /* parent of each node in factor d + 1; none for the last */
    const flm_index *first[FLM_MAX_DEPTH];   /* (nodes + 1) first child in factor d - 1; none for d = 0 */
    double *eliminated[FLM_MAX_DEPTH];       /* records after elimination of descendants; d >= 1 */
    double *H[FLM_MAX_DEPTH];                /* k x k per node: Lambda M^-1 Lambda' */
} flm_chain;

/* Eliminates all nodes with Lambda[d] (k x k): log|V0| and S (u x u, given C). */
flm_status flm_chain_factorize(const flm_chain *self, const double *const *Lambda, const double *C,
                               double *logdet, double *S, flm_index *node, int *factor, int n_threads);

/* After flm_chain_factorize.  Any of the outputs may be NULL; per factor d:
 * F[d] (k x k), GG[d] (k x k x u x u) sums; with v (u): g[d] (nodes x k);
 * posterior[d] (nodes x k x k) = Var(b_i | y, beta) / sigma^2. */
flm_status flm_chain_backward(const flm_chain *self, const double *v, double *const *F, double *const *GG,
                              double *const *g, double *const *posterior, int n_threads);

/* Inner products of w_j = Z_f X_j g_f, f = factor[j], X_j = directions + j*stride
 * (k_f x k_f): inner (r x r) = w_j'V0^-1 w_k and cross (u x r) = [X y]'V0^-1 w_j. */
flm_status flm_chain_inner(const flm_chain *self, const double *const *g, int r, const int32_t *factor,
                           const double *directions, flm_index stride, double *inner, double *cross,
                           int n_threads);

#endif
