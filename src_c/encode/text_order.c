/* The order of texts; see flm_texts.h.
 *
 * Radix sort by eight bytes at a time, as one word with the first byte the highest.  Texts that agree in
 * a word are a run that is sorted by the next one; runs wait in a list, so that long common beginnings
 * need no recursion.  Short runs are sorted by comparing.
 */
#include "flm_texts.h"

#include <stdlib.h>
#include <string.h>

#define SHORT_RUN 40

typedef struct {
    uint64_t word; /* the bytes at the depth reached */
    int32_t text;
} sort_item;

typedef struct {
    flm_index start, end;
    flm_index depth;
} sort_run;

typedef struct {
    const int64_t *offsets;
    const uint8_t *bytes;
    flm_index size;
    sort_item *items, *other; /* (n) each */
    sort_run *runs;           /* those that wait; each has more than SHORT_RUN texts of its own */
    flm_index n_runs;
} sort_state;

/* Eight bytes of a text from `depth` on, zeros behind its end. */
FLM_INLINE uint64_t word_at(const sort_state *state, int32_t text, flm_index depth)
{
    const flm_index at = state->offsets[text] + depth, left = state->offsets[text + 1] - at;
    const uint8_t *from = state->bytes + at;
    uint64_t word = 0;
    if (at + 8 <= state->size && left > 0) {
        for (int i = 0; i < 8; i++)
            word = word << 8 | from[i];
        return left < 8 ? word & ~(~(uint64_t)0 >> (8 * left)) : word;
    }
    for (flm_index i = 0; i < 8; i++)
        word = word << 8 | (i < left ? from[i] : 0);
    return word;
}

/* Bytes from `depth` on, 9 for 9 or more. */
FLM_INLINE int bytes_left(const sort_state *state, int32_t text, flm_index depth)
{
    const flm_index left = state->offsets[text + 1] - state->offsets[text] - depth;
    return left > 8 ? 9 : (int)left;
}

static int is_before(const sort_state *state, int32_t a, int32_t b, flm_index depth)
{
    const int64_t *at_a = state->offsets + a, *at_b = state->offsets + b;
    const flm_index left_a = at_a[1] - at_a[0] - depth, left_b = at_b[1] - at_b[0] - depth;
    const flm_index both = left_a < left_b ? left_a : left_b;
    const int order = both > 0 ? memcmp(state->bytes + at_a[0] + depth, state->bytes + at_b[0] + depth,
                                        (size_t)both) : 0;
    return order < 0 || (order == 0 && left_a < left_b);
}

static void insert(sort_state *state, sort_run run)
{
    sort_item *items = state->items;
    for (flm_index i = run.start + 1; i < run.end; i++) {
        const sort_item item = items[i];
        flm_index at = i;
        for (; at > run.start && is_before(state, item.text, items[at - 1].text, run.depth); at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

/* Sorts a run by its words, stable; bytes that are the same in all of them are passed over. */
static void sort_words(sort_state *state, flm_index start, flm_index n)
{
    flm_index counts[8][256];
    sort_item *from = state->items + start, *to = state->other + start;
    memset(counts, 0, sizeof counts);
    for (flm_index i = 0; i < n; i++)
        for (int byte = 0; byte < 8; byte++)
            counts[byte][from[i].word >> (8 * byte) & 255]++;
    for (int byte = 0; byte < 8; byte++) {
        flm_index *place = counts[byte], before = 0;
        if (place[from[0].word >> (8 * byte) & 255] == n)
            continue;
        for (int digit = 0; digit < 256; digit++) {
            const flm_index count = place[digit];
            place[digit] = before;
            before += count;
        }
        for (flm_index i = 0; i < n; i++)
            to[place[from[i].word >> (8 * byte) & 255]++] = from[i];
        sort_item *const sorted = to;
        to = from;
        from = sorted;
    }
    if (from != state->items + start)
        memcpy(state->items + start, from, (size_t)n * sizeof *from);
}

/* Texts that agree in a word: those that end in it come first, the shorter ones foremost, since zeros
 * behind an end are equal to the zeros of a longer text.  Returns where those that go on begin. */
static flm_index put_ended_first(sort_state *state, flm_index start, flm_index end, flm_index depth)
{
    flm_index places[11] = {0};
    for (flm_index i = start; i < end; i++)
        places[1 + bytes_left(state, state->items[i].text, depth)]++;
    for (int left = 0; left < 10; left++)
        places[left + 1] += places[left];
    const flm_index go_on = start + places[9];
    if (go_on == start)
        return start;
    for (flm_index i = start; i < end; i++)
        state->other[start + places[bytes_left(state, state->items[i].text, depth)]++] = state->items[i];
    memcpy(state->items + start, state->other + start, (size_t)(end - start) * sizeof *state->items);
    return go_on;
}

/* Sorts a run by its next eight bytes; what these leave open is sorted at once or waits. */
static void sort_run_of_texts(sort_state *state, sort_run run)
{
    sort_item *items = state->items;
    for (flm_index i = run.start; i < run.end; i++)
        items[i].word = word_at(state, items[i].text, run.depth);
    sort_words(state, run.start, run.end - run.start);
    for (flm_index i = run.start, end; i < run.end; i = end) {
        for (end = i + 1; end < run.end && items[end].word == items[i].word;)
            end++;
        if (end == i + 1)
            continue;
        const sort_run rest = {put_ended_first(state, i, end, run.depth), end, run.depth + 8};
        if (rest.end - rest.start > SHORT_RUN)
            state->runs[state->n_runs++] = rest;
        else
            insert(state, rest);
    }
}

flm_status flm_text_order(flm_index n, const int64_t *offsets, const uint8_t *bytes, flm_index size,
                          int64_t *order)
{
    flm_index wrong = n > INT32_MAX || offsets[0] < 0 || offsets[n] > size;
    for (flm_index i = 0; i < n && !wrong; i++)
        wrong = offsets[i + 1] < offsets[i];
    if (wrong)
        return FLM_BAD_ARGUMENT;
    sort_state state = {.offsets = offsets, .bytes = bytes, .size = size};
    state.items = malloc((size_t)(n + 1) * sizeof *state.items);
    state.other = malloc((size_t)(n + 1) * sizeof *state.other);
    state.runs = malloc((size_t)(n / SHORT_RUN + 1) * sizeof *state.runs);
    const int memory = state.items && state.other && state.runs;
    if (memory) {
        for (flm_index i = 0; i < n; i++)
            state.items[i].text = (int32_t)i;
        if (n > 1)
            state.runs[state.n_runs++] = (sort_run){0, n, 0};
        while (state.n_runs)
            sort_run_of_texts(&state, state.runs[--state.n_runs]);
        for (flm_index i = 0; i < n; i++)
            order[i] = state.items[i].text;
    }
    free(state.items);
    free(state.other);
    free(state.runs);
    return memory ? FLM_OK : FLM_NO_MEMORY;
}
