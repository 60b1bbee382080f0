"""Columns and names agree with formulaic's own model matrices."""

from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from oracle.design_matrices import matrix, names

from fastlmm_core.formula.design import build_design
from fastlmm_core.formula.evaluate import STATEFUL

RIGHT_SIDES = [
    "x", "0 + x", "f", "0 + f", "x*f", "x:f", "0 + x:f", "f:x + f", "f*h", "f:h", "f + f:h", "0 + f:h",
    "f/h", "f/x", "0 + f + h", "h + f + f:h + x:h", "(f + h + x)**2", "f*h*x", "x + I(x**2)", "x*z", "b",
    "b*f", "x:z + f:h:x", "C(k)", "C(k)*x", "C(f, contr.sum)", "C(f, contr.helmert)*x", "C(f, contr.poly)",
    "C(f, contr.diff)", "C(f, Treatment('v'))", "C(f, contr.treatment(base='v'))*h", "C(f, contr.SAS)",
    "0 + C(f, contr.sum)*h", "poly(x, 3)", "poly(x, 2)*f", "bs(x, df=5)", "bs(x, df=5)*f",
    "scale(x) + center(z)", "np.log(p) + log(p)", "cr(x, df=4)", "bs(x, df=4, include_intercept=True) - 1",
    "bs(x, df=5, include_intercept=True)", "h:f + x:f + x", "x:f:h", "s", "s*f", "poly(x, 2, raw=True)",
]  # fmt: skip


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    n = 80
    return pd.DataFrame({
        "y": rng.normal(size=n),
        "x": rng.normal(size=n),
        "z": rng.normal(size=n),
        "p": rng.uniform(1, 2, n),
        "k": rng.integers(0, 4, n),
        "b": rng.random(n) < 0.5,
        "f": pd.Categorical(rng.choice(["u", "v", "w"], n), ["w", "u", "v"]),
        "h": pd.Categorical(rng.choice(["one", "two"], n)),
        "s": rng.choice(["delta", "alpha", "Beta"], n),
    })  # fmt: skip


if "cr" not in STATEFUL:
    RIGHT_SIDES = [right for right in RIGHT_SIDES if not right.startswith("cr(")]
names_differ = pytest.mark.skipif(
    tuple(map(int, version("formulaic").split(".")[:2])) < (1, 1),
    reason="older formulaic names full codings [T.x]",
)


@names_differ
@pytest.mark.parametrize("right", RIGHT_SIDES)
def test_matches_formulaic(right, data):
    design, _, _ = build_design(f"y ~ {right}", data)
    expected = model_matrix(right, data)
    assert names(design.fixed) == list(expected.columns)
    X = matrix(design.fixed, design.atoms, design.n)
    np.testing.assert_allclose(X, expected.to_numpy(float), rtol=1e-12, atol=1e-12)
    if design.ones is not None:
        np.testing.assert_allclose(X @ design.ones, 1.0, rtol=1e-14)


@pytest.mark.parametrize(
    ("right", "has_ones"),
    [
        ("x", True),
        ("0 + x", False),
        ("0 + f", True),
        ("0 + f:h", True),
        ("0 + x:f", False),
        ("0 + x + f", True),
        ("0 + C(f, contr.sum)", True),
        ("x - 1 + b", False),
    ],
)
def test_constant_in_span(right, has_ones, data):
    design, _, _ = build_design(f"y ~ {right}", data)
    assert (design.ones is not None) == has_ones


@names_differ
def test_random_sides_match_formulaic(data):
    data = data.assign(g=np.arange(len(data)) % 4)
    for left in ("1", "x", "0 + x", "f", "0 + f", "x*f", "x + I(x**2)", "h/x", "0 + x:f"):
        design, _, _ = build_design(f"y ~ x + ({left} | g)", data)
        expected = model_matrix(left, data)
        (term,) = design.terms
        assert names(term.columns) == list(expected.columns)
        Z = matrix(term.columns, design.atoms, design.n)
        np.testing.assert_allclose(Z, expected.to_numpy(float), rtol=1e-12)


def test_atoms_are_shared(data):
    data = data.assign(g=np.arange(len(data)) % 4)
    design, _, _ = build_design("y ~ x*f + (x | g) + (0 + f | g)", data)
    assert [atom.name for atom in design.atoms].count("x") == 1
    assert len(design.atoms) == 4  # x and one indicator per level of f
    assert len({id(atom.values) for atom in design.atoms if atom.table is not None}) == 1


def test_many_levels_cost_one_array():
    n = 20_000
    data = {"y": np.arange(n) * 1.0, "id": np.arange(n) % 5_000}
    design, _, _ = build_design("y ~ 0 + factor(id)", data)
    assert len(design.fixed) == 5_000
    assert design.fixed[7].name == "factor(id)[7]"
    assert len({atom.table.base.ctypes.data for atom in design.atoms}) == 1
    assert design.atoms[7].table[7] == 1.0 and design.atoms[7].table.sum() == 1.0
