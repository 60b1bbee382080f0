#include "flm_pass.h"

#include "blocks.h"

#include <stdlib.h>
#include <string.h>

#define SERIAL_ROWS 32768 /* waking up threads takes longer than reading so few rows */

static flm_index smaller(flm_index a, flm_index b)
{
    return a < b ? a : b;
}

/* Rows lo .. hi into the sums of their piece. */
static void direct_piece(const flm_columns *columns, const double *weights, flm_index lo, flm_index hi,
                         int piece, int n_factors, const flm_factor *factors, double *C, double *block,
                         double *rows, int fetch)
{
    const int u = columns->n_columns;
    for (flm_index at = lo; at < hi; at += FLM_BLOCK) {
        const int m = (int)smaller(hi - at, FLM_BLOCK);
        const int readable = fetch ? (int)smaller(hi - at, 2 * FLM_BLOCK) : 0;
        flm_weighted_block(columns, weights, at, m, block);
        if (C)
            flm_add_gram(block, u, m, C);
        if (n_factors)
            flm_transpose_block(block, u, m, rows);
        for (int f = 0; f < n_factors; f++) {
            const flm_factor *factor = factors + f;
            const flm_index copy = factor->shared ? 0 : piece * factor->levels;
            flm_scatter(rows, factor->codes + at, NULL, m, readable, u, factor->k, factor->z,
                        factor->R + copy * factor->k * u, factor->counts ? factor->counts + copy : NULL);
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
                             C_partial ? C_partial + piece * u * u : NULL, block, block + FLM_BLOCK * u, 0);
        free(block);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

/* ---- threads that own levels --------------------------------------------------- */

#define NEIGHBOURS 3 /* 2^3 levels in a row have one owner: their slots fill whole cache lines */
#define MAX_OWNERS 64

/* FLM_SLICES tiles of rows.  First threads share out the tiles: they evaluate the rows, and list them by
 * owner of their level.  Then they share out the owners, who add their rows tile after tile. */
typedef struct {
    flm_index lo, end;
    int tile_rows, n_owners;
    double *rows;    /* (FLM_SLICES, tile_rows, u) */
    uint16_t *order; /* (n_factors, FLM_SLICES, n_owners, tile_rows) */
    int32_t *listed; /* (n_factors, FLM_SLICES, n_owners) */
} flm_chunk;

FLM_INLINE int owner_of(flm_code level, int n_owners)
{
    return (level >> NEIGHBOURS) & (n_owners - 1);
}

/* order[o] = rows r < m whose levels owner o has, listed[o] of them. */
static void list_by_owner(const flm_code *restrict codes, int m, int n_owners, int tile_rows,
                          uint16_t *restrict order, int32_t *restrict listed)
{
    uint16_t *end[MAX_OWNERS];
    for (int o = 0; o < n_owners; o++)
        end[o] = order + (ptrdiff_t)o * tile_rows;
    for (int r = 0; r < m; r++)
        *end[owner_of(codes[r], n_owners)]++ = (uint16_t)r;
    for (int o = 0; o < n_owners; o++)
        listed[o] = (int32_t)(end[o] - (order + (ptrdiff_t)o * tile_rows));
}

static flm_index tile_start(const flm_chunk *chunk, int tile)
{
    return smaller(chunk->end, chunk->lo + (flm_index)tile * chunk->tile_rows);
}

static void prepare_tile(const flm_columns *columns, const double *weights, int n_factors,
                         const flm_factor *factors, const flm_chunk *chunk, int tile, double *block, double *C)
{
    const int u = columns->n_columns;
    const flm_index lo = tile_start(chunk, tile), hi = tile_start(chunk, tile + 1);
    double *rows = chunk->rows + (ptrdiff_t)tile * chunk->tile_rows * u;
    for (flm_index at = lo; at < hi; at += FLM_BLOCK) {
        const int m = (int)smaller(hi - at, FLM_BLOCK);
        flm_weighted_block(columns, weights, at, m, block);
        if (C)
            flm_add_gram(block, u, m, C);
        flm_transpose_block(block, u, m, rows + (at - lo) * u);
    }
    for (int f = 0; f < n_factors; f++) {
        const ptrdiff_t place = ((ptrdiff_t)f * FLM_SLICES + tile) * chunk->n_owners;
        list_by_owner(factors[f].codes + lo, (int)(hi - lo), chunk->n_owners, chunk->tile_rows,
                      chunk->order + place * chunk->tile_rows, chunk->listed + place);
    }
}

static void add_owned(const flm_factor *factor, int f, int u, const flm_chunk *chunk, int owner)
{
    for (int tile = 0; tile < FLM_SLICES; tile++) {
        const ptrdiff_t place = ((ptrdiff_t)f * FLM_SLICES + tile) * chunk->n_owners + owner;
        const int m = chunk->listed[place];
        flm_scatter(chunk->rows + (ptrdiff_t)tile * chunk->tile_rows * u, factor->codes + tile_start(chunk, tile),
                    chunk->order + place * chunk->tile_rows, m, m, u, factor->k, factor->z, factor->R,
                    factor->counts);
    }
}

/* What each of the threads does. */
static void owned_chunks(const flm_columns *columns, const double *weights, flm_index n, int n_factors,
                         const flm_factor *factors, flm_chunk chunk, double *block, double *C_partial)
{
    const ptrdiff_t u = columns->n_columns;
    for (chunk.lo = 0; chunk.lo < n; chunk.lo = chunk.end) {
        chunk.end = smaller(n, chunk.lo + (flm_index)FLM_SLICES * chunk.tile_rows);
#pragma omp for schedule(dynamic, 1)
        for (int tile = 0; tile < FLM_SLICES; tile++)
            prepare_tile(columns, weights, n_factors, factors, &chunk, tile, block,
                         C_partial ? C_partial + tile * u * u : NULL);
#pragma omp for schedule(dynamic, 1)
        for (int part = 0; part < n_factors * chunk.n_owners; part++)
            add_owned(factors + part / chunk.n_owners, part / chunk.n_owners, (int)u, &chunk,
                      part % chunk.n_owners);
    }
}

/* One thread needs no lists; its tiles add to the same slices of C. */
static int owned_alone(const flm_columns *columns, const double *weights, flm_index n, int tile_rows, int n_factors,
                       const flm_factor *factors, double *C_partial)
{
    const size_t u = (size_t)columns->n_columns;
    double *block = malloc(sizeof(double) * 2 * FLM_BLOCK * u);
    if (!block)
        return 1;
    flm_index tile = 0;
    for (flm_index lo = 0; lo < n; lo += tile_rows, tile++)
        direct_piece(columns, weights, lo, smaller(n, lo + tile_rows), 0, n_factors, factors,
                     C_partial ? C_partial + (size_t)(tile % FLM_SLICES) * u * u : NULL, block,
                     block + FLM_BLOCK * u, 1);
    free(block);
    return 0;
}

flm_status flm_pass_owned(const flm_columns *columns, const double *weights, flm_index n, int tile_rows,
                          int n_factors, const flm_factor *factors, double *C_partial, int n_threads)
{
    const size_t u = (size_t)columns->n_columns;
    flm_chunk chunk = {.tile_rows = tile_rows, .n_owners = 1};
    if (n_threads < 2 || n <= SERIAL_ROWS)
        return owned_alone(columns, weights, n, tile_rows, n_factors, factors, C_partial) ? FLM_NO_MEMORY : FLM_OK;
    while (chunk.n_owners < 2 * n_threads && chunk.n_owners < MAX_OWNERS)
        chunk.n_owners *= 2;
    const size_t lists = (size_t)n_factors * FLM_SLICES * (size_t)chunk.n_owners;
    double *blocks = malloc(sizeof(double) * FLM_BLOCK * u * (size_t)n_threads);
    chunk.rows = malloc(sizeof(double) * FLM_SLICES * (size_t)tile_rows * u);
    chunk.order = malloc(sizeof(uint16_t) * lists * (size_t)tile_rows);
    chunk.listed = malloc(sizeof(int32_t) * lists);
    const int failed = !blocks || !chunk.rows || !chunk.order || !chunk.listed;
    if (!failed) {
        int thread = 0;
#pragma omp parallel num_threads(n_threads)
        {
            int mine;
#pragma omp atomic capture
            mine = thread++;
            owned_chunks(columns, weights, n, n_factors, factors, chunk, blocks + (size_t)mine * FLM_BLOCK * u,
                         C_partial);
        }
    }
    free(blocks);
    free(chunk.rows);
    free(chunk.order);
    free(chunk.listed);
    return failed ? FLM_NO_MEMORY : FLM_OK;
}
