/* Where every number of the factor stands. */
#include "flm_sparse.h"

#include <stdlib.h>
#include <string.h>

#define PIECES 32 /* a subtree with less than 1 / PIECES of the work is one task */
#define LITTLE 1e8 /* work below which waking threads costs more than it saves */

flm_status flm_factor_tasks(int64_t nodes, const int64_t *first, const int64_t *row_ptr,
                            const int32_t *parent, int32_t *start, int32_t *task, int32_t *top,
                            int64_t *n_tasks, int64_t *n_top, double *share)
{
    double *work = malloc((size_t)(nodes + 1) * sizeof *work), total = 0;
    if (!work) return FLM_NO_MEMORY;
    for (int64_t s = 0; s < nodes; s++) {
        const double nc = (double)(first[s + 1] - first[s]), nr = nc + (double)(row_ptr[s + 1] - row_ptr[s]);
        work[s] = nc * nr * nr + 100;
        start[s] = (int32_t)s;
    }
    for (int64_t s = 0; s < nodes; s++) {
        if (parent[s] == -1) {
            total += work[s];
            continue;
        }
        work[parent[s]] += work[s];
        if (start[s] < start[parent[s]]) start[parent[s]] = start[s];
    }
    const double limit = total / PIECES;
    double below = 0;
    *n_tasks = *n_top = 0;
    for (int64_t s = 0; s < nodes; s++) {
        if (work[s] > limit) {
            top[(*n_top)++] = (int32_t)s;
        } else if (parent[s] == -1 || work[parent[s]] > limit) {
            task[(*n_tasks)++] = (int32_t)s;
            below += work[s];
        }
    }
    *share = total < LITTLE ? 0 : below / total;
    free(work);
    return FLM_OK;
}

static int ascending(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Places of J's rows among its parent's columns and rows. */
static void relative_places(const flm_factor *f, int64_t s)
{
    const int32_t up = f->parent[s];
    if (up == -1) return;
    const int64_t first = f->first[up], nc = f->first[up + 1] - first;
    const int32_t *theirs = f->rows + f->row_ptr[up];
    int64_t q = 0;
    for (int64_t t = f->row_ptr[s]; t < f->row_ptr[s + 1]; t++) {
        if (f->rows[t] < first + nc) {
            f->rel[t] = (int32_t)(f->rows[t] - first);
        } else {
            while (theirs[q] < f->rows[t]) q++;
            f->rel[t] = (int32_t)(nc + q);
        }
    }
}

flm_status flm_factor_rows(const flm_factor *f, const int64_t *ptr, const int32_t *idx, const int32_t *order,
                           const int32_t *inverse)
{
    const int64_t total = f->row_ptr[f->nodes];
    int32_t *units = malloc((size_t)(total + 1) * sizeof *units); /* rows by position of their unit */
    int64_t *unit_start = malloc((size_t)(f->nodes + 1) * sizeof *unit_start);
    int32_t *mark = malloc((size_t)(f->units + 1) * sizeof *mark);
    flm_status status = units && unit_start && mark ? FLM_OK : FLM_NO_MEMORY;
    if (status == FLM_OK) {
        for (int64_t v = 0; v < f->units; v++) mark[v] = -1;
        unit_start[0] = 0;
    }
    for (int64_t s = 0; s < f->nodes && status == FLM_OK; s++) {
        const int64_t begin = unit_start[s], end = f->unit_ptr[s + 1];
        const int64_t limit = begin + (f->row_ptr[s + 1] - f->row_ptr[s]);
        int64_t out = begin;
        for (int64_t v = f->unit_ptr[s]; v < end; v++)
            for (int64_t p = ptr[order[v]]; p < ptr[order[v] + 1]; p++) {
                const int32_t w = inverse[idx[p]];
                if (w < end || mark[w] == s) continue;
                mark[w] = (int32_t)s;
                if (out < limit) units[out] = w;
                out++;
            }
        for (int64_t c = f->child_ptr[s]; c < f->child_ptr[s + 1]; c++)
            for (int64_t q = unit_start[f->child[c]]; q < unit_start[f->child[c] + 1]; q++) {
                const int32_t w = units[q];
                if (w < end || mark[w] == s) continue;
                mark[w] = (int32_t)s;
                if (out < limit) units[out] = w;
                out++;
            }
        if (out > limit) {
            status = FLM_BAD_ARGUMENT;
            break;
        }
        unit_start[s + 1] = out;
        qsort(units + begin, (size_t)(out - begin), sizeof *units, ascending);
        int64_t row = f->row_ptr[s];
        for (int64_t q = begin; q < out; q++)
            for (int64_t c = f->column[units[q]]; c < f->column[units[q] + 1]; c++)
                if (row < f->row_ptr[s + 1])
                    f->rows[row++] = (int32_t)c;
                else
                    status = FLM_BAD_ARGUMENT;
        if (row != f->row_ptr[s + 1]) status = FLM_BAD_ARGUMENT;
    }
    if (status == FLM_OK)
        for (int64_t s = 0; s < f->nodes; s++) relative_places(f, s);
    free(units);
    free(unit_start);
    free(mark);
    return status;
}

/* Place of permuted element (row, column), row >= column, in the panels. */
static int64_t place(const flm_factor *f, int64_t s, int64_t row, int64_t column)
{
    const int64_t first = f->first[s], nc = f->first[s + 1] - first, ni = f->row_ptr[s + 1] - f->row_ptr[s];
    const int64_t start = f->panel[s] + (column - first) * (nc + ni);
    if (row < first + nc) return start + row - first;
    const int32_t *rows = f->rows + f->row_ptr[s];
    int64_t low = 0, high = ni - 1;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return start + nc + low;
}

void flm_factor_targets(const flm_factor *f, const int64_t *unit_column, const int64_t *row_ptr,
                        const int32_t *rows, const int64_t *value_ptr, const int32_t *scalar,
                        const int32_t *node_of, int64_t *target)
{
#pragma omp parallel for schedule(dynamic, 64) num_threads(f->n_threads) if (f->n_threads > 1)
    for (int64_t v = 0; v < f->units; v++) {
        int64_t *out = target + value_ptr[v];
        for (int64_t c = unit_column[v]; c < unit_column[v + 1]; c++)
            for (int64_t p = row_ptr[v]; p < row_ptr[v + 1]; p++) {
                if (rows[p] < c) {
                    *out++ = -1;
                    continue;
                }
                int64_t row = scalar[rows[p]], column = scalar[c];
                if (row < column) {
                    const int64_t swap = row;
                    row = column, column = swap;
                }
                *out++ = place(f, node_of[column], row, column);
            }
    }
}

void flm_factor_extract(const flm_factor *f, int64_t n_values, const int64_t *target, const double *Z,
                        double *values)
{
#pragma omp parallel for schedule(static) num_threads(f->n_threads) if (f->n_threads > 1 && n_values > 100000)
    for (int64_t q = 0; q < n_values; q++) values[q] = target[q] < 0 ? 0 : Z[target[q]];
}
