/* The reduction of eight levels to La and E (see flm_tree.h), side by side: once into a pack, or again in
 * every sweep. */
#ifndef TREE_REDUCE_H
#define TREE_REDUCE_H

#include "flm_lanes.h"
#include "flm_tree.h"

#include <math.h>
#include <string.h>

/* index of (i, j), j <= i, in a row-major lower triangle */
#define LOWER(i, j) ((i) * ((i) + 1) / 2 + (j))

/* A pivot this small against its diagonal is rounding: the column of Z_i is a
 * combination of the others within the level. */
#define PIVOT_TOLERANCE 2e-15
#define NOT_A_GRAM_MATRIX (-1e-6)

/* One number of eight levels that lie `stride` apart. */
FLM_INLINE void gather(const double *x, flm_index stride, flm_lanes *out)
{
    *out = (flm_lanes){x[0],          x[stride],     x[2 * stride], x[3 * stride],
                       x[4 * stride], x[5 * stride], x[6 * stride], x[7 * stride]};
}

/* All bits set in the lanes where a < b, none in the others.  By the sign of the difference, which + 0.0
 * keeps from being -0: GCC 12 takes comparisons of vectors apart. */
FLM_INLINE void below(const flm_lanes *a, const flm_lanes *b, flm_bits *out)
{
    *out = (flm_bits)(*a - *b + 0.0) >> 63;
}

/* 1 / sqrt(pivot) in the lanes of `good`, 0 in the others. */
FLM_INLINE void inverse_root(const flm_lanes *pivot, const flm_bits *good, flm_lanes *out)
{
    const flm_lanes one = {1, 1, 1, 1, 1, 1, 1, 1};
    const flm_lanes safe = (flm_lanes)(((flm_bits)*pivot & *good) | ((flm_bits)one & ~*good));
    flm_lanes root = {0};
    for (int l = 0; l < FLM_LANES; l++)
        root[l] = sqrt(safe[l]);
    *out = (flm_lanes)((flm_bits)(1.0 / root) & *good);
}

/* La (lower k) and E (k x u) of the eight levels from R on; lanes that are not finite, or no Gram matrix. */
FLM_INLINE void reduce_pack(const int k, const flm_levels *self, const double *R, flm_lanes *La, flm_bits *infinite,
                            flm_bits *negative)
{
    const int u = self->u;
    const flm_index ld = self->ld, stride = k * ld;
    flm_lanes *E = La + LOWER(k, 0), finite = {0};
    for (int a = 0; a < k; a++) {
        for (int b = 0; b <= a; b++) {
            gather(R + a * ld + self->z[b], stride, La + LOWER(a, b));
            finite += 0 * La[LOWER(a, b)];
        }
        for (int c = 0; c < u; c++) {
            gather(R + a * ld + self->xy[c], stride, E + (flm_index)a * u + c);
            finite += 0 * E[(flm_index)a * u + c];
        }
    }
    *infinite = (flm_bits)finite; /* +0 or NaN */
    *negative = (flm_bits){0};
    for (int j = 0; j < k; j++) {
        const flm_lanes diagonal = La[LOWER(j, j)];
        flm_lanes pivot = diagonal, inverse;
        for (int c = 0; c < j; c++)
            pivot -= La[LOWER(j, c)] * La[LOWER(j, c)];
        const flm_lanes negligible = PIVOT_TOLERANCE * diagonal, least = NOT_A_GRAM_MATRIX * diagonal;
        flm_bits good, wrong; /* also where the diagonal is negative */
        below(&negligible, &pivot, &good);
        below(&pivot, &least, &wrong);
        *negative |= wrong;
        inverse_root(&pivot, &good, &inverse);
        for (int i = j; i < k; i++) { /* La[:, j] */
            flm_lanes sum = La[LOWER(i, j)];
            for (int c = 0; c < j; c++)
                sum -= La[LOWER(i, c)] * La[LOWER(j, c)];
            La[LOWER(i, j)] = sum * inverse;
        }
        for (int c = 0; c < u; c++) { /* E[j] = (B[j] - La[j, :j] E[:j]) / La[j, j] */
            flm_lanes sum = E[(flm_index)j * u + c];
            for (int b = 0; b < j; b++)
                sum -= La[LOWER(j, b)] * E[(flm_index)b * u + c];
            E[(flm_index)j * u + c] = sum * inverse;
        }
    }
}

/* The eight levels from `first` on, as reduce_pack reads them; the last ones may need `tail` (8 k ld doubles), where
 * levels that do not exist are zeros. */
FLM_INLINE const double *pack_of_levels(const flm_levels *self, flm_index first, double *tail)
{
    const flm_index record = self->k * self->ld, left = self->levels - first;
    const double *R = self->R + first * record;
    if (left >= FLM_LANES)
        return R;
    memset(tail, 0, (size_t)(FLM_LANES * record) * sizeof(double));
    return memcpy(tail, R, (size_t)(left * record) * sizeof(double));
}

#endif
