#include "flm_resample.h"

#include "flm_lanes.h"

#include <string.h>

/* La[a, b] and E[a, c] of level i lie at record (a (a + 1) / 2 + b), and half + a u + c, of its pack. */
static flm_index half_of(int k) { return (flm_index)k * (k + 1) / 2; }

static flm_index place_of(int k, int u, flm_index i)
{
    return i / FLM_LANES * FLM_LANES * (half_of(k) + (flm_index)k * u) + i % FLM_LANES;
}

FLM_CLONES void flm_resample_draw(flm_index levels, int k, int u, const double *beta, const double *L,
                                  double s, const double *z, const double *xi, double *pack)
{
    const flm_index half = half_of(k);
    for (flm_index i = 0; i < levels; i++) {
        double *La = pack + place_of(k, u, i);
        double *E = La + half * FLM_LANES;
        const double *zi = z + i * k, *xii = xi + i * k;
        for (int a = 0; a < k; a++) {
            double *row = E + (flm_index)a * u * FLM_LANES;
            double sum = La[(a * (a + 1) / 2 + a) * FLM_LANES] > 0 ? s * xii[a] : 0;
            for (int c = 0; c < u - 1; c++)
                sum += row[c * FLM_LANES] * beta[c];
            for (int r = a; r < k; r++) { /* (La'b)_a, b = L z */
                double b = 0;
                for (int t = 0; t <= r; t++)
                    b += L[r * k + t] * zi[t];
                sum += La[(r * (r + 1) / 2 + a) * FLM_LANES] * b;
            }
            row[(flm_index)(u - 1) * FLM_LANES] = sum;
        }
    }
}

double flm_resample_products(flm_index levels, int k, int u, const double *pack, double *Zy, double *Xy)
{
    const flm_index half = half_of(k);
    double square = 0;
    memset(Xy, 0, (size_t)(u - 1) * sizeof(double));
    for (flm_index i = 0; i < levels; i++) {
        const double *La = pack + place_of(k, u, i);
        const double *E = La + half * FLM_LANES;
        double *out = Zy + i * k;
        for (int a = 0; a < k; a++)
            out[a] = 0;
        for (int a = 0; a < k; a++) {
            const double *row = E + (flm_index)a * u * FLM_LANES;
            const double y = row[(flm_index)(u - 1) * FLM_LANES];
            for (int r = a; r < k; r++)
                out[r] += La[(r * (r + 1) / 2 + a) * FLM_LANES] * y;
            for (int c = 0; c < u - 1; c++)
                Xy[c] += row[c * FLM_LANES] * y;
            square += y * y;
        }
    }
    return square;
}

flm_index flm_resample_rank(flm_index levels, int k, int u, const double *pack)
{
    flm_index rank = 0;
    for (flm_index i = 0; i < levels; i++)
        for (int a = 0; a < k; a++)
            rank += pack[place_of(k, u, i) + (flm_index)(a * (a + 1) / 2 + a) * FLM_LANES] > 0;
    return rank;
}
