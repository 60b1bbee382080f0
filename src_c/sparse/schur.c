/* Numbers of the sparse Schur complement, and sums over its selected inverse. */
#include "flm_schur.h"

#include "../numeric/crossed_small.h"

#include <stdlib.h>
#include <string.h>

static int factor_of(const flm_crossed *s, int64_t v)
{
    int f = 0;
    while (v >= s->unit[f + 1]) f++;
    return f;
}

static const double *scale_of(const flm_crossed *s, int f)
{
    const double *D = s->Dc;
    for (int g = 0; g < f; g++) D += s->width[g] * s->width[g];
    return D;
}

/* column -= W_e'W_t over the entries t >= e of every leaf level that has column c. */
FLM_INLINE void add_leaf(const flm_crossed *s, int k, int64_t c, double *restrict column)
{
    for (int64_t q = s->col_ptr[c]; q < s->col_ptr[c + 1]; q++) {
        const int64_t e = s->entry[q], end = s->row_ptr[s->level[q] + 1];
        const double *we = s->W + e * k;
        for (int64_t t = e; t < end; t++) {
            double sum = 0;
            for (int a = 0; a < k; a++) sum += we[a] * s->W[t * k + a];
            column[s->index[t]] -= sum;
        }
    }
}

/* column += (D_c'A_cc D_c) of column b of unit v, on and below the diagonal. */
static void add_stacked(const flm_schur *p, int64_t v, int b, double *column)
{
    const flm_crossed *s = p->s;
    const int f = factor_of(s, v), kf = s->width[f];
    const double *Df = scale_of(s, f);
    double row[FLM_CROSSED_MAX_K];
    for (int64_t q = s->stacked_ptr[v]; q < s->stacked_ptr[v + 1]; q++) {
        const int64_t w = s->stacked_unit[q], first = p->unit_column[w];
        const int g = factor_of(s, w), kg = s->width[g];
        const double *block = s->stacked_value + s->stacked_start[q], *Dg = scale_of(s, g);
        for (int c = 0; c < kg; c++) { /* row b of D_f' block */
            row[c] = 0;
            for (int a = 0; a < kf; a++) row[c] += Df[a * kf + b] * block[a * kg + c];
        }
        for (int a = w == v ? b : 0; a < kg; a++) {
            double sum = 0;
            for (int c = 0; c < kg; c++) sum += row[c] * Dg[c * kg + a];
            column[first + a] += sum;
        }
    }
}

FLM_CLONES static void assemble_unit(const flm_schur *p, int64_t v, double *column, double *values)
{
    const flm_crossed *s = p->s;
    const int64_t n = p->row_ptr[v + 1] - p->row_ptr[v];
    const int32_t *rows = p->rows + p->row_ptr[v];
    const int kv = (int)(p->unit_column[v + 1] - p->unit_column[v]);
    for (int b = 0; b < kv; b++) {
        double *out = values + p->value_ptr[v] + b * n;
        for (int64_t t = 0; t < n; t++) column[rows[t]] = 0;
        if (s->k == 1)
            add_leaf(s, 1, p->unit_column[v] + b, column);
        else
            add_leaf(s, s->k, p->unit_column[v] + b, column);
        add_stacked(p, v, b, column);
        for (int64_t t = 0; t < n; t++) out[t] = column[rows[t]];
    }
}

flm_status flm_schur_assemble(const flm_schur *p, double *values)
{
    int failed = 0;
#pragma omp parallel num_threads(p->n_threads) reduction(| : failed) if (p->n_threads > 1)
    {
        double *column = malloc((size_t)p->s->m * sizeof *column);
        failed |= !column;
#pragma omp for schedule(dynamic, 1)
        for (int chunk = 0; chunk < p->n_chunks; chunk++)
            for (int64_t v = p->chunk[chunk]; v < p->chunk[chunk + 1] && column; v++)
                assemble_unit(p, v, column, values);
        free(column);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

/* total += L_i^-T (w_e q' + q w_e') L_i^-1 with q = sum_{t > e} Z_te w_t + Z_ee w_e / 2, column holding Z. */
FLM_INLINE void gather_column(const flm_crossed *s, int k, int64_t c, const double *restrict column,
                              double *restrict total)
{
    double product[FLM_CROSSED_MAX_K], w[FLM_CROSSED_MAX_K];
    for (int64_t q = s->col_ptr[c]; q < s->col_ptr[c + 1]; q++) {
        const int64_t e = s->entry[q], i = s->level[q], end = s->row_ptr[i + 1];
        for (int a = 0; a < k; a++) {
            w[a] = s->W[e * k + a];
            product[a] = 0.5 * column[c] * w[a];
        }
        for (int64_t t = e + 1; t < end; t++) {
            const double value = column[s->index[t]];
            for (int a = 0; a < k; a++) product[a] += value * s->W[t * k + a];
        }
        solve_upper(k, 1, s->L + i * k * k, w);
        solve_upper(k, 1, s->L + i * k * k, product);
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++) total[a * k + b] += w[a] * product[b] + product[a] * w[b];
    }
}

FLM_CLONES static void gather_unit(const flm_schur *p, int64_t v, const double *Z, double *column,
                                   double *total)
{
    const int64_t n = p->row_ptr[v + 1] - p->row_ptr[v];
    const int32_t *rows = p->rows + p->row_ptr[v];
    const int kv = (int)(p->unit_column[v + 1] - p->unit_column[v]);
    for (int b = 0; b < kv; b++) {
        const double *from = Z + p->value_ptr[v] + b * n;
        for (int64_t t = 0; t < n; t++) column[rows[t]] = from[t];
        if (p->s->k == 1)
            gather_column(p->s, 1, p->unit_column[v] + b, column, total);
        else
            gather_column(p->s, p->s->k, p->unit_column[v] + b, column, total);
    }
}

flm_status flm_schur_gather(const flm_schur *p, const double *Z, double *partial)
{
    const int k2 = p->s->k * p->s->k;
    int failed = 0;
    memset(partial, 0, (size_t)(p->n_chunks * k2) * sizeof *partial);
#pragma omp parallel num_threads(p->n_threads) reduction(| : failed) if (p->n_threads > 1)
    {
        double *column = malloc((size_t)p->s->m * sizeof *column);
        failed |= !column;
#pragma omp for schedule(dynamic, 1)
        for (int chunk = 0; chunk < p->n_chunks; chunk++)
            for (int64_t v = p->chunk[chunk]; v < p->chunk[chunk + 1] && column; v++)
                gather_unit(p, v, Z, column, partial + (int64_t)chunk * k2);
        free(column);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

/* Z at (row, column) of the pattern, row >= column, column one of unit v. */
static double element(const flm_schur *p, int64_t v, int64_t row, int64_t column, const double *Z)
{
    const int32_t *rows = p->rows + p->row_ptr[v];
    const int64_t n = p->row_ptr[v + 1] - p->row_ptr[v];
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return Z[p->value_ptr[v] + (column - p->unit_column[v]) * n + low];
}

/* Q = I + W_i Z W_i' */
static void inner_level(const flm_schur *p, int64_t i, const double *Z, double *Q)
{
    const flm_crossed *s = p->s;
    const int k = s->k;
    double product[FLM_CROSSED_MAX_K];
    for (int a = 0; a < k * k; a++) Q[a] = a % (k + 1) == 0;
    for (int64_t e = s->row_ptr[i]; e < s->row_ptr[i + 1]; e++) {
        const int64_t c = s->index[e];
        int f = 0;
        while (c >= s->offset[f + 1]) f++;
        const int64_t v = s->unit[f] + (c - s->offset[f]) / s->width[f];
        const double *w = s->W + e * k;
        const double own = 0.5 * element(p, v, c, c, Z);
        for (int a = 0; a < k; a++) product[a] = own * w[a];
        for (int64_t t = e + 1; t < s->row_ptr[i + 1]; t++) {
            const double value = element(p, v, s->index[t], c, Z);
            for (int a = 0; a < k; a++) product[a] += value * s->W[t * k + a];
        }
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++) Q[a * k + b] += w[a] * product[b] + product[a] * w[b];
    }
}

flm_status flm_schur_leaf_covariance(const flm_schur *p, const double *Z, double *out)
{
    const flm_crossed *s = p->s;
    const int k = s->k;
#pragma omp parallel for schedule(dynamic, 64) num_threads(p->n_threads) if (p->n_threads > 1)
    for (int64_t i = 0; i < s->levels; i++) {
        double Q[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K], half[FLM_CROSSED_MAX_K * FLM_CROSSED_MAX_K];
        inner_level(p, i, Z, Q);
        unwhiten(k, s->L + i * k * k, Q, half);
        for (int a = 0; a < k; a++) /* Q = D half */
            for (int b = 0; b < k; b++) {
                double sum = 0;
                for (int c = 0; c < k; c++) sum += s->D[a * k + c] * half[c * k + b];
                Q[a * k + b] = sum;
            }
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++) {
                double sum = 0;
                for (int c = 0; c < k; c++) sum += Q[a * k + c] * s->D[b * k + c];
                out[(i * k + a) * k + b] = sum;
            }
    }
    return FLM_OK;
}

/* Element (a, b) of a symmetric block kept by columns of length n, lower triangle. */
static double lower_element(const double *block, int64_t n, int a, int b)
{
    return a >= b ? block[a + b * n] : block[b + a * n];
}

static void product_unit(const flm_schur *p, int64_t v, const double *P, const double *Z, double *sums)
{
    const flm_crossed *s = p->s;
    const int64_t n = p->row_ptr[v + 1] - p->row_ptr[v];
    const int32_t *rows = p->rows + p->row_ptr[v];
    const int f = factor_of(s, v), kv = s->width[f];
    const double *Pv = P + p->value_ptr[v], *Zv = Z + p->value_ptr[v];
    double *own = sums;
    for (int g = 0; g < f; g++) own += s->width[g] * s->width[g];
    for (int a = 0; a < kv; a++)
        for (int b = 0; b < kv; b++)
            for (int c = 0; c < kv; c++)
                own[a * kv + b] += lower_element(Pv, n, a, c) * lower_element(Zv, n, c, b);
    double *other = own;
    for (int64_t t = kv, g = f; t < n;) { /* blocks of later units w: P_vw Z_wv and P_wv Z_vw */
        while (rows[t] >= s->offset[g + 1]) other += s->width[g] * s->width[g], g++;
        const int kw = s->width[g];
        for (int a = 0; a < kv; a++)
            for (int b = 0; b < kv; b++)
                for (int c = 0; c < kw; c++) own[a * kv + b] += Pv[t + c + a * n] * Zv[t + c + b * n];
        for (int a = 0; a < kw; a++)
            for (int b = 0; b < kw; b++)
                for (int c = 0; c < kv; c++) other[a * kw + b] += Pv[t + a + c * n] * Zv[t + b + c * n];
        t += kw;
    }
}

void flm_schur_product_sums(const flm_schur *p, int64_t total, const double *P, const double *Z,
                            double *partial)
{
    memset(partial, 0, (size_t)(p->n_chunks * total) * sizeof *partial);
#pragma omp parallel for schedule(dynamic, 1) num_threads(p->n_threads) if (p->n_threads > 1)
    for (int chunk = 0; chunk < p->n_chunks; chunk++)
        for (int64_t v = p->chunk[chunk]; v < p->chunk[chunk + 1]; v++)
            product_unit(p, v, P, Z, partial + chunk * total);
}
