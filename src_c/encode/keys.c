/* Scattered keys to codes; see flm_encode.h. */
#define _DEFAULT_SOURCE
#include "flm_encode.h"

#include "slots.h"

#define KEYS_AHEAD 32     /* slots of a large table are fetched so many rows before they are needed */
#define BLOCKS_AT_ONCE 16 /* of ROOM_AT_ONCE keys, that a thread looks up */

typedef struct {
    int64_t key;
    int32_t level; /* level number + 1, 0 for an empty slot */
} key_slot;

struct flm_key_table {
    uint64_t size; /* slots, a power of two */
    int shift;
    flm_index first, n, room; /* code of the first level; levels, and for how many `keys` has room */
    key_slot *slots;
    int64_t *keys;
};

flm_key_table *flm_key_table_new(flm_index first)
{
    flm_key_table *table = malloc(sizeof *table);
    if (!table)
        return NULL;
    *table = (flm_key_table){.size = FIRST_SLOTS, .shift = table_shift(FIRST_SLOTS), .first = first};
    table->slots = zeroed(FIRST_SLOTS, sizeof *table->slots);
    if (!table->slots) {
        free(table);
        return NULL;
    }
    return table;
}

void flm_key_table_free(flm_key_table *table)
{
    if (!table)
        return;
    free(table->slots);
    free(table->keys);
    free(table);
}

flm_index flm_key_table_levels(const flm_key_table *table)
{
    return table->n;
}

const int64_t *flm_key_table_keys(const flm_key_table *table)
{
    return table->keys;
}

FLM_INLINE uint64_t home_of(int64_t key, int shift)
{
    return fold((uint64_t)key ^ 0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u) >> shift;
}

/* The slot of a key, or the empty one where it belongs. */
FLM_INLINE uint64_t slot_of(const key_slot *slots, uint64_t mask, uint64_t at, int64_t key)
{
    while (slots[at].key != key || !slots[at].level) {
        if (!slots[at].level)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

static int widen_slots(flm_key_table *table, uint64_t size)
{
    key_slot *wider = zeroed(size, sizeof *wider);
    if (!wider)
        return NO_MEMORY;
    const int shift = table_shift(size);
    for (uint64_t i = 0; i < table->size; i++) {
        const key_slot slot = table->slots[i];
        if (slot.level)
            wider[slot_of(wider, size - 1, home_of(slot.key, shift), slot.key)] = slot;
    }
    free(table->slots);
    table->slots = wider;
    table->size = size;
    table->shift = shift;
    return 0;
}

/* Room for so many more levels. */
static int make_room(flm_key_table *table, flm_index more)
{
    const flm_index levels = table->n + more;
    const uint64_t size = table_size(table->size, levels);
    if (size > table->size && widen_slots(table, size))
        return NO_MEMORY;
    if (levels > table->room) {
        const flm_index room = 2 * levels;
        int64_t *keys = realloc(table->keys, (size_t)room * sizeof *keys);
        if (!keys)
            return NO_MEMORY;
        table->keys = keys;
        table->room = room;
    }
    return 0;
}

/* The code of a key that may be new: it gets the next one, and none when there are no more codes. */
FLM_INLINE int32_t enter(flm_key_table *table, uint64_t home, int64_t key)
{
    key_slot *slot = table->slots + slot_of(table->slots, table->size - 1, home, key);
    if (!slot->level) {
        if (table->first + table->n == MOST_LEVELS)
            return -1;
        table->keys[table->n] = key;
        slot->key = key;
        slot->level = (int32_t)(table->first + ++table->n);
    }
    return slot->level - 1;
}

/* Codes of the next m keys of `left`, a slot fetched `ahead` keys before it is needed. */
FLM_INLINE int enter_keys(flm_key_table *table, int m, flm_index left, const int64_t *keys, int ahead,
                          int32_t *codes)
{
    if (make_room(table, m))
        return NO_MEMORY;
    const int shift = table->shift;
    int32_t least = 0;
    for (int j = 0; j < m; j++) {
        if (ahead)
            FETCH(table->slots + home_of(keys[j + ahead < left ? j + ahead : left - 1], shift));
        codes[j] = enter(table, home_of(keys[j], shift), keys[j]);
        least |= codes[j];
    }
    return least < 0 ? TOO_MANY : 0;
}

static int enter_all(flm_key_table *table, flm_index n, const int64_t *keys, int32_t *codes)
{
    int status = 0;
    for (flm_index start = 0; start < n && !status; start += ROOM_AT_ONCE) {
        const flm_index left = n - start;
        const int m = (int)(left < ROOM_AT_ONCE ? left : ROOM_AT_ONCE);
        status = table->size > PREFETCHED_SLOTS
                     ? enter_keys(table, m, left, keys + start, KEYS_AHEAD, codes + start)
                     : enter_keys(table, m, left, keys + start, 0, codes + start);
    }
    return status;
}

/* Codes of the keys that are in the table, -1 of the others; returns how many these are. */
static flm_index find_all(const flm_key_table *table, flm_index n, const int64_t *keys, int n_threads,
                          int32_t *codes)
{
    const uint64_t mask = table->size - 1;
    const key_slot *const slots = table->slots;
    const int shift = table->shift, ahead = table->size > PREFETCHED_SLOTS ? KEYS_AHEAD : 0;
    const flm_index blocks = (n + ROOM_AT_ONCE - 1) / ROOM_AT_ONCE;
    flm_index missed = 0;
#if defined(_OPENMP)
#pragma omp parallel for schedule(dynamic, BLOCKS_AT_ONCE) num_threads(n_threads) reduction(+ : missed)
#endif
    for (flm_index b = 0; b < blocks; b++) {
        const flm_index start = b * ROOM_AT_ONCE, end = start + ROOM_AT_ONCE < n ? start + ROOM_AT_ONCE : n;
        for (flm_index i = start; i < end; i++) {
            if (ahead)
                FETCH(slots + home_of(keys[i + ahead < n ? i + ahead : n - 1], shift));
            const int32_t level = slots[slot_of(slots, mask, home_of(keys[i], shift), keys[i])].level;
            codes[i] = level - 1;
            missed += !level;
        }
    }
    return missed;
}

static int enter_missed(flm_key_table *table, flm_index n, const int64_t *keys, int32_t *codes)
{
    for (flm_index start = 0; start < n; start += ROOM_AT_ONCE) {
        const flm_index end = start + ROOM_AT_ONCE < n ? start + ROOM_AT_ONCE : n;
        if (make_room(table, end - start))
            return NO_MEMORY;
        for (flm_index i = start; i < end; i++) {
            if (codes[i] >= 0)
                continue;
            codes[i] = enter(table, home_of(keys[i], table->shift), keys[i]);
            if (codes[i] < 0)
                return TOO_MANY;
        }
    }
    return 0;
}

flm_index flm_key_codes(flm_key_table *table, flm_index n, const int64_t *keys, int n_threads, int32_t *codes)
{
    int mostly_new = table->n == 0, status = 0;
    flm_index piece = FIRST_PIECE;
    for (flm_index start = 0, m; start < n && !status; start += m) {
        const flm_index before = table->n;
        m = n - start < piece ? n - start : piece;
        if (n_threads < 2 || mostly_new || n <= SERIAL_ROWS)
            status = enter_all(table, m, keys + start, codes + start);
        else if (find_all(table, m, keys + start, n_threads, codes + start))
            status = enter_missed(table, m, keys + start, codes + start);
        mostly_new = 2 * (table->n - before) > m;
        piece = next_piece(piece, table->n - before);
    }
    return status ? status : table->n;
}
