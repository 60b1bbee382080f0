/* What the tables of keys and of texts share: mixing, how full they may be, large zeroed memory. */
#ifndef FLM_ENCODE_SLOTS_H
#define FLM_ENCODE_SLOTS_H

#include "flm_common.h"

#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#define FIRST_SLOTS 1024
#define ROOM_AT_ONCE 1024         /* rows that a table makes room for */
#define SERIAL_ROWS (1 << 16)     /* waking up threads takes longer than reading so few rows */
#define FIRST_PIECE (1 << 17)     /* rows that threads look up at once, before one enters what is new */
#define MOST_LEVELS (INT32_MAX - 1) /* codes of all levels, and a level's number + 1, are int32 */
#define PREFETCHED_SLOTS (1 << 14) /* smaller tables stay in the caches by themselves */

#define NO_MEMORY (-1)
#define TOO_MANY (-2)

/* Asks for the cache line of a place that will be read, maybe by several threads. */
#if defined(__GNUC__) || defined(__clang__)
#define FETCH(place) __builtin_prefetch(place, 0)
#else
#define FETCH(place) ((void)(place))
#endif

/* The 128-bit product of two words, its halves combined. */
FLM_INLINE uint64_t fold(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__)
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)(product >> 64) ^ (uint64_t)product;
#else
    const uint64_t a0 = a & 0xffffffffu, a1 = a >> 32, b0 = b & 0xffffffffu, b1 = b >> 32;
    const uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & 0xffffffffu);
    return (a1 * b1 + (middle >> 32) + (other >> 32)) ^ ((other << 32) | (low & 0xffffffffu));
#endif
}

/* Slots for so many levels.  A second probe is a branch that the processor does not foresee, so tables
 * that fit into a cache are kept emptier; very large ones take 32 to 64 bytes per level. */
FLM_INLINE uint64_t slots_for(flm_index n_levels)
{
    const uint64_t n = (uint64_t)n_levels;
    return n <= 1 << 13 ? 8 * n : n <= 1 << 20 ? 4 * n : 2 * n;
}

/* The power of two from `size` on that has room for so many levels. */
FLM_INLINE uint64_t table_size(uint64_t size, flm_index n_levels)
{
    while (size < slots_for(n_levels))
        size *= 2;
    return size;
}

/* Rows of the next piece: more, once few are new. */
FLM_INLINE flm_index next_piece(flm_index piece, flm_index n_new)
{
    return n_new < piece / 64 ? 4 * piece : piece;
}

/* By how much a hash is shifted to number the slots.  The upper bits do, so that a larger table holds
 * its levels in about the same order, and is filled from the smaller one from front to back. */
FLM_INLINE int table_shift(uint64_t size)
{
    int shift = 64;
    for (; size > 1; size >>= 1)
        shift--;
    return shift;
}

/* Asks for large pages, where the system has them, for memory of some MB that is read here and there. */
FLM_INLINE void *on_large_pages(void *memory, size_t length)
{
#if defined(MADV_HUGEPAGE)
    const uintptr_t page = 4096, start = ((uintptr_t)memory + page - 1) & ~(page - 1);
    if (memory && length >= (size_t)4 << 20)
        madvise((void *)start, length - page, MADV_HUGEPAGE);
#endif
    return memory;
}

FLM_INLINE void *zeroed(uint64_t count, size_t width)
{
    if (count > SIZE_MAX / width)
        return NULL;
    return on_large_pages(calloc((size_t)count, width), (size_t)count * width);
}

/* As realloc, of memory whose first `used` bytes are in use. */
FLM_INLINE void *moved(void *memory, size_t used, size_t length)
{
    void *wider = on_large_pages(malloc(length), length);
    if (!wider)
        return NULL;
    if (used)
        memcpy(wider, memory, used);
    free(memory);
    return wider;
}

#endif
