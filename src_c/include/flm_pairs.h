/* Z_f'W Z_g by co-occurring levels of two grouping factors.
 *
 * Rows are sorted by (level of f, level of g, row): a stable partition into
 * buckets of 2^shift levels of f, then a radix sort of each bucket.  The two
 * calls share `key` (n) = level within the bucket << g_bits | level of g, and
 * `rows` (n), which may be NULL when every product is 1. */
#ifndef FLM_PAIRS_H
#define FLM_PAIRS_H

#include "flm_columns.h"

/* Fills key, rows, bucket (n_buckets + 1) and indptr[i + 1] = pairs of level i (indptr[0] = 0, not summed). */
flm_status flm_pairs_sort(const flm_code *f, const flm_code *g, flm_index n, flm_index levels_f, int shift,
                          int g_bits, uint64_t *key, flm_index *rows, flm_index *bucket, flm_index *indptr,
                          int n_threads);

/* `columns` are k_f columns of Z_f, then k_g of Z_g; indptr is summed.  Fills indices (nnz) and
 * blocks (nnz, k_f, k_g). */
flm_status flm_pairs_fill(const flm_columns *columns, const double *weights, int k_f, int shift, int g_bits,
                          flm_index levels_f, const uint64_t *key, const flm_index *rows,
                          const flm_index *bucket, const flm_index *indptr, flm_code *indices, double *blocks,
                          int n_threads);

#endif
