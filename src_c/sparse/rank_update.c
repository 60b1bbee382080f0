/* Tiles of 16 rows and 4 columns, kept in registers over a depth of up to DEPTH. */
#include "rank_update.h"

#include "flm_lanes.h"

typedef double loose __attribute__((vector_size(FLM_ALIGN), aligned(8))); /* lanes at any address */

#define TILE 4
#define DEPTH 256

/* C -= A B' for 8 or 16 rows; the first `rows` of them and `columns` columns are stored. */
FLM_INLINE void tile(int wide, int64_t k, const double *A, int64_t lda, const double *B, int64_t column,
                     const int64_t *rows_of_b, double *C, int64_t ldc, int64_t rows, int64_t columns)
{
    flm_lanes low[TILE], high[TILE];
    for (int q = 0; q < TILE; q++) low[q] = high[q] = (flm_lanes){0};
    for (int64_t l = 0; l < k; l++) {
        const flm_lanes a = *(const loose *)(A + l * lda);
        const double *b = B + l * column;
        for (int q = 0; q < TILE; q++) low[q] += a * b[rows_of_b[q]];
        if (wide) {
            const flm_lanes a2 = *(const loose *)(A + l * lda + FLM_LANES);
            for (int q = 0; q < TILE; q++) high[q] += a2 * b[rows_of_b[q]];
        }
    }
    for (int q = 0; q < columns && q < TILE; q++) {
        double *c = C + q * ldc;
        if (rows < FLM_LANES) {
            for (int64_t a = 0; a < rows; a++) c[a] -= low[q][a];
        } else {
            *(loose *)c -= low[q];
            if (wide) *(loose *)(c + FLM_LANES) -= high[q];
        }
    }
}

/* The last rows of A, fewer than a vector has, with zeros below them. */
static void copy_tail(int64_t rows, int64_t k, const double *A, int64_t lda, double *tail)
{
    for (int64_t l = 0; l < k; l++)
        for (int64_t a = 0; a < FLM_LANES; a++) tail[l * FLM_LANES + a] = a < rows ? A[l * lda + a] : 0;
}

FLM_CLONES static void update(int64_t m, int64_t n, int64_t k, const double *A, int64_t lda, const double *B,
                              int64_t row, int64_t column, double *C, int64_t ldc, int lower)
{
    double tail[FLM_LANES * DEPTH];
    const int64_t rest = m % FLM_LANES, body = m - rest;
    if (rest) copy_tail(rest, k, A + body, lda, tail);
    for (int64_t b = 0; b < n; b += TILE) {
        int64_t rows_of_b[TILE];
        for (int q = 0; q < TILE; q++) rows_of_b[q] = (b + q < n ? b + q : n - 1) * row;
        double *c = C + b * ldc;
        int64_t a = lower ? b / FLM_LANES * FLM_LANES : 0;
        for (; a + 2 * FLM_LANES <= body; a += 2 * FLM_LANES)
            tile(1, k, A + a, lda, B, column, rows_of_b, c + a, ldc, 2 * FLM_LANES, n - b);
        if (a < body) tile(0, k, A + a, lda, B, column, rows_of_b, c + a, ldc, FLM_LANES, n - b);
        if (rest) tile(0, k, tail, FLM_LANES, B, column, rows_of_b, c + body, ldc, rest, n - b);
    }
}

void flm_rank_update(int64_t m, int64_t n, int64_t k, const double *A, int64_t lda, const double *B,
                     int64_t row, int64_t column, double *C, int64_t ldc, int lower)
{
    for (int64_t l = 0; l < k; l += DEPTH) {
        const int64_t depth = k - l < DEPTH ? k - l : DEPTH;
        update(m, n, depth, A + l * lda, lda, B + l * column, row, column, C, ldc, lower);
    }
}
