/* Sweeps over the levels of one grouping factor, eight levels per vector.
 *
 * Formulas are in flm_tree.h.  Every sweep is written once for a k that is an
 * argument; always-inline copies with k = 1, 2, 3, 4 known at compile time keep the
 * small matrices in registers.  Work is cut into chunks that do not depend on the
 * number of threads, and their sums are added in chunk order.
 */
#include "tree_reduce.h"

#include <stdlib.h>

#define MAX_CHUNKS 32
#define PACKS_PER_CHUNK 64
#define BATCH 4 /* packs added to the sums together: a fourth of the traffic */

/* entries of a triangle */
#define TRIANGLE(m) ((m) * ((m) + 1) / 2)
#define WIDE(m) ((flm_index)(m) * ((flm_index)(m) + 1) / 2)

static flm_index records_in_pack(int k, int u) { return TRIANGLE(k) + (flm_index)k * u; }

flm_index flm_levels_pack_size(flm_index levels, int k, int u)
{
    return (levels + FLM_LANES - 1) / FLM_LANES * FLM_LANES * records_in_pack(k, u);
}

typedef enum { SWEEP, SECOND, EFFECTS } task_kind;

typedef struct {
    task_kind kind;
    const flm_levels *levels;
    const double *Lambda, *Q, *v;
    double *g;             /* EFFECTS */
    double *sums;          /* one row of `n_sums` per chunk */
    flm_index n_sums;
} task;

/* ---- the algebra of one pack ------------------------------------------------------- */

typedef struct {
    flm_lanes *Y;    /* k x k       La' Lambda */
    flm_lanes *L;    /* lower k     N = L D L', unit diagonal not stored */
    flm_lanes *d;    /* k           1 / D */
    flm_lanes *z;    /* k           one column */
    flm_lanes *W;    /* k x u       L^-1 E */
    flm_lanes *DW;   /* k x u       D^-1 L^-1 E */
    flm_lanes *G;    /* k x u */
    flm_lanes *F;    /* lower k */
    flm_lanes *P, *GQ; /* SECOND: lower k, k x (u - 1) */
} workspace;

static flm_index small_size(int k) { return (flm_index)k * k + 2 * TRIANGLE(k) + 2 * k; }
static flm_index wide_size(int k, int u) { return (3 * BATCH + 1) * (flm_index)k * u + TRIANGLE(k); }

/* N = I + Y Y', Y = La' Lambda; N = L D L' */
FLM_INLINE void factor_pack(const int k, const flm_lanes *La, const double *Lambda, const workspace *w,
                            flm_product *det)
{
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++) {
            flm_lanes sum = {0};
            for (int c = a > b ? a : b; c < k; c++)
                sum += La[LOWER(c, a)] * Lambda[c * k + b];
            w->Y[a * k + b] = sum;
        }
    for (int a = 0; a < k; a++)
        for (int b = 0; b <= a; b++) {
            flm_lanes sum = {0};
            for (int c = 0; c < k; c++)
                sum += w->Y[a * k + c] * w->Y[b * k + c];
            w->L[LOWER(a, b)] = a == b ? sum + 1.0 : sum;
        }
    for (int j = 0; j < k; j++) {
        flm_lanes pivot = w->L[LOWER(j, j)];
        for (int c = 0; c < j; c++) { /* z_c = L_jc D_c; D_c was kept on the diagonal */
            w->z[c] = w->L[LOWER(j, c)] * w->L[LOWER(c, c)];
            pivot -= w->L[LOWER(j, c)] * w->z[c];
        }
        flm_product_times(det, &pivot);
        w->L[LOWER(j, j)] = pivot;
        w->d[j] = 1.0 / pivot;
        for (int i = j + 1; i < k; i++) {
            flm_lanes sum = w->L[LOWER(i, j)];
            for (int c = 0; c < j; c++)
                sum -= w->L[LOWER(i, c)] * w->z[c];
            w->L[LOWER(i, j)] = sum * w->d[j];
        }
    }
}

/* z <- D^-1 L^-1 z, then (second half) z <- La L'^-1 z = La N^-1 (original z) */
FLM_INLINE void forward(const int k, const workspace *w)
{
    for (int a = 1; a < k; a++)
        for (int b = 0; b < a; b++)
            w->z[a] -= w->L[LOWER(a, b)] * w->z[b];
}

FLM_INLINE void backward(const int k, const flm_lanes *La, const workspace *w)
{
    for (int a = k - 2; a >= 0; a--)
        for (int b = a + 1; b < k; b++)
            w->z[a] -= w->L[LOWER(b, a)] * w->z[b];
    for (int a = k - 1; a >= 0; a--) {
        flm_lanes sum = La[LOWER(a, a)] * w->z[a];
        for (int b = 0; b < a; b++)
            sum += La[LOWER(a, b)] * w->z[b];
        w->z[a] = sum;
    }
}

/* G = La N^-1 E and F = La N^-1 La'; W and DW on the way */
FLM_INLINE void solve_pack(const int k, const int u, const flm_lanes *La, const workspace *w)
{
    const flm_lanes *E = La + TRIANGLE(k);
    for (int c = 0; c < u; c++) {
        for (int a = 0; a < k; a++)
            w->z[a] = E[a * u + c];
        forward(k, w);
        for (int a = 0; a < k; a++) {
            w->W[a * u + c] = w->z[a];
            w->z[a] *= w->d[a];
            w->DW[a * u + c] = w->z[a];
        }
        backward(k, La, w);
        for (int a = 0; a < k; a++)
            w->G[a * u + c] = w->z[a];
    }
    for (int c = 0; c < k; c++) {
        for (int a = 0; a < k; a++)
            w->z[a] = a <= c ? La[LOWER(c, a)] : (flm_lanes){0};
        forward(k, w);
        for (int a = 0; a < k; a++)
            w->z[a] *= w->d[a];
        backward(k, La, w);
        for (int a = c; a < k; a++)
            w->F[LOWER(a, c)] = w->z[a];
    }
}

/* ---- sums over packs ---------------------------------------------------------------- */

/* sum[i, j] += x_i x_j over a batch of x (m), j <= i < m */
FLM_INLINE void add_gram(const int m, const flm_lanes *x, flm_lanes *restrict sum)
{
    const flm_lanes *x1 = x + m, *x2 = x1 + m, *x3 = x2 + m;
    for (int i = 0; i < m; i++) {
        const flm_lanes a = x[i], b = x1[i], c = x2[i], d = x3[i];
        for (int j = 0; j <= i; j++)
            *sum++ += (a * x[j] + b * x1[j]) + (c * x2[j] + d * x3[j]);
    }
}

/* sum[i, j] += sum_a W[a, i] DW[a, j] over a batch, j <= i < u */
FLM_INLINE void add_between(const int k, const int u, const workspace *w, flm_lanes *restrict sum)
{
    for (int i = 0; i < u; i++)
        for (int j = 0; j <= i; j++) {
            flm_lanes product = w->W[i] * w->DW[j];
            for (int a = 1; a < BATCH * k; a++)
                product += w->W[a * u + i] * w->DW[a * u + j];
            *sum++ += product;
        }
}

/* sum[i, j] += x_i y_j, i, j < m */
FLM_INLINE void add_outer(const int m, const flm_lanes *x, const flm_lanes *y, flm_lanes *restrict sum)
{
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j++)
            *sum++ += x[i] * y[j];
}

/* z = G v */
FLM_INLINE void times_v(const int k, const int u, const double *v, const workspace *w)
{
    for (int a = 0; a < k; a++) {
        flm_lanes sum = {0};
        for (int c = 0; c < u; c++)
            sum += w->G[a * u + c] * v[c];
        w->z[a] = sum;
    }
}

FLM_INLINE void add_second(const int k, const int u, const task *job, const workspace *w, flm_lanes *sum)
{
    const int p = u - 1, m = TRIANGLE(k);
    add_outer(m, w->F, w->F, sum);
    for (int a = 0; a < k; a++) /* GQ = G_X Q */
        for (int c = 0; c < p; c++) {
            flm_lanes dot = {0};
            for (int b = 0; b < p; b++)
                dot += w->G[a * u + b] * job->Q[(flm_index)b * p + c];
            w->GQ[a * p + c] = dot;
        }
    for (int a = 0; a < k; a++) /* P = G_X Q G_X' */
        for (int b = 0; b <= a; b++) {
            flm_lanes dot = {0};
            for (int c = 0; c < p; c++)
                dot += w->GQ[a * p + c] * w->G[b * u + c];
            w->P[LOWER(a, b)] = dot;
        }
    add_outer(m, w->F, w->P, sum + m * m);
    times_v(k, u, job->v, w);
    for (int a = 0; a < k; a++)
        for (int b = 0; b <= a; b++)
            w->P[LOWER(a, b)] = w->z[a] * w->z[b];
    add_outer(m, w->F, w->P, sum + 2 * m * m);
}

static double add_lanes(const flm_lanes *x)
{
    const flm_lanes s = *x;
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static double log_product(const flm_product *det)
{
    double sum = 0;
    int64_t exponent = 0;
    for (int l = 0; l < FLM_LANES; l++) {
        sum += log(det->mantissa[l]);
        exponent += det->exponent[l];
    }
    return sum + (double)exponent * 0.693147180559945309417;
}

static int any_bad(const flm_product *det)
{
    uint64_t any = 0;
    for (int l = 0; l < FLM_LANES; l++)
        any |= det->bad[l];
    return any >> 63 != 0;
}

static flm_index lane_sums(task_kind kind, int k, int u)
{
    const flm_index m = TRIANGLE(k);
    if (kind == SWEEP)
        return WIDE(u) + WIDE((flm_index)k * u) + m;
    return kind == SECOND ? 3 * m * m : 0;
}

static void *aligned(void *memory)
{
    return (void *)(((uintptr_t)memory + FLM_ALIGN - 1) & ~(uintptr_t)(FLM_ALIGN - 1));
}

/* Packs [first, last).  `small` is room for the arrays whose size k alone fixes. */
FLM_INLINE flm_status run_chunk(const int k, task *job, flm_index first, flm_index last, double *sums,
                                flm_lanes *small)
{
    const flm_levels *self = job->levels;
    const int u = self->u;
    const flm_index stride = records_in_pack(k, u), n_sums = lane_sums(job->kind, k, u);
    const flm_index reduced = self->pack ? 0 : stride + k * self->ld; /* a pack and its tail */
    void *memory = malloc((size_t)(n_sums + wide_size(k, u) + reduced + (small ? 0 : small_size(k)) + 1) * FLM_ALIGN);
    if (!memory)
        return FLM_NO_MEMORY;
    flm_lanes *sum = aligned(memory);
    flm_lanes *wide = sum + n_sums, *own = wide + wide_size(k, u);
    if (!small)
        small = own + reduced;
    const flm_index ku = (flm_index)k * u, all = BATCH * ku;
    const workspace batch = {.Y = small,
                             .L = small + k * k,
                             .F = small + k * k + TRIANGLE(k),
                             .d = small + k * k + 2 * TRIANGLE(k),
                             .z = small + k * k + 2 * TRIANGLE(k) + k,
                             .W = wide,
                             .DW = wide + all,
                             .G = wide + 2 * all,
                             .GQ = wide + 3 * all,
                             .P = wide + 3 * all + ku};
    workspace w = batch;
    flm_product det;
    flm_product_start(&det);
    memset(sum, 0, (size_t)n_sums * FLM_ALIGN);
    for (flm_index pack = first; pack < last; pack++) {
        const flm_lanes *La = self->pack ? (const flm_lanes *)self->pack + pack * stride : own;
        if (!self->pack) {
            flm_bits infinite, negative; /* there were none when the sums were looked at first */
            reduce_pack(k, self, pack_of_levels(self, pack * FLM_LANES, (double *)(own + stride)), own, &infinite,
                        &negative);
        }
        if (job->kind == SWEEP) {
            const flm_index slot = (pack - first) % BATCH * ku;
            w.W = batch.W + slot;
            w.DW = batch.DW + slot;
            w.G = batch.G + slot;
        }
        factor_pack(k, La, job->Lambda, &w, &det);
        solve_pack(k, u, La, &w);
        if (job->kind == SWEEP) {
            for (int a = 0; a < TRIANGLE(k); a++)
                sum[WIDE(u) + WIDE(ku) + a] += w.F[a];
            const flm_index used = (pack - first) % BATCH + 1;
            if (pack + 1 == last) /* an incomplete batch: the other slots are zero */
                for (flm_lanes *rows = batch.W; rows <= batch.G; rows += all)
                    memset(rows + used * ku, 0, (size_t)((BATCH - used) * ku) * FLM_ALIGN);
            if (used == BATCH || pack + 1 == last) {
                add_between(k, u, &batch, sum);
                add_gram((int)ku, batch.G, sum + WIDE(u));
            }
        } else if (job->kind == SECOND) {
            add_second(k, u, job, &w, sum);
        } else {
            times_v(k, u, job->v, &w);
            for (int l = 0; l < FLM_LANES && pack * FLM_LANES + l < self->levels; l++)
                for (int a = 0; a < k; a++)
                    job->g[(pack * FLM_LANES + l) * k + a] = w.z[a][l];
        }
    }
    for (flm_index s = 0; s < n_sums; s++)
        sums[1 + s] = add_lanes(sum + s);
    sums[0] = log_product(&det);
    const int failed = any_bad(&det);
    free(memory);
    return failed ? FLM_NOT_POSITIVE : FLM_OK;
}

FLM_CLONES static flm_status run_1(task *job, flm_index first, flm_index last, double *sums)
{
    flm_lanes small[1 + 2 + 2];
    return run_chunk(1, job, first, last, sums, small);
}

FLM_CLONES static flm_status run_2(task *job, flm_index first, flm_index last, double *sums)
{
    flm_lanes small[4 + 6 + 4];
    return run_chunk(2, job, first, last, sums, small);
}

FLM_CLONES static flm_status run_3(task *job, flm_index first, flm_index last, double *sums)
{
    flm_lanes small[9 + 12 + 6];
    return run_chunk(3, job, first, last, sums, small);
}

FLM_CLONES static flm_status run_4(task *job, flm_index first, flm_index last, double *sums)
{
    flm_lanes small[16 + 20 + 8];
    return run_chunk(4, job, first, last, sums, small);
}

FLM_CLONES static flm_status run_any(task *job, flm_index first, flm_index last, double *sums)
{
    return run_chunk(job->levels->k, job, first, last, sums, NULL);
}

static flm_status run(task *job, flm_index first, flm_index last, double *sums)
{
    switch (job->levels->k) {
    case 1: return run_1(job, first, last, sums);
    case 2: return run_2(job, first, last, sums);
    case 3: return run_3(job, first, last, sums);
    case 4: return run_4(job, first, last, sums);
    default: return run_any(job, first, last, sums);
    }
}

/* Which of the eight levels of a pack has a bad pivot: one level, seven empty ones. */
static int bad_lane(const task *job, const double *pack, double *lane, flm_index stride, double *sums)
{
    flm_levels one = *job->levels;
    task alone = *job;
    alone.levels = &one;
    one.pack = lane;
    int l = 0;
    for (; l < FLM_LANES - 1; l++) {
        memset(lane, 0, (size_t)stride * sizeof(double));
        for (flm_index e = l; e < stride; e += FLM_LANES)
            lane[e] = pack[e];
        if (run(&alone, 0, 1, sums) != FLM_OK)
            break;
    }
    return l;
}

/* First level of [first, last) whose N_i has a bad pivot: one pack at a time. */
static flm_index find_bad(task *job, flm_index first, flm_index last, double *sums)
{
    const flm_levels *self = job->levels;
    const flm_index stride = records_in_pack(self->k, self->u) * FLM_LANES;
    flm_index pack = first;
    while (pack < last && run(job, pack, pack + 1, sums) == FLM_OK)
        pack++;
    flm_index level = pack * FLM_LANES;
    const flm_index left = self->levels - level;
    void *memory = pack < last ? malloc((size_t)(2 * stride + self->u * self->u + FLM_LANES) * sizeof(double)) : NULL;
    if (!memory)
        return pack < last ? level : -1;
    double *found = aligned(memory), *lane = found + stride;
    if (self->pack)
        memcpy(found, self->pack + pack * stride, (size_t)stride * sizeof(double));
    else
        flm_levels_pack(left < FLM_LANES ? left : FLM_LANES, self->k, self->u, self->ld,
                        self->R + level * self->k * self->ld, self->z, self->xy, found, lane + stride, &level, 1);
    level = pack * FLM_LANES + bad_lane(job, found, lane, stride, sums);
    free(memory);
    return level;
}

/* All chunks; job->sums[0 .. n_sums) becomes the total. */
static flm_status run_all(task *job, double *total, flm_index *bad_level, int n_threads)
{
    const flm_index packs = (job->levels->levels + FLM_LANES - 1) / FLM_LANES;
    const flm_index n_sums = 1 + lane_sums(job->kind, job->levels->k, job->levels->u);
    flm_index chunks = packs / PACKS_PER_CHUNK;
    if (chunks > MAX_CHUNKS)
        chunks = MAX_CHUNKS;
    if (chunks * n_sums > (1 << 21)) /* 16 MB of partial sums */
        chunks = (1 << 21) / n_sums;
    if (chunks < 1)
        chunks = 1;
    double *sums = malloc((size_t)(chunks * n_sums) * sizeof(double));
    if (!sums)
        return FLM_NO_MEMORY;
    flm_status status[MAX_CHUNKS];
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads) \
    if (n_threads > 1 && packs > 16 * PACKS_PER_CHUNK)
#endif
    for (flm_index c = 0; c < chunks; c++)
        status[c] = run(job, packs * c / chunks, packs * (c + 1) / chunks, sums + c * n_sums);
    flm_status result = FLM_OK;
    memset(total, 0, (size_t)n_sums * sizeof(double));
    for (flm_index c = 0; c < chunks && result == FLM_OK; c++) {
        result = status[c];
        if (result == FLM_NOT_POSITIVE && bad_level)
            *bad_level = find_bad(job, packs * c / chunks, packs * (c + 1) / chunks, sums);
        for (flm_index s = 0; s < n_sums; s++)
            total[s] += sums[c * n_sums + s];
    }
    free(sums);
    return result;
}

/* ---- entry points -------------------------------------------------------------------- */

flm_status flm_levels_sweep(const flm_levels *self, const double *Lambda, double *logdet, double *between,
                            double *F, double *GG, flm_index *level, int n_threads)
{
    const int k = self->k, u = self->u;
    task job = {.kind = SWEEP, .levels = self, .Lambda = Lambda};
    double *total = malloc((size_t)(1 + lane_sums(SWEEP, k, u)) * sizeof(double));
    if (!total)
        return FLM_NO_MEMORY;
    *level = -1;
    const flm_status status = run_all(&job, total, level, n_threads);
    if (status == FLM_OK) {
        const double *S = total + 1, *gram = S + WIDE(u), *f = gram + WIDE((flm_index)k * u);
        *logdet = total[0];
        for (int i = 0; i < u; i++)
            for (int j = 0; j <= i; j++)
                between[i * u + j] = between[j * u + i] = S[LOWER((flm_index)i, j)];
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++) {
                F[a * k + b] = f[a >= b ? LOWER(a, b) : LOWER(b, a)];
                for (int i = 0; i < u; i++)
                    for (int j = 0; j < u; j++) { /* GG[a, b, i, j] = gram[(a, i), (b, j)] */
                        const flm_index r = (flm_index)a * u + i, s = (flm_index)b * u + j;
                        GG[(((flm_index)a * k + b) * u + i) * u + j] =
                            gram[r >= s ? LOWER(r, s) : LOWER(s, r)];
                    }
            }
    }
    free(total);
    return status;
}

flm_status flm_levels_second(const flm_levels *self, const double *Lambda, const double *Q, const double *v,
                             double *FF, double *FP, double *Fg, int n_threads)
{
    const flm_index m = TRIANGLE(self->k);
    task job = {.kind = SECOND, .levels = self, .Lambda = Lambda, .Q = Q, .v = v};
    double *total = malloc((size_t)(1 + 3 * m * m) * sizeof(double));
    if (!total)
        return FLM_NO_MEMORY;
    const flm_status status = run_all(&job, total, NULL, n_threads);
    if (status == FLM_OK) {
        memcpy(FF, total + 1, (size_t)(m * m) * sizeof(double));
        memcpy(FP, total + 1 + m * m, (size_t)(m * m) * sizeof(double));
        memcpy(Fg, total + 1 + 2 * m * m, (size_t)(m * m) * sizeof(double));
    }
    free(total);
    return status;
}

flm_status flm_levels_effects(const flm_levels *self, const double *Lambda, const double *v, double *g,
                              int n_threads)
{
    double logdet;
    task job = {.kind = EFFECTS, .levels = self, .Lambda = Lambda, .v = v, .g = g};
    return run_all(&job, &logdet, NULL, n_threads);
}
