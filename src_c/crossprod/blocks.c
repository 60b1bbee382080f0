#include "blocks.h"

#include <math.h>
#include <string.h>

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

FLM_CLONES void flm_transpose_block(const double *restrict block, int u, int m, double *restrict rows,
                                    ptrdiff_t stride)
{
    for (int r = 0; r < m; r++)
        for (int j = 0; j < u; j++)
            rows[r * stride + j] = block[(ptrdiff_t)j * FLM_BLOCK + r];
}

FLM_INLINE void scatter_width(const double *restrict rows, ptrdiff_t stride, const flm_code *restrict codes,
                              flm_index m, const int u, int k, const int32_t *restrict z, double *restrict R,
                              int64_t *restrict counts)
{
    for (flm_index r = 0; r < m; r++) {
        const double *x = rows + r * stride;
        int64_t level;
        if (codes)
            level = codes[r];
        else
            memcpy(&level, x + u, sizeof level);
        double *Ri = R + level * k * u;
        for (int a = 0; a < k; a++) {
            const double za = x[z[a]];
            FLM_SIMD
            for (int j = 0; j < u; j++)
                Ri[(ptrdiff_t)a * u + j] += za * x[j];
        }
        counts[level]++;
    }
}

#define WIDTH(u_)                                                                                            \
    case u_:                                                                                                 \
        if (codes)                                                                                           \
            scatter_width(rows, stride, codes, m, u_, k, z, R, counts);                                      \
        else                                                                                                 \
            scatter_width(rows, stride, NULL, m, u_, k, z, R, counts);                                       \
        return;

/* Widths met in practice are compiled with the size known. */
FLM_CLONES void flm_scatter(const double *rows, ptrdiff_t stride, const flm_code *codes, flm_index m, int u,
                            int k, const int32_t *z, double *R, int64_t *counts)
{
    switch (u) {
        WIDTH(2)
        WIDTH(3)
        WIDTH(4)
        WIDTH(5)
        WIDTH(6)
        WIDTH(7)
        WIDTH(8)
        WIDTH(10)
        WIDTH(12)
    default: scatter_width(rows, stride, codes, m, u, k, z, R, counts);
    }
}
