/* Groups of columns with one pattern, and the tree of these groups. */
#include "flm_sparse.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    double key;
    int32_t node;
} ranked;

static int by_key(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1; /* largest first */
    return x->node < y->node ? -1 : 1;
}

typedef struct {
    int64_t nodes;
    int32_t *parent, *into, *head, *next, *number, *stack;
    int64_t *nc, *ni;
    double *zeros, *peak;
    ranked *children;
} forest;

static int forest_new(forest *t, int64_t n)
{
    const size_t size = (size_t)(n + 1);
    t->nodes = 0;
    t->parent = malloc(size * sizeof *t->parent);
    t->into = malloc(size * sizeof *t->into);
    t->head = malloc(size * sizeof *t->head);
    t->next = malloc(size * sizeof *t->next);
    t->number = malloc(size * sizeof *t->number);
    t->stack = malloc(size * sizeof *t->stack);
    t->nc = malloc(size * sizeof *t->nc);
    t->ni = malloc(size * sizeof *t->ni);
    t->zeros = malloc(size * sizeof *t->zeros);
    t->peak = malloc(size * sizeof *t->peak);
    t->children = malloc(size * sizeof *t->children);
    return t->parent && t->into && t->head && t->next && t->number && t->stack && t->nc && t->ni &&
           t->zeros && t->peak && t->children;
}

static void forest_free(forest *t)
{
    free(t->parent), free(t->into), free(t->head), free(t->next), free(t->number), free(t->stack);
    free(t->nc), free(t->ni), free(t->zeros), free(t->peak), free(t->children);
}

/* The node that s ended in; paths are halved on the way. */
static int32_t merged(forest *t, int32_t s)
{
    while (t->into[s] != -1) {
        const int32_t up = t->into[s];
        if (t->into[up] != -1) t->into[s] = t->into[up];
        s = up;
    }
    return s;
}

/* Runs of columns j, j + 1 = parent(j) that differ by j alone. */
static void find_runs(forest *t, int64_t n, const int32_t *parent, const int64_t *count,
                      const int32_t *weight, int32_t *node_of)
{
    for (int64_t j = 0; j < n; j++) {
        const int same = j > 0 && parent[j - 1] == j && count[j - 1] == count[j] + weight[j - 1];
        if (!same) {
            t->nc[t->nodes] = 0;
            t->nodes++;
        }
        const int64_t s = t->nodes - 1;
        node_of[j] = (int32_t)s;
        t->nc[s] += weight[j];
        t->ni[s] = count[j] - weight[j];
        t->parent[s] = parent[j]; /* of the last column; renamed below */
    }
    for (int64_t s = 0; s < t->nodes; s++) {
        if (t->parent[s] != -1) t->parent[s] = node_of[t->parent[s]];
        t->into[s] = -1;
        t->zeros[s] = 0;
    }
}

static void list_children(forest *t)
{
    for (int64_t s = 0; s < t->nodes; s++) t->head[s] = -1;
    for (int64_t s = t->nodes; s-- > 0;) {
        if (t->into[s] != -1 || t->parent[s] == -1) continue;
        const int32_t up = merged(t, t->parent[s]);
        t->parent[s] = up;
        t->next[s] = t->head[up];
        t->head[up] = (int32_t)s;
    }
}

/* Ashcraft & Grimes (1989, doi:10.1145/76909.76910): merge while the stored zeros are few. */
static int worth_merging(int64_t nc, double zeros, double stored)
{
    if (zeros <= 0) return 1;
    const double share = zeros / stored;
    if (nc <= 4) return share < 0.7;
    if (nc <= 16) return share < 0.35;
    if (nc <= 48) return share < 0.1;
    return share < 0.05;
}

static void relax(forest *t)
{
    list_children(t);
    for (int64_t s = 0; s < t->nodes; s++) {
        int64_t n_children = 0;
        for (int32_t c = t->head[s]; c != -1; c = t->next[c])
            t->children[n_children++] = (ranked){(double)t->ni[c], c};
        if (n_children > 1) qsort(t->children, (size_t)n_children, sizeof *t->children, by_key);
        for (int64_t q = 0; q < n_children; q++) {
            const int32_t c = t->children[q].node;
            const double nc = (double)(t->nc[c] + t->nc[s]), ni = (double)t->ni[s];
            const double zeros = t->zeros[c] + t->zeros[s] +
                                 (double)t->nc[c] * (double)(t->nc[s] + t->ni[s] - t->ni[c]);
            if (!worth_merging(t->nc[c] + t->nc[s], zeros, 0.5 * nc * (nc + 1) + nc * ni)) continue;
            t->nc[s] += t->nc[c];
            t->zeros[s] = zeros;
            t->into[c] = (int32_t)s;
        }
    }
}

/* Children in the order that keeps the stack of update matrices low (Liu 1986, doi:10.1145/7921.11325);
 * lists are built back to front. */
static void sort_children(forest *t)
{
    list_children(t);
    for (int64_t s = 0; s < t->nodes; s++) {
        if (t->into[s] != -1) continue;
        int64_t n_children = 0;
        double held = 0, peak = 0;
        for (int32_t c = t->head[s]; c != -1; c = t->next[c])
            t->children[n_children++] = (ranked){t->peak[c] - (double)t->ni[c] * (double)t->ni[c], c};
        if (n_children > 1) qsort(t->children, (size_t)n_children, sizeof *t->children, by_key);
        int32_t *link = &t->head[s];
        for (int64_t q = 0; q < n_children; q++) {
            const int32_t c = t->children[q].node;
            *link = c;
            link = &t->next[c];
            if (held + t->peak[c] > peak) peak = held + t->peak[c];
            held += (double)t->ni[c] * (double)t->ni[c];
        }
        *link = -1;
        held += (double)t->ni[s] * (double)t->ni[s];
        t->peak[s] = held > peak ? held : peak;
    }
}

static int64_t number_nodes(forest *t)
{
    int64_t out = 0;
    for (int64_t root = 0; root < t->nodes; root++) {
        if (t->into[root] != -1 || t->parent[root] != -1) continue;
        int64_t top = 0;
        t->stack[0] = (int32_t)root;
        while (top >= 0) {
            const int32_t s = t->stack[top], child = t->head[s];
            if (child == -1) {
                top--;
                t->number[s] = (int32_t)out++;
            } else {
                t->head[s] = t->next[child];
                t->stack[++top] = child;
            }
        }
    }
    return out;
}

int64_t flm_supernodes(int64_t n, const int32_t *parent, const int64_t *count, const int32_t *weight,
                       int32_t *new_order, int64_t *node_ptr, int32_t *node_parent)
{
    forest F, *t = &F;
    int32_t *node_of = malloc((size_t)(n + 1) * sizeof *node_of);
    const int allocated = forest_new(t, n);
    int64_t nodes = -1;
    if (allocated && node_of) {
        find_runs(t, n, parent, count, weight, node_of);
        relax(t);
        sort_children(t);
        nodes = number_nodes(t);
        memset(node_ptr, 0, (size_t)(n + 1) * sizeof *node_ptr);
        for (int64_t s = 0; s < t->nodes; s++)
            if (t->into[s] == -1)
                node_parent[t->number[s]] = t->parent[s] == -1 ? -1 : t->number[t->parent[s]];
        for (int64_t j = 0; j < n; j++) {
            node_of[j] = t->number[merged(t, node_of[j])];
            node_ptr[node_of[j] + 1]++;
        }
        for (int64_t s = 0; s < nodes; s++) node_ptr[s + 1] += node_ptr[s];
        for (int64_t j = 0; j < n; j++) new_order[node_ptr[node_of[j]]++] = (int32_t)j;
        for (int64_t s = nodes; s > 0; s--) node_ptr[s] = node_ptr[s - 1];
        node_ptr[0] = 0;
    }
    forest_free(t);
    free(node_of);
    return nodes;
}
