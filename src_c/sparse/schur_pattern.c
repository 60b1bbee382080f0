/* Which levels of the stacked factors meet. */
#include "flm_schur.h"

#include <stdlib.h>
#include <string.h>

#define GRAIN 32 /* units per piece of work */

/* Units w >= v that meet v, unsorted, v first; mark[w] == v for them.  list may be NULL. */
static int64_t meet(const flm_meeting *g, int32_t v, int32_t *mark, int32_t *list)
{
    int64_t n = 1;
    mark[v] = v;
    if (list) list[0] = v;
    for (int64_t q = g->col_ptr[v]; q < g->col_ptr[v + 1]; q++) {
        const int64_t end = g->row_ptr[g->level[q] + 1];
        for (int64_t e = g->entry[q] + 1; e < end; e++) {
            const int32_t w = g->index[e];
            if (mark[w] == v) continue;
            mark[w] = v;
            if (list) list[n] = w;
            n++;
        }
    }
    for (int64_t q = g->stacked_ptr[v]; q < g->stacked_ptr[v + 1]; q++) {
        const int32_t w = g->stacked_unit[q];
        if (mark[w] == v) continue;
        mark[w] = v;
        if (list) list[n] = w;
        n++;
    }
    return n;
}

static int32_t *new_marks(int64_t units)
{
    int32_t *mark = malloc((size_t)(units + 1) * sizeof *mark);
    if (mark) memset(mark, 0xFF, (size_t)(units + 1) * sizeof *mark);
    return mark;
}

flm_status flm_schur_count(const flm_meeting *g, int64_t n_list, const int32_t *list, int64_t *count)
{
    int failed = 0;
#pragma omp parallel num_threads(g->n_threads) reduction(| : failed) if (g->n_threads > 1)
    {
        int32_t *mark = new_marks(g->units);
        failed |= !mark;
#pragma omp for schedule(dynamic, GRAIN)
        for (int64_t q = 0; q < n_list; q++)
            if (mark) count[q] = meet(g, list[q], mark, NULL);
        free(mark);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Sorts n distinct numbers: by a bitmap where they are dense in their range. */
static void sort_units(int64_t n, int32_t *list, uint64_t *bits)
{
    if (n < 3) {
        if (n == 2 && list[1] < list[0]) {
            const int32_t swap = list[0];
            list[0] = list[1], list[1] = swap;
        }
        return;
    }
    int32_t most = list[0];
    const int32_t least = list[0]; /* the unit itself */
    for (int64_t q = 1; q < n; q++)
        if (list[q] > most) most = list[q];
    const int64_t words = ((int64_t)most >> 6) - ((int64_t)least >> 6) + 1, base = (int64_t)least >> 6;
    if (words > 8 * n) {
        qsort(list, (size_t)n, sizeof *list, ascending);
        return;
    }
    memset(bits, 0, (size_t)words * sizeof *bits);
    for (int64_t q = 0; q < n; q++) bits[(list[q] >> 6) - base] |= (uint64_t)1 << (list[q] & 63);
    int64_t out = 0;
    for (int64_t word = 0; word < words; word++) {
        int32_t value = (int32_t)((word + base) << 6);
        for (uint64_t rest = bits[word]; rest; rest >>= 1, value++)
            if (rest & 1) list[out++] = value;
    }
}

flm_status flm_schur_pattern(const flm_meeting *g, const int64_t *ptr, int32_t *idx)
{
    int failed = 0;
#pragma omp parallel num_threads(g->n_threads) reduction(| : failed) if (g->n_threads > 1)
    {
        int32_t *mark = new_marks(g->units);
        uint64_t *bits = malloc((size_t)(g->units / 64 + 2) * sizeof *bits);
        const int ready = mark && bits;
        failed |= !ready;
#pragma omp for schedule(dynamic, GRAIN)
        for (int64_t v = 0; v < g->units; v++)
            if (ready) {
                meet(g, (int32_t)v, mark, idx + ptr[v]);
                sort_units(ptr[v + 1] - ptr[v], idx + ptr[v], bits);
            }
        free(mark);
        free(bits);
    }
    return failed ? FLM_NO_MEMORY : FLM_OK;
}
