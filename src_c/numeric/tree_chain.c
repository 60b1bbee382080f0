/* A chain of nested factors: block elimination from the innermost level outwards,
 * and the posterior covariance from the outermost level inwards.
 *
 * With R~_i the record of node i after its descendants, columns [A_i N_i B_i]
 * (own Z, Z of the ancestors, [X y]):
 *
 *   M_i = I + Lambda'A_i Lambda = L L',   H_i = Lambda M_i^-1 Lambda'
 *   [record of each ancestor; S] -= [N_i B_i]' H_i [N_i B_i]
 *
 * Subtrees of the outermost factor are independent.  They are cut into chunks
 * that do not depend on the number of threads.
 */
#include "flm_tree.h"
#include "tree_span.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double *record(const flm_chain *self, int d, flm_index i)
{
    const double *from = d == 0 ? self->R[0] : self->eliminated[d];
    return from + i * self->k[d] * self->width[d];
}

static flm_index square(flm_index m) { return m * m; }

static int largest_k(const flm_chain *self)
{
    int k = 0;
    for (int d = 0; d < self->depth; d++)
        k = self->k[d] > k ? self->k[d] : k;
    return k;
}

/* ---- factorize -------------------------------------------------------------------- */

/* H = Lambda (I + Lambda'A Lambda)^-1 Lambda'; returns 0 if not positive definite.
 * work: 2 k^2.  A has row stride `ld`. */
static int node_factor(int k, flm_index ld, const double *A, const double *Lambda, double *H, double *work,
                       double *logdet)
{
    double *M = work, *Y = work + k * k, product = 1;
    for (int a = 0; a < k; a++) /* Y = A Lambda */
        for (int b = 0; b < k; b++) {
            double sum = 0;
            for (int c = b; c < k; c++)
                sum += A[a * ld + c] * Lambda[c * k + b];
            Y[a * k + b] = sum;
        }
    for (int a = 0; a < k; a++)
        for (int b = 0; b <= a; b++) {
            double sum = a == b;
            for (int c = a; c < k; c++)
                sum += Lambda[c * k + a] * Y[c * k + b];
            M[a * k + b] = sum;
        }
    for (int j = 0; j < k; j++) {
        double pivot = M[j * k + j];
        for (int c = 0; c < j; c++)
            pivot -= M[j * k + c] * M[j * k + c];
        if (!(pivot > 0 && pivot < 1e300))
            return 0;
        product *= pivot;
        if (product > 1e150) {
            *logdet += log(product);
            product = 1;
        }
        const double root = sqrt(pivot), inverse = 1 / root;
        M[j * k + j] = root;
        for (int i = j + 1; i < k; i++) {
            double sum = M[i * k + j];
            for (int c = 0; c < j; c++)
                sum -= M[i * k + c] * M[j * k + c];
            M[i * k + j] = sum * inverse;
        }
    }
    *logdet += log(product);
    for (int a = 0; a < k; a++) { /* Y = L^-1 Lambda' */
        const double inverse = 1 / M[a * k + a];
        for (int b = 0; b < k; b++) {
            double sum = a <= b ? Lambda[b * k + a] : 0;
            for (int c = 0; c < a; c++)
                sum -= M[a * k + c] * Y[c * k + b];
            Y[a * k + b] = sum * inverse;
        }
    }
    for (int a = 0; a < k; a++)
        for (int b = 0; b <= a; b++) {
            double sum = 0;
            for (int c = 0; c < k; c++)
                sum += Y[c * k + a] * Y[c * k + b];
            H[a * k + b] = H[b * k + a] = sum;
        }
    return 1;
}

/* target[0 .. n) -= sum_r left[r * ld] right[r * ld + 0 .. n) */
static inline void subtract_row(int k, flm_index ld, int n, const double *left, const double *right,
                                double *restrict target)
{
    for (int r = 0; r < k; r++) {
        const double x = left[r * ld];
        const double *restrict row = right + r * ld;
        for (int c = 0; c < n; c++)
            target[c] -= x * row[c];
    }
}

/* HR (k x width, own columns unused) = H R~ */
static inline void times_H(int k, int width, const double *H, const double *R, double *HR)
{
    for (int a = 0; a < k; a++) {
        double *restrict row = HR + (flm_index)a * width;
        for (int c = k; c < width; c++)
            row[c] = H[a * k] * R[c];
        for (int b = 1; b < k; b++) {
            const double h = H[a * k + b];
            const double *restrict from = R + (flm_index)b * width;
            for (int c = k; c < width; c++)
                row[c] += h * from[c];
        }
    }
}

typedef struct {
    double logdet;
    flm_index node;
    int factor;
} outcome;

FLM_CLONES static flm_status factorize_span(const flm_chain *self, const double *const *Lambda, span s,
                                            double *S, outcome *out)
{
    const int u = self->u, depth = self->depth, k_max = largest_k(self);
    const flm_index size = 2 * square(k_max) + (flm_index)k_max * (self->offset[depth] + u);
    double *work = malloc((size_t)size * sizeof(double));
    if (!work)
        return FLM_NO_MEMORY;
    double *HR = work + 2 * square(k_max);
    *out = (outcome){0, -1, -1};
    for (int d = 1; d < depth; d++) {
        const flm_index each = (flm_index)self->k[d] * self->width[d];
        memcpy(self->eliminated[d] + s.first[d] * each, self->R[d] + s.first[d] * each,
               (size_t)((s.last[d] - s.first[d]) * each) * sizeof(double));
    }
    for (int d = 0; d < depth; d++) {
        const int k = self->k[d], width = self->width[d];
        for (flm_index i = s.first[d]; i < s.last[d]; i++) {
            const double *R = record(self, d, i);
            double *H = self->H[d] + i * k * k;
            if (!node_factor(k, width, R, Lambda[d], H, work, &out->logdet)) {
                out->node = i;
                out->factor = d;
                free(work);
                return FLM_NOT_POSITIVE;
            }
            times_H(k, width, H, R, HR);
            flm_index above = i;
            int column = k;
            for (int e = d + 1; e < depth; e++) { /* R~_g -= N_g' H R~ */
                above = self->parent[e - 1][above];
                double *target = self->eliminated[e] + above * self->k[e] * self->width[e];
                for (int a = 0; a < self->k[e]; a++)
                    subtract_row(k, width, self->width[e], R + column + a, HR + column,
                                 target + (flm_index)a * self->width[e]);
                column += self->k[e];
            }
            for (int a = 0; a < u; a++) /* S -= B' H B, lower */
                subtract_row(k, width, a + 1, R + column + a, HR + column, S + (flm_index)a * u);
        }
    }
    free(work);
    return FLM_OK;
}

flm_status flm_chain_factorize(const flm_chain *self, const double *const *Lambda, const double *C,
                               double *logdet, double *S, flm_index *node, int *factor, int n_threads)
{
    const flm_index chunks = count_chunks(self), size = square(self->u);
    double *sums = calloc((size_t)(chunks * size + 1), sizeof(double));
    if (!sums)
        return FLM_NO_MEMORY;
    outcome outcomes[MAX_CHUNKS];
    flm_status status[MAX_CHUNKS];
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads) \
    if (n_threads > 1 && chunks > 1 && self->nodes[0] > 16 * NODES_PER_CHUNK)
#endif
    for (flm_index c = 0; c < chunks; c++)
        status[c] = factorize_span(self, Lambda, chunk_span(self, chunks, c), sums + c * size, outcomes + c);
    flm_status result = FLM_OK;
    *logdet = 0;
    for (flm_index e = 0; e < size; e++)
        S[e] = C[e];
    for (flm_index c = 0; c < chunks && result == FLM_OK; c++) {
        result = status[c];
        *logdet += outcomes[c].logdet;
        *node = outcomes[c].node;
        *factor = outcomes[c].factor;
        for (flm_index e = 0; e < size; e++)
            S[e] += sums[c * size + e];
    }
    for (int a = 0; a < self->u; a++)
        for (int b = 0; b < a; b++)
            S[(flm_index)b * self->u + a] = S[(flm_index)a * self->u + b];
    free(sums);
    return result;
}

/* ---- backward --------------------------------------------------------------------- */

typedef struct {
    const double *v;
    double *const *F, *const *GG; /* sums of this chunk: F lower in k x k, GG lower in (k u) x (k u) */
    double *const *g, *const *posterior;
    double *joint[FLM_MAX_DEPTH]; /* posterior covariance of a node and its ancestors */
    double *mean[FLM_MAX_DEPTH];  /* posterior means of the same, one per column [X y] */
    double *work;
} descent;

static flm_index descent_work(const flm_chain *self)
{
    const int k = largest_k(self), K = self->offset[self->depth];
    return 3 * square(k) + 2 * (flm_index)k * K + 2 * (flm_index)k * self->u;
}

/* K = I - A H;  F = K A - K N J N'K';  G = K (B - N m): sums and outputs of one node */
static void node_moments(const flm_chain *self, const descent *down, int d, flm_index i, const double *R,
                         const double *residual, double *work)
{
    const int k = self->k[d], width = self->width[d], u = self->u;
    const int K_anc = self->offset[self->depth] - self->offset[d + 1];
    const double *H = self->H[d] + i * k * k;
    double *K = work, *KA = K + k * k, *KN = KA + k * k, *G = KN + (flm_index)k * K_anc;
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++) {
            double sum = a == b;
            for (int c = 0; c < k; c++)
                sum -= R[a * width + c] * H[c * k + b];
            K[a * k + b] = sum;
        }
    for (int a = 0; a < k; a++) {
        for (int c = 0; c < u; c++) {
            double sum = 0;
            for (int b = 0; b < k; b++)
                sum += K[a * k + b] * residual[(flm_index)b * u + c];
            G[(flm_index)a * u + c] = sum;
        }
        for (int c = 0; c < k + K_anc; c++) { /* [KA KN] */
            double sum = 0;
            for (int b = 0; b < k; b++)
                sum += K[a * k + b] * R[b * width + c];
            if (c < k)
                KA[a * k + c] = sum;
            else
                KN[(flm_index)a * K_anc + c - k] = sum;
        }
    }
    if (down->g)
        for (int a = 0; a < k; a++) {
            double sum = 0;
            for (int c = 0; c < u; c++)
                sum += G[(flm_index)a * u + c] * down->v[c];
            down->g[d][i * k + a] = sum;
        }
    if (!down->F)
        return;
    const double *J = d + 1 < self->depth ? down->joint[d + 1] : NULL;
    for (int a = 0; a < k; a++)
        for (int b = 0; b <= a; b++) {
            double sum = KA[a * k + b];
            for (int c = 0; c < K_anc; c++) {
                double inner = 0;
                for (int e = 0; e < K_anc; e++)
                    inner += J[c * K_anc + e] * KN[(flm_index)b * K_anc + e];
                sum -= KN[(flm_index)a * K_anc + c] * inner;
            }
            down->F[d][a * k + b] += sum;
        }
    const flm_index ku = (flm_index)k * u;
    for (flm_index r = 0; r < ku; r++) {
        const double x = G[r];
        double *restrict sum = down->GG[d] + r * ku;
        for (flm_index c = 0; c <= r; c++)
            sum[c] += x * G[c];
    }
}

/* Joint posterior of node i and its ancestors, its moments, then its children. */
static void descend(const flm_chain *self, const descent *down, int d, flm_index i)
{
    const int k = self->k[d], width = self->width[d], u = self->u;
    const int K = self->offset[self->depth] - self->offset[d], K_anc = K - k;
    const double *R = record(self, d, i), *H = self->H[d] + i * k * k;
    const double *J = K_anc ? down->joint[d + 1] : NULL, *m = K_anc ? down->mean[d + 1] : NULL;
    double *HN = down->work, *residual = HN + (flm_index)k * K_anc;
    double *joint = down->joint[d], *mean = down->mean[d];
    for (int a = 0; a < k; a++) {
        for (int c = 0; c < u; c++) /* B - N m */
            residual[(flm_index)a * u + c] = R[a * width + K + c];
        for (int e = 0; e < K_anc; e++) {
            const double n = R[a * width + k + e];
            for (int c = 0; c < u; c++)
                residual[(flm_index)a * u + c] -= n * m[(flm_index)e * u + c];
        }
        for (int e = 0; e < K_anc; e++) {
            double sum = 0;
            for (int b = 0; b < k; b++)
                sum += H[a * k + b] * R[b * width + k + e];
            HN[a * K_anc + e] = sum;
        }
    }
    if (d > 0 || down->posterior) { /* joint = [H + HN J (HN)', -HN J; ., J] */
        for (int a = 0; a < k; a++)
            for (int e = 0; e < K_anc; e++) {
                double sum = 0;
                for (int c = 0; c < K_anc; c++)
                    sum += HN[a * K_anc + c] * J[c * K_anc + e];
                joint[a * K + k + e] = joint[(k + e) * K + a] = -sum;
            }
        for (int a = 0; a < k; a++)
            for (int b = 0; b < k; b++) {
                double sum = H[a * k + b];
                for (int c = 0; c < K_anc; c++)
                    sum -= joint[a * K + k + c] * HN[b * K_anc + c];
                joint[a * K + b] = sum;
            }
        for (int e = 0; e < K_anc; e++)
            memcpy(joint + (k + e) * K + k, J + e * K_anc, (size_t)K_anc * sizeof(double));
    }
    if (down->posterior)
        for (int a = 0; a < k; a++)
            memcpy(down->posterior[d] + (i * k + a) * k, joint + a * K, (size_t)k * sizeof(double));
    if (d > 0 && u > 0) { /* mean = [H (B - N m); m] */
        for (int a = 0; a < k; a++)
            for (int c = 0; c < u; c++) {
                double sum = 0;
                for (int b = 0; b < k; b++)
                    sum += H[a * k + b] * residual[(flm_index)b * u + c];
                mean[(flm_index)a * u + c] = sum;
            }
        if (K_anc)
            memcpy(mean + (flm_index)k * u, m, (size_t)K_anc * u * sizeof(double));
    }
    if (down->F || down->g)
        node_moments(self, down, d, i, R, residual, residual + (flm_index)k * u);
    if (d > 0)
        for (flm_index child = self->first[d][i]; child < self->first[d][i + 1]; child++)
            descend(self, down, d - 1, child);
}

static flm_status backward_span(const flm_chain *self, descent down, span s)
{
    const int depth = self->depth;
    flm_index size = descent_work(self);
    for (int d = 0; d < depth; d++) {
        const flm_index K = self->offset[depth] - self->offset[d];
        size += K * K + K * self->u;
    }
    double *memory = malloc((size_t)size * sizeof(double)), *next = memory;
    if (!memory)
        return FLM_NO_MEMORY;
    for (int d = 0; d < depth; d++) {
        const flm_index K = self->offset[depth] - self->offset[d];
        down.joint[d] = next;
        down.mean[d] = next + K * K;
        next += K * K + K * self->u;
    }
    down.work = next;
    for (flm_index root = s.first[depth - 1]; root < s.last[depth - 1]; root++)
        descend(self, &down, depth - 1, root);
    free(memory);
    return FLM_OK;
}

/* F = lower + lower'; GG[a, b, i, j] = gram[(a, i), (b, j)] */
static void spread(int k, int u, const double *lower, const double *gram, double *F, double *GG)
{
    const flm_index ku = (flm_index)k * u;
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++) {
            F[a * k + b] = lower[a >= b ? a * k + b : b * k + a];
            for (int i = 0; i < u; i++)
                for (int j = 0; j < u; j++) {
                    const flm_index r = (flm_index)a * u + i, c = (flm_index)b * u + j;
                    GG[(((flm_index)a * k + b) * u + i) * u + j] = gram[r >= c ? r * ku + c : c * ku + r];
                }
        }
}

flm_status flm_chain_backward(const flm_chain *self, const double *v, double *const *F, double *const *GG,
                              double *const *g, double *const *posterior, int n_threads)
{
    const flm_index chunks = count_chunks(self);
    flm_index size = 0;
    if (F)
        for (int d = 0; d < self->depth; d++)
            size += square(self->k[d]) + square((flm_index)self->k[d] * self->u);
    double *sums = calloc((size_t)(chunks * size + 1), sizeof(double));
    if (!sums)
        return FLM_NO_MEMORY;
    flm_status status[MAX_CHUNKS];
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads) \
    if (n_threads > 1 && chunks > 1 && self->nodes[0] > 16 * NODES_PER_CHUNK)
#endif
    for (flm_index c = 0; c < chunks; c++) {
        double *chunk_F[FLM_MAX_DEPTH], *chunk_GG[FLM_MAX_DEPTH], *next = sums + c * size;
        for (int d = 0; F && d < self->depth; d++) {
            chunk_F[d] = next;
            chunk_GG[d] = next + square(self->k[d]);
            next = chunk_GG[d] + square((flm_index)self->k[d] * self->u);
        }
        const descent down = {
            .v = v, .F = F ? chunk_F : NULL, .GG = chunk_GG, .g = g, .posterior = posterior};
        status[c] = backward_span(self, down, chunk_span(self, chunks, c));
    }
    flm_status result = status[0];
    for (flm_index c = 1; c < chunks && result == FLM_OK; c++) {
        result = status[c];
        for (flm_index e = 0; e < size; e++)
            sums[e] += sums[c * size + e];
    }
    const double *next = sums;
    for (int d = 0; F && d < self->depth; d++) {
        const double *gram = next + square(self->k[d]);
        spread(self->k[d], self->u, next, gram, F[d], GG[d]);
        next = gram + square((flm_index)self->k[d] * self->u);
    }
    free(sums);
    return result;
}
