#include "flm_pairs.h"

#include <stdlib.h>
#include <string.h>

#define SLICES 32
#define DIGIT_BITS 11

/* Stable partition of all rows by f >> shift, in slices of rows that threads share out. */
static flm_status partition(const flm_code *restrict f, const flm_code *restrict g, flm_index n, int n_buckets,
                            int shift, int g_bits, uint64_t *restrict key, flm_index *restrict rows,
                            flm_index *restrict bucket, int n_threads)
{
    const flm_index step = (n + SLICES - 1) / SLICES;
    const uint64_t local = ((uint64_t)1 << shift) - 1;
    flm_index *position = calloc((size_t)SLICES * (size_t)n_buckets, sizeof(flm_index));
    if (!position)
        return FLM_NO_MEMORY;
#pragma omp parallel num_threads(n_threads) if (n > 65536)
    {
#pragma omp for schedule(static)
        for (int s = 0; s < SLICES; s++) {
            const flm_index end = (s + 1) * step < n ? (s + 1) * step : n;
            for (flm_index r = s * step; r < end; r++)
                position[(ptrdiff_t)s * n_buckets + (f[r] >> shift)]++;
        }
#pragma omp single
        {
            flm_index total = 0;
            for (int b = 0; b < n_buckets; b++) {
                bucket[b] = total;
                for (int s = 0; s < SLICES; s++) {
                    const flm_index count = position[(ptrdiff_t)s * n_buckets + b];
                    position[(ptrdiff_t)s * n_buckets + b] = total;
                    total += count;
                }
            }
            bucket[n_buckets] = total;
        }
#pragma omp for schedule(static)
        for (int s = 0; s < SLICES; s++) {
            const flm_index end = (s + 1) * step < n ? (s + 1) * step : n;
            flm_index *at = position + (ptrdiff_t)s * n_buckets;
            for (flm_index r = s * step; r < end; r++) {
                const flm_index to = at[f[r] >> shift]++;
                key[to] = ((uint64_t)f[r] & local) << g_bits | (uint64_t)g[r];
                if (rows)
                    rows[to] = r;
            }
        }
    }
    free(position);
    return FLM_OK;
}

FLM_INLINE void scatter_digit(const uint64_t *restrict key, const flm_index *restrict rows,
                              uint64_t *restrict key_to, flm_index *restrict rows_to, flm_index m, int low,
                              uint64_t mask, const int with_rows)
{
    flm_index at[1 << DIGIT_BITS] = {0}, total = 0;
    for (flm_index r = 0; r < m; r++)
        at[key[r] >> low & mask]++;
    for (uint64_t d = 0; d <= mask; d++) {
        const flm_index count = at[d];
        at[d] = total;
        total += count;
    }
    for (flm_index r = 0; r < m; r++) {
        const flm_index to = at[key[r] >> low & mask]++;
        key_to[to] = key[r];
        if (with_rows)
            rows_to[to] = rows[r];
    }
}

/* Stable sort of m keys of `bits` bits; the scratch arrays hold m entries. */
static void sort_bucket(uint64_t *key, flm_index *rows, flm_index m, int bits, uint64_t *key_scratch,
                        flm_index *rows_scratch)
{
    uint64_t *from = key, *to = key_scratch;
    flm_index *rows_from = rows, *rows_to = rows_scratch;
    const int passes = (bits + DIGIT_BITS - 1) / DIGIT_BITS;
    const int digit = passes ? (bits + passes - 1) / passes : 0;
    for (int pass = 0; pass < passes; pass++) {
        const uint64_t mask = ((uint64_t)1 << digit) - 1;
        if (rows)
            scatter_digit(from, rows_from, to, rows_to, m, pass * digit, mask, 1);
        else
            scatter_digit(from, NULL, to, NULL, m, pass * digit, mask, 0);
        uint64_t *key_swap = from;
        flm_index *rows_swap = rows_from;
        from = to, to = key_swap;
        rows_from = rows_to, rows_to = rows_swap;
    }
    if (from != key) {
        memcpy(key, from, sizeof *key * (size_t)m);
        if (rows)
            memcpy(rows, rows_from, sizeof *rows * (size_t)m);
    }
}

flm_status flm_pairs_sort(const flm_code *f, const flm_code *g, flm_index n, flm_index levels_f, int shift,
                          int g_bits, uint64_t *key, flm_index *rows, flm_index *bucket, flm_index *indptr,
                          int n_threads)
{
    const int n_buckets = (int)(((levels_f - 1) >> shift) + 1);
    int failed = 0;
    if (partition(f, g, n, n_buckets, shift, g_bits, key, rows, bucket, n_threads) != FLM_OK)
        return FLM_NO_MEMORY;
    memset(indptr, 0, sizeof *indptr * (size_t)(levels_f + 1));
    flm_index longest = 0;
    for (int b = 0; b < n_buckets; b++)
        if (bucket[b + 1] - bucket[b] > longest)
            longest = bucket[b + 1] - bucket[b];
#pragma omp parallel num_threads(n_threads) if (n > 65536)
    {
        uint64_t *key_scratch = malloc(sizeof(uint64_t) * (size_t)longest);
        flm_index *rows_scratch = rows ? malloc(sizeof(flm_index) * (size_t)longest) : NULL;
        const int ready = key_scratch && (rows_scratch || !rows);
        if (!ready) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (int b = 0; b < n_buckets; b++) {
            const flm_index lo = bucket[b], m = bucket[b + 1] - lo;
            if (!ready)
                continue;
            sort_bucket(key + lo, rows ? rows + lo : NULL, m, g_bits + shift, key_scratch, rows_scratch);
            flm_index *count = indptr + 1 + ((flm_index)b << shift);
            for (flm_index r = 0; r < m; r++)
                if (r == 0 || key[lo + r] != key[lo + r - 1])
                    count[key[lo + r] >> g_bits]++;
        }
        free(key_scratch);
        free(rows_scratch);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

/* One block of sorted rows of a bucket; `pair` is the pair before it, returns the last one. */
static flm_index fill_block(const double *z, int k_f, int k_g, const uint64_t *key, int m, int new_bucket,
                            uint64_t g_mask, flm_index pair, flm_code *indices, double *blocks)
{
    const ptrdiff_t size = (ptrdiff_t)k_f * k_g;
    for (int r = 0; r < m; r++) {
        double *block = blocks + pair * size;
        if ((new_bucket && r == 0) || key[r] != key[r - 1]) {
            block = blocks + ++pair * size;
            indices[pair] = (flm_code)(key[r] & g_mask);
            memset(block, 0, sizeof(double) * (size_t)size);
        }
        for (int a = 0; a < k_f; a++)
            for (int b = 0; b < k_g; b++)
                block[a * k_g + b] += z[(ptrdiff_t)a * FLM_BLOCK + r] * z[(ptrdiff_t)(k_f + b) * FLM_BLOCK + r];
    }
    return pair;
}

static void fill_counts(const uint64_t *key, flm_index m, uint64_t g_mask, flm_index pair, flm_code *indices,
                        double *blocks)
{
    for (flm_index r = 0; r < m; r++) {
        if (r == 0 || key[r] != key[r - 1]) {
            indices[++pair] = (flm_code)(key[r] & g_mask);
            blocks[pair] = 0;
        }
        blocks[pair] += 1;
    }
}

flm_status flm_pairs_fill(const flm_columns *columns, const double *weights, int k_f, int shift, int g_bits,
                          flm_index levels_f, const uint64_t *key, const flm_index *rows,
                          const flm_index *bucket, const flm_index *indptr, flm_code *indices, double *blocks,
                          int n_threads)
{
    const int n_buckets = (int)(((levels_f - 1) >> shift) + 1), k = columns->n_columns;
    const uint64_t g_mask = ((uint64_t)1 << g_bits) - 1;
    int failed = 0;
#pragma omp parallel num_threads(n_threads) if (bucket[n_buckets] > 65536)
    {
        double *z = malloc(sizeof(double) * FLM_BLOCK * (size_t)k);
        if (!z) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (int b = 0; b < n_buckets; b++) {
            flm_index pair = indptr[(flm_index)b << shift] - 1;
            if (!z)
                continue;
            if (!rows) {
                fill_counts(key + bucket[b], bucket[b + 1] - bucket[b], g_mask, pair, indices, blocks);
                continue;
            }
            for (flm_index at = bucket[b]; at < bucket[b + 1]; at += FLM_BLOCK) {
                const flm_index left = bucket[b + 1] - at;
                const int m = (int)(left < FLM_BLOCK ? left : FLM_BLOCK);
                flm_fill_rows(columns, rows + at, m, z, FLM_BLOCK);
                if (weights)
                    for (int a = 0; a < k_f; a++)
                        for (int r = 0; r < m; r++)
                            z[(ptrdiff_t)a * FLM_BLOCK + r] *= weights[rows[at + r]];
                pair = fill_block(z, k_f, k - k_f, key + at, m, at == bucket[b], g_mask, pair, indices, blocks);
            }
        }
        free(z);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}
