/* Exact order statistics of residuals that are never stored. */
#ifndef FLM_QUANTILES_H
#define FLM_QUANTILES_H

#include "flm_columns.h"

/* Rows of r = sqrt(w) (y - eta) / sigma.  eta is stored, or NULL and the sum of `parts`. */
typedef struct {
    const double *y, *eta, *weights; /* weights may be NULL */
    int n_parts;
    const flm_part *parts;
} flm_residual_source;

/* order[j] = the ranks[j]-th smallest residual (0-based), sums = (sum r, sum r^2); the same bits for any
 * n_threads > 0.  FLM_BAD_ARGUMENT when a residual is not finite. */
flm_status flm_residual_summary(const flm_residual_source *rows, double sigma, flm_index n, int n_ranks,
                                const flm_index *ranks, double *order, double *sums, int n_threads);

#endif
