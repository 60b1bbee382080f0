/* Responses of a mixed model drawn on packed levels (see flm_tree.h).
 *
 * For y = X beta + Z b + e with b_i = L z_i and e ~ N(0, s2 W^-1), the packed column
 * of level i is
 *
 *   E_i,y = La^+ Z_i'W y = E_i,X beta + La'b_i + s xi_i
 *
 * with xi_i standard normal where La has a pivot, and 0 where it has none.
 */
#ifndef FLM_RESAMPLE_H
#define FLM_RESAMPLE_H

#include "flm_common.h"

/* Overwrites the last column (y) of every level of `pack` (levels, k, u as in
 * flm_levels).  L (k x k, lower, row-major) is s times Lambda; z and xi (levels x k);
 * beta (u - 1). */
void flm_resample_draw(flm_index levels, int k, int u, const double *beta, const double *L, double s,
                       const double *z, const double *xi, double *pack);

/* Of one pack: Zy (levels x k) = La E_y, Xy (u - 1) = sum E_X'E_y, returns sum E_y'E_y. */
double flm_resample_products(flm_index levels, int k, int u, const double *pack, double *Zy, double *Xy);

/* Number of pivots over all levels. */
flm_index flm_resample_rank(flm_index levels, int k, int u, const double *pack);

#endif
