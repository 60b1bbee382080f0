#include "flm_pass.h"

#include "blocks.h"

#include <stdlib.h>
#include <string.h>

#define SERIAL_ROWS 32768 /* waking up threads takes longer than reading so few rows */

static flm_index smaller(flm_index a, flm_index b)
{
    return a < b ? a : b;
}

/* One piece of rows into its own partial sums. */
static void direct_piece(const flm_columns *columns, const double *weights, flm_index lo, flm_index hi,
                         int piece, int n_factors, const flm_factor *factors, double *C, double *block,
                         double *rows)
{
    const int u = columns->n_columns;
    for (flm_index at = lo; at < hi; at += FLM_BLOCK) {
        const int m = (int)smaller(hi - at, FLM_BLOCK);
        flm_weighted_block(columns, weights, at, m, block);
        if (C)
            flm_add_gram(block, u, m, C);
        if (n_factors)
            flm_transpose_block(block, u, m, rows, u);
        for (int f = 0; f < n_factors; f++) {
            const flm_factor *factor = factors + f;
            const flm_index copy = factor->shared ? 0 : piece * factor->levels;
            flm_scatter(rows, u, factor->codes + at, m, u, factor->k, factor->z,
                        factor->R + copy * factor->k * u, factor->counts + copy);
        }
    }
}

flm_status flm_pass_direct(const flm_columns *columns, const double *weights, int n_pieces,
                           const flm_index *bounds, int n_factors, const flm_factor *factors, double *C_partial,
                           int n_threads)
{
    const size_t u = (size_t)columns->n_columns;
    int failed = 0;
#pragma omp parallel num_threads(n_threads) if (n_pieces > 1 && bounds[n_pieces] > SERIAL_ROWS)
    {
        double *block = malloc(sizeof(double) * 2 * FLM_BLOCK * u);
        if (!block) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (int piece = 0; piece < n_pieces; piece++)
            if (block)
                direct_piece(columns, weights, bounds[piece], bounds[piece + 1], piece, n_factors, factors,
                             C_partial ? C_partial + piece * u * u : NULL, block, block + FLM_BLOCK * u);
        free(block);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

/* A chunk lo .. lo + m is cut in FLM_SLICES; slice s writes its rows of bucket b at
 * position[s * n_buckets + b], so the rows of a bucket stay in row order. */
typedef struct {
    flm_index lo, m, slice_rows;
    int n_buckets, shift;
    flm_index *position;
} flm_chunk;

static flm_index slice_start(const flm_chunk *chunk, int s)
{
    return chunk->lo + smaller(chunk->m, s * chunk->slice_rows);
}

static void count_slice(const flm_chunk *chunk, const flm_code *restrict codes, int s)
{
    flm_index *restrict count = chunk->position + (ptrdiff_t)s * chunk->n_buckets;
    memset(count, 0, sizeof(flm_index) * (size_t)chunk->n_buckets);
    for (flm_index r = slice_start(chunk, s); r < slice_start(chunk, s + 1); r++)
        count[codes[r] >> chunk->shift]++;
}

/* Counts -> first positions; bucket[b] = start of bucket b in the records. */
static void place_buckets(const flm_chunk *chunk, flm_index *bucket)
{
    flm_index total = 0;
    for (int b = 0; b < chunk->n_buckets; b++) {
        bucket[b] = total;
        for (int s = 0; s < FLM_SLICES; s++) {
            flm_index *at = chunk->position + (ptrdiff_t)s * chunk->n_buckets + b;
            const flm_index count = *at;
            *at = total;
            total += count;
        }
    }
    bucket[chunk->n_buckets] = total;
}

FLM_INLINE void pack_width(const double *restrict block, const flm_code *restrict codes, int m, const int u,
                           int shift, flm_index *restrict position, double *restrict records)
{
    for (int r = 0; r < m; r++) {
        const int64_t level = codes[r];
        double *record = records + position[level >> shift]++ * (u + 1);
        for (int j = 0; j < u; j++)
            record[j] = block[(ptrdiff_t)j * FLM_BLOCK + r];
        memcpy(record + u, &level, sizeof level);
    }
}

#define PACK(u_)                                                                                             \
    case u_: pack_width(block, codes, m, u_, shift, position, records); return;

static void pack(const double *block, const flm_code *codes, int m, int u, int shift, flm_index *position,
                 double *records)
{
    switch (u) {
        PACK(2)
        PACK(3)
        PACK(4)
        PACK(5)
        PACK(6)
        PACK(7)
        PACK(8)
    default: pack_width(block, codes, m, u, shift, position, records);
    }
}

static void partition_slice(const flm_columns *columns, const double *weights, const flm_factor *factor,
                            const flm_chunk *chunk, int s, double *block, double *records, double *C)
{
    const int u = columns->n_columns;
    const flm_index end = slice_start(chunk, s + 1);
    flm_index *position = chunk->position + (ptrdiff_t)s * chunk->n_buckets;
    for (flm_index at = slice_start(chunk, s); at < end; at += FLM_BLOCK) {
        const int m = (int)smaller(end - at, FLM_BLOCK);
        flm_weighted_block(columns, weights, at, m, block);
        if (C)
            flm_add_gram(block, u, m, C);
        pack(block, factor->codes + at, m, u, chunk->shift, position, records);
    }
}

static int radix_chunk(const flm_columns *columns, const double *weights, const flm_factor *factor,
                       const flm_chunk *chunk, flm_index *bucket, double *records, double *C_partial,
                       int n_threads)
{
    const size_t u = (size_t)columns->n_columns;
    int failed = 0;
#pragma omp parallel num_threads(n_threads) if (chunk->m > SERIAL_ROWS)
    {
        double *block = malloc(sizeof(double) * FLM_BLOCK * u);
        if (!block) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int s = 0; s < FLM_SLICES; s++)
            count_slice(chunk, factor->codes, s);
#pragma omp single
        place_buckets(chunk, bucket);
#pragma omp for schedule(dynamic, 1)
        for (int s = 0; s < FLM_SLICES; s++)
            if (block)
                partition_slice(columns, weights, factor, chunk, s, block, records,
                                C_partial ? C_partial + s * u * u : NULL);
#pragma omp for schedule(dynamic, 1)
        for (int b = 0; b < chunk->n_buckets; b++)
            if (!failed)
                flm_scatter(records + bucket[b] * (flm_index)(u + 1), (ptrdiff_t)u + 1, NULL,
                            bucket[b + 1] - bucket[b], (int)u, factor->k, factor->z, factor->R,
                            factor->counts);
        free(block);
    }
    return failed;
}

flm_status flm_pass_radix(const flm_columns *columns, const double *weights, flm_index n, flm_index chunk_rows,
                          int shift, const flm_factor *factor, double *records, double *C_partial,
                          int n_threads)
{
    flm_chunk chunk = {.shift = shift, .n_buckets = (int)(((factor->levels - 1) >> shift) + 1)};
    flm_index *bucket = malloc(sizeof(flm_index) * (size_t)(chunk.n_buckets + 1));
    chunk.position = malloc(sizeof(flm_index) * (size_t)chunk.n_buckets * FLM_SLICES);
    int failed = !bucket || !chunk.position;
    for (chunk.lo = 0; chunk.lo < n && !failed; chunk.lo += chunk_rows) {
        chunk.m = smaller(n - chunk.lo, chunk_rows);
        const flm_index per_slice = (chunk.m + FLM_SLICES - 1) / FLM_SLICES;
        chunk.slice_rows = (per_slice + FLM_BLOCK - 1) / FLM_BLOCK * FLM_BLOCK;
        failed = radix_chunk(columns, weights, factor, &chunk, bucket, records, C_partial, n_threads);
    }
    free(chunk.position);
    free(bucket);
    return failed ? FLM_NO_MEMORY : FLM_OK;
}
