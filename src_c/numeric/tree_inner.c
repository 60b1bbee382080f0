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

flm_status flm_chain_inner(const flm_chain *self, const double *const *g, int r, const int32_t *factor,
                           const double *directions, flm_index stride, double *inner, double *cross,
                           int n_threads)
{
    const request ask = {self, g, r, factor, directions, stride};
    flm_index size = 0, k_max = 0;
    for (int d = 0; d < self->depth; d++) {
        size += self->nodes[d] * self->k[d] * r;
        k_max = self->k[d] > k_max ? self->k[d] : k_max;
    }
    double *memory = calloc((size_t)(size + 5 * k_max * r + 1), sizeof(double)), *next = memory;
    if (!memory)
        return FLM_NO_MEMORY;
    workspace w;
    for (int d = 0; d < self->depth; d++) {
        w.t[d] = next;
        next += self->nodes[d] * self->k[d] * r;
    }
    w.h = next;
    w.coupled = w.h + k_max * r;
    w.y = w.coupled + k_max * r;
    w.Ht = w.y + k_max * r;
    w.h_above = w.Ht + k_max * r;
    memset(inner, 0, (size_t)r * r * sizeof(double));
    memset(cross, 0, (size_t)self->u * r * sizeof(double));
    for (int d = 0; d < self->depth; d++)
        for (flm_index i = 0; i < self->nodes[d]; i++)
            add_node(&ask, &w, d, i, inner, cross);
    free(memory);
    return FLM_OK;
}
