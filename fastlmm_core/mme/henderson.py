"""Henderson's mixed-model equations, written out densely: for reading and checking.

Nothing here is used to fit.  With y = X beta + Z b + e, Var(b) = sigma^2 G and
Var(e) = sigma^2 W^-1, Henderson (1975, doi:10.2307/2529430, eq. 4) solves

    [X'WX   X'WZ       ] [beta]   [X'Wy]
    [Z'WX   Z'WZ + G^-1] [ b  ] = [Z'Wy]                       (inverse form)

The inverse of this coefficient matrix holds Var(beta-hat) and the prediction error
variance Var(b-hat - b), over sigma^2.  A singular G has no inverse; with
b = G alpha, multiplying the second row by G (Harville 1976), it is

    [X'WX    X'WZG      ] [beta ]   [X'Wy ]
    [GZ'WX   GZ'WZG + G ] [alpha] = [GZ'Wy]                    (G form)

The engines use neither.  With G = Lambda Lambda' and b = Lambda u, the congruence
by diag(I, Lambda) turns the inverse form into

    [X'WX          X'WZ Lambda            ]
    [Lambda'Z'WX   Lambda'Z'WZ Lambda + I ]                    (Lambda-scaled)

which is positive definite for every Lambda, zero included (Bates, Maechler, Bolker
& Walker 2015, eq. 18).  The letter u there is not Henderson's u, which is b here.
"""

import numpy as np


def coefficient_matrix(X, Z, G, weights, *, form="inverse"):
    """Henderson's coefficient matrix, (p + q) square.

    ``X`` (n, p), ``Z`` (n, q), ``G`` (q, q) relative to sigma^2, ``weights`` (n,);
    ``form`` is "inverse" (needs a regular G) or "G" (any G).
    """
    XWX, XWZ, ZWZ = _cross_products(X, Z, weights)
    if form == "inverse":
        return np.block([[XWX, XWZ], [XWZ.T, ZWZ + np.linalg.inv(G)]])
    return np.block([[XWX, XWZ @ G], [G @ XWZ.T, G @ ZWZ @ G + G]])


def scaled_matrix(X, Z, Lambda, weights):
    """The Lambda-scaled coefficient matrix: ``P' C P`` of the inverse form, ``P = diag(I, Lambda)``."""
    XWX, XWZ, ZWZ = _cross_products(X, Z, weights)
    identity = np.eye(Z.shape[1])
    return np.block([[XWX, XWZ @ Lambda], [Lambda.T @ XWZ.T, Lambda.T @ ZWZ @ Lambda + identity]])


def solve(X, y, Z, G, weights, *, form="inverse"):
    """Return beta (p,) and b (q,), the BLUE and the BLUP.

    The G form is consistent but singular with G; any solution alpha gives the same b.
    """
    p = X.shape[1]
    XWy, ZWy = X.T @ (weights * y), Z.T @ (weights * y)
    C = coefficient_matrix(X, Z, G, weights, form=form)
    if form == "inverse":
        solution = np.linalg.solve(C, np.concatenate([XWy, ZWy]))
        return solution[:p], solution[p:]
    solution = np.linalg.lstsq(C, np.concatenate([XWy, G @ ZWy]), rcond=1e-13)[0]
    return solution[:p], G @ solution[p:]


def prediction_error_variance(X, Z, G, weights):
    """``Var(b-hat - b) / sigma^2`` (q, q): the random block of the inverse coefficient matrix."""
    p = X.shape[1]
    return np.linalg.inv(coefficient_matrix(X, Z, G, weights))[p:, p:]


def _cross_products(X, Z, weights):
    XW = X.T * weights
    return XW @ X, XW @ Z, (Z.T * weights) @ Z
