/* Keys to codes: integer columns become level numbers 0 .. n_levels - 1.
 *
 * Both encoders number the levels by increasing key, as a sorted unique would.
 * Results do not depend on `n_threads`.
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

/* Scattered keys: codes in order of first appearance, by open addressing with a
 * multiplicative 64-bit mix (Steele, Lea & Flood 2014, the finaliser of SplitMix).
 *
 * codes     (n)  out, in order of first appearance
 * uniques   (n)  out, the keys in that order; untouched behind the last one
 * The table (16 bytes per slot, at most 3/5 full) is allocated inside and grows.
 * Returns the number of levels, -1 when memory is short, -2 when there are 2^31 or more levels.
 */
flm_index flm_hash_codes_i64(flm_index n, const int64_t *keys, int32_t *codes, int64_t *uniques);

/* Scattered keys of one batch of several: the table is the caller's and stays between batches.
 *
 * size         number of slots, a power of two above n_levels + n
 * slots        (size, 2)  in and out, key and level number + 1, which is 0 for an empty slot
 * n_levels     levels in the table before
 * codes        (n)  out, in order of first appearance over all batches
 * uniques      (n)  out, the new keys in that order
 * Returns the number of levels after, -2 when there are 2^31 or more.
 */
flm_index flm_grow_codes_i64(flm_index n, const int64_t *keys, flm_index size, int64_t *slots,
                             flm_index n_levels, int32_t *codes, int64_t *uniques);

/* codes[i] = rank[codes[i]]; n codes, rank has one entry per level. */
void flm_relabel(flm_index n, const int32_t *rank, int n_threads, int32_t *codes);

#endif
