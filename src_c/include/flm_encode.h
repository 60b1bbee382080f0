/* Keys to codes: integer columns become level numbers 0 .. n_levels - 1.
 *
 * Dense keys are numbered by increasing key, as a sorted unique would; scattered ones as they appear.
 * Results do not depend on `n_threads`.  Texts are in flm_texts.h.
 */
#ifndef FLM_ENCODE_H
#define FLM_ENCODE_H

#include "flm_common.h"

/* First row whose value is NaN or infinite, n when every value is finite. */
flm_index flm_first_nonfinite(flm_index n, const double *x, int n_threads);

/* Smallest and largest key; n > 0. */
void flm_range_i64(flm_index n, const int64_t *keys, int n_threads, int64_t *smallest, int64_t *largest);
void flm_range_i32(flm_index n, const int32_t *keys, int n_threads, int64_t *smallest, int64_t *largest);

/* codes[i] = keys[i] - base, and the range of the keys, which tells the caller whether all of them fit; n > 0. */
void flm_shifted_codes_i64(flm_index n, const int64_t *keys, int64_t base, int n_threads, int32_t *codes,
                           int64_t *smallest, int64_t *largest);
void flm_shifted_codes_i32(flm_index n, const int32_t *keys, int64_t base, int n_threads, int32_t *codes,
                           int64_t *smallest, int64_t *largest);

/* used[codes[i]] = 1 (n_levels, zeros on entry); 1 if a code lies outside [0, n_levels), else 0. */
int flm_used_levels_i8(flm_index n, const int8_t *codes, flm_index n_levels, int n_threads, uint8_t *used);
int flm_used_levels_i16(flm_index n, const int16_t *codes, flm_index n_levels, int n_threads, uint8_t *used);
int flm_used_levels_i32(flm_index n, const int32_t *codes, flm_index n_levels, int n_threads, uint8_t *used);

/* Dense keys: level number by table lookup, for `smallest <= keys[i] < smallest + range`.
 *
 * codes     (n)      out, level number of each row
 * uniques   (range)  out, the keys that occur, increasing; the first return value of them
 * A workspace of 1.25 * range bytes is allocated inside.
 * Returns the number of levels, or -1 when memory is short.
 */
flm_index flm_dense_codes_i64(flm_index n, const int64_t *keys, int64_t smallest, flm_index range,
                              int n_threads, int32_t *codes, int64_t *uniques);
flm_index flm_dense_codes_i32(flm_index n, const int32_t *keys, int64_t smallest, flm_index range,
                              int n_threads, int32_t *codes, int64_t *uniques);

/* Scattered keys, batch by batch: a table by open addressing that grows.
 *
 * Codes are in order of first appearance over all calls, from `first` on.  A slot is found by the
 * folded 128-bit product of the key and an odd constant (as in wyhash of Wang Yi); it takes 16 bytes,
 * and a large table has 2 to 4 slots for each level.
 */
typedef struct flm_key_table flm_key_table;

/* An empty table, NULL when memory is short; 0 <= first < 2^31. */
flm_key_table *flm_key_table_new(flm_index first);
void flm_key_table_free(flm_key_table *table);

/* Levels so far, and their keys by code; the place of the keys changes when the table grows. */
flm_index flm_key_table_levels(const flm_key_table *table);
const int64_t *flm_key_table_keys(const flm_key_table *table);

/* Codes (n) of these keys.  Threads look up what is known already, in turn with one that enters the rest.
 * Returns the number of levels, -1 when memory is short, -2 when a code would pass 2^31 - 3; the table
 * can be used further with the levels entered so far.
 */
flm_index flm_key_codes(flm_key_table *table, flm_index n, const int64_t *keys, int n_threads, int32_t *codes);

/* codes[i] = rank[codes[i] + 1]; n codes >= -1, rank has one entry per level behind one for -1. */
void flm_relabel(flm_index n, const int32_t *rank, int n_threads, int32_t *codes);

#endif
