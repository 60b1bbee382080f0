/* The one pass over the rows: C = U'WU and R_f[i] = Z_fi'W U for every level i.
 *
 * U are the columns of a `flm_columns`; every row is multiplied by sqrt(w), so
 * all products carry the weight once.  Work is cut in pieces that depend on the
 * data alone, and partial sums are added in the order of the pieces: results
 * have the same bits whatever the number of threads. */
#ifndef FLM_PASS_H
#define FLM_PASS_H

#include "flm_columns.h"

typedef struct {
    const flm_code *codes; /* (n) */
    int32_t k;             /* columns of Z_f */
    const int32_t *z;      /* (k) their positions in U */
    flm_index levels;
    double *R;             /* (pieces or 1, levels, k, u), added to */
    int64_t *counts;       /* (pieces or 1, levels), or NULL */
    int32_t shared;        /* 1: no level crosses a piece, all pieces write one R */
} flm_factor;

/* Scatter straight into R.  bounds (n_pieces + 1) cut the rows; C_partial
 * (n_pieces, u, u) receives upper triangles, or is NULL. */
flm_status flm_pass_direct(const flm_columns *columns, const double *weights, int n_pieces,
                           const flm_index *bounds, int n_factors, const flm_factor *factors, double *C_partial,
                           int n_threads);

/* For R much larger than the cache and rows in no order: threads own sets of
 * levels, so that every R (one copy each) gets its rows in their order.
 * tile_rows (at most 2^16) are what a thread prepares at once.  C_partial
 * (FLM_SLICES, u, u) or NULL. */
#define FLM_SLICES 32
flm_status flm_pass_owned(const flm_columns *columns, const double *weights, flm_index n, int tile_rows,
                          int n_factors, const flm_factor *factors, double *C_partial, int n_threads);

/* Facts about codes: smallest and largest, and whether they never decrease. */
void flm_scan_codes(const flm_code *codes, flm_index n, flm_code *smallest, flm_code *largest, int *sorted);

/* Levels that have rows: their codes and numbers of rows (levels), which stand `at` in the `size` numbers of
 * each level of R.  Returns how many there are. */
flm_index flm_occurring(const double *R, flm_index levels, flm_index size, flm_index at, int64_t *codes,
                        int64_t *counts);

/* parent[i] = outer level of inner level i; 0 at the first inner level that has two. */
int flm_find_parents(const flm_code *inner, const flm_code *outer, flm_index n, flm_index levels,
                     flm_code *parent);

#endif
