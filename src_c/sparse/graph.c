/* The full adjacency of a symmetric pattern that is given by its lower triangle. */
#include "flm_sparse.h"

#include <stdlib.h>
#include <string.h>

void flm_graph_degrees(int64_t n, const int64_t *ptr, const int32_t *idx, int64_t *full_ptr)
{
    memset(full_ptr, 0, (size_t)(n + 1) * sizeof *full_ptr);
    for (int64_t j = 0; j < n; j++)
        for (int64_t p = ptr[j]; p < ptr[j + 1]; p++) {
            if (idx[p] == j) continue;
            full_ptr[j + 1]++;
            full_ptr[idx[p] + 1]++;
        }
    for (int64_t j = 0; j < n; j++) full_ptr[j + 1] += full_ptr[j];
}

flm_status flm_graph_symmetrize(int64_t n, const int64_t *ptr, const int32_t *idx, const int64_t *full_ptr,
                                int32_t *full_idx)
{
    int64_t *cursor = malloc((size_t)(n + 1) * sizeof *cursor);
    if (!cursor) return FLM_NO_MEMORY;
    memcpy(cursor, full_ptr, (size_t)n * sizeof *cursor);
    for (int64_t j = 0; j < n; j++) /* rows first: column j receives what precedes it, ascending */
        for (int64_t p = ptr[j]; p < ptr[j + 1]; p++)
            if (idx[p] != j) full_idx[cursor[idx[p]]++] = (int32_t)j;
    for (int64_t j = 0; j < n; j++)
        for (int64_t p = ptr[j]; p < ptr[j + 1]; p++)
            if (idx[p] != j) full_idx[cursor[j]++] = idx[p];
    free(cursor);
    return FLM_OK;
}
