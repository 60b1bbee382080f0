/* Inner products w_j'V0^-1 w_k along a chain of nested factors, for average
 * information (Gilmour, Thompson & Cullis 1995).
 *
 * w_j = Z_f h_j with h_j = X_j g_i at the nodes i of factor f.  With the original
 * cross-products, t_j = [Z Y]'w_j is eliminated like one more column, and
 *
 *   w_j'V0^-1 w_k = h_j'Z'Z h_k - sum_i t~_ij' H_i t~_ik
 *   Y'V0^-1 w_j   = Y'w_j - sum_i B~_i' H_i t~_ij
 */
#include "flm_tree.h"
#include "tree_span.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const flm_chain *chain;
    const double *const *g;
    int r;
    const int32_t *factor;
    const double *directions;
    flm_index stride;
} request;

/* h (k x r) of node i of factor d */
static void node_h(const request *ask, int d, flm_index i, double *h)
{
    const int k = ask->chain->k[d], r = ask->r;
    const double *g = ask->g[d] + i * k;
    for (int j = 0; j < r; j++) {
        const double *X = ask->directions + j * ask->stride;
        for (int a = 0; a < k; a++) {
            double sum = 0;
            if (ask->factor[j] == d)
                for (int b = 0; b < k; b++)
                    sum += X[a * k + b] * g[b];
            h[a * r + j] = sum;
        }
    }
}

/* target (n x r) += sign * left' right, left k x n with row stride ld, right k x r */
static void add_product(int k, int n, int r, flm_index ld, double sign, const double *left,
                        const double *right, double *target)
{
    for (int b = 0; b < k; b++)
        for (int a = 0; a < n; a++) {
            const double x = sign * left[b * ld + a];
            for (int j = 0; j < r; j++)
                target[a * r + j] += x * right[b * r + j];
        }
}

typedef struct {
    double *t[FLM_MAX_DEPTH]; /* nodes x k x r */
    double *h, *coupled, *y, *Ht, *h_above; /* k_max x r each */
} workspace;

/* One node; its descendants have already been added to t. */
static void add_node(const request *ask, const workspace *w, int d, flm_index i, double *inner, double *cross)
{
    const flm_chain *self = ask->chain;
    const int k = self->k[d], width = self->width[d], r = ask->r, depth = self->depth;
    const double *R = self->R[d] + i * k * width;
    const double *Rt = d == 0 ? R : self->eliminated[d] + i * k * width;
    const double *H = self->H[d] + i * k * k;
    double *t = w->t[d] + i * k * r;
    const size_t bytes = (size_t)k * r * sizeof(double);
    node_h(ask, d, i, w->h);
    memset(w->coupled, 0, bytes); /* N h_above */
    flm_index above = i;
    int column = k;
    for (int e = d + 1; e < depth; e++) {
        above = self->parent[e - 1][above];
        node_h(ask, e, above, w->h_above);
        for (int a = 0; a < k; a++)
            for (int b = 0; b < self->k[e]; b++)
                for (int j = 0; j < r; j++)
                    w->coupled[a * r + j] += R[a * width + column + b] * w->h_above[b * r + j];
        column += self->k[e];
    }
    memset(w->y, 0, bytes); /* A h */
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++)
            for (int j = 0; j < r; j++)
                w->y[a * r + j] += R[a * width + b] * w->h[b * r + j];
    for (int a = 0; a < k * r; a++)
        t[a] += w->y[a] + w->coupled[a];
    memset(w->Ht, 0, bytes);
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++)
            for (int j = 0; j < r; j++)
                w->Ht[a * r + j] += H[a * k + b] * t[b * r + j];
    for (int a = 0; a < k; a++)
        for (int m = 0; m < r; m++)
            for (int j = 0; j < r; j++)
                inner[m * r + j] += w->h[a * r + m] * (w->y[a * r + j] + w->coupled[a * r + j]) +
                                     w->coupled[a * r + m] * w->h[a * r + j] -
                                     t[a * r + m] * w->Ht[a * r + j];
    above = i;
    column = k;
    for (int e = d + 1; e < depth; e++) {
        above = self->parent[e - 1][above];
        double *target = w->t[e] + above * self->k[e] * r;
        add_product(k, self->k[e], r, width, 1, R + column, w->h, target);
        add_product(k, self->k[e], r, width, -1, Rt + column, w->Ht, target);
        column += self->k[e];
    }
    add_product(k, self->u, r, width, 1, R + column, w->h, cross);
    add_product(k, self->u, r, width, -1, Rt + column, w->Ht, cross);
}

static flm_status inner_span(const request *ask, workspace w, span s, flm_index k_max, double *inner)
{
    const flm_index block = k_max * ask->r;
    double *cross = inner + (flm_index)ask->r * ask->r;
    double *memory = malloc((size_t)(5 * block) * sizeof(double));
    if (!memory)
        return FLM_NO_MEMORY;
    w.h = memory;
    w.coupled = memory + block;
    w.y = memory + 2 * block;
    w.Ht = memory + 3 * block;
    w.h_above = memory + 4 * block;
    for (int d = 0; d < ask->chain->depth; d++)
        for (flm_index i = s.first[d]; i < s.last[d]; i++)
            add_node(ask, &w, d, i, inner, cross);
    free(memory);
    return FLM_OK;
}

flm_status flm_chain_inner(const flm_chain *self, const double *const *g, int r, const int32_t *factor,
                           const double *directions, flm_index stride, double *inner, double *cross,
                           int n_threads)
{
    const request ask = {self, g, r, factor, directions, stride};
    const flm_index chunks = count_chunks(self), n_inner = (flm_index)r * r, n_cross = (flm_index)self->u * r;
    const flm_index n_sums = n_inner + n_cross;
    flm_index size = 0, k_max = 0;
    for (int d = 0; d < self->depth; d++) {
        size += self->nodes[d] * self->k[d] * r;
        k_max = self->k[d] > k_max ? self->k[d] : k_max;
    }
    double *memory = calloc((size_t)(size + chunks * n_sums), sizeof(double)), *sums = memory + size;
    if (!memory)
        return FLM_NO_MEMORY;
    workspace w = {.h = NULL};
    double *next = memory;
    for (int d = 0; d < self->depth; d++) {
        w.t[d] = next;
        next += self->nodes[d] * self->k[d] * r;
    }
    flm_status status[MAX_CHUNKS];
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 1) num_threads(n_threads) \
    if (n_threads > 1 && chunks > 1 && self->nodes[0] > 16 * NODES_PER_CHUNK)
#endif
    for (flm_index c = 0; c < chunks; c++)
        status[c] = inner_span(&ask, w, chunk_span(self, chunks, c), k_max, sums + c * n_sums);
    flm_status result = status[0];
    for (flm_index c = 1; c < chunks && result == FLM_OK; c++) {
        result = status[c];
        for (flm_index e = 0; e < n_sums; e++)
            sums[e] += sums[c * n_sums + e];
    }
    memcpy(inner, sums, (size_t)n_inner * sizeof(double));
    memcpy(cross, sums + n_inner, (size_t)n_cross * sizeof(double));
    free(memory);
    return result;
}
