/* C -= A B' for matrices too small to be worth a call of a threaded BLAS. */
#ifndef FLM_RANK_UPDATE_H
#define FLM_RANK_UPDATE_H

#include "flm_common.h"

/* Multiplications from which the threads of BLAS pay; with one thread the two are equally fast. */
#define FLM_BLAS_WORK 3e7

/* C (m, n) -= A (m, k) B' with columns of A and C `lda`, `ldc` apart and B_bl = B[b * row + l * column].
 * `lower`: only C_ab with a >= b is wanted, others may be spoiled. */
void flm_rank_update(int64_t m, int64_t n, int64_t k, const double *A, int64_t lda, const double *B,
                     int64_t row, int64_t column, double *C, int64_t ldc, int lower);

#endif
