/* Exact order statistics of residuals that are never stored. */
#ifndef FLM_QUANTILES_H
#define FLM_QUANTILES_H

#include "flm_common.h"

/* Residuals r = sqrt(w) (y - eta) / sigma (weights may be NULL).  order[j] = the ranks[j]-th smallest
 * (0-based), sums = (sum r, sum r^2).  FLM_BAD_ARGUMENT when a residual is not finite. */
flm_status flm_residual_summary(const double *y, const double *eta, const double *weights, double sigma,
                                flm_index n, int n_ranks, const flm_index *ranks, double *order, double *sums,
                                int n_threads);

#endif
