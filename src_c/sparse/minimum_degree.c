/* Approximate minimum degree ordering.
 *
 * Amestoy, Davis & Duff (1996, doi:10.1137/S0895479894278952): the quotient graph
 * keeps eliminated vertices as elements; a variable i has elements E_i and
 * variables A_i, an element e its variables L_e.  Eliminating p makes the element
 * L_p = (A_p + union of L_e, e in E_p) - p and absorbs E_p.  Degrees are bounded
 * by
 *
 *     d_i = min(left, d_i + |L_p - i|, |A_i - i| + |L_p - i| + sum_e |L_e - L_p|)
 *
 * with all |L_e - L_p| computed in one scan of the neighbourhoods.  Variables
 * with equal lists merge into one (found by hashing), variables with nothing but
 * L_p are eliminated with p, and elements inside L_p are absorbed although not
 * adjacent to p. */
#include "flm_sparse.h"

#include <stdlib.h>
#include <string.h>

#define NONE (-1)

typedef struct {
    int64_t n, total, left, least; /* sum of weights; what is not yet eliminated; least degree in use */
    int64_t space, used;           /* of pool */
    int32_t *pool;                /* all lists: elements, then variables */
    int64_t *at;                  /* (n) start of the list of a live vertex, NONE for a dead one */
    int32_t *length, *elements;   /* (n) entries of the list; how many of them are elements */
    int32_t *weight;              /* (n) columns of a variable; negative inside L_p; 0 when dead */
    int64_t *mark, flag;          /* (n) elements: 0 dead, >= flag: flag + |L_e - L_p| */
    int64_t *degree;              /* (n) */
    int32_t *head, *next, *previous; /* lists of equal degree */
    int32_t *bucket, *chain;         /* lists of equal hash */
    int32_t *into;                   /* (n) vertex that swallowed this one */
} quotient;

static void list_remove(quotient *g, int32_t i)
{
    const int32_t before = g->previous[i], after = g->next[i];
    if (after != NONE) g->previous[after] = before;
    if (before != NONE)
        g->next[before] = after;
    else
        g->head[g->degree[i]] = after;
}

static void list_insert(quotient *g, int32_t i)
{
    const int64_t d = g->degree[i];
    const int32_t first = g->head[d];
    g->next[i] = first;
    g->previous[i] = NONE;
    if (first != NONE) g->previous[first] = i;
    g->head[d] = i;
    if (d < g->least) g->least = d;
}

/* Closes the gaps of the pool; entries from `keep` on, a list in the making, move with them. */
static int64_t compact(quotient *g, int64_t keep)
{
    int64_t out = 0;
    for (int64_t i = 0; i < g->n; i++) /* the first entry of a list gives way to its owner's name */
        if (g->at[i] != NONE && g->length[i] > 0) {
            const int64_t p = g->at[i];
            g->at[i] = g->pool[p];
            g->pool[p] = (int32_t)(-i - 2);
        }
    for (int64_t p = 0; p < keep;) {
        if (g->pool[p] >= NONE) {
            p++;
            continue;
        }
        const int64_t i = -(int64_t)g->pool[p] - 2;
        g->pool[out] = (int32_t)g->at[i];
        g->at[i] = out++;
        p++;
        for (int32_t q = 1; q < g->length[i]; q++) g->pool[out++] = g->pool[p++];
    }
    memmove(g->pool + out, g->pool + keep, (size_t)(g->used - keep) * sizeof *g->pool);
    g->used = out + g->used - keep;
    return out;
}

/* Takes variable i into L_p, if it is alive and not there yet. */
static int take(quotient *g, int32_t i, int64_t *size)
{
    const int32_t w = g->weight[i];
    if (w <= 0) return 0;
    *size += w;
    g->weight[i] = -w;
    list_remove(g, i);
    return 1;
}

/* L_p; returns its weight. */
static int64_t form_element(quotient *g, int32_t pivot)
{
    int64_t size = 0;
    if (g->elements[pivot] == 0) { /* in place */
        int64_t out = g->at[pivot];
        const int64_t begin = out, end = out + g->length[pivot];
        for (int64_t p = begin; p < end; p++)
            if (take(g, g->pool[p], &size)) g->pool[out++] = g->pool[p];
        g->length[pivot] = (int32_t)(out - begin);
        return size;
    }
    int64_t start = g->used;
    const int32_t n_elements = g->elements[pivot];
    for (int32_t q = 0; q <= n_elements; q++) {
        const int own = q == n_elements; /* last, the pivot's own variables */
        const int32_t source = own ? pivot : g->pool[g->at[pivot]];
        if (!own) { /* this element needs no second visit */
            g->at[pivot]++;
            g->length[pivot]--;
        }
        while (g->length[source] > 0) {
            if (g->used == g->space) start = compact(g, start);
            const int32_t i = g->pool[g->at[source]++];
            g->length[source]--;
            if (take(g, i, &size)) g->pool[g->used++] = i;
        }
        if (!own) {
            g->at[source] = NONE;
            g->mark[source] = 0;
        }
    }
    g->at[pivot] = start;
    g->length[pivot] = (int32_t)(g->used - start);
    return size;
}

/* mark[e] - flag = |L_e - L_p| for every element next to L_p. */
static void scan_elements(quotient *g, int32_t pivot)
{
    const int64_t begin = g->at[pivot], end = begin + g->length[pivot];
    for (int64_t p = begin; p < end; p++) {
        const int32_t i = g->pool[p], w = -g->weight[i];
        const int32_t *e = g->pool + g->at[i], *last = e + g->elements[i];
        for (; e < last; e++) {
            if (g->mark[*e] >= g->flag)
                g->mark[*e] -= w;
            else if (g->mark[*e] != 0)
                g->mark[*e] = g->flag + g->degree[*e] - w;
        }
    }
}

/* New list and degree of variable i in L_p; returns 0 when i has nothing but L_p. */
static int update_variable(quotient *g, int32_t pivot, int32_t i)
{
    const int64_t begin = g->at[i], middle = begin + g->elements[i], end = begin + g->length[i];
    int64_t out = begin, degree = 0;
    uint64_t hash = (uint64_t)pivot;
    for (int64_t p = begin; p < middle; p++) {
        const int32_t e = g->pool[p];
        if (g->mark[e] == 0) continue;
        const int64_t outside = g->mark[e] - g->flag;
        if (outside > 0) {
            degree += outside;
            hash += (uint64_t)e;
            g->pool[out++] = e;
        } else { /* L_e lies in L_p */
            g->at[e] = NONE;
            g->mark[e] = 0;
        }
    }
    const int64_t kept = out - begin;
    const int64_t first_variable = out;
    for (int64_t p = middle; p < end; p++) {
        const int32_t j = g->pool[p], w = g->weight[j];
        if (w <= 0) continue; /* dead, or in L_p */
        degree += w;
        hash += (uint64_t)j;
        g->pool[out++] = j;
    }
    if (out == begin) return 0;
    /* the pivot goes first: one entry at least was dropped, the pivot itself or an element in it */
    g->pool[out] = g->pool[first_variable];
    g->pool[first_variable] = g->pool[begin];
    g->pool[begin] = pivot;
    g->elements[i] = (int32_t)(kept + 1);
    g->length[i] = (int32_t)(out - begin + 1);
    if (degree < g->degree[i]) g->degree[i] = degree;
    hash %= (uint64_t)g->n;
    g->chain[i] = g->bucket[hash];
    g->bucket[hash] = i;
    g->previous[i] = (int32_t)hash; /* not in a degree list now */
    return 1;
}

/* Merges variables of one hash bucket that have equal lists. */
static void merge_equal(quotient *g, int32_t i)
{
    for (; i != NONE && g->chain[i] != NONE; i = g->chain[i], g->flag++) {
        const int32_t length = g->length[i], elements = g->elements[i];
        for (int32_t q = 1; q < length; q++) g->mark[g->pool[g->at[i] + q]] = g->flag;
        int32_t last = i;
        for (int32_t j = g->chain[i]; j != NONE; j = g->chain[j]) {
            int equal = g->length[j] == length && g->elements[j] == elements;
            for (int32_t q = 1; equal && q < length; q++) equal = g->mark[g->pool[g->at[j] + q]] == g->flag;
            if (!equal) {
                last = j;
                continue;
            }
            g->weight[i] += g->weight[j]; /* both negative */
            g->weight[j] = 0;
            g->into[j] = i;
            g->at[j] = NONE;
            g->chain[last] = g->chain[j];
        }
    }
}

static void eliminate(quotient *g, int32_t pivot)
{
    int32_t pivot_weight = g->weight[pivot];
    g->left -= pivot_weight;
    g->weight[pivot] = -pivot_weight;
    int64_t size = form_element(g, pivot);
    g->flag += g->total + 1; /* above every mark in use */
    scan_elements(g, pivot);
    const int64_t begin = g->at[pivot], end = begin + g->length[pivot];
    for (int64_t p = begin; p < end; p++) {
        const int32_t i = g->pool[p];
        if (update_variable(g, pivot, i)) continue;
        const int32_t w = -g->weight[i]; /* nothing but L_p: eliminated with the pivot */
        size -= w;
        pivot_weight += w;
        g->left -= w;
        g->weight[i] = 0;
        g->into[i] = pivot;
        g->at[i] = NONE;
    }
    g->flag += g->total + 1;
    for (int64_t p = begin; p < end; p++) {
        const int32_t i = g->pool[p];
        if (g->weight[i] >= 0) continue;
        int32_t *bucket = g->bucket + g->previous[i];
        const int32_t first = *bucket;
        *bucket = NONE;
        merge_equal(g, first);
    }
    int64_t out = begin;
    for (int64_t p = begin; p < end; p++) {
        const int32_t i = g->pool[p], w = -g->weight[i];
        if (w <= 0) continue;
        g->weight[i] = w;
        int64_t degree = g->degree[i] + size - w;
        if (degree > g->left - w) degree = g->left - w;
        g->degree[i] = degree;
        list_insert(g, i);
        g->pool[out++] = i;
    }
    g->degree[pivot] = size;
    g->mark[pivot] = 1;
    g->length[pivot] = (int32_t)(out - begin);
    if (out == begin) { /* a finished component */
        g->at[pivot] = NONE;
        g->mark[pivot] = 0;
    }
    if (end == g->used) g->used = out;
}

static void release(quotient *g)
{
    free(g->pool), free(g->at), free(g->length), free(g->elements), free(g->weight), free(g->mark);
    free(g->degree), free(g->head), free(g->next), free(g->previous), free(g->bucket), free(g->chain);
    free(g->into);
}

/* Vertices that were swallowed follow the pivot they ended in. */
static void spread(const quotient *g, int64_t n_pivots, int32_t *order, const int32_t *pivots, int32_t *first,
                   int32_t *next)
{
    for (int64_t i = 0; i < g->n; i++) first[i] = NONE;
    for (int64_t i = g->n; i-- > 0;) {
        int32_t owner = (int32_t)i;
        while (g->into[owner] != NONE) owner = g->into[owner];
        for (int32_t j = (int32_t)i; g->into[j] != NONE;) { /* shorten the path */
            const int32_t up = g->into[j];
            g->into[j] = owner;
            j = up;
        }
        if (owner == i) continue;
        next[i] = first[owner];
        first[owner] = (int32_t)i;
    }
    int64_t out = 0;
    for (int64_t q = 0; q < n_pivots; q++) {
        order[out++] = pivots[q];
        for (int32_t i = first[pivots[q]]; i != NONE; i = next[i]) order[out++] = i;
    }
}

flm_status flm_minimum_degree(int64_t n, const int64_t *ptr, const int32_t *idx, const int32_t *weight,
                              int64_t dense, int32_t *order)
{
    quotient G = {.n = n, .used = ptr[n], .flag = 1}, *g = &G;
    const size_t size = (size_t)(n + 1);
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++) total += weight[i];
    g->total = g->left = g->least = total;
    g->space = ptr[n] + ptr[n] / 5 + n + 1;
    g->pool = malloc((size_t)g->space * sizeof *g->pool);
    g->at = malloc(size * sizeof *g->at);
    g->length = malloc(size * sizeof *g->length);
    g->elements = calloc(size, sizeof *g->elements);
    g->weight = malloc(size * sizeof *g->weight);
    g->mark = malloc(size * sizeof *g->mark);
    g->degree = malloc(size * sizeof *g->degree);
    g->head = malloc((size_t)(total + 1) * sizeof *g->head);
    g->next = malloc(size * sizeof *g->next);
    g->previous = malloc(size * sizeof *g->previous);
    g->bucket = malloc(size * sizeof *g->bucket);
    g->chain = malloc(size * sizeof *g->chain);
    g->into = malloc(size * sizeof *g->into);
    int32_t *pivots = malloc(size * sizeof *pivots);
    if (!g->pool || !g->at || !g->length || !g->elements || !g->weight || !g->mark || !g->degree ||
        !g->head || !g->next || !g->previous || !g->bucket || !g->chain || !g->into || !pivots) {
        release(g);
        free(pivots);
        return FLM_NO_MEMORY;
    }
    if (ptr[n] > 0) memcpy(g->pool, idx, (size_t)ptr[n] * sizeof *g->pool);
    for (int64_t d = 0; d <= total; d++) g->head[d] = NONE;
    int64_t n_pivots = 0, n_dense = 0;
    for (int64_t i = 0; i < n; i++) {
        g->at[i] = ptr[i];
        g->length[i] = (int32_t)(ptr[i + 1] - ptr[i]);
        g->weight[i] = weight[i];
        g->mark[i] = 1;
        g->bucket[i] = g->into[i] = g->chain[i] = NONE;
        if (g->length[i] > dense) { /* ordered last; out of everybody's degree */
            g->weight[i] = 0;
            g->at[i] = NONE;
            g->left -= weight[i];
            pivots[n - ++n_dense] = (int32_t)i;
        }
    }
    for (int64_t i = n; i-- > 0;) {
        if (g->weight[i] == 0) continue;
        int64_t degree = 0;
        for (int64_t p = ptr[i]; p < ptr[i + 1]; p++) degree += g->weight[idx[p]];
        g->degree[i] = degree;
        list_insert(g, (int32_t)i);
    }
    while (g->left > 0) {
        while (g->head[g->least] == NONE) g->least++;
        const int32_t pivot = g->head[g->least];
        list_remove(g, pivot);
        pivots[n_pivots++] = pivot;
        eliminate(g, pivot);
    }
    /* dense vertices, in the order they were met, behind the others */
    for (int64_t q = 0; q < n_dense; q++) g->into[pivots[n - 1 - q]] = NONE;
    int32_t *tail = g->head; /* at least total + 1 >= n + 1 long */
    memcpy(tail, pivots + (n - n_dense), (size_t)n_dense * sizeof *tail);
    memmove(pivots + n_pivots, tail, (size_t)n_dense * sizeof *tail);
    spread(g, n_pivots + n_dense, order, pivots, g->next, g->chain);
    release(g);
    free(pivots);
    return FLM_OK;
}
