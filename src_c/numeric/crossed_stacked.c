/* What concerns the stacked factors among themselves: A_cc and diagonal blocks. */
#include "flm_crossed.h"

#include <string.h>

static int factor_of_unit(const flm_crossed *s, int64_t v)
{
    int f = 0;
    while (v >= s->unit[f + 1]) f++;
    return f;
}

static int64_t column_of_unit(const flm_crossed *s, int f, int64_t v)
{
    return s->offset[f] + (v - s->unit[f]) * s->width[f];
}

static const double *scale_of_factor(const flm_crossed *s, const double *scales, int f)
{
    for (int g = 0; g < f; g++) scales += s->width[g] * s->width[g];
    return scales;
}

void flm_crossed_scale(const flm_crossed *s, int inverse, int64_t r, const double *t, double *out)
{
    const double *Df = inverse ? s->Dc_inverse : s->Dc;
    for (int f = 0; f < s->n_stacked; f++) {
        const int kf = s->width[f];
        for (int64_t c = s->offset[f]; c < s->offset[f + 1]; c += kf)
            for (int b = 0; b < kf; b++)
                for (int64_t q = 0; q < r; q++) {
                    double sum = 0; /* D' or D^-T: the transpose of the matrix stored */
                    for (int a = 0; a < kf; a++) sum += Df[a * kf + b] * t[(c + a) * r + q];
                    out[(c + b) * r + q] = sum;
                }
        Df += kf * kf;
    }
}

void flm_crossed_stacked_multiply(const flm_crossed *s, int64_t r, const double *h, double *t)
{
    for (int64_t v = 0; v < s->n_units; v++) {
        const int f = factor_of_unit(s, v), kf = s->width[f];
        const int64_t cv = column_of_unit(s, f, v);
        for (int64_t q = s->stacked_ptr[v]; q < s->stacked_ptr[v + 1]; q++) {
            const int64_t w = s->stacked_unit[q];
            const int g = factor_of_unit(s, w), kg = s->width[g];
            const int64_t cw = column_of_unit(s, g, w);
            const double *block = s->stacked_value + s->stacked_start[q];
            for (int a = 0; a < kf; a++)
                for (int b = 0; b < kg; b++) {
                    const double x = block[a * kg + b];
                    for (int64_t c = 0; c < r; c++) t[(cv + a) * r + c] += x * h[(cw + b) * r + c];
                    if (w == v) continue;
                    for (int64_t c = 0; c < r; c++) t[(cw + b) * r + c] += x * h[(cv + a) * r + c];
                }
        }
    }
}

/* Adds D_f' block D_g with rows cv.., columns cw.. (cv <= cw) to one triangle. */
static void add_block(int64_t m, int kf, int kg, const double *Df, const double *Dg, const double *block,
                      int64_t cv, int64_t cw, int upper, double *P)
{
    double row[FLM_CROSSED_MAX_K];
    for (int a = 0; a < kf; a++) {
        for (int b = 0; b < kg; b++) {
            row[b] = 0;
            for (int c = 0; c < kf; c++) row[b] += Df[c * kf + a] * block[c * kg + b];
        }
        for (int b = 0; b < kg; b++) {
            if (cv + a > cw + b) continue; /* diagonal block: one triangle of it */
            double sum = 0;
            for (int c = 0; c < kg; c++) sum += row[c] * Dg[c * kg + b];
            if (upper)
                P[cv + a + (cw + b) * m] += sum;
            else
                P[cw + b + (cv + a) * m] += sum;
        }
    }
}

void flm_crossed_add_stacked(const flm_crossed *s, int upper, double *P)
{
#pragma omp parallel for schedule(static) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int64_t v = 0; v < s->n_units; v++) { /* every element belongs to one block: no conflicts */
        const int f = factor_of_unit(s, v);
        const double *Df = scale_of_factor(s, s->Dc, f);
        for (int64_t q = s->stacked_ptr[v]; q < s->stacked_ptr[v + 1]; q++) {
            const int64_t w = s->stacked_unit[q];
            const int g = factor_of_unit(s, w);
            add_block(s->m, s->width[f], s->width[g], Df, scale_of_factor(s, s->Dc, g),
                      s->stacked_value + s->stacked_start[q], column_of_unit(s, f, v),
                      column_of_unit(s, g, w), upper, P);
        }
    }
}

static double symmetric(const double *lower, int64_t m, int64_t a, int64_t b)
{
    return a >= b ? lower[a + b * m] : lower[b + a * m];
}

void flm_crossed_block_sum(const flm_crossed *s, int f, const double *Minv, double *out)
{
    const int kf = s->width[f];
    memset(out, 0, (size_t)(kf * kf) * sizeof *out);
    for (int64_t c = s->offset[f]; c < s->offset[f + 1]; c += kf)
        for (int a = 0; a < kf; a++)
            for (int b = 0; b < kf; b++) out[a * kf + b] += symmetric(Minv, s->m, c + a, c + b);
}

void flm_crossed_blocks(const flm_crossed *s, int f, const double *Minv, double *blocks)
{
    const int kf = s->width[f];
    const double *D = scale_of_factor(s, s->Dc, f);
    double half[FLM_CROSSED_MAX_K];
    for (int64_t c = s->offset[f]; c < s->offset[f + 1]; c += kf, blocks += kf * kf)
        for (int a = 0; a < kf; a++) {
            for (int b = 0; b < kf; b++) { /* row a of D Minv_jj */
                half[b] = 0;
                for (int q = 0; q < kf; q++) half[b] += D[a * kf + q] * symmetric(Minv, s->m, c + q, c + b);
            }
            for (int b = 0; b < kf; b++) {
                double sum = 0;
                for (int q = 0; q < kf; q++) sum += half[q] * D[b * kf + q];
                blocks[a * kf + b] = sum;
            }
        }
}

/* Element (r, c) of Minv and of P, as stored by product_sum's caller. */
FLM_INLINE double inverse_element(const double *A, const double *diagonal, int64_t m, int64_t r, int64_t c)
{
    return r == c ? diagonal[r] : r > c ? A[r + c * m] : A[c + r * m];
}

FLM_INLINE double product_element(const double *A, int64_t m, int64_t r, int64_t c)
{
    return r <= c ? A[r + c * m] : A[c + r * m];
}

/* total += sum over units j in [first, last) and rows r of P_(j,a),r Minv_r,(j,b).
 * Rows outside the units' own columns pair a run down the columns of one
 * triangle with a strip of consecutive columns of the other: whole cache lines. */
FLM_INLINE void product_units(int64_t m, int kf, const double *A, const double *diagonal, int64_t first,
                              int64_t last, double *total)
{
    for (int64_t r = 0; r < m; r++) {
        const double *strip = A + r * m;
        if (r < first)
            for (int64_t c = first; c < last; c += kf) /* P down the column, Minv in the strip */
                for (int a = 0; a < kf; a++)
                    for (int b = 0; b < kf; b++) total[a * kf + b] += A[r + (c + a) * m] * strip[c + b];
        else if (r >= last)
            for (int64_t c = first; c < last; c += kf) /* the other way round */
                for (int a = 0; a < kf; a++)
                    for (int b = 0; b < kf; b++) total[a * kf + b] += strip[c + a] * A[r + (c + b) * m];
        else
            for (int64_t c = first; c < last; c += kf)
                for (int a = 0; a < kf; a++)
                    for (int b = 0; b < kf; b++)
                        total[a * kf + b] +=
                            product_element(A, m, r, c + a) * inverse_element(A, diagonal, m, r, c + b);
    }
}

void flm_crossed_product_sum(const flm_crossed *s, int f, const double *A, const double *Minv_diagonal,
                             double *partial, double *out)
{
    const int kf = s->width[f], chunks = s->n_column_chunks;
    const int64_t units = s->unit[f + 1] - s->unit[f], group = kf < 16 ? 16 / kf : 1;
    memset(partial, 0, (size_t)chunks * kf * kf * sizeof *partial);
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < chunks; chunk++) {
        const int64_t end = units * (chunk + 1) / chunks;
        for (int64_t v = units * chunk / chunks; v < end; v += group) {
            const int64_t first = s->offset[f] + v * kf;
            const int64_t last = s->offset[f] + (v + group < end ? v + group : end) * kf;
            if (kf == 1)
                product_units(s->m, 1, A, Minv_diagonal, first, last, partial + chunk);
            else
                product_units(s->m, kf, A, Minv_diagonal, first, last, partial + (int64_t)chunk * kf * kf);
        }
    }
    memset(out, 0, (size_t)(kf * kf) * sizeof *out);
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int a = 0; a < kf * kf; a++) out[a] += partial[(int64_t)chunk * kf * kf + a];
}
