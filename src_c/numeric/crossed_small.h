/* k x k algebra of one leaf level, row-major; k is a constant where the caller makes it one. */
#ifndef FLM_CROSSED_SMALL_H
#define FLM_CROSSED_SMALL_H

#include "flm_crossed.h"

#include <math.h>

/* out = D'X for X (k, r), row-major. */
FLM_INLINE void times_transposed(int k, int64_t r, const double *D, const double *X, double *out)
{
    for (int b = 0; b < k; b++)
        for (int64_t c = 0; c < r; c++) {
            double sum = 0;
            for (int a = 0; a < k; a++) sum += D[a * k + b] * X[a * r + c];
            out[b * r + c] = sum;
        }
}

/* P = D'A D */
FLM_INLINE void congruence(int k, const double *D, const double *A, double *P)
{
    double half[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K];
    times_transposed(k, k, D, A, half);
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++) {
            double sum = 0;
            for (int c = 0; c < k; c++) sum += half[a * k + c] * D[c * k + b];
            P[a * k + b] = sum;
        }
}

/* L = chol(I + P), lower triangle; returns 0 when a pivot is not positive or not a number. */
FLM_INLINE int cholesky(int k, const double *P, double *L)
{
    for (int a = 0; a < k; a++)
        for (int b = 0; b <= a; b++) {
            double sum = P[a * k + b] + (a == b);
            for (int c = 0; c < b; c++) sum -= L[a * k + c] * L[b * k + c];
            if (a == b) {
                if (!(sum > 0) || isinf(sum)) return 0;
                L[a * k + a] = sqrt(sum);
            } else {
                L[a * k + b] = sum / L[b * k + b];
                L[b * k + a] = 0;
            }
        }
    return 1;
}

/* X = L^-1 X, in place, X (k, r) row-major. */
FLM_INLINE void solve_lower(int k, int64_t r, const double *L, double *X)
{
    for (int a = 0; a < k; a++) {
        for (int b = 0; b < a; b++)
            for (int64_t c = 0; c < r; c++) X[a * r + c] -= L[a * k + b] * X[b * r + c];
        double scale = 1 / L[a * k + a];
        for (int64_t c = 0; c < r; c++) X[a * r + c] *= scale;
    }
}

/* X = L^-T X, in place. */
FLM_INLINE void solve_upper(int k, int64_t r, const double *L, double *X)
{
    for (int a = k - 1; a >= 0; a--) {
        double scale = 1 / L[a * k + a];
        for (int64_t c = 0; c < r; c++) X[a * r + c] *= scale;
        for (int b = 0; b < a; b++)
            for (int64_t c = 0; c < r; c++) X[b * r + c] -= L[a * k + b] * X[a * r + c];
    }
}

/* out = L^-T Q L^-1 for a symmetric Q (k, k), which is overwritten. */
FLM_INLINE void unwhiten(int k, const double *L, double *Q, double *out)
{
    solve_upper(k, k, L, Q); /* L^-T Q */
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++) out[a * k + b] = Q[b * k + a];
    solve_upper(k, k, L, out); /* L^-T (L^-T Q)' = L^-T Q L^-1 */
}

#endif
