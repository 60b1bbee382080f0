import numpy as np
import pytest

from fastlmm_core._kernels._rows import ColumnProgram
from fastlmm_core.crossprod.rows import (
    PredictorPart,
    ScaledColumn,
    add_random_effects,
    column_program,
    dense_columns,
    linear_predictor,
    quantiles_and_moments,
)
from fastlmm_core.formula.terms import Atom, Column

DTYPES = [np.float64, np.float32, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 511, 512, 513, 1300])
@pytest.mark.parametrize("code_dtype", [np.int8, np.int16, np.int32])
def test_columns_of_every_dtype(dtype, n, code_dtype):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2 if dtype is np.bool_ else 100, n).astype(dtype)
    values.flags.writeable = False
    table = np.array([0.0, 1.0, -2.5])
    codes = rng.integers(0, 3, n).astype(code_dtype)
    atoms = [Atom("x", values), Atom("f", codes, table)]
    columns = [
        ScaledColumn(),
        ScaledColumn((0,), (3.5,), 0.25),
        ScaledColumn((1, 0), (0.0, 3.5), 2.0),
        ScaledColumn((1,), (0.0,)),
    ]
    program = column_program(atoms, columns, n)
    x, f = values.astype(float), table[codes]
    expected = np.column_stack([np.ones(n), (x - 3.5) * 0.25, f * (x - 3.5) * 2, f])
    np.testing.assert_array_equal(program.dense(0, n), expected)
    rows = rng.integers(0, n, 2 * n)
    np.testing.assert_array_equal(program.dense_rows(rows), expected[rows])
    np.testing.assert_array_equal(program.dense(n // 3, n // 2), expected[n // 3 : n // 2])


def test_columns_refuse_what_they_cannot_read():
    x = np.arange(10.0)
    with pytest.raises(ValueError, match="contiguous"):
        column_program([Atom("x", np.arange(20.0)[::2])], [ScaledColumn((0,), (0.0,))], 10)
    with pytest.raises(ValueError, match="rows"):
        column_program([Atom("x", x)], [ScaledColumn((0,), (0.0,))], 9)
    with pytest.raises(TypeError, match="complex"):
        column_program([Atom("x", x.astype(complex))], [ScaledColumn((0,), (0.0,))], 10)
    codes = np.array([0, 1, 2], np.int32)
    with pytest.raises(ValueError, match="outside a table"):
        column_program([Atom("f", codes, np.zeros(2))], [ScaledColumn((0,), (0.0,))], 3)
    with pytest.raises(ValueError, match="does not exist"):
        ColumnProgram(10, [x], [None], [0, 1], [1], [0.0], [1.0])
    program = column_program([Atom("x", x)], [ScaledColumn((0,), (0.0,))], 10)
    with pytest.raises(IndexError):
        program.dense(0, 11)
    with pytest.raises(IndexError):
        program.dense_rows(np.array([10]))


def example(n=1500):
    rng = np.random.default_rng(1)
    atoms = [Atom("x", rng.normal(size=n)), Atom("k", rng.integers(0, 9, n).astype(np.int8))]
    columns = [Column("Intercept"), Column("x", (0,)), Column("x:k", (0, 1))]
    dense = np.column_stack([np.ones(n), atoms[0].values, atoms[0].values * atoms[1].values])
    return rng, atoms, columns, dense


@pytest.mark.parametrize("n_threads", [1, 2])
def test_linear_predictor(n_threads):
    rng, atoms, columns, dense = example()
    beta = np.array([2.0, 0.0, -1.5])
    eta = linear_predictor(atoms, columns, beta, 1500, n_threads=n_threads)
    np.testing.assert_allclose(eta, dense @ beta, rtol=1e-13)
    out = np.full(40, 7.0)
    assert linear_predictor(atoms, columns, beta, 1500, lo=500, hi=540, out=out) is out
    np.testing.assert_allclose(out, dense[500:540] @ beta, rtol=1e-13)
    np.testing.assert_array_equal(linear_predictor(atoms, columns, np.zeros(3), 1500), np.zeros(1500))
    with pytest.raises(ValueError, match="coefficients"):
        linear_predictor(atoms, columns, beta[:2], 1500)


def test_add_random_effects_skips_negative_codes():
    rng, atoms, columns, dense = example()
    codes = rng.integers(-1, 20, 1500).astype(np.int32)
    b = rng.normal(size=(20, 3))
    start = rng.normal(size=1500)
    expected = start + np.where(codes < 0, 0.0, (dense * b[codes]).sum(1))
    out = start.copy()
    add_random_effects(out, codes, atoms, columns, b)
    np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)
    with pytest.raises(ValueError, match="random effects for 19 levels"):
        add_random_effects(out, codes, atoms, columns, b[:19])


def test_dense_columns_by_rows():
    rng, atoms, columns, dense = example()
    np.testing.assert_array_equal(dense_columns(atoms, columns, 1500), dense)
    np.testing.assert_array_equal(dense_columns(atoms, columns, 1500, slice(3, 9)), dense[3:9])
    np.testing.assert_array_equal(dense_columns(atoms, columns, 1500, slice(0, 90, 7)), dense[0:90:7])
    np.testing.assert_array_equal(dense_columns(atoms, columns, 1500, np.array([5, 5, 2])), dense[[5, 5, 2]])
    assert dense_columns(atoms, [], 1500).shape == (1500, 0)


def residual_cases():
    rng = np.random.default_rng(2)
    normal = rng.normal(size=40_000)
    yield "normal", normal
    yield "tiny", normal[:1]
    yield "two", normal[:2]
    yield "constant", np.full(1000, -3.25)
    yield "ties", np.round(normal)
    yield "two values", np.where(normal > 0, 1.0, -1.0)
    outlier = rng.normal(size=300_000)
    outlier[17] = 1e140
    yield "concentrated", outlier
    yield "concentrated, both signs", np.concatenate([rng.normal(size=200_000) * 1e-9, [-1e100, 1e90]])


@pytest.mark.parametrize("name, r", list(residual_cases()), ids=[name for name, _ in residual_cases()])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_quantiles_are_exact(name, r, n_threads):
    probs = (0.0, 0.25, 0.5, 0.75, 1.0)
    found, total, square = quantiles_and_moments(r, np.zeros(len(r)), 1.0, n_threads=n_threads)
    ordered, at = np.sort(r), np.array(probs) * (len(r) - 1)
    low = ordered[np.floor(at).astype(int)]
    high = ordered[np.ceil(at).astype(int)]
    np.testing.assert_array_equal(found, low + (at % 1) * (high - low))
    np.testing.assert_allclose(total, r.sum(), rtol=1e-10, atol=1e-9 * np.abs(r).max())
    np.testing.assert_allclose(square, (r**2).sum(), rtol=1e-12)


@pytest.mark.parametrize("spread", [1.0, 1e9], ids=["histogram", "digits"])
def test_quantiles_of_predictors_that_are_not_stored(spread):
    rng = np.random.default_rng(8)
    n = 100_000
    f, g = rng.integers(0, 3, n).astype(np.int8), rng.integers(-1, 50, n).astype(np.int32)
    x, y, w = rng.normal(size=n), rng.normal(size=n), rng.uniform(0.5, 2, n)
    y[:2] = spread, -spread  # a bin of the histogram holds nearly all rows when these are far away
    atoms = [Atom("x", x), Atom("f", f, np.array([0.0, 1.0, 0.0]))]
    columns = [Column("1"), Column("x", (0,)), Column("f", (1,)), Column("x:f", (0, 1))]
    beta, b = rng.normal(size=4), rng.normal(size=(50, 2))
    eta = linear_predictor(atoms, columns, beta, n)
    add_random_effects(eta, g, atoms, columns[:2], b)
    parts = [PredictorPart(atoms, columns, None, beta[None]), PredictorPart(atoms, columns[:2], g, b)]
    expected = quantiles_and_moments(y, eta, 1.3, w)
    for n_threads in (1, 2, 3):
        found = quantiles_and_moments(y, parts, 1.3, w, n_threads=n_threads)
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1:] == expected[1:]
    r = np.sqrt(w) * (y - eta) * (1 / 1.3)
    np.testing.assert_allclose(found[0], np.quantile(r, [0, 0.25, 0.5, 0.75, 1]), rtol=1e-12)


def test_parts_of_a_predictor_are_checked():
    columns = [Column("1")]
    for codes, b in ((np.array([0, 1], np.int32), np.zeros((1, 1))), (None, np.zeros((1, 2)))):
        with pytest.raises(ValueError, match="code 1|disagree"):
            quantiles_and_moments(np.array([1.0, 2.0]), [PredictorPart([], columns, codes, b)], 1.0)


def test_quantiles_are_of_scaled_weighted_residuals():
    rng = np.random.default_rng(3)
    y, eta, w = rng.normal(size=5000), rng.normal(size=5000), rng.uniform(0.1, 3, 5000)
    r = np.sqrt(w) * (y - eta) / 1.7
    found, total, square = quantiles_and_moments(y, eta, 1.7, w)
    np.testing.assert_allclose(found, np.quantile(r, [0, 0.25, 0.5, 0.75, 1]), rtol=1e-13)
    np.testing.assert_allclose([total, square], [r.sum(), (r**2).sum()], rtol=1e-11)
    y[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        quantiles_and_moments(y, eta, 1.7)


@pytest.mark.parametrize("n", [1, 513, 1300])
def test_sums_of_products(n):
    rng = np.random.default_rng(1)
    x, u = rng.normal(size=(2, n))
    more = (ScaledColumn((1,), (0.5,), -2.0), ScaledColumn((), (), 3.0))
    columns = [ScaledColumn((0,), (0.0,)), ScaledColumn((0, 1), (1.0, 0.0), 0.5, more), ScaledColumn()]
    program = column_program([Atom("x", x), Atom("u", u)], columns, n)
    expected = np.column_stack([x, (x - 1.0) * 0.5 * u + (u - 0.5) * -2.0 + 3.0, np.ones(n)])
    assert program.n_columns == 3 and not columns[1].is_one
    np.testing.assert_array_equal(program.dense(0, n), expected)
    rows = rng.integers(0, n, 2 * n)
    np.testing.assert_array_equal(program.dense_rows(rows), expected[rows])
    with pytest.raises(ValueError, match="needs a product"):
        ColumnProgram(n, [x], [None], [0, 1], [0], [0.0], [1.0], [0, 0, 1])
    with pytest.raises(ValueError, match="number of products"):
        ColumnProgram(n, [x], [None], [0, 1], [0], [0.0], [1.0], [0, 2])
