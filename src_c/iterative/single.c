/* N'J N for 16 columns in single precision: the same sums at half the traffic. */
#include "lanes.h"

#include <string.h>

FLM_INLINE void chunk_body(const flm_iterative *s, int chunk, const float *X, float *sum, const int k,
                           const int single)
{
    flm_single acc[MAX_K], y[MAX_K];
    memset(sum, 0, sizeof(flm_single) * (size_t)s->m);
    for (int64_t i = s->level_chunk[chunk]; i < s->level_chunk[chunk + 1]; i++) {
        const int64_t first = s->row_ptr[i], last = s->row_ptr[i + 1];
        for (int a = 0; a < k; a++)
            acc[a] = (flm_single){0};
        for (int64_t e = first; e < last; e++) {
            const int64_t at = (int64_t)s->index[e] * 16;
            __builtin_prefetch(sum + at, 1, 2);
            for (int a = 0; a < k; a++)
                acc[a] += (float)value_of(s, single, e * k + a) * *(const flm_single *)(X + at);
        }
        for (int a = 0; a < k; a++) {
            y[a] = (float)s->J[(i * k + a) * k] * acc[0];
            for (int b = 1; b < k; b++)
                y[a] += (float)s->J[(i * k + a) * k + b] * acc[b];
        }
        for (int64_t e = first; e < last; e++) {
            flm_single *to = (flm_single *)(sum + (int64_t)s->index[e] * 16);
            flm_single add = (float)value_of(s, single, e * k) * y[0];
            for (int a = 1; a < k; a++)
                add += (float)value_of(s, single, e * k + a) * y[a];
            *to += add;
        }
    }
}

FLM_CLONES void flm_iterative_chunk_single(const flm_iterative *s, int chunk, const float *X, float *sum)
{
    const int single = s->N_single != NULL;
    if (s->k == 1 && single)
        chunk_body(s, chunk, X, sum, 1, 1);
    else if (s->k == 1)
        chunk_body(s, chunk, X, sum, 1, 0);
    else if (s->k == 2)
        chunk_body(s, chunk, X, sum, 2, single);
    else
        chunk_body(s, chunk, X, sum, s->k, single);
}

FLM_CLONES void flm_iterative_rows_single(const flm_iterative *s, int64_t first, int64_t last,
                                          const double *X, const float *sums, double *out)
{
    const int64_t stride = s->m * 16;
    for (int64_t c = first; c < last; c++) {
        double total[16];
        for (int l = 0; l < 16; l++)
            total[l] = 0;
        for (int q = 0; q < s->n_level_chunks; q++)
            for (int l = 0; l < 16; l++)
                total[l] -= (double)sums[q * stride + c * 16 + l];
        for (int64_t e = s->own_ptr[c]; e < s->own_ptr[c + 1]; e++)
            for (int l = 0; l < 16; l++)
                total[l] += s->own_value[e] * X[(int64_t)s->own_index[e] * 16 + l];
        memcpy(out + c * 16, total, sizeof total);
    }
}
