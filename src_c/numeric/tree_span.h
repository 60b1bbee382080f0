/* How a chain of nested factors is cut into independent chunks of subtrees.  The
 * cut does not depend on the number of threads. */
#ifndef TREE_SPAN_H
#define TREE_SPAN_H

#include "flm_tree.h"

#define MAX_CHUNKS 32
#define NODES_PER_CHUNK 512

typedef struct {
    flm_index first[FLM_MAX_DEPTH], last[FLM_MAX_DEPTH]; /* nodes of each factor */
} span;

static inline flm_index count_chunks(const flm_chain *self)
{
    const flm_index roots = self->nodes[self->depth - 1];
    flm_index chunks = self->nodes[0] / NODES_PER_CHUNK;
    chunks = chunks > MAX_CHUNKS ? MAX_CHUNKS : chunks;
    chunks = chunks > roots ? roots : chunks;
    return chunks < 1 ? 1 : chunks;
}

static inline span chunk_span(const flm_chain *self, flm_index chunks, flm_index c)
{
    span s;
    int d = self->depth - 1;
    s.first[d] = self->nodes[d] * c / chunks;
    s.last[d] = self->nodes[d] * (c + 1) / chunks;
    for (; d > 0; d--) {
        s.first[d - 1] = self->first[d][s.first[d]];
        s.last[d - 1] = self->first[d][s.last[d]];
    }
    return s;
}

#endif
