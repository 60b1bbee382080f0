/* Design columns that are never stored: column j of row r is
 *
 *     sum_p multiplier_p * prod_a (x_a[r] - center_pa)
 *
 * over the products p of the column, most often one, and the atoms a of each (none:
 * the constant multiplier_p).  Kernels
 * evaluate a block of rows at a time into a small column-major buffer. */
#ifndef FLM_COLUMNS_H
#define FLM_COLUMNS_H

#include "flm_common.h"

#define FLM_BLOCK 512 /* rows per block; a block of 8 columns fills L1 */

typedef enum {
    FLM_F64 = 0,
    FLM_F32 = 1,
    FLM_I64 = 2,
    FLM_I32 = 3,
    FLM_I16 = 4,
    FLM_I8 = 5,
    FLM_U8 = 6,
    FLM_TABLE = 7, /* int32 codes into `table` */
    FLM_TABLE16 = 8,
    FLM_TABLE8 = 9
} flm_kind;

typedef struct {
    const void *data;
    const double *table;
    int32_t kind;
} flm_atom;

typedef struct {
    int32_t n_columns;
    const flm_atom *atoms;
    const int32_t *product; /* (n_columns + 1): products product[j] .. product[j+1] of column j; NULL: one each */
    const int32_t *start; /* (products + 1): factors start[p] .. start[p+1] of product p */
    const int32_t *atom;  /* atom of each factor */
    const double *center; /* what is subtracted from it */
    const double *multiplier; /* (products) */
} flm_columns;

/* block[j * ld + r] = column j at row lo + r, r < m. */
void flm_fill(const flm_columns *columns, flm_index lo, int m, double *block, ptrdiff_t ld);

/* The same at rows[r]. */
void flm_fill_rows(const flm_columns *columns, const flm_index *rows, int m, double *block, ptrdiff_t ld);

/* out[r - lo] += sum_j coefficients[j] * column j at row r, lo <= r < hi. */
flm_status flm_add_fixed(const flm_columns *columns, const double *coefficients, flm_index lo, flm_index hi,
                         double *out, int n_threads);

/* out[r - lo] += sum_j b[codes[r] * n_columns + j] * column j; rows with a negative code get nothing. */
flm_status flm_add_random(const flm_columns *columns, const flm_code *codes, const double *b, flm_index lo,
                          flm_index hi, double *out, int n_threads);

/* One summand of a linear predictor: columns times coefficients (codes NULL), or
 * times the coefficients of each row's level, as in the two functions above. */
typedef struct {
    const flm_columns *columns;
    const flm_code *codes;
    const double *coefficients;
} flm_part;

/* out[r] += the part at row lo + r, r < m <= FLM_BLOCK; block holds FLM_BLOCK * n_columns. */
void flm_add_part(const flm_part *part, flm_index lo, int m, double *block, double *out);

#endif
