#include "flm_columns.h"

#include <stdlib.h>

/* One factor of a column over m rows: SET starts the product, TIMES continues it. */
#define SET(value) out[r] = ((value)-center) * multiplier
#define TIMES(value) out[r] *= (value)-center

#define LOOP(OP, type, index)                                                                                \
    {                                                                                                        \
        const type *x = (const type *)atom->data + lo;                                                       \
        FLM_SIMD                                                                                             \
        for (int r = 0; r < m; r++)                                                                          \
            OP((double)x[index]);                                                                            \
    }                                                                                                        \
    break;

#define LOOKUP(OP, type, index)                                                                              \
    {                                                                                                        \
        const type *x = (const type *)atom->data + lo;                                                       \
        const double *table = atom->table;                                                                   \
        FLM_SIMD                                                                                             \
        for (int r = 0; r < m; r++)                                                                          \
            OP(table[x[index]]);                                                                             \
    }                                                                                                        \
    break;

#define BY_KIND(OP, index)                                                                                   \
    switch (atom->kind) {                                                                                    \
    case FLM_F64: LOOP(OP, double, index)                                                                    \
    case FLM_F32: LOOP(OP, float, index)                                                                     \
    case FLM_I64: LOOP(OP, int64_t, index)                                                                   \
    case FLM_I32: LOOP(OP, int32_t, index)                                                                   \
    case FLM_I16: LOOP(OP, int16_t, index)                                                                   \
    case FLM_I8: LOOP(OP, int8_t, index)                                                                     \
    case FLM_U8: LOOP(OP, uint8_t, index)                                                                    \
    case FLM_TABLE16: LOOKUP(OP, int16_t, index)                                                             \
    case FLM_TABLE8: LOOKUP(OP, int8_t, index)                                                               \
    default: LOOKUP(OP, int32_t, index)                                                                      \
    }

FLM_INLINE void set_factor(const flm_atom *atom, double center, double multiplier, flm_index lo, int m,
                           double *restrict out)
{
    BY_KIND(SET, r)
}

FLM_INLINE void times_factor(const flm_atom *atom, double center, flm_index lo, int m, double *restrict out)
{
    BY_KIND(TIMES, r)
}

FLM_INLINE void set_gathered(const flm_atom *atom, double center, double multiplier,
                             const flm_index *restrict rows, int m, double *restrict out)
{
    const flm_index lo = 0;
    BY_KIND(SET, rows[r])
}

FLM_INLINE void times_gathered(const flm_atom *atom, double center, const flm_index *restrict rows, int m,
                               double *restrict out)
{
    const flm_index lo = 0;
    BY_KIND(TIMES, rows[r])
}

FLM_INLINE void set_constant(double value, int m, double *restrict out)
{
    for (int r = 0; r < m; r++)
        out[r] = value;
}

/* Product p at rows lo .. lo + m, or at rows[0] .. rows[m]. */
FLM_INLINE void fill_product(const flm_columns *columns, int32_t p, const flm_index *rows, flm_index lo, int m,
                             double *restrict out)
{
    const int32_t first = columns->start[p], end = columns->start[p + 1];
    if (first == end) {
        set_constant(columns->multiplier[p], m, out);
        return;
    }
    for (int32_t f = first; f < end; f++) {
        const flm_atom *atom = columns->atoms + columns->atom[f];
        const double center = columns->center[f], multiplier = columns->multiplier[p];
        if (f > first && rows)
            times_gathered(atom, center, rows, m, out);
        else if (f > first)
            times_factor(atom, center, lo, m, out);
        else if (rows)
            set_gathered(atom, center, multiplier, rows, m, out);
        else
            set_factor(atom, center, multiplier, lo, m, out);
    }
}

/* out += the products of column j after its first. */
FLM_INLINE void add_products(const flm_columns *columns, int32_t j, const flm_index *rows, flm_index lo, int m,
                             double *restrict out)
{
    double more[FLM_BLOCK];
    for (int at = 0; at < m; at += FLM_BLOCK) {
        const int size = m - at < FLM_BLOCK ? m - at : FLM_BLOCK;
        for (int32_t p = columns->product[j] + 1; p < columns->product[j + 1]; p++) {
            fill_product(columns, p, rows ? rows + at : rows, lo + at, size, more);
            FLM_SIMD
            for (int r = 0; r < size; r++)
                out[at + r] += more[r];
        }
    }
}

FLM_INLINE void fill(const flm_columns *columns, const flm_index *rows, flm_index lo, int m, double *block,
                     ptrdiff_t ld)
{
    for (int32_t j = 0; j < columns->n_columns; j++) {
        const int32_t first = columns->product ? columns->product[j] : j;
        fill_product(columns, first, rows, lo, m, block + j * ld);
        if (columns->product && columns->product[j + 1] > first + 1)
            add_products(columns, j, rows, lo, m, block + j * ld);
    }
}

FLM_CLONES void flm_fill(const flm_columns *columns, flm_index lo, int m, double *block, ptrdiff_t ld)
{
    fill(columns, NULL, lo, m, block, ld);
}

FLM_CLONES void flm_fill_rows(const flm_columns *columns, const flm_index *rows, int m, double *block,
                              ptrdiff_t ld)
{
    fill(columns, rows, 0, m, block, ld);
}

FLM_CLONES static void add_scaled(const double *restrict block, const double *restrict coefficients, int u, int m,
                                  double *restrict out)
{
    for (int j = 0; j < u; j++) {
        const double b = coefficients[j], *restrict column = block + (ptrdiff_t)j * FLM_BLOCK;
        FLM_SIMD
        for (int r = 0; r < m; r++)
            out[r] += b * column[r];
    }
}

static void add_by_code(const double *restrict block, const flm_code *restrict codes, const double *restrict b,
                        int k, int m, double *restrict out)
{
    for (int r = 0; r < m; r++) {
        if (codes[r] < 0)
            continue;
        const double *bi = b + (ptrdiff_t)codes[r] * k;
        double sum = 0;
        for (int a = 0; a < k; a++)
            sum += bi[a] * block[(ptrdiff_t)a * FLM_BLOCK + r];
        out[r] += sum;
    }
}

void flm_add_part(const flm_part *part, flm_index lo, int m, double *block, double *out)
{
    const int u = part->columns->n_columns;
    flm_fill(part->columns, lo, m, block, FLM_BLOCK);
    if (part->codes)
        add_by_code(block, part->codes + lo, part->coefficients, u, m, out);
    else
        add_scaled(block, part->coefficients, u, m, out);
}

/* Rows are independent here, so blocks go to threads in any order. */
static flm_status add_rows(const flm_columns *columns, const flm_code *codes, const double *coefficients,
                           flm_index lo, flm_index hi, double *out, int n_threads)
{
    const flm_part part = {columns, codes, coefficients};
    const int u = columns->n_columns;
    const flm_index n_blocks = (hi - lo + FLM_BLOCK - 1) / FLM_BLOCK;
    int failed = 0;
    if (u == 0)
        return FLM_OK;
#pragma omp parallel num_threads(n_threads) if (n_blocks > 64)
    {
        double *block = malloc(sizeof(double) * FLM_BLOCK * (size_t)u);
        if (!block) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (flm_index i = 0; i < n_blocks; i++) {
            const flm_index at = lo + i * FLM_BLOCK;
            const int m = (int)(hi - at < FLM_BLOCK ? hi - at : FLM_BLOCK);
            if (!block)
                continue;
            flm_add_part(&part, at, m, block, out + (at - lo));
        }
        free(block);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

flm_status flm_add_fixed(const flm_columns *columns, const double *coefficients, flm_index lo, flm_index hi,
                         double *out, int n_threads)
{
    return add_rows(columns, NULL, coefficients, lo, hi, out, n_threads);
}

flm_status flm_add_random(const flm_columns *columns, const flm_code *codes, const double *b, flm_index lo,
                          flm_index hi, double *out, int n_threads)
{
    return add_rows(columns, codes, b, lo, hi, out, n_threads);
}
