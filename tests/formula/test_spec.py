"""Design specs: the same columns on new rows, before and after saving."""

import json

import numpy as np
import pandas as pd
import pytest
from oracle.design_matrices import matrix

from fastlmm_core.errors import DataError, FormulaError
from fastlmm_core.formula.design import build_design
from fastlmm_core.formula.evaluate import STATEFUL
from fastlmm_core.formula.spec import DesignSpec

TEXT = (
    "y ~ poly(x, 2)*f + scale(z) + bs(z, df=4) + C(k, contr.sum) + log(w) + offset(o) + "
    + ("cr(x, df=3) + " if "cr" in STATEFUL else "")
    + "(scale(x) | a) + (0 + f | a:b)"
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    n = 150
    return pd.DataFrame({
        "y": rng.normal(size=n), "x": rng.normal(size=n), "z": rng.normal(size=n), "o": rng.normal(size=n),
        "w": rng.uniform(1, 2, n), "k": rng.integers(0, 3, n), "f": rng.choice(["u", "v"], n),
        "a": rng.integers(10, 15, n), "b": pd.Categorical(rng.choice(["p", "q", "r"], n)),
    })  # fmt: skip


def saved(spec):
    """Through JSON, arrays as lists: the hardest way a file could store it."""

    def plain(value):
        if isinstance(value, np.ndarray):
            return value.tolist()
        raise TypeError(type(value))

    return DesignSpec.from_dict(json.loads(json.dumps(spec.to_dict(), default=plain)))


@pytest.mark.parametrize("through", [lambda spec: spec, saved], ids=["kept", "saved"])
def test_rows_of_the_fit(data, through):
    design, spec, _ = build_design(TEXT, data)
    spec = through(spec)
    rows = np.array([5, 3, 100, 77, 3])
    new = spec.evaluate(data.drop(columns="y").iloc[rows])
    assert new.fixed == design.fixed and new.terms == design.terms
    X = matrix(design.fixed, design.atoms, design.n)
    np.testing.assert_allclose(matrix(new.fixed, new.atoms, 5), X[rows], rtol=1e-10, atol=1e-12)
    for term in design.terms:
        Z = matrix(term.columns, design.atoms, design.n)
        np.testing.assert_allclose(matrix(term.columns, new.atoms, 5), Z[rows], rtol=1e-12)
    for factor, codes in zip(design.factors, new.codes, strict=True):
        np.testing.assert_array_equal(codes, factor.codes[rows])
    np.testing.assert_allclose(new.offset, data.o.iloc[rows])
    assert new.unknown == {} and new.missing is None and new.missing_groups is None
    assert new.index.equals(data.index[rows])


def test_unseen_levels(data):
    _, spec, _ = build_design("y ~ x + f + (1 | a/b)", data)
    new = data.iloc[:4].copy()
    new["a"] = [10, 99, 10, 11]
    new["b"] = ["p", "p", "zz", "q"]
    found = spec.evaluate(new)
    assert spec.group_names == ("a:b", "a")
    assert found.unknown == {"a": [99], "a:b": ["10:zz", "99:p"]}
    assert (found.codes[0] >= 0).tolist() == [True, False, False, True]
    assert found.codes[1].tolist() == [0, -1, 0, 1]
    with pytest.raises(DataError, match="f: level 'other' did not occur"):
        spec.evaluate(new.assign(f="other"))


def test_only_what_is_asked_for(data):
    _, spec, _ = build_design("y ~ x + (z | a) + (1 | b)", data)
    new = spec.evaluate({"x": [1.0, 2.0]}, random=False)
    assert new.codes == (None, None)
    np.testing.assert_array_equal(matrix(new.fixed, new.atoms, 2), [[1, 1], [1, 2]])
    new = spec.evaluate({"x": [1.0, 2.0], "b": ["p", "r"]}, random=["b"])
    assert [codes is None for codes in new.codes] == [True, False]
    with pytest.raises(FormulaError, match="no column 'z'"):
        spec.evaluate({"x": [1.0], "b": ["p"], "a": [10]})


def test_missing_values(data):
    _, spec, _ = build_design("y ~ x + f + offset(o) + (1 | a:b)", data)
    new = data.iloc[:5].copy()
    new.loc[new.index[0], "x"] = np.nan
    new["f"] = [*new.f[:1], None, *new.f[2:]]
    new.loc[new.index[2], "o"] = np.nan
    new["a"] = [float("nan") if i == 3 else a for i, a in enumerate(new.a)]
    found = spec.evaluate(new)
    assert found.missing.tolist() == [True, True, True, False, False]
    assert found.missing_groups.tolist() == [False, False, False, True, False]
    assert found.codes[0][3] == -1 and (found.codes[0][[0, 1, 2, 4]] >= 0).all()
    assert found.unknown == {}
    X = matrix(found.fixed, found.atoms, 5)
    assert np.isnan(X[0]).any() and np.isfinite(X[2:]).all()


def test_types_of_levels(data):
    """A level keeps its meaning when a column comes back as text, floats or integers."""
    _, spec, _ = build_design("y ~ 0 + factor(k) + (1 | a)", data)
    for kind in (int, float, str, object):
        new = spec.evaluate({"k": np.array([2, 0], kind), "a": np.array([14, 10], kind)})
        np.testing.assert_array_equal(matrix(new.fixed, new.atoms, 2), [[0, 0, 1], [1, 0, 0]])
        assert new.codes[0].tolist() == [4, 0]


def test_saved_indicators_stay_small():
    n = 6000
    data = {"y": np.arange(n) * 1.0, "id": np.arange(n) % 3000}
    design, spec, _ = build_design("y ~ factor(id)", data)
    stored = spec.to_dict()
    assert all(atom["table"] is None for atom in stored["atoms"])
    new = saved(spec).evaluate({"id": [2999, 0]})
    assert [new.atoms[-1].table[code] for code in new.atoms[-1].values] == [1.0, 0.0]


def test_response_of_other_rows(data):
    _, spec, _ = build_design("log(w) ~ x + offset(o)", data)
    np.testing.assert_allclose(spec.response_values(data.iloc[3:6]), np.log(data.w[3:6]))
    assert np.isnan(spec.response_values({"w": [1.0, np.nan]})).tolist() == [False, True]
