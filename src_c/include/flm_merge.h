/* Sums over two sets of rows added level by level.
 *
 * A union of levels says for each of its n entries where it lies in a and in b,
 * `from_a` and `from_b`, -1 where it does not.  Then out = A[from_a] + B[from_b],
 * which has the same bits with a and b exchanged, and whatever the threads. */
#ifndef FLM_MERGE_H
#define FLM_MERGE_H

#include "flm_common.h"

/* The union of two strictly increasing arrays of keys, in pieces that threads
 * share out: piece c begins at entry start[c] of the union. */
#define FLM_UNION_PIECES 64
typedef struct {
    flm_index na, nb;
    const int64_t *a, *b;
    int pieces;
    flm_index start_a[FLM_UNION_PIECES + 1], start_b[FLM_UNION_PIECES + 1], start[FLM_UNION_PIECES + 1];
} flm_union;

/* Fills the pieces of a union whose na, nb (not both 0), a and b are set; returns its size. */
flm_index flm_union_count(flm_union *self, int n_threads);

/* keys, from_a and from_b (size), each of which may be NULL. */
void flm_union_list(const flm_union *self, int64_t *keys, flm_index *from_a, flm_index *from_b, int n_threads);

/* out (n x width) = A[from_a] + B[from_b] with A (na x width) and B (nb x width);
 * a `from` that is NULL means entry i itself, so that na or nb must be n.
 * FLM_BAD_ARGUMENT when an entry lies outside of A or B. */
flm_status flm_add_rows(flm_index n, flm_index width, flm_index na, const double *A, const flm_index *from_a,
                        flm_index nb, const double *B, const flm_index *from_b, double *out, int n_threads);

/* The same for counts (width 1). */
flm_status flm_add_counts(flm_index n, flm_index na, const int64_t *A, const flm_index *from_a, flm_index nb,
                          const int64_t *B, const flm_index *from_b, int64_t *out, int n_threads);

/* order (n): entries by code, those of one code as they come.  FLM_BAD_ARGUMENT when a code is outside
 * [0, levels). */
flm_status flm_order_codes(flm_index n, const flm_code *codes, flm_index levels, flm_index *order);

#endif
