"""Columns that look alike far from 0: replaced by differences that are formed without cancellation."""

from fractions import Fraction

import numpy as np
import pytest
from crossprod.crossprod_designs import ONE, dense_u, design, factor

from fastlmm_core.crossprod.gram import build_cross_products
from fastlmm_core.crossprod.layout import build_layout
from fastlmm_core.crossprod.rank import check_rank
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.formula.terms import Atom, Column, RandomTerm

N = 150
X0, X1, F0, F1, COPY = range(5)


def make(fixed, terms, offset, ones="first"):
    """Two covariates with the same ``offset``, dummies of a factor, and a copy of the first."""
    rng = np.random.default_rng(3)
    x = rng.integers(-(2**20), 2**20, (2, N)) / 2.0**19 + offset
    f = rng.integers(0, 2, N).astype(np.int32)
    atoms = [
        Atom("x0", x[0]),
        Atom("x1", x[1]),
        Atom("f0", f, np.array([1.0, 0.0])),
        Atom("f1", f, np.array([0.0, 1.0])),
        Atom("copy", x[0].copy()),
    ]
    codes = np.arange(N) % 12
    terms = [RandomTerm(0, tuple(columns)) for columns in terms]
    return design(atoms, [c(*a) for a in fixed], terms, [factor("g", codes)], rng.normal(size=N), None, ones)


def c(*atoms):
    return Column(":".join(map(str, atoms)) or "Intercept", tuple(atoms))


def exactly(example, columns, B):
    """``matrix @ B`` in fractions, rounded once."""
    values = [atom.values if atom.table is None else atom.table[atom.values] for atom in example.atoms]
    matrix = []
    for column in columns:
        product = [Fraction(1)] * N
        for a in column.atoms:
            product = [p * Fraction(float(v)) for p, v in zip(product, values[a], strict=True)]
        matrix.append(product)
    weights = [[Fraction(float(b)) for b in row] for row in B]
    return np.array(
        [[float(sum(m[r] * w[j] for m, w in zip(matrix, weights))) for j in range(len(B))] for r in range(N)]
    )


def smallest(U):
    """Smallest eigenvalue of the Gram matrix scaled to a unit diagonal."""
    U = U / np.linalg.norm(U, axis=0)
    return np.linalg.eigvalsh(U.T @ U)[0]


ALIKE = {
    "a product": [(), (X0, X1)],
    "two slopes without an intercept": [(X0,), (X1,)],
    "a slope per level": [(), (X0, F0), (X0, F1)],
    "slopes per level and a product": [(), (X0, F0), (X0, F1), (X0, X1)],
    "a square": [(), (X0, X0)],
}


@pytest.mark.parametrize("offset", [-1e3, 1e6])
@pytest.mark.parametrize("name", ALIKE)
def test_columns_are_made_unlike(name, offset):
    columns = ALIKE[name]
    has_one = () in columns
    example = make(columns, [[c(*a) for a in columns]], offset, "first" if has_one else None)
    standardization = standardize(example)
    layout = build_layout(example, standardization)
    U = dense_u(example, layout)
    for place, B in (
        (layout.x, standardization.x_map / standardization.x_scale),
        (layout.z[0], standardization.z_maps[0]),
    ):
        assert smallest(U[:, place]) > 0.02
        expected = exactly(example, example.fixed, B)
        np.testing.assert_allclose(U[:, place], expected, atol=1e-15 * abs(offset) + 1e-13)
    assert set(layout.x) >= set(layout.z[0])  # the same columns, kept once


@pytest.mark.parametrize("noise", [1e-3, 1e-5, 1e-6])
def test_nearly_the_same_variable(noise):
    """Kept, and told from the other: R drops columns that add less than 1e-7."""
    example = make([(), (X0,), (COPY,)], [[ONE, c(X0), c(COPY)]], 10.0)
    difference = np.random.default_rng(0).integers(-(2**10), 2**10, N) / 2.0**9
    copy = example.atoms[COPY].values
    copy += np.round(noise * difference * 2**40) / 2**40
    products, standardization, layout = build_cross_products(example)
    U = dense_u(example, layout)
    assert smallest(U[:, layout.x]) > 0.02 and smallest(U[:, layout.z[0]]) > 0.02
    B = standardization.x_map / standardization.x_scale
    np.testing.assert_allclose(U[:, layout.x], exactly(example, example.fixed, B), atol=1e-14 / noise)
    assert check_rank(products, standardization, layout, example)[1] == []


def test_others_stay_as_they_are():
    for columns in ([(), (X0,), (X1,), (X0, X1)], [(), (X0,), (F1,)]):
        found = standardize(make(columns, [[ONE, c(X0)]], 1e6))
        assert not any(column.more for column in found.x_columns)
        assert not any(column.more for term in found.z_columns for column in term)
    near = standardize(make(ALIKE["a slope per level"], [], 5.0))
    assert not any(column.more for column in near.x_columns)


def test_aliased_columns_are_still_found():
    columns = [(X0,), (X1,), (COPY,), (X0, F0), (X0, F1)]
    example = make(columns, [[ONE]], 1e6, ones=None)
    products, standardization, layout = build_cross_products(example)
    kept, dropped = check_rank(products, standardization, layout, example)
    assert dropped == ["4", f"{X0}:{F1}"] and list(kept) == [0, 1, 3]
