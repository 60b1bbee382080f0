/* Sparse symmetric positive definite matrices: ordering, supernodes, multifrontal
 * Cholesky factor, selected inverse.
 *
 * The graph has `units`, each a group of `width` adjacent columns with one
 * pattern (the columns of one level); m is the sum of the widths.  Values come by
 * block columns: for unit v the scalar rows R_v of its lower triangle, its own
 * columns first, then |R_v| values for each of its columns (those above the
 * diagonal are not read).  With all widths 1 this is the usual compressed lower
 * triangle.
 *
 * A node (supernode) J owns nc adjacent columns of the permuted matrix and the ni
 * rows I below them.  Its panel is (nc + ni, nc) column-major: L_JJ over L_IJ.
 * Work is cut by the elimination tree alone, so results do not depend on the
 * number of threads. */
#ifndef FLM_SPARSE_H
#define FLM_SPARSE_H

#include "flm_blas.h"
#include "flm_common.h"

/* --- graph (graph.c) --- */

/* Lower triangle by columns (ptr (n + 1), idx, diagonal allowed) -> full adjacency without diagonal.
 * full_ptr (n + 1) is an output of the first call and an input of the second. */
void flm_graph_degrees(int64_t n, const int64_t *ptr, const int32_t *idx, int64_t *full_ptr);
flm_status flm_graph_symmetrize(int64_t n, const int64_t *ptr, const int32_t *idx, const int64_t *full_ptr,
                                int32_t *full_idx);

/* --- ordering (minimum_degree.c) --- */

/* order (n): vertices of the full adjacency in the order of their elimination.  weight (n) > 0; vertices
 * with more than `dense` neighbours come last.  Allocates 1.2 nnz + 12 n integers. */
flm_status flm_minimum_degree(int64_t n, const int64_t *ptr, const int32_t *idx, const int32_t *weight,
                              int64_t dense, int32_t *order);

/* --- elimination tree (etree.c); vertex order[j] is the j-th, inverse undoes order --- */

/* parent (n) of each position, -1 for roots; work (n). */
void flm_etree(int64_t n, const int64_t *ptr, const int32_t *idx, const int32_t *order,
               const int32_t *inverse, int32_t *parent, int32_t *work);

/* post (n): positions in postorder; work (3 n). */
void flm_postorder(int64_t n, const int32_t *parent, int32_t *post, int32_t *work);

/* count (n) = weight of each column of the factor, diagonal included; parent is postordered; work (4 n). */
void flm_column_counts(int64_t n, const int64_t *ptr, const int32_t *idx, const int32_t *order,
                       const int32_t *inverse, const int32_t *parent, const int32_t *weight, int64_t *count,
                       int32_t *work);

/* --- supernodes (supernodes.c) --- */

/* Groups postordered positions into nodes, relaxed by merging a child where few zeros are stored.
 * new_order (n): old positions in the final order; node_ptr (n + 1): units of each node in it;
 * node_parent (n), postordered.  Returns the number of nodes, -1 when memory is short. */
int64_t flm_supernodes(int64_t n, const int32_t *parent, const int64_t *count, const int32_t *weight,
                       int32_t *new_order, int64_t *node_ptr, int32_t *node_parent);

typedef struct {
    int64_t units, m, nodes;
    const int64_t *unit_ptr; /* (nodes + 1) units of each node, by position */
    const int64_t *column;   /* (units + 1) first permuted column of each position */
    const int64_t *first;    /* (nodes + 1) first permuted column of each node */
    const int32_t *parent;   /* (nodes) -1 for roots; children come before parents, subtrees together */
    const int32_t *start;    /* (nodes) first node of the subtree */
    const int64_t *row_ptr;  /* (nodes + 1) into rows and rel */
    int32_t *rows;           /* permuted scalar rows below each node, ascending */
    int32_t *rel;            /* their places in the parent's columns and rows */
    const int64_t *panel;    /* (nodes + 1) into L */
    const int64_t *child_ptr; /* (nodes + 1) */
    const int32_t *child;
    const int32_t *task; /* (n_tasks) roots of subtrees that are worked on independently */
    const int32_t *top;  /* (n_top) the nodes above them, ascending */
    int64_t n_tasks, n_top;
    int32_t n_threads;
} flm_factor;

/* Cuts the tree: task (nodes), top (nodes) as in flm_factor, start (nodes); their numbers in n_tasks, n_top;
 * share of the work that is in tasks, 0 when there is little work in all. */
flm_status flm_factor_tasks(int64_t nodes, const int64_t *first, const int64_t *row_ptr,
                            const int32_t *parent, int32_t *start, int32_t *task, int32_t *top,
                            int64_t *n_tasks, int64_t *n_top, double *share);

/* Fills rows and rel.  ptr, idx: full adjacency; order, inverse: final.  FLM_BAD_ARGUMENT when row_ptr
 * does not agree with the pattern. */
flm_status flm_factor_rows(const flm_factor *f, const int64_t *ptr, const int32_t *idx, const int32_t *order,
                           const int32_t *inverse);

/* target (values) = place in the panels of every value on or below the diagonal, -1 for the others.
 * Block columns: unit_column (units + 1) first scalar column of unit v, rows by row_ptr (units + 1),
 * values from value_ptr; scalar (m): permuted place of each column; node_of (m): by permuted column. */
void flm_factor_targets(const flm_factor *f, const int64_t *unit_column, const int64_t *row_ptr,
                        const int32_t *rows, const int64_t *value_ptr, const int32_t *scalar,
                        const int32_t *node_of, int64_t *target);

/* values = panels at the targets: the selected inverse on the pattern of the matrix. */
void flm_factor_extract(const flm_factor *f, int64_t n_values, const int64_t *target, const double *Z,
                        double *values);

/* --- numbers (multifrontal.c, solve.c, selected_inverse.c) --- */

/* L = chol(shift I + values); *logdet.  FLM_NOT_POSITIVE leaves L unusable. */
flm_status flm_factor_numeric(const flm_factor *f, const flm_blas *blas, int64_t n_values,
                              const int64_t *target, const double *values, double shift, double *L,
                              double *logdet);

/* x (m, r) row-major, permuted rows, in place: L^-1 x or L^-T x. */
flm_status flm_factor_solve(const flm_factor *f, const flm_blas *blas, int transposed, int64_t r,
                            const double *L, double *x);

/* Z: panels of the inverse on the pattern of L. */
flm_status flm_factor_selected_inverse(const flm_factor *f, const flm_blas *blas, const double *L,
                                       double *Z);

#endif
