/* Steps that both ways of scattering share, on one block of rows. */
#ifndef FLM_CROSSPROD_BLOCKS_H
#define FLM_CROSSPROD_BLOCKS_H

#include "flm_columns.h"

/* block = sqrt(w) * U for rows at .. at + m, column-major with leading dimension FLM_BLOCK. */
void flm_weighted_block(const flm_columns *columns, const double *weights, flm_index at, int m, double *block);

/* Upper triangle of C += block'block (C row-major u x u). */
void flm_add_gram(const double *block, int u, int m, double *C);

/* rows[r * u + j] = block[j * FLM_BLOCK + r]. */
void flm_transpose_block(const double *block, int u, int m, double *rows);

/* For m rows r, those of `order` or 0 .. m - 1 where it is NULL: i = codes[r], R_i += z_r u_r' with
 * u_r = rows[r * u ..], and counts_i += 1 unless counts is NULL.  Slots of R are fetched before they are
 * needed, for rows before `readable`: 0 where R is in cache. */
void flm_scatter(const double *rows, const flm_code *codes, const uint16_t *order, int m, int readable, int u,
                 int k, const int32_t *z, double *R, int64_t *counts);

#endif
