/* Steps that both ways of scattering share, on one block of rows. */
#ifndef FLM_CROSSPROD_BLOCKS_H
#define FLM_CROSSPROD_BLOCKS_H

#include "flm_columns.h"

/* block = sqrt(w) * U for rows at .. at + m, column-major with leading dimension FLM_BLOCK. */
void flm_weighted_block(const flm_columns *columns, const double *weights, flm_index at, int m, double *block);

/* Upper triangle of C += block'block (C row-major u x u). */
void flm_add_gram(const double *block, int u, int m, double *C);

/* rows[r * stride + j] = block[j * FLM_BLOCK + r]. */
void flm_transpose_block(const double *block, int u, int m, double *rows, ptrdiff_t stride);

/* For r < m: i = level of row r, R_i += z_r u_r' with u_r = rows[r * stride ..], and counts_i += 1.
 * The level is codes[r], or the int64 stored behind the u values when codes is NULL. */
void flm_scatter(const double *rows, ptrdiff_t stride, const flm_code *codes, flm_index m, int u, int k,
                 const int32_t *z, double *R, int64_t *counts);

#endif
