/* Eight doubles worked on at once, one level of a grouping factor per lane.
 *
 * GCC and Clang lower the vector type to whatever the target offers, so results
 * do not depend on the instruction set.  Arrays of `flm_lanes` are 64-byte
 * aligned.
 */
#ifndef FLM_LANES_H
#define FLM_LANES_H

#include "flm_common.h"

#define FLM_LANES 8
#define FLM_ALIGN 64

typedef double flm_lanes __attribute__((vector_size(FLM_ALIGN)));
typedef int64_t flm_bits __attribute__((vector_size(FLM_ALIGN)));
typedef uint64_t flm_words __attribute__((vector_size(FLM_ALIGN)));

/* The product of positive numbers as mantissa in [1, 2) and exponent: no
 * overflow and no logarithm per factor. */
typedef struct {
    flm_lanes mantissa;
    flm_bits exponent;
    flm_words bad; /* its highest bit: the lane met a factor that is not positive or not finite */
} flm_product;

FLM_INLINE void flm_product_start(flm_product *product)
{
    product->mantissa = (flm_lanes){1, 1, 1, 1, 1, 1, 1, 1};
    product->exponent = (flm_bits){0};
    product->bad = (flm_words){0};
}

FLM_INLINE void flm_product_times(flm_product *product, const flm_lanes *factor)
{
    const uint64_t largest = 0x7E37E43C8800759C; /* 1e300 */
    const flm_words word = (flm_words)*factor;
    flm_lanes value = product->mantissa * *factor;
    flm_bits bits = (flm_bits)value;
    /* Positive doubles are in the order of their bits, NaN last: no comparison, which GCC 12 takes apart. */
    product->bad |= word | (word - 1) | (largest - word);
    product->exponent += (bits >> 52) - 1023;
    bits = (bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000;
    product->mantissa = (flm_lanes)bits;
}

#endif
