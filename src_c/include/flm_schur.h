/* The Schur complement of crossed factors where it is sparse.
 *
 * With the leaf eliminated (flm_crossed.h: L_i, W_i, D_c, A_cc),
 *
 *     P_c = D_c'A_cc D_c - sum W_i'W_i,   M_c = I + P_c
 *
 * has an entry where two levels of stacked factors meet in a leaf level or in a
 * row.  Values are block columns as in flm_sparse.h: for unit v the scalar rows
 * `rows`, its own first, and |rows| values for each of its columns.  A unit's
 * columns are written by one thread, from leaf levels in ascending order. */
#ifndef FLM_SCHUR_H
#define FLM_SCHUR_H

#include "flm_crossed.h"

/* Units that meet: entries by leaf level (row_ptr, index ascending) and the same by unit (col_ptr, entry,
 * level), pairs of stacked units (stacked_ptr, stacked_unit, own included). */
typedef struct {
    int64_t levels, units;
    const int64_t *row_ptr;
    const int32_t *index;
    const int64_t *col_ptr;
    const int64_t *entry;
    const int32_t *level;
    const int64_t *stacked_ptr;
    const int32_t *stacked_unit;
    int32_t n_threads;
} flm_meeting;

/* count[q] = units not before v = list[q] (n_list) that meet v, v included. */
flm_status flm_schur_count(const flm_meeting *g, int64_t n_list, const int32_t *list, int64_t *count);

/* idx by ptr (units + 1), ascending. */
flm_status flm_schur_pattern(const flm_meeting *g, const int64_t *ptr, int32_t *idx);

typedef struct {
    const flm_crossed *s;
    const int64_t *unit_column; /* (units + 1) */
    const int64_t *row_ptr;     /* (units + 1) */
    const int32_t *rows;
    const int64_t *value_ptr; /* (units + 1) */
    const int64_t *chunk;     /* (n_chunks + 1) units */
    int32_t n_chunks, n_threads;
} flm_schur;

/* values of P_c. */
flm_status flm_schur_assemble(const flm_schur *p, double *values);

/* partial (n_chunks, k, k) = sum of L_i^-T W_i Z W_i' L_i^-1, Z = M_c^-1 on the pattern. */
flm_status flm_schur_gather(const flm_schur *p, const double *Z, double *partial);

/* out (levels, k, k) = D (M_i^-1 + L_i^-T W_i Z W_i' L_i^-1) D'. */
flm_status flm_schur_leaf_covariance(const flm_schur *p, const double *Z, double *out);

/* partial (n_chunks, total) = sum_j (P_c Z)_jj of each stacked factor, (k_f, k_f) one after the other. */
void flm_schur_product_sums(const flm_schur *p, int64_t total, const double *P, const double *Z,
                            double *partial);

#endif
