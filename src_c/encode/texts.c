/* Texts to codes; see flm_texts.h. */
#define _DEFAULT_SOURCE
#include "flm_texts.h"

#include "slots.h"

#define BLOCK 64           /* texts that are hashed before the first is looked up */
#define BLOCKS_AT_ONCE 256 /* that a thread looks up */
#define HASHED 0xffu       /* upper byte of `rest` in the slot of a long text */
#define BAD_OFFSET (-3)
#define UNKNOWN (-2)

#define SECRET_WORD 0xf8d1a4fb96e3c25fu /* no valid UTF-8 has the bytes f8 to ff */
#define SECRET_REST 0xbf58476d1ce4e5b9u
#define SECRET_TAIL 0x94d049bb133111ebu

/* What tells texts apart.  Short: 8 bytes, the next 3, the length.  Of 12 bytes: all of them, where the last
 * is neither a length nor HASHED.  Long: a hash, 24 bits of the length, HASHED. */
typedef struct {
    uint64_t word;
    uint32_t rest;
} text_key;

typedef struct {
    uint64_t word;
    uint32_t rest;
    int32_t level; /* level number + 1, 0 for an empty slot */
} text_slot;

struct flm_text_table {
    uint64_t size; /* slots, a power of two */
    int shift;
    flm_index first, n, room; /* code of the first level; levels, and for how many `offsets` has room */
    flm_index bytes_room;
    text_slot *slots;
    int64_t *offsets; /* (room + 1) */
    uint8_t *bytes;
};

flm_text_table *flm_text_table_new(flm_index first)
{
    flm_text_table *table = malloc(sizeof *table);
    if (!table)
        return NULL;
    *table = (flm_text_table){.size = FIRST_SLOTS, .shift = table_shift(FIRST_SLOTS), .first = first};
    table->slots = zeroed(FIRST_SLOTS, sizeof *table->slots);
    table->offsets = calloc(1, sizeof *table->offsets);
    if (!table->slots || !table->offsets) {
        flm_text_table_free(table);
        return NULL;
    }
    return table;
}

void flm_text_table_free(flm_text_table *table)
{
    if (!table)
        return;
    free(table->slots);
    free(table->offsets);
    free(table->bytes);
    free(table);
}

flm_index flm_text_table_levels(const flm_text_table *table)
{
    return table->n;
}

const int64_t *flm_text_table_offsets(const flm_text_table *table)
{
    return table->offsets;
}

const uint8_t *flm_text_table_bytes(const flm_text_table *table)
{
    return table->bytes;
}

/* ---- hashing ------------------------------------------------------------ */

/* Eight bytes, the first the lowest. */
FLM_INLINE uint64_t load8(const uint8_t *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Up to eight bytes, zeros behind them; `left` bytes can be read. */
FLM_INLINE uint64_t load_some(const uint8_t *from, flm_index length, flm_index left)
{
    if (left >= 8)
        return length ? load8(from) & (~(uint64_t)0 >> (64 - 8 * length)) : 0;
    uint64_t word = 0;
    for (flm_index i = 0; i < length; i++)
        word |= (uint64_t)from[i] << (8 * i);
    return word;
}

static uint64_t hash_of(const uint8_t *text, flm_index length)
{
    uint64_t hash = (uint64_t)length ^ SECRET_TAIL;
    for (flm_index at = 0; at + 16 < length; at += 16)
        hash = fold(load8(text + at) ^ SECRET_WORD, load8(text + at + 8) ^ hash);
    const uint8_t *last = text + (length < 16 ? 0 : length - 16);
    return fold(load8(last) ^ SECRET_REST, load8(text + length - 8) ^ hash);
}

/* The key of a text behind which, itself included, `left` bytes can be read. */
FLM_INLINE text_key key_of(const uint8_t *text, flm_index length, flm_index left)
{
    if (length <= 8)
        return (text_key){load_some(text, length, left), (uint32_t)length << 24};
    if (length < 12) {
        const uint32_t next = (uint32_t)(load8(text + length - 8) >> (8 * (16 - length)));
        return (text_key){load8(text), next | (uint32_t)length << 24};
    }
    if (length == 12 && text[11] > 12 && text[11] != HASHED)
        return (text_key){load8(text), (uint32_t)(load8(text + 4) >> 32)};
    return (text_key){hash_of(text, length), ((uint32_t)length & 0xffffffu) | (HASHED << 24)};
}

FLM_INLINE uint64_t home_of(text_key key, int shift)
{
    return fold(key.word ^ SECRET_WORD, key.rest ^ SECRET_REST) >> shift;
}

FLM_INLINE int is_long(text_key key)
{
    return key.rest >> 24 == HASHED;
}

/* ---- the table ---------------------------------------------------------- */

FLM_INLINE int same_bytes(const flm_text_table *table, int32_t level, const uint8_t *text, flm_index length)
{
    const int64_t *offsets = table->offsets + (level - 1 - table->first);
    return offsets[1] - offsets[0] == length && !memcmp(table->bytes + offsets[0], text, (size_t)length);
}

/* The slot of a text, or the empty one where it belongs. */
FLM_INLINE text_slot *slot_of(const flm_text_table *table, uint64_t at, text_key key, const uint8_t *text,
                              flm_index length)
{
    const uint64_t mask = table->size - 1;
    for (text_slot *slot = table->slots + at;; slot = table->slots + at) {
        if (slot->word == key.word && slot->rest == key.rest && slot->level
            && (!is_long(key) || same_bytes(table, slot->level, text, length)))
            return slot;
        if (!slot->level)
            return slot;
        at = (at + 1) & mask;
    }
}

static int widen_slots(flm_text_table *table, uint64_t size)
{
    text_slot *wider = zeroed(size, sizeof *wider);
    if (!wider)
        return NO_MEMORY;
    const int shift = table_shift(size);
    for (uint64_t i = 0; i < table->size; i++) {
        const text_slot slot = table->slots[i];
        if (!slot.level)
            continue;
        uint64_t at = home_of((text_key){slot.word, slot.rest}, shift);
        while (wider[at].level)
            at = (at + 1) & (size - 1);
        wider[at] = slot;
    }
    free(table->slots);
    table->slots = wider;
    table->size = size;
    table->shift = shift;
    return 0;
}

/* Room for so many more levels. */
static int make_room(flm_text_table *table, flm_index more)
{
    const flm_index levels = table->n + more;
    const uint64_t size = table_size(table->size, levels);
    if (size > table->size && widen_slots(table, size))
        return NO_MEMORY;
    if (levels > table->room) {
        const flm_index room = 2 * levels;
        int64_t *offsets = moved(table->offsets, (size_t)(table->n + 1) * sizeof *offsets,
                                 (size_t)(room + 1) * sizeof *offsets);
        if (!offsets)
            return NO_MEMORY;
        table->offsets = offsets;
        table->room = room;
    }
    return 0;
}

static int append(flm_text_table *table, const uint8_t *text, flm_index length)
{
    const flm_index end = table->offsets[table->n];
    if (length > table->bytes_room - end) {
        const flm_index room = 2 * (end + length) + 4096;
        uint8_t *bytes = moved(table->bytes, (size_t)end, (size_t)room);
        if (!bytes)
            return NO_MEMORY;
        table->bytes = bytes;
        table->bytes_room = room;
    }
    if (length)
        memcpy(table->bytes + end, text, (size_t)length);
    table->offsets[table->n + 1] = end + length;
    return 0;
}

/* The code of a text that may be new: it gets the next one; a status below 0 when it cannot. */
FLM_INLINE int enter(flm_text_table *table, uint64_t home, text_key key, const uint8_t *text, flm_index length)
{
    text_slot *slot = slot_of(table, home, key, text, length);
    if (!slot->level) {
        if (table->first + table->n == MOST_LEVELS)
            return TOO_MANY;
        if (append(table, text, length))
            return NO_MEMORY;
        *slot = (text_slot){key.word, key.rest, (int32_t)(table->first + ++table->n)};
    }
    return slot->level - 1;
}

/* ---- columns of texts ---------------------------------------------------- */

FLM_INLINE flm_index offset(const flm_texts *texts, flm_index i)
{
    return texts->wide ? ((const int64_t *)texts->offsets)[i] : ((const int32_t *)texts->offsets)[i];
}

FLM_INLINE int is_missing(const flm_texts *texts, flm_index i)
{
    const flm_index bit = texts->first_bit + i;
    return texts->valid && !(texts->valid[bit >> 3] >> (bit & 7) & 1);
}

static int offsets_lie_inside(const flm_texts *texts)
{
    flm_index wrong = 0;
    for (flm_index i = 0; i < texts->n; i++)
        wrong |= offset(texts, i + 1) < offset(texts, i);
    return !wrong && offset(texts, 0) >= 0 && offset(texts, texts->n) <= texts->size;
}

/* Keys of up to BLOCK texts; slots are fetched, and what a long text will be compared with. */
FLM_INLINE void prepare(const flm_text_table *table, const flm_texts *texts, flm_index start, int m,
                        text_key *keys, uint64_t *homes)
{
    const int fetched = table->size > PREFETCHED_SLOTS;
    int any_long = 0;
    for (int j = 0; j < m; j++) {
        const flm_index at = offset(texts, start + j), length = offset(texts, start + j + 1) - at;
        keys[j] = key_of(texts->bytes + at, length, texts->size - at);
        homes[j] = home_of(keys[j], table->shift);
        any_long |= is_long(keys[j]);
        if (fetched)
            FETCH(table->slots + homes[j]);
    }
    if (!fetched || !any_long)
        return;
    const int64_t *known[BLOCK];
    int n_known = 0;
    for (int j = 0; j < m; j++) {
        const text_slot *slot = table->slots + homes[j];
        if (is_long(keys[j]) && slot->level && slot->word == keys[j].word) {
            known[n_known] = table->offsets + (slot->level - 1 - table->first);
            FETCH(known[n_known++]);
        }
    }
    for (int j = 0; j < n_known; j++) {
        FETCH(table->bytes + known[j][0]);
        FETCH(table->bytes + known[j][1] - 1);
    }
}

FLM_INLINE int enter_block(flm_text_table *table, const flm_texts *texts, flm_index start, int m, int32_t *codes)
{
    text_key keys[BLOCK];
    uint64_t homes[BLOCK];
    int least = 0;
    prepare(table, texts, start, m, keys, homes);
    for (int j = 0; j < m; j++) {
        const flm_index at = offset(texts, start + j), length = offset(texts, start + j + 1) - at;
        if (is_missing(texts, start + j)) {
            codes[j] = -1;
            continue;
        }
        codes[j] = enter(table, homes[j], keys[j], texts->bytes + at, length);
        least = codes[j] < least ? codes[j] : least;
    }
    return least;
}

/* Codes of texts start .. start + n - 1. */
static int enter_all(flm_text_table *table, const flm_texts *texts, flm_index start, flm_index n, int32_t *codes)
{
    for (flm_index at = 0; at < n; at += BLOCK) {
        const int m = (int)(n - at < BLOCK ? n - at : BLOCK);
        if (at % ROOM_AT_ONCE == 0 && make_room(table, ROOM_AT_ONCE))
            return NO_MEMORY;
        const int status = enter_block(table, texts, start + at, m, codes + at);
        if (status < 0)
            return status;
    }
    return 0;
}

/* Codes of the texts that are in the table, UNKNOWN for others; returns how many these are. */
static flm_index find_all(const flm_text_table *table, const flm_texts *texts, flm_index start, flm_index n,
                          int n_threads, int32_t *codes)
{
    const flm_index blocks = (n + BLOCK - 1) / BLOCK;
    flm_index missed = 0;
#if defined(_OPENMP)
#pragma omp parallel for schedule(dynamic, BLOCKS_AT_ONCE) num_threads(n_threads) reduction(+ : missed)
#endif
    for (flm_index b = 0; b < blocks; b++) {
        const flm_index at = b * BLOCK;
        const int m = (int)(n - at < BLOCK ? n - at : BLOCK);
        text_key keys[BLOCK];
        uint64_t homes[BLOCK];
        prepare(table, texts, start + at, m, keys, homes);
        for (int j = 0; j < m; j++) {
            const flm_index i = start + at + j, from = offset(texts, i), length = offset(texts, i + 1) - from;
            if (is_missing(texts, i)) {
                codes[at + j] = -1;
                continue;
            }
            const int32_t level = slot_of(table, homes[j], keys[j], texts->bytes + from, length)->level;
            codes[at + j] = level ? level - 1 : UNKNOWN;
            missed += !level;
        }
    }
    return missed;
}

static int enter_missed(flm_text_table *table, const flm_texts *texts, flm_index start, flm_index n,
                        int32_t *codes)
{
    for (flm_index i = 0; i < n; i++) {
        if (i % ROOM_AT_ONCE == 0 && make_room(table, ROOM_AT_ONCE))
            return NO_MEMORY;
        if (codes[i] != UNKNOWN)
            continue;
        const flm_index at = offset(texts, start + i), length = offset(texts, start + i + 1) - at;
        const text_key key = key_of(texts->bytes + at, length, texts->size - at);
        codes[i] = enter(table, home_of(key, table->shift), key, texts->bytes + at, length);
        if (codes[i] < 0)
            return codes[i];
    }
    return 0;
}

flm_index flm_text_codes(flm_text_table *table, const flm_texts *texts, int n_threads, int32_t *codes)
{
    int mostly_new = table->n == 0, status = 0;
    if (!offsets_lie_inside(texts))
        return BAD_OFFSET;
    flm_index piece = FIRST_PIECE;
    for (flm_index start = 0, m; start < texts->n && !status; start += m) {
        const flm_index before = table->n;
        m = texts->n - start < piece ? texts->n - start : piece;
        if (n_threads < 2 || mostly_new || texts->n <= SERIAL_ROWS)
            status = enter_all(table, texts, start, m, codes + start);
        else if (find_all(table, texts, start, m, n_threads, codes + start))
            status = enter_missed(table, texts, start, m, codes + start);
        mostly_new = 2 * (table->n - before) > m;
        piece = next_piece(piece, table->n - before);
    }
    return status ? status : table->n;
}
