#include "blocks.h"

#include <math.h>

#define FLM_LINE 8    /* doubles in a cache line */
#define ROWS_AHEAD 32 /* rows between asking for a slot of R and adding to it */

FLM_CLONES void flm_weighted_block(const flm_columns *columns, const double *weights, flm_index at, int m,
                                   double *block)
{
    flm_fill(columns, at, m, block, FLM_BLOCK);
    if (!weights)
        return;
    double root[FLM_BLOCK];
    for (int r = 0; r < m; r++)
        root[r] = sqrt(weights[at + r]);
    for (int j = 0; j < columns->n_columns; j++) {
        double *restrict column = block + (ptrdiff_t)j * FLM_BLOCK;
        FLM_SIMD
        for (int r = 0; r < m; r++)
            column[r] *= root[r];
    }
}

/* Two columns against four: eight inner products for six loads. */
FLM_INLINE void gram_tile(const double *const restrict column[6], int m, double out[8])
{
    const double *restrict a = column[0], *restrict b = column[1];
    const double *restrict p = column[2], *restrict q = column[3];
    const double *restrict s = column[4], *restrict t = column[5];
    double ap = 0, aq = 0, as = 0, at = 0, bp = 0, bq = 0, bs = 0, bt = 0;
    FLM_SIMD_SUM(ap, aq, as, at, bp, bq, bs, bt)
    for (int r = 0; r < m; r++) {
        ap += a[r] * p[r], aq += a[r] * q[r], as += a[r] * s[r], at += a[r] * t[r];
        bp += b[r] * p[r], bq += b[r] * q[r], bs += b[r] * s[r], bt += b[r] * t[r];
    }
    out[0] = ap, out[1] = aq, out[2] = as, out[3] = at;
    out[4] = bp, out[5] = bq, out[6] = bs, out[7] = bt;
}

FLM_CLONES void flm_add_gram(const double *block, int u, int m, double *C)
{
    for (int i = 0; i < u; i += 2) {
        for (int j = i; j < u; j += 4) {
            const double *column[6];
            double sums[8];
            for (int c = 0; c < 6; c++) {
                const int at = c < 2 ? i + c : j + c - 2;
                column[c] = block + (ptrdiff_t)(at < u ? at : u - 1) * FLM_BLOCK;
            }
            gram_tile(column, m, sums);
            for (int c = 0; c < 8; c++) {
                const int row = i + c / 4, col = j + c % 4;
                if (row < u && col < u && row <= col)
                    C[(ptrdiff_t)row * u + col] += sums[c];
            }
        }
    }
}

FLM_INLINE void transpose_width(const double *restrict block, const int u, int m, double *restrict rows)
{
    for (int r = 0; r < m; r++)
        for (int j = 0; j < u; j++)
            rows[(ptrdiff_t)r * u + j] = block[(ptrdiff_t)j * FLM_BLOCK + r];
}

/* Ask for the cache lines of a slot of R. */
FLM_INLINE void fetch(const double *slot, ptrdiff_t size)
{
    for (ptrdiff_t at = 0; at < size; at += FLM_LINE)
        FLM_PREFETCH(slot + at);
    FLM_PREFETCH(slot + size - 1);
}

FLM_INLINE void scatter_width(const double *restrict rows, const flm_code *restrict codes,
                              const uint16_t *restrict order, int m, int readable, const int u, int k,
                              const int32_t *restrict z, double *restrict R, int64_t *restrict counts)
{
    const ptrdiff_t size = (ptrdiff_t)k * u;
    for (int i = 0; i < m; i++) {
        if (i + ROWS_AHEAD < readable) {
            const flm_code later = codes[order ? order[i + ROWS_AHEAD] : i + ROWS_AHEAD];
            fetch(R + later * size, size);
            if (counts)
                FLM_PREFETCH(counts + later);
        }
        const int r = order ? order[i] : i;
        const double *x = rows + (ptrdiff_t)r * u;
        double *Ri = R + codes[r] * size;
        for (int a = 0; a < k; a++) {
            const double za = x[z[a]];
            FLM_SIMD
            for (int j = 0; j < u; j++)
                Ri[(ptrdiff_t)a * u + j] += za * x[j];
        }
        if (counts)
            counts[codes[r]]++;
    }
}

/* Widths met in practice are compiled with the size known. */
#define BY_WIDTH(CALL)                                                                                       \
    switch (u) {                                                                                             \
    case 2: CALL(2)                                                                                          \
    case 3: CALL(3)                                                                                          \
    case 4: CALL(4)                                                                                          \
    case 5: CALL(5)                                                                                          \
    case 6: CALL(6)                                                                                          \
    case 7: CALL(7)                                                                                          \
    case 8: CALL(8)                                                                                          \
    case 10: CALL(10)                                                                                        \
    case 12: CALL(12)                                                                                        \
    default: CALL(u)                                                                                         \
    }

#define TRANSPOSE(u_)                                                                                        \
    transpose_width(block, u_, m, rows);                                                                     \
    return;

FLM_CLONES void flm_transpose_block(const double *block, int u, int m, double *rows)
{
    BY_WIDTH(TRANSPOSE)
}

#define SCATTER(u_)                                                                                          \
    if (order)                                                                                               \
        scatter_width(rows, codes, order, m, readable, u_, k, z, R, counts);                                 \
    else                                                                                                     \
        scatter_width(rows, codes, NULL, m, readable, u_, k, z, R, counts);                                  \
    return;

FLM_CLONES void flm_scatter(const double *rows, const flm_code *codes, const uint16_t *order, int m, int readable,
                            int u, int k, const int32_t *z, double *R, int64_t *counts)
{
    BY_WIDTH(SCATTER)
}
