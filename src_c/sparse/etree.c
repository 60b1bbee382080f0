/* Elimination tree, its postorder, and the column counts of the factor. */
#include "flm_sparse.h"

/* Liu (1986, doi:10.1145/6497.6499), with path compression. */
void flm_etree(int64_t n, const int64_t *ptr, const int32_t *idx, const int32_t *order,
               const int32_t *inverse, int32_t *parent, int32_t *ancestor)
{
    for (int64_t j = 0; j < n; j++) {
        parent[j] = ancestor[j] = -1;
        const int32_t vertex = order[j];
        for (int64_t p = ptr[vertex]; p < ptr[vertex + 1]; p++) {
            int32_t i = inverse[idx[p]];
            while (i != -1 && i < j) { /* climb to the root of what is known: j's child */
                const int32_t up = ancestor[i];
                ancestor[i] = (int32_t)j;
                if (up == -1) parent[i] = (int32_t)j;
                i = up;
            }
        }
    }
}

void flm_postorder(int64_t n, const int32_t *parent, int32_t *post, int32_t *work)
{
    int32_t *head = work, *next = work + n, *stack = work + 2 * n;
    int64_t out = 0;
    for (int64_t j = 0; j < n; j++) head[j] = -1;
    for (int64_t j = n; j-- > 0;) {
        if (parent[j] == -1) continue;
        next[j] = head[parent[j]];
        head[parent[j]] = (int32_t)j;
    }
    for (int64_t root = 0; root < n; root++) {
        if (parent[root] != -1) continue;
        int64_t top = 0;
        stack[0] = (int32_t)root;
        while (top >= 0) {
            const int32_t j = stack[top], child = head[j];
            if (child == -1) {
                top--;
                post[out++] = j;
            } else {
                head[j] = next[child];
                stack[++top] = child;
            }
        }
    }
}

/* Gilbert, Ng & Peyton (1994, doi:10.1137/S089547989223921X).  Row i of the factor is the subtree of the
 * columns that reach i; a column's count is the weight of the rows whose subtrees hold it.  Summed over
 * descendants, a subtree adds its weight at each leaf, and takes it away where two leaves meet and above
 * its root. */
void flm_column_counts(int64_t n, const int64_t *ptr, const int32_t *idx, const int32_t *order,
                       const int32_t *inverse, const int32_t *parent, const int32_t *weight, int64_t *count,
                       int32_t *work)
{
    int32_t *first = work, *last_first = work + n, *last_leaf = work + 2 * n, *ancestor = work + 3 * n;
    for (int64_t j = 0; j < n; j++) {
        first[j] = last_first[j] = last_leaf[j] = -1;
        ancestor[j] = (int32_t)j;
    }
    for (int64_t j = 0; j < n; j++) {
        count[j] = first[j] == -1 ? weight[order[j]] : 0; /* a leaf of the tree is a row of its own */
        for (int32_t i = (int32_t)j; i != -1 && first[i] == -1; i = parent[i]) first[i] = (int32_t)j;
    }
    for (int64_t j = 0; j < n; j++) {
        const int32_t vertex = order[j];
        if (parent[j] != -1) count[parent[j]] -= weight[vertex];
        for (int64_t p = ptr[vertex]; p < ptr[vertex + 1]; p++) {
            const int32_t i = inverse[idx[p]];
            if (i <= j || first[j] <= last_first[i]) continue; /* not a leaf of row i */
            const int32_t w = weight[idx[p]], before = last_leaf[i];
            last_first[i] = first[j];
            last_leaf[i] = (int32_t)j;
            count[j] += w;
            if (before == -1) continue;
            int32_t meet = before;
            while (meet != ancestor[meet]) meet = ancestor[meet];
            for (int32_t a = before; a != meet;) {
                const int32_t up = ancestor[a];
                ancestor[a] = meet;
                a = up;
            }
            count[meet] -= w;
        }
        if (parent[j] != -1) ancestor[j] = parent[j];
    }
    for (int64_t j = 0; j < n; j++)
        if (parent[j] != -1) count[parent[j]] += count[j];
}
