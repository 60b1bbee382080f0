"""Designs: rows, weights, groups, order of terms, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from oracle.design_matrices import matrix, names

from fastlmm_core.errors import DataError, DataWarning, FormulaError, ModelError
from fastlmm_core.formula.design import build_design


@pytest.fixture
def data():
    rng = np.random.default_rng(11)
    n = 120
    a = rng.integers(0, 5, n)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "k": rng.integers(0, 9, n),
            "w": rng.uniform(0.5, 2, n),
            "o": rng.normal(size=n),
            "f": pd.Categorical(rng.choice(["u", "v", "w"], n), ["w", "v", "u", "never"]),
            "a": np.array([f"A{i}" for i in a], dtype=object),
            "b": pd.Categorical(rng.choice(["p", "q", "r"], n)),
            "odd name": rng.normal(size=n),
        },
        index=pd.RangeIndex(1000, 1000 + n),
    )


def indicator(codes, levels):
    return np.eye(levels)[codes]


def test_by_hand(data):
    design, spec, report = build_design("y ~ x*f + I(k^2) + (x | a) + (1 | a:b) + (0 + f | b)", data)
    n = len(data)
    f = indicator(data.f.cat.remove_unused_categories().cat.codes.to_numpy(), 3)
    x = data.x.to_numpy()
    X = np.column_stack([np.ones(n), x, f[:, 1:], data.k**2, x[:, None] * f[:, 1:]])
    assert names(design.fixed) == ["Intercept", "x", "f[T.v]", "f[T.u]", "I(k ** 2)", "x:f[T.v]", "x:f[T.u]"]
    np.testing.assert_allclose(matrix(design.fixed, design.atoms, n), X, rtol=1e-14)
    assert [factor.name for factor in design.factors] == ["a:b", "a", "b"]
    assert [len(factor.levels) for factor in design.factors] == [15, 5, 3]
    cross, a, b = design.factors
    assert list(a.levels) == ["A0", "A1", "A2", "A3", "A4"]
    assert list(cross.levels[:4]) == ["A0:p", "A0:q", "A0:r", "A1:p"]
    assert (np.asarray(cross.levels)[cross.codes] == data.a + ":" + data.b.astype(str)).all()
    assert [names(term.columns) for term in design.terms] == [
        ["Intercept"],
        ["Intercept", "x"],
        ["f[w]", "f[v]", "f[u]"],
    ]
    np.testing.assert_array_equal(matrix(design.terms[2].columns, design.atoms, n), f)
    assert design.response_name == "y" and design.weights is None and design.offset is None
    assert report.n_used == report.n_total == n and report.mask is None
    assert report.index.equals(data.index)
    assert [t.name for t in spec.fixed_terms] == ["1", "x", "f", "I(k ** 2)", "x:f"]
    assert [t.columns for t in spec.fixed_terms] == [(0,), (1,), (2, 3), (4,), (5, 6)]


@pytest.mark.parametrize(
    ("sizes", "order"),
    [([3, 5, 4], [1, 2, 0]), ([5, 5, 3], [0, 1, 2]), ([3, 5, 5], [2, 1, 0]), ([3, 3, 5], [2, 1, 0])],
)
def test_terms_in_lme4s_order(sizes, order):
    """rev(order(nlev)), so that ties are reversed, unless the counts are decreasing as they stand."""
    rng = np.random.default_rng(0)
    n = 60
    frame = {"y": rng.normal(size=n)} | {
        f"g{i}": rng.permutation(np.arange(n) % size) for i, size in enumerate(sizes)
    }
    design, _, _ = build_design("y ~ 1 + (1 | g0) + (1 | g1) + (1 | g2)", frame)
    assert [factor.name for factor in design.factors] == [f"g{i}" for i in order]


@pytest.mark.parametrize(
    "shape", ["polars", "lazy", "arrow", "batch", "dict", "lists", "arrow dict", "nullable"]
)
def test_frames_agree(data, shape):
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    data = data.assign(k=data.k.astype("int32"), f=data.f.cat.remove_unused_categories())
    text = "log(w) ~ x*f + factor(k) + poly(o, 2) + (x | a) + (1 | a:b) + (1 | k)"
    expected, _, _ = build_design(text, data, weights="w")
    arrow = pa.Table.from_pandas(data, preserve_index=False)
    other = {
        "polars": lambda: pl.from_pandas(data).with_columns(
            pl.col("f").cast(pl.String).cast(pl.Enum(data.f.cat.categories.to_list()))
        ),
        "lazy": lambda: (
            pl.from_arrow(arrow)
            .lazy()
            .with_columns(pl.col("f").cast(pl.String).cast(pl.Enum(data.f.cat.categories.to_list())))
        ),
        "arrow": lambda: pa.concat_tables([arrow.slice(0, 50), arrow.slice(50)]),
        "batch": lambda: arrow.to_batches()[0],
        "dict": lambda: {name: data[name].array for name in data},
        "lists": lambda: {
            name: data[name].tolist() if name not in ("f", "b") else data[name].array for name in data
        },
        "arrow dict": lambda: {name: arrow.column(name) for name in data},
        "nullable": lambda: data.convert_dtypes(),
    }[shape]()
    design, _, _ = build_design(text, other, weights="w")
    for mine, theirs in zip((design, *design.terms), (expected, *expected.terms)):
        columns = "fixed" if mine is design else "columns"
        assert names(getattr(mine, columns)) == names(getattr(theirs, columns))
        np.testing.assert_array_equal(
            matrix(getattr(mine, columns), design.atoms, design.n),
            matrix(getattr(theirs, columns), expected.atoms, expected.n),
        )
    for mine, theirs in zip(design.factors, expected.factors, strict=True):
        np.testing.assert_array_equal(mine.codes, theirs.codes)
        assert mine.levels.tolist() == theirs.levels.tolist() and mine.name == theirs.name
    np.testing.assert_array_equal(design.response, expected.response)
    np.testing.assert_array_equal(design.weights, expected.weights)


def test_missing_rows_are_dropped_and_counted(data):
    data = data.astype({"a": object})
    data.iloc[3, data.columns.get_loc("y")] = np.nan
    data.iloc[[3, 5], data.columns.get_loc("x")] = np.nan
    data.iloc[8, data.columns.get_loc("a")] = None
    data.iloc[9, data.columns.get_loc("f")] = np.nan
    data.iloc[10, data.columns.get_loc("odd name")] = np.nan  # not used
    data.loc[data.index[11], "w"] = 0.0
    data.loc[data.index[12], "w"] = np.nan
    keep = np.ones(len(data), bool)
    keep[[3, 5, 8, 9, 11, 12]] = False
    design, _, report = build_design("y ~ x + f + (1 | a)", data, weights="w")
    assert (report.n_total, report.n_used, report.n_missing, report.n_zero_weight) == (120, 114, 5, 1)
    assert report.missing_by_column == {"y": 1, "x": 2, "a": 1, "f": 1, "w": 1}
    np.testing.assert_array_equal(report.mask, keep)
    assert report.index.equals(data.index[keep])
    np.testing.assert_array_equal(design.response, data.y[keep])
    np.testing.assert_array_equal(design.weights, data.w[keep])
    fresh, _, _ = build_design("y ~ x + f + (1 | a)", data[keep], weights="w")
    np.testing.assert_array_equal(
        matrix(design.fixed, design.atoms, design.n), matrix(fresh.fixed, fresh.atoms, fresh.n)
    )
    np.testing.assert_array_equal(design.factors[0].codes, fresh.factors[0].codes)
    with pytest.raises(DataError, match=r"'x' has 2 values \(rows 1003, 1005\) that are missing"):
        build_design(
            "y ~ x + (1 | a)",
            data[keep | (np.arange(120) < 6)].drop(columns="y").assign(y=1.5 * data.k),
            na_action="raise",
        )


def test_nan_of_an_expression_is_missing(data):
    with pytest.warns(DataWarning, match="'log\\(x\\)' is no number in"):
        design, _, report = build_design("y ~ log(x) + (1 | a)", data)
    assert report.n_used == (data.x > 0).sum()
    assert report.missing_by_column == {"log(x)": int((data.x < 0).sum())}


def test_transforms_skip_missing_rows(data):
    data.loc[data.index[4], "x"] = np.nan
    design, _, _ = build_design("y ~ scale(x) + poly(x, 2) + (1 | a)", data)
    x = data.x.dropna()
    np.testing.assert_allclose(
        matrix(design.fixed[1:2], design.atoms, 119)[:, 0], (x - x.mean()) / x.std(), atol=1e-12
    )


def test_offsets_add_up_and_are_subtracted(data):
    extra = np.arange(120.0)
    design, spec, _ = build_design("y ~ x + offset(o) + offset(log(w)) + (1 | a)", data, offset=extra)
    np.testing.assert_allclose(design.offset, data.o + np.log(data.w) + extra)
    np.testing.assert_allclose(design.response, data.y - design.offset)
    assert spec.offsets == ("o", "log(w)")
    design, spec, _ = build_design("y ~ x + (1 | a)", data, offset="`odd name`")
    np.testing.assert_allclose(design.offset, data["odd name"])


@pytest.mark.parametrize(
    "response", ["log(w)", "I(w*2)", "w * 2 + x", "sqrt(w)", "`odd name`", "np.log(w)", "w^2"]
)
def test_response_expressions(data, response):
    design, _, _ = build_design(f"{response} ~ x + (1 | a)", data)
    value = {
        "log(w)": np.log(data.w),
        "I(w*2)": 2 * data.w,
        "w * 2 + x": 2 * data.w + data.x,
        "sqrt(w)": np.sqrt(data.w),
        "`odd name`": data["odd name"],
        "np.log(w)": np.log(data.w),
        "w^2": data.w**2,
    }[response]
    np.testing.assert_allclose(design.response, value, rtol=1e-15)


def test_r_spellings(data):
    design, _, _ = build_design(
        "y ~ log10(w) + log2(w) + log1p(w) + exp(x) + sqrt(w) + sin(pi*x) + abs(x) + log(w, 2)", data
    )
    X = matrix(design.fixed, design.atoms, 120)
    w, x = data.w, data.x
    expected = [
        np.log10(w),
        np.log2(w),
        np.log1p(w),
        np.exp(x),
        np.sqrt(w),
        np.sin(np.pi * x),
        np.abs(x),
        np.log2(w),
    ]
    np.testing.assert_allclose(X[:, 1:], np.column_stack(expected), rtol=1e-12)


def test_contrasts_argument(data):
    design, _, _ = build_design("y ~ f*x", data, contrasts={"f": "sum"})
    assert names(design.fixed) == ["Intercept", "f[S.w]", "f[S.v]", "x", "f[S.w]:x", "f[S.v]:x"]
    codes = data.f.cat.remove_unused_categories().cat.codes.to_numpy()
    np.testing.assert_array_equal(
        matrix(design.fixed[1:3], design.atoms, 120), np.array([[1, 0], [0, 1], [-1, -1]])[codes]
    )
    table = np.array([[0.0, 1.0], [1.0, 0.5], [-1.0, 2.0]])
    design, _, _ = build_design("y ~ f", data, contrasts={"f": table})
    np.testing.assert_array_equal(matrix(design.fixed[1:], design.atoms, 120), table[codes])
    for contrasts, error in (
        ({"f": "sums"}, "no contrast"),
        ({"z": "sum"}, "no factor"),
        ({"f": np.eye(4)}, "rows"),
    ):
        with pytest.raises(FormulaError, match=error):
            build_design("y ~ f", data, contrasts=contrasts)


def test_factor_with_levels(data):
    design, _, report = build_design("y ~ factor(k, levels=c(3, 1, 2)) + (1 | a)", data)
    assert report.n_used == data.k.isin([1, 2, 3]).sum()
    assert names(design.fixed)[1:] == [
        "factor(k, levels=c(3, 1, 2))[T.1]",
        "factor(k, levels=c(3, 1, 2))[T.2]",
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("y ~ x + (1 | one)", ModelError, "1 level"),
        ("y ~ x + (1 | row)", ModelError, "120 levels for 120 rows"),
        ("y ~ x + (x | half)", ModelError, "2 columns x 60 levels = 120 random effects for 120 rows"),
        ("y ~ x + (x | row)", ModelError, "120 levels"),
        ("flat ~ x + (1 | a)", ModelError, "constant"),
        ("y ~ X + (1 | a)", FormulaError, "did you mean 'x'"),
        ("y ~ x + (1 | aa)", FormulaError, "no column 'aa'"),
        ("y ~ x + log(zz)", FormulaError, "no column 'zz'"),
        ("y ~ x + (1 | log(zz))", FormulaError, "no column 'zz'"),
        ("nope ~ x", FormulaError, "no column 'nope'"),
        ("y ~ bad + (1 | a)", DataError, r"'bad' has 1 value \(row 1007\) that is infinite"),
        ("bad ~ x + (1 | a)", DataError, "infinite"),
        ("y ~ log(zero)", DataError, "'log\\(zero\\)' has 120 values"),
        ("y ~ x + (1 | bad)", DataError, "infinite"),
        ("a ~ x", DataError, "not a number"),
        ("y ~ empty", DataError, "no rows are left of 120: empty has 120 missing"),
        ("y ~ when", DataError, "times"),
        ("y ~ log(a)", FormulaError, "cannot be computed"),
        ("y ~ foo(x)", FormulaError, "no function foo"),
        ("y ~ __import__('os')", FormulaError, "no function"),
        ("y ~ I(x.__class__)", FormulaError, "no column 'x.__class__'"),
        ("y ~ I((lambda: 1)())", FormulaError, "Lambda"),
        ("y ~ np.load(x)", FormulaError, "not an elementwise function"),
        ("y ~ I(np)", FormulaError, "np"),
        ("y ~ I([a for a in (1, 2)])", FormulaError, "ListComp"),
    ],
)
def test_refusals(data, text, error, message):
    data = data.assign(
        one="only",
        row=np.arange(120),
        half=np.arange(120) // 2,
        flat=2.5,
        bad=np.where(np.arange(120) == 7, np.inf, 1.0),
        zero=0.0,
        empty=np.nan,
        when=pd.date_range("2020", periods=120),
    )
    with pytest.raises(error, match=message):
        build_design(text, data)


def test_unknown_column_is_marked(data):
    with pytest.raises(FormulaError) as caught:
        build_design("y ~ x + kk*f + (1 | a)", data)
    _, shown, carets = str(caught.value).split("\n")
    assert shown[carets.index("^") :].startswith("kk*f") and carets.count("^") == 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("neg", "negative"),
        (np.full(120, -1.0), "negative"),
        ("inf", "infinite"),
        (np.ones(7), "shape"),
        ("a", "numeric"),
        (np.zeros(120), "no rows"),
    ],
)
def test_bad_weights(data, weights, message):
    data = data.assign(neg=np.where(data.k > 4, -1.0, 1.0), inf=np.inf)
    with pytest.raises(DataError, match=message):
        build_design("y ~ x + (1 | a)", data, weights=weights)


def test_booleans_and_integers(data):
    data = data.assign(flag=data.x > 0, small=data.k.astype("int8"))
    design, _, _ = build_design("y ~ flag + small + I(small**9)", data)
    np.testing.assert_allclose(
        matrix(design.fixed, design.atoms, 120),
        np.column_stack([np.ones(120), data.flag, data.k, data.k.astype(float) ** 9]),
    )


def test_times_group(data):
    data = data.assign(day=pd.Timestamp("2024-01-01") + pd.to_timedelta(data.k, "D"))
    design, _, _ = build_design("y ~ x + (1 | day)", data)
    np.testing.assert_array_equal(design.factors[0].codes, np.unique(data.k, return_inverse=True)[1])
    assert design.factors[0].levels[1] == pd.Timestamp("2024-01-02")


def test_terms_share_a_factor(data):
    design, _, _ = build_design("y ~ x + (1 | a) + (0 + x | a) + (1 | a:b) + (0 + x | a:b)", data)
    assert [factor.name for factor in design.factors] == ["a:b", "a"]
    assert [(t.factor, names(t.columns)) for t in design.terms] == [
        (0, ["x"]),
        (0, ["Intercept"]),
        (1, ["x"]),
        (1, ["Intercept"]),
    ]


def test_comparisons(data):
    design, _, _ = build_design("y ~ I(f == 'u') + I(x > 0) + ifelse(x > 0, x, 0)", data)
    expected = [np.ones(120), data.f == "u", data.x > 0, data.x.clip(lower=0)]
    np.testing.assert_array_equal(
        matrix(design.fixed, design.atoms, 120), np.column_stack(expected).astype(float)
    )
