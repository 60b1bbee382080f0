/* Preconditioned conjugate gradients for S = I + D'K D on several columns at once.
 *
 * Hestenes & Stiefel (1952), preconditioned by the diagonal blocks of S (Saad
 * 2003, algorithm 9.1).  A column stops by itself: from then on its step is 0.
 * The coefficients are those of the Lanczos tridiagonal matrix of P^-1/2 S P^-1/2
 * (Saad 2003, section 6.7.3). */
#include "lanes.h"

#include <string.h>

typedef struct {
    double *r, *p, *q, *z, *Dp, *sums, *dots;
    float *Dp_single, *sums_single; /* NULL, or in place of sums */
} work;

FLM_INLINE int factor_of(const flm_iterative *s, int64_t column)
{
    int f = 0;
    while (column >= s->offset[f + 1])
        f++;
    return f;
}

/* out = M in (or M' in) for the rows of one unit, M (w, w) with row stride. */
FLM_INLINE void unit_times(const double *M, int stride, int transposed, const double *in, double *out,
                           const int w, const int NV)
{
    for (int a = 0; a < w; a++)
        for (int v = 0; v < NV; v++) {
            flm_vec sum = {0};
            for (int b = 0; b < w; b++) {
                const double entry = transposed ? M[b * stride + a] : M[a * stride + b];
                sum += entry * ((const flm_vec *)in)[b * NV + v];
            }
            ((flm_vec *)out)[a * NV + v] = sum;
        }
}

/* p = z + ratio p, Dp = D p. */
FLM_INLINE void direction_body(const flm_iterative *s, int chunk, const work *w, const double *ratio,
                               const int NV)
{
    const int lanes = 8 * NV;
    const int64_t last = s->column_chunk[chunk + 1];
    int64_t c = s->column_chunk[chunk];
    const double *D = s->D;
    if (c == last)
        return;
    int f = factor_of(s, c);
    for (int g = 0; g < f; g++)
        D += s->width[g] * s->width[g];
    while (c < last) {
        const int width = s->width[f];
        const int64_t end = last < s->offset[f + 1] ? last : s->offset[f + 1];
        for (; c < end; c += width) {
            for (int64_t j = c; j < c + width; j++)
                for (int v = 0; v < NV; v++) {
                    flm_vec *p = (flm_vec *)(w->p + j * lanes) + v;
                    *p = ((const flm_vec *)(w->z + j * lanes))[v] + ((const flm_vec *)ratio)[v] * *p;
                }
            if (width == 1)
                unit_times(D, 1, 0, w->p + c * lanes, w->Dp + c * lanes, 1, NV);
            else
                unit_times(D, width, 0, w->p + c * lanes, w->Dp + c * lanes, width, NV);
            for (int64_t j = c * lanes; w->Dp_single && j < (c + width) * lanes; j++)
                w->Dp_single[j] = (float)w->Dp[j];
        }
        D += width * width;
        f++;
    }
}

/* q = p + D'(K D p), dots = p'q; K D p comes in q. */
FLM_INLINE void image_body(const flm_iterative *s, int chunk, const work *w, double *dots, const int NV)
{
    const int lanes = 8 * NV;
    const int64_t last = s->column_chunk[chunk + 1];
    int64_t c = s->column_chunk[chunk];
    const double *D = s->D;
    flm_vec total[MAX_NV], image[MAX_K * MAX_NV];
    for (int v = 0; v < NV; v++)
        total[v] = (flm_vec){0};
    int f = c < last ? factor_of(s, c) : 0;
    for (int g = 0; g < f; g++)
        D += s->width[g] * s->width[g];
    while (c < last) {
        const int width = s->width[f];
        const int64_t end = last < s->offset[f + 1] ? last : s->offset[f + 1];
        for (; c < end; c += width) {
            if (width == 1)
                unit_times(D, 1, 1, w->q + c * lanes, (double *)image, 1, NV);
            else
                unit_times(D, width, 1, w->q + c * lanes, (double *)image, width, NV);
            for (int a = 0; a < width; a++)
                for (int v = 0; v < NV; v++) {
                    const flm_vec p = ((const flm_vec *)(w->p + (c + a) * lanes))[v];
                    const flm_vec q = p + image[a * NV + v];
                    ((flm_vec *)(w->q + (c + a) * lanes))[v] = q;
                    total[v] += p * q;
                }
        }
        D += width * width;
        f++;
    }
    memcpy(dots, total, sizeof(flm_vec) * (size_t)NV);
}

/* x += step p, r -= step q, z = P^-1 r, dots = r'z. */
FLM_INLINE void residual_body(const flm_iterative *s, int chunk, const work *w, const double *inverse,
                              const double *step, double *x, double *dots, const int NV)
{
    const int lanes = 8 * NV, stride = s->width_max;
    const int64_t last = s->column_chunk[chunk + 1];
    flm_vec total[MAX_NV];
    for (int v = 0; v < NV; v++)
        total[v] = (flm_vec){0};
    for (int64_t c = s->column_chunk[chunk]; c < last;) {
        const int width = s->unit_width[c];
        for (int64_t j = c; step && j < c + width; j++)
            for (int v = 0; v < NV; v++) {
                const flm_vec a = ((const flm_vec *)step)[v];
                ((flm_vec *)(x + j * lanes))[v] += a * ((const flm_vec *)(w->p + j * lanes))[v];
                ((flm_vec *)(w->r + j * lanes))[v] -= a * ((const flm_vec *)(w->q + j * lanes))[v];
            }
        if (width == 1)
            unit_times(inverse + c * stride, stride, 0, w->r + c * lanes, w->z + c * lanes, 1, NV);
        else
            unit_times(inverse + c * stride, stride, 0, w->r + c * lanes, w->z + c * lanes, width, NV);
        for (int64_t j = c; j < c + width; j++)
            for (int v = 0; v < NV; v++) {
                const flm_vec r = ((const flm_vec *)(w->r + j * lanes))[v];
                total[v] += r * ((const flm_vec *)(w->z + j * lanes))[v];
            }
        c += width;
    }
    memcpy(dots, total, sizeof(flm_vec) * (size_t)NV);
}

static FLM_CLONES void direction_chunk(const flm_iterative *s, int lanes, int chunk, const work *w,
                                       const double *ratio)
{
    if (lanes == 8)
        direction_body(s, chunk, w, ratio, 1);
    else
        direction_body(s, chunk, w, ratio, 2);
}

static FLM_CLONES void image_chunk(const flm_iterative *s, int lanes, int chunk, const work *w, double *dots)
{
    const int64_t first = s->column_chunk[chunk], last = s->column_chunk[chunk + 1];
    if (w->Dp_single)
        flm_iterative_rows_single(s, first, last, w->Dp, w->sums_single, w->q);
    else
        flm_iterative_rows(s, lanes, first, last, w->Dp, w->sums, w->q);
    if (lanes == 8)
        image_body(s, chunk, w, dots, 1);
    else
        image_body(s, chunk, w, dots, 2);
}

static FLM_CLONES void residual_chunk(const flm_iterative *s, int lanes, int chunk, const work *w,
                                      const double *inverse, const double *step, double *x, double *dots)
{
    if (lanes == 8)
        residual_body(s, chunk, w, inverse, step, x, dots, 1);
    else
        residual_body(s, chunk, w, inverse, step, x, dots, 2);
}

static void collect(const flm_iterative *s, int lanes, const double *dots, double *total)
{
    for (int l = 0; l < lanes; l++)
        total[l] = 0;
    for (int c = 0; c < s->n_column_chunks; c++)
        for (int l = 0; l < lanes; l++)
            total[l] += dots[c * lanes + l];
}

/* One product with S and p'q. */
static void image(const flm_iterative *s, int lanes, const work *w, const double *ratio, double *pq)
{
#pragma omp parallel num_threads(s->n_threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int c = 0; c < s->n_column_chunks; c++)
            direction_chunk(s, lanes, c, w, ratio);
#pragma omp for schedule(dynamic, 1)
        for (int c = 0; c < s->n_level_chunks; c++)
            if (w->Dp_single)
                flm_iterative_chunk_single(s, c, w->Dp_single, w->sums_single + c * s->m * lanes);
            else
                flm_iterative_chunk(s, lanes, c, w->Dp, w->sums + c * s->m * lanes);
#pragma omp for schedule(dynamic, 1)
        for (int c = 0; c < s->n_column_chunks; c++)
            image_chunk(s, lanes, c, w, w->dots + c * lanes);
    }
    collect(s, lanes, w->dots, pq);
}

static void residual(const flm_iterative *s, int lanes, const work *w, const double *inverse,
                     const double *step, double *x, double *rz)
{
#pragma omp parallel for num_threads(s->n_threads) schedule(dynamic, 1)
    for (int c = 0; c < s->n_column_chunks; c++)
        residual_chunk(s, lanes, c, w, inverse, step, x, w->dots + c * lanes);
    collect(s, lanes, w->dots, rz);
}

static flm_status iterate(const flm_iterative *s, int lanes, const work *w, const double *inverse, double tol,
                          int max_iter, double *x, double *step, double *ratio, int32_t *used, double *norm2)
{
    double pq[FLM_ITERATIVE_MAX_LANES], rz[FLM_ITERATIVE_MAX_LANES], next[FLM_ITERATIVE_MAX_LANES];
    double beta[FLM_ITERATIVE_MAX_LANES] = {0};
    int open = 0;
    residual(s, lanes, w, inverse, NULL, x, rz);
    for (int l = 0; l < lanes; l++) {
        norm2[l] = rz[l];
        used[l] = rz[l] > 0 ? -1 : 0;
        open += used[l] < 0;
        if (!(rz[l] >= 0 && rz[l] < 1e300))
            return FLM_NOT_POSITIVE;
    }
    for (int n = 0; n < max_iter && open; n++) {
        double *alpha = step + (int64_t)n * lanes, *kept = ratio + (int64_t)n * lanes;
        image(s, lanes, w, beta, pq);
        for (int l = 0; l < lanes; l++) {
            if (used[l] < 0 && !(pq[l] > 0))
                return FLM_NOT_POSITIVE;
            alpha[l] = used[l] < 0 ? rz[l] / pq[l] : 0.0;
        }
        residual(s, lanes, w, inverse, alpha, x, next);
        for (int l = 0; l < lanes; l++) {
            beta[l] = kept[l] = 0.0;
            if (used[l] >= 0)
                continue;
            beta[l] = kept[l] = next[l] / rz[l];
            rz[l] = next[l];
            if (next[l] <= tol * tol * norm2[l]) {
                used[l] = n + 1;
                beta[l] = 0.0;
                open--;
            }
        }
    }
    return FLM_OK;
}

flm_status flm_iterative_solve(const flm_iterative *s, int lanes, int single, const double *inverse,
                               const double *rhs, double tol, int max_iter, double *x, double *step,
                               double *ratio, int32_t *used, double *norm2)
{
    const int64_t size = s->m * lanes, n_sums = s->n_level_chunks;
    const size_t width = single ? sizeof(float) : sizeof(double);
    if (single && lanes != 16)
        return FLM_BAD_ARGUMENT;
    double *memory = flm_aligned(5 * size + (int64_t)s->n_column_chunks * lanes);
    void *sums = flm_aligned_bytes(width * (size_t)(size * (n_sums + single)));
    if (!memory || !sums) {
        flm_aligned_free(memory);
        flm_aligned_free(sums);
        return FLM_NO_MEMORY;
    }
    const work w = {memory, memory + size, memory + 2 * size, memory + 3 * size, memory + 4 * size,
                    single ? NULL : sums, memory + 5 * size, single ? (float *)sums + n_sums * size : NULL,
                    single ? sums : NULL};
    memcpy(w.r, rhs, sizeof(double) * (size_t)size);
    memset(w.p, 0, sizeof(double) * (size_t)size);
    memset(x, 0, sizeof(double) * (size_t)size);
    const flm_status status = iterate(s, lanes, &w, inverse, tol, max_iter, x, step, ratio, used, norm2);
    /* x += P^-1 r: rows of a factor with tiny D_f weigh nothing in the norms above, and there P is S */
    for (int64_t j = 0; j < size; j++)
        x[j] += w.z[j];
    flm_aligned_free(memory);
    flm_aligned_free(sums);
    return status;
}
