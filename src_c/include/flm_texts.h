/* Texts to codes: columns of strings in Arrow's layout become level numbers.
 *
 * Text i of a column is bytes[offsets[i]] .. bytes[offsets[i + 1] - 1]; nothing is taken for granted of
 * the bytes.  Results do not depend on `n_threads`.
 */
#ifndef FLM_TEXTS_H
#define FLM_TEXTS_H

#include "flm_common.h"

/* A column of n texts.
 *
 * offsets   (n + 1)  int64 if `wide`, else int32
 * bytes     (size)
 * valid     bit first_bit + i is 0 where text i is missing; NULL when none is
 */
typedef struct {
    flm_index n;
    int wide;
    const void *offsets;
    const uint8_t *bytes;
    flm_index size;
    const uint8_t *valid;
    flm_index first_bit;
} flm_texts;

/* A table of texts by open addressing that grows, and keeps the texts it has seen once each.
 *
 * Codes are in order of first appearance over all calls, from `first` on.  A slot (16 bytes) holds a text
 * of up to 11 bytes itself, and most of 12; of longer ones a hash, a chain of folded 128-bit products (as
 * in wyhash of Wang Yi), and the bytes are compared.
 */
typedef struct flm_text_table flm_text_table;

/* An empty table, NULL when memory is short; 0 <= first < 2^31. */
flm_text_table *flm_text_table_new(flm_index first);
void flm_text_table_free(flm_text_table *table);

/* Levels so far; their texts by code are bytes[offsets[level]] .. bytes[offsets[level + 1] - 1], which
 * change their place when the table grows. */
flm_index flm_text_table_levels(const flm_text_table *table);
const int64_t *flm_text_table_offsets(const flm_text_table *table);
const uint8_t *flm_text_table_bytes(const flm_text_table *table);

/* Codes (n) of these texts, -1 where one is missing.  Threads look up what is known already, in turn with
 * one that enters the rest.
 * Returns the number of levels, -1 when memory is short, -2 when a code would pass 2^31 - 3, -3 when an
 * offset lies outside the bytes; the table can be used further with the levels entered so far.
 */
flm_index flm_text_codes(flm_text_table *table, const flm_texts *texts, int n_threads, int32_t *codes);

/* order (n) out: the positions of n texts, n < 2^31, in increasing order of their bytes, a text before those
 * it begins; equal ones in any order.  FLM_NO_MEMORY, or FLM_BAD_ARGUMENT when an offset lies outside. */
flm_status flm_text_order(flm_index n, const int64_t *offsets, const uint8_t *bytes, flm_index size,
                          int64_t *order);

#endif
