/* Shared by every kernel: status codes, index types, function multiversioning.
 *
 * Kernels are pure C11.  The caller allocates unless a header says otherwise;
 * a kernel that can fail returns an `flm_status`, never a partial exception.
 */
#ifndef FLM_COMMON_H
#define FLM_COMMON_H

#include <stddef.h>
#include <stdint.h>

typedef int64_t flm_index; /* rows, offsets, anything that can pass 2^31 */
typedef int32_t flm_code;  /* level of a grouping factor, code of a table */

typedef enum {
    FLM_OK = 0,
    FLM_NO_MEMORY = 1,
    FLM_NOT_POSITIVE = 2, /* a pivot that is not positive */
    FLM_BAD_ARGUMENT = 3,
    FLM_INTERRUPTED = 4
} flm_status;

/* FLM_CLONES compiles a function for several instruction sets and picks one at
 * load time, so that one wheel serves every x86-64 machine.  It needs ifunc
 * (glibc) and is empty under sanitizers, whose start-up code runs too late for
 * resolvers. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FLM_SANITIZED 1
#endif
#endif

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__) && \
    !defined(FLM_SANITIZED) && !defined(FLM_DEBUG)
#define FLM_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FLM_CLONES
#endif

#if defined(__GNUC__) || defined(__clang__)
#define FLM_INLINE static inline __attribute__((always_inline))
#else
#define FLM_INLINE static inline
#endif

/* Ask for the cache line of a place that will be written. */
#if defined(__GNUC__) || defined(__clang__)
#define FLM_PREFETCH(place) __builtin_prefetch(place, 1)
#else
#define FLM_PREFETCH(place) ((void)(place))
#endif

/* Vectorise the next loop although it reassociates or may alias. */
#define FLM_PRAGMA(...) _Pragma(#__VA_ARGS__)
#if defined(_OPENMP)
#define FLM_SIMD FLM_PRAGMA(omp simd)
#define FLM_SIMD_SUM(...) FLM_PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#else
#define FLM_SIMD
#define FLM_SIMD_SUM(...)
#endif

#endif
