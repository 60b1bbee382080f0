#include "flm_pass.h"

FLM_CLONES void flm_scan_codes(const flm_code *restrict codes, flm_index n, flm_code *smallest,
                               flm_code *largest, int *sorted)
{
    flm_code lo = INT32_MAX, hi = INT32_MIN;
    int falls = 0;
#ifdef _OPENMP
#pragma omp simd reduction(min : lo) reduction(max : hi)
#endif
    for (flm_index r = 0; r < n; r++) {
        lo = codes[r] < lo ? codes[r] : lo;
        hi = codes[r] > hi ? codes[r] : hi;
    }
    for (flm_index at = 1; at < n && !falls; at += 4096) {
        const flm_index end = at + 4096 < n ? at + 4096 : n;
#ifdef _OPENMP
#pragma omp simd reduction(| : falls)
#endif
        for (flm_index r = at; r < end; r++)
            falls |= codes[r] < codes[r - 1];
    }
    *smallest = lo;
    *largest = hi;
    *sorted = !falls;
}

flm_index flm_occurring(const double *restrict R, flm_index levels, flm_index size, flm_index at,
                        int64_t *restrict codes, int64_t *restrict counts)
{
    flm_index found = 0;
    for (flm_index i = 0; i < levels; i++) {
        const double rows = R[i * size + at];
        codes[found] = i;
        counts[found] = (int64_t)rows;
        found += rows != 0;
    }
    return found;
}

int flm_find_parents(const flm_code *restrict inner, const flm_code *restrict outer, flm_index n,
                     flm_index levels, flm_code *restrict parent)
{
    for (flm_index i = 0; i < levels; i++)
        parent[i] = -1;
    for (flm_index r = 0; r < n; r++) {
        const flm_code known = parent[inner[r]];
        if (known < 0)
            parent[inner[r]] = outer[r];
        else if (known != outer[r])
            return 0;
    }
    return 1;
}
