/* Keys to codes; see flm_encode.h. */
#include "flm_encode.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 4096
#define SERIAL_ROWS 65536 /* waking up threads takes longer than reading so few rows */

#if defined(__GNUC__) || defined(__clang__)
#define STORE_RELAXED(place, value) __atomic_store_n(place, value, __ATOMIC_RELAXED)
#define LOAD_RELAXED(place) __atomic_load_n(place, __ATOMIC_RELAXED)
#define MARK_THREADS n_threads
#else
#define STORE_RELAXED(place, value) (*(place) = (value))
#define LOAD_RELAXED(place) (*(place))
#define MARK_THREADS 1
#endif

/* ---- missing values ---------------------------------------------------- */

/* 1 if a value of the block has all exponent bits set. */
FLM_CLONES
static int block_nonfinite(flm_index n, const double *restrict x)
{
    const uint64_t exponent = 0x7ff0000000000000u;
    uint64_t found = 0;
    for (flm_index i = 0; i < n; i++) {
        uint64_t bits;
        memcpy(&bits, x + i, sizeof bits);
        /* the addition carries into the sign bit exactly when the exponent is full */
        found |= (bits & exponent) + 0x0010000000000000u;
    }
    return (int)(found >> 63);
}

static int is_nonfinite(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7ff0000000000000u) == 0x7ff0000000000000u;
}

flm_index flm_first_nonfinite(flm_index n, const double *x, int n_threads)
{
    const flm_index blocks = (n + BLOCK - 1) / BLOCK;
    flm_index first = blocks;
#if defined(_OPENMP)
#pragma omp parallel for schedule(static) num_threads(n_threads) reduction(min : first)           \
    if (n_threads > 1 && n > SERIAL_ROWS)
#endif
    for (flm_index b = 0; b < blocks; b++) {
        const flm_index start = b * BLOCK, length = n - start < BLOCK ? n - start : BLOCK;
        if (b < first && block_nonfinite(length, x + start))
            first = b;
    }
    for (flm_index i = first * BLOCK; i < n; i++)
        if (is_nonfinite(x[i]))
            return i;
    return n;
}

/* ---- levels that occur ------------------------------------------------- */

#define DEFINE_USED(SUFFIX, CODE)                                                                              \
    int flm_used_levels_##SUFFIX(flm_index n, const CODE *codes, flm_index n_levels, int n_threads,            \
                                 uint8_t *used)                                                                \
    {                                                                                                          \
        int outside = 0;                                                                                       \
        FLM_PARALLEL_ANY(MARK_THREADS)                                                                         \
        for (flm_index i = 0; i < n; i++) {                                                                    \
            if (codes[i] < 0 || codes[i] >= n_levels)                                                          \
                outside = 1;                                                                                   \
            else if (!LOAD_RELAXED(&used[codes[i]]))                                                           \
                STORE_RELAXED(&used[codes[i]], 1);                                                             \
        }                                                                                                      \
        return outside;                                                                                        \
    }

/* ---- dense integer keys ------------------------------------------------ */

/* 32 slots of the key range: how many present slots lie below them, and which of them are present.
 * A quarter of a byte per slot keeps the table of 100 000 keys in the first-level cache. */
typedef struct {
    int32_t below;
    uint32_t present;
} rank_word;

FLM_INLINE int32_t popcount(uint32_t bits)
{
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_popcount(bits);
#else
    bits -= (bits >> 1) & 0x55555555u;
    bits = (bits & 0x33333333u) + ((bits >> 2) & 0x33333333u);
    return (int32_t)((((bits + (bits >> 4)) & 0x0f0f0f0fu) * 0x01010101u) >> 24);
#endif
}

/* Packs the marks of 32 n_words slots, lists the keys that occur, returns their number. */
static flm_index count_ranks(flm_index n_words, const uint8_t *present, int64_t smallest, rank_word *words,
                             int64_t *uniques)
{
    flm_index n_levels = 0;
    for (flm_index w = 0; w < n_words; w++) {
        words[w].below = (int32_t)n_levels;
        uint32_t bits = 0;
        for (int slot = 0; slot < 32; slot++) {
            if (present[32 * w + slot]) {
                bits |= 1u << slot;
                uniques[n_levels++] = smallest + 32 * w + slot;
            }
        }
        words[w].present = bits;
    }
    return n_levels;
}

/* codes = keys - base, whatever its size; the range of the keys tells whether they fit */
#define DEFINE_SHIFTED(SUFFIX, KEY)                                                                            \
    FLM_CLONES static void block_shifted_##SUFFIX(flm_index n, const KEY *restrict keys, int64_t base,         \
                                                  int32_t *restrict codes, KEY *low, KEY *high)                \
    {                                                                                                          \
        KEY smallest = keys[0], largest = keys[0];                                                             \
        for (flm_index i = 0; i < n; i++) {                                                                    \
            smallest = keys[i] < smallest ? keys[i] : smallest;                                                \
            largest = keys[i] > largest ? keys[i] : largest;                                                   \
            codes[i] = (int32_t)(uint32_t)((uint64_t)keys[i] - (uint64_t)base);                                \
        }                                                                                                      \
        *low = smallest;                                                                                       \
        *high = largest;                                                                                       \
    }                                                                                                          \
                                                                                                               \
    void flm_shifted_codes_##SUFFIX(flm_index n, const KEY *keys, int64_t base, int n_threads, int32_t *codes, \
                                    int64_t *smallest, int64_t *largest)                                       \
    {                                                                                                          \
        const flm_index blocks = (n + BLOCK - 1) / BLOCK;                                                      \
        int64_t low = keys[0], high = keys[0];                                                                 \
        FLM_PARALLEL_RANGE                                                                                     \
        for (flm_index b = 0; b < blocks; b++) {                                                               \
            const flm_index start = b * BLOCK, length = n - start < BLOCK ? n - start : BLOCK;                 \
            KEY a, z;                                                                                          \
            block_shifted_##SUFFIX(length, keys + start, base, codes + start, &a, &z);                         \
            low = a < low ? a : low;                                                                           \
            high = z > high ? z : high;                                                                        \
        }                                                                                                      \
        *smallest = low;                                                                                       \
        *largest = high;                                                                                       \
    }

/* mark: present[key - smallest] = 1;  code = number of present slots below key - smallest */
#define DEFINE_DENSE(SUFFIX, KEY)                                                                              \
    FLM_CLONES static void block_range_##SUFFIX(flm_index n, const KEY *restrict keys, KEY *low, KEY *high)    \
    {                                                                                                          \
        KEY smallest = *low, largest = *high;                                                                  \
        for (flm_index i = 0; i < n; i++) {                                                                    \
            smallest = keys[i] < smallest ? keys[i] : smallest;                                                \
            largest = keys[i] > largest ? keys[i] : largest;                                                   \
        }                                                                                                      \
        *low = smallest;                                                                                       \
        *high = largest;                                                                                       \
    }                                                                                                          \
                                                                                                               \
    void flm_range_##SUFFIX(flm_index n, const KEY *keys, int n_threads, int64_t *smallest, int64_t *largest)  \
    {                                                                                                          \
        const flm_index blocks = (n + BLOCK - 1) / BLOCK;                                                      \
        int64_t low = keys[0], high = keys[0];                                                                 \
        FLM_PARALLEL_RANGE                                                                                     \
        for (flm_index b = 0; b < blocks; b++) {                                                               \
            const flm_index start = b * BLOCK, length = n - start < BLOCK ? n - start : BLOCK;                 \
            KEY a = keys[start], z = keys[start];                                                              \
            block_range_##SUFFIX(length, keys + start, &a, &z);                                                \
            low = a < low ? a : low;                                                                           \
            high = z > high ? z : high;                                                                        \
        }                                                                                                      \
        *smallest = low;                                                                                       \
        *largest = high;                                                                                       \
    }                                                                                                          \
                                                                                                               \
    FLM_CLONES static void block_ranks_##SUFFIX(flm_index n, const KEY *restrict keys, int64_t smallest,       \
                                                const rank_word *restrict words, int32_t *restrict codes)      \
    {                                                                                                          \
        for (flm_index i = 0; i < n; i++) {                                                                    \
            const uint64_t slot = (uint64_t)((int64_t)keys[i] - smallest);                                     \
            const rank_word word = words[slot >> 5];                                                           \
            codes[i] = word.below + popcount(word.present & ((1u << (slot & 31)) - 1u));                       \
        }                                                                                                      \
    }                                                                                                          \
                                                                                                               \
    flm_index flm_dense_codes_##SUFFIX(flm_index n, const KEY *keys, int64_t smallest, flm_index range,        \
                                       int n_threads, int32_t *codes, int64_t *uniques)                        \
    {                                                                                                          \
        const flm_index n_words = (range + 31) / 32, blocks = (n + BLOCK - 1) / BLOCK;                         \
        uint8_t *present = calloc((size_t)n_words, 32);                                                        \
        rank_word *words = malloc((size_t)n_words * sizeof *words);                                            \
        flm_index n_levels = -1;                                                                               \
        if (present && words) {                                                                                \
            FLM_PARALLEL_ROWS(MARK_THREADS)                                                                    \
            for (flm_index i = 0; i < n; i++)                                                                  \
                STORE_RELAXED(&present[(int64_t)keys[i] - smallest], 1);                                       \
            n_levels = count_ranks(n_words, present, smallest, words, uniques);                                \
            FLM_PARALLEL_ROWS(n_threads)                                                                       \
            for (flm_index b = 0; b < blocks; b++) {                                                           \
                const flm_index start = b * BLOCK, length = n - start < BLOCK ? n - start : BLOCK;             \
                block_ranks_##SUFFIX(length, keys + start, smallest, words, codes + start);                    \
            }                                                                                                  \
        }                                                                                                      \
        free(present);                                                                                         \
        free(words);                                                                                           \
        return n_levels;                                                                                       \
    }

#if defined(_OPENMP)
#define FLM_PARALLEL_RANGE                                                                                     \
    FLM_PRAGMA(omp parallel for schedule(static) num_threads(n_threads) reduction(min : low)                   \
                   reduction(max : high) if (n_threads > 1 && n > SERIAL_ROWS))
#define FLM_PARALLEL_ROWS(THREADS)                                                                             \
    FLM_PRAGMA(omp parallel for schedule(static) num_threads(THREADS) if (THREADS > 1 && n > SERIAL_ROWS))
#define FLM_PARALLEL_ANY(THREADS)                                                                              \
    FLM_PRAGMA(omp parallel for schedule(static) num_threads(THREADS) reduction(| : outside)                   \
                   if (THREADS > 1 && n > SERIAL_ROWS))
#else
#define FLM_PARALLEL_RANGE
#define FLM_PARALLEL_ROWS(THREADS)
#define FLM_PARALLEL_ANY(THREADS)
#endif

DEFINE_USED(i8, int8_t)
DEFINE_USED(i16, int16_t)
DEFINE_USED(i32, int32_t)

DEFINE_SHIFTED(i64, int64_t)
DEFINE_SHIFTED(i32, int32_t)

DEFINE_DENSE(i64, int64_t)
DEFINE_DENSE(i32, int32_t)

void flm_relabel(flm_index n, const int32_t *rank, int n_threads, int32_t *codes)
{
    FLM_PARALLEL_ROWS(n_threads)
    for (flm_index i = 0; i < n; i++)
        codes[i] = rank[codes[i] + 1];
}
