"""The conditional likelihood and its degrees of freedom, from the statistics alone.

With rows times the root of their weight, residuals are ``e = y - X beta - Z b = P y``,
``P = V0^-1 - V0^-1 X Q X'V0^-1``, and ``P V0 P = P`` takes every product of two P back to the engine's sums:

    e'e = r2 - sum_f sum_i g_i'T_f g_i,                    g = Z'P y
    n - tr(P) = sum_f tr(T_f F_f) + p - tr(Q H),           H = sum_f sum_i G_i'T_f G_i

(the effective degrees of freedom of Vaida & Blanchard 2005, doi:10.1093/biomet/92.2.351, are ``n - tr(P)``).
How the fitted values move with theta (Greven & Kneib 2010, doi:10.1093/biomet/asq042) is a combination of
the columns of ``[Z X]``, so that its inner products are sums of cross-products, too.
"""

import numpy as np

from fastlmm_core.criterion.information import quadratic_forms
from fastlmm_core.crossprod.statistics import CrossProducts


def is_exact(solved) -> bool:
    """Whether the engine's sums are exact; those by probes are estimates."""
    return not getattr(solved.objective.engine, "stochastic", False)


def _with_moments(solved):
    """The optimum with its F and GG."""
    with solved._lock:
        solved.objective.gradient(solved.point)
    return solved.point


def weighted_squares(solved) -> float:
    """``e'W e`` over ``sigma^2``, e the conditional residuals of a `SolvedModel`."""
    point = _with_moments(solved)
    directions = [(f, Lambda @ Lambda.T) for f, Lambda in enumerate(point.Lambda)]
    return (point.r2 - float(quadratic_forms(point, directions).sum())) / point.s2


def leverage_sum(solved) -> float:
    """``tr(d fitted / d y)`` at fixed theta, ``n - tr(P)``."""
    point = _with_moments(solved)
    p, total = len(point.beta), float(len(point.beta))
    for F, GG, Lambda in zip(point.F, point.GG, point.Lambda, strict=True):
        T = Lambda @ Lambda.T
        H = np.einsum("ab,abuv->uv", T, GG[:, :, :p, :p])
        total += float((T * F).sum() - (point.Q * H).sum())
    return total


def moves_with_theta(solved, levels) -> tuple[np.ndarray, np.ndarray]:
    """Inner products of ``psi_j = W^-1 P w_j``, how fitted values move with theta.

    ``w_j = Z c_j``, ``c_j = (dT/dtheta_j) Z'P y``; ``psi_j = Z (c_j - K Z'W w_j + T G gamma_j) - X gamma_j``,
    ``gamma_j = Q d'W w_j``, ``d = x - (T G)'z``.

    Parameters
    ----------
    solved : SolvedModel
    levels : LevelCovariance, K and T G at the optimum.

    Returns
    -------
    ``psi'W psi`` (m, m) and ``psi'W e`` (m,), in standardized coordinates of y.
    """
    cp, Q = solved.products, solved.point.Q
    x = cp.x[solved.fixed.kept]
    directions = solved.theta_map.directions(solved.estimates.theta)
    g = _residual_sums(solved, x)
    c = [np.zeros((*gf.shape, len(directions))) for gf in g]
    for j, (f, X) in enumerate(directions):
        c[f][:, :, j] = g[f] @ X
    rhs = times_ZWZ(cp, c)
    b = levels.apply(rhs)
    dw = _times_XWZ(cp, x, c)
    for TG, r in zip(levels.TG, rhs, strict=True):
        dw -= np.einsum("iax,iam->xm", TG, r)
    gamma = Q @ dw
    move = [cf - bf + TG @ gamma for cf, bf, TG in zip(c, b, levels.TG, strict=True)]
    cross = gamma.T @ _times_XWZ(cp, x, move)
    gram = gamma.T @ cp.C[np.ix_(x, x)] @ gamma - cross - cross.T
    for mf, sums in zip(move, times_ZWZ(cp, move), strict=True):
        gram += np.einsum("iam,ian->mn", mf, sums, optimize=True)
    # X'W e = 0
    along = np.sum([np.einsum("iam,ia->m", mf, gf) for mf, gf in zip(move, g, strict=True)], axis=0)
    return gram, along


def _residual_sums(solved, x) -> list[np.ndarray]:
    """``g = Z'W (y - X beta - Z b) = Z'P y`` per factor (levels, k)."""
    cp, point = solved.products, solved.point
    with solved._lock:
        solved.objective.at(point)
        b = solved.objective.engine.random_effects(point.v)
    taken = times_ZWZ(cp, [bf[:, :, None] for bf in b])
    return [R[:, :, cp.y] - R[:, :, x] @ point.beta - t[:, :, 0] for R, t in zip(cp.R, taken, strict=True)]


def _times_XWZ(products: CrossProducts, x, c) -> np.ndarray:
    """``X'W Z c`` (r, m) for c per factor (levels, k, m)."""
    parts = [np.einsum("iax,iam->xm", R[:, :, x], cf) for R, cf in zip(products.R, c, strict=True)]
    return np.sum(parts, axis=0)


def times_ZWZ(products: CrossProducts, c) -> list[np.ndarray]:
    """``Z'W Z c`` per factor for c per factor (levels, k, m)."""
    cp = products
    out = [R[:, :, z] @ cf for R, z, cf in zip(cp.R, cp.z, c, strict=True)]
    if cp.structure == "tree":
        for d, inner in enumerate(cp.order):
            above = np.arange(cp.levels[inner])
            for step in range(d, len(cp.order) - 1):
                # an inner level's rows all lie in one level of each outer factor
                above, outer = cp.parent[step][above], cp.order[step + 1]
                blocks = cp.R[inner][:, :, cp.z[outer]]
                out[inner] += blocks @ c[outer][above]
                np.add.at(out[outer], above, blocks.transpose(0, 2, 1) @ c[inner])
    for (f, h), pair in cp.pairs.items():
        rows = np.repeat(np.arange(cp.levels[f]), np.diff(pair.indptr))
        np.add.at(out[f], rows, pair.blocks @ c[h][pair.indices])
        np.add.at(out[h], pair.indices, pair.blocks.transpose(0, 2, 1) @ c[f][rows])
    return out
