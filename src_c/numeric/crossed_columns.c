/* Dense columns: each is owned by one thread, which walks the leaf levels that touch it.
 *
 * A column of the Schur complement (8 m bytes) stays in cache while the runs of
 * entries stream by; the other order, level by level, would miss the cache at
 * every update. */
#include "crossed_small.h"

#include <stdlib.h>
#include <string.h>

flm_status flm_crossed_transpose(int64_t levels, int64_t m, const int64_t *row_ptr, const int32_t *index,
                                 const uint8_t *heavy, int64_t *col_ptr, int64_t *light_end, int64_t *entry,
                                 int32_t *level, int64_t *work)
{
    const int64_t entries = row_ptr[levels];
    int64_t *cursor = malloc((size_t)(m + 1) * sizeof *cursor);
    if (!cursor) return FLM_NO_MEMORY;
    memset(col_ptr, 0, (size_t)(m + 1) * sizeof *col_ptr);
    for (int64_t e = 0; e < entries; e++) col_ptr[index[e] + 1]++;
    for (int64_t c = 0; c < m; c++) col_ptr[c + 1] += col_ptr[c];
    memcpy(cursor, col_ptr, (size_t)m * sizeof *cursor);
    for (int64_t c = 0; c < m; c++) work[c] = m - c; /* what clearing the column costs */
    for (int pass = 0; pass < 2; pass++) {           /* light levels, then heavy ones */
        for (int64_t i = 0; i < levels; i++) {
            if (heavy[i] != pass) continue;
            for (int64_t e = row_ptr[i]; e < row_ptr[i + 1]; e++) {
                const int64_t place = cursor[index[e]]++;
                entry[place] = e;
                level[place] = (int32_t)i;
                if (pass == 0) work[index[e]] += 8 + row_ptr[i + 1] - e;
            }
        }
        if (pass == 0) memcpy(light_end, cursor, (size_t)m * sizeof *cursor);
    }
    free(cursor);
    return FLM_OK;
}

FLM_CLONES static void reduce_chunk(const flm_crossed *s, int chunk, int64_t r, double alpha, const double *V,
                                    const double *Y, double *t)
{
    const int k = s->k;
    for (int64_t c = s->column_chunk[chunk]; c < s->column_chunk[chunk + 1]; c++) {
        double *out = t + c * r;
        for (int64_t q = s->col_ptr[c]; q < s->col_ptr[c + 1]; q++)
            for (int a = 0; a < k; a++) {
                const double v = alpha * V[s->entry[q] * k + a];
                const double *row = Y + ((int64_t)s->level[q] * k + a) * r;
                FLM_SIMD
                for (int64_t b = 0; b < r; b++) out[b] += v * row[b];
            }
    }
}

void flm_crossed_reduce(const flm_crossed *s, int64_t r, double alpha, const double *V, const double *Y,
                        double *t)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_column_chunks; chunk++) reduce_chunk(s, chunk, r, alpha, V, Y, t);
}

/* column[index] -= w_e'w_t over the entries t of one level; indices are distinct. */
FLM_INLINE void scatter_run(int k, const double *we, const int32_t *restrict index, const double *restrict w,
                            int64_t count, double *restrict column)
{
    for (int64_t t = 0; t < count; t++) {
        double sum = 0;
        for (int a = 0; a < k; a++) sum += we[a] * w[t * k + a];
        column[index[t]] -= sum;
    }
}

FLM_INLINE void assemble_columns(const flm_crossed *s, int k, int chunk, int upper, double *P)
{
    for (int64_t c = s->column_chunk[chunk]; c < s->column_chunk[chunk + 1]; c++) {
        double *column = P + c * s->m;
        if (upper)
            memset(column, 0, (size_t)(c + 1) * sizeof *column);
        else
            memset(column + c, 0, (size_t)(s->m - c) * sizeof *column);
        for (int64_t q = s->col_ptr[c]; q < s->light_end[c]; q++) {
            const int64_t e = s->entry[q], i = s->level[q];
            const int64_t first = upper ? s->row_ptr[i] : e, last = upper ? e + 1 : s->row_ptr[i + 1];
            scatter_run(k, s->W + e * k, s->index + first, s->W + first * k, last - first, column);
        }
    }
}

FLM_CLONES static void assemble_chunk(const flm_crossed *s, int chunk, int upper, double *P)
{
    switch (s->k) {
    case 1: assemble_columns(s, 1, chunk, upper, P); break;
    case 2: assemble_columns(s, 2, chunk, upper, P); break;
    case 3: assemble_columns(s, 3, chunk, upper, P); break;
    default: assemble_columns(s, s->k, chunk, upper, P);
    }
}

void flm_crossed_assemble(const flm_crossed *s, int upper, double *P)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_column_chunks; chunk++) assemble_chunk(s, chunk, upper, P);
    flm_crossed_add_stacked(s, upper, P);
}

/* product (k) = sum_t column[index_t] w_t */
FLM_INLINE void gather_run(int k, const double *restrict column, const int32_t *restrict index,
                           const double *restrict w, int64_t count, double *restrict product)
{
    if (k == 1) {
        double sum = 0;
        FLM_SIMD_SUM(sum)
        for (int64_t t = 0; t < count; t++) sum += column[index[t]] * w[t];
        product[0] = sum;
        return;
    }
    for (int a = 0; a < k; a++) product[a] = 0;
    for (int64_t t = 0; t < count; t++) {
        const double value = column[index[t]];
        for (int a = 0; a < k; a++) product[a] += value * w[t * k + a];
    }
}

FLM_INLINE void gather_columns(const flm_crossed *s, int k, int chunk, const double *Minv, double *total)
{
    double product[FLM_CROSSED_MAX_K], w[FLM_CROSSED_MAX_K];
    for (int a = 0; a < k * k; a++) total[a] = 0;
    for (int64_t c = s->column_chunk[chunk]; c < s->column_chunk[chunk + 1]; c++) {
        const double *column = Minv + c * s->m;
        for (int64_t q = s->col_ptr[c]; q < s->light_end[c]; q++) {
            const int64_t e = s->entry[q], i = s->level[q];
            const double *L = s->L + i * k * k;
            gather_run(k, column, s->index + e + 1, s->W + (e + 1) * k, s->row_ptr[i + 1] - e - 1, product);
            for (int a = 0; a < k; a++) {
                w[a] = s->W[e * k + a];
                product[a] += 0.5 * column[c] * w[a]; /* the diagonal counts once in w p' + p w' */
            }
            solve_upper(k, 1, L, w);
            solve_upper(k, 1, L, product);
            for (int a = 0; a < k; a++)
                for (int b = 0; b < k; b++) total[a * k + b] += w[a] * product[b] + product[a] * w[b];
        }
    }
}

FLM_CLONES static void gather_chunk(const flm_crossed *s, int chunk, const double *Minv, double *total)
{
    switch (s->k) {
    case 1: gather_columns(s, 1, chunk, Minv, total); break;
    case 2: gather_columns(s, 2, chunk, Minv, total); break;
    case 3: gather_columns(s, 3, chunk, Minv, total); break;
    default: gather_columns(s, s->k, chunk, Minv, total);
    }
}

void flm_crossed_gather(const flm_crossed *s, const double *Minv, double *partial)
{
#pragma omp parallel for schedule(dynamic, 1) num_threads(s->n_threads) if (s->n_threads > 1)
    for (int chunk = 0; chunk < s->n_column_chunks; chunk++)
        gather_chunk(s, chunk, Minv, partial + (int64_t)chunk * s->k * s->k);
}
