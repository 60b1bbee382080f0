import numpy as np
import pytest
from crossprod.crossprod_designs import ONE, dense_u, design, factor
from oracle.dense import DenseEngine

from fastlmm_core.crossprod.gram import build_cross_products
from fastlmm_core.crossprod.layout import build_layout
from fastlmm_core.crossprod.rank import check_rank
from fastlmm_core.crossprod.rows import dense_columns
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.formula.terms import Atom, Column, RandomTerm

N, LEVELS = 240, 15
X0, X1, F1, F2 = 0, 1, 2, 3


def make(
    fixed, terms, seed=0, ones="first", offset=(100.0, -50.0), scale=(1.0, 1.0), y_offset=0.0, weights=None
):
    """Atoms x0, x1 (numeric) and two dummies of a factor with three levels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, N))
    f = rng.integers(0, 3, N).astype(np.int32)
    atoms = [
        Atom("x0", x[0] * scale[0] + offset[0]),
        Atom("x1", x[1] * scale[1] + offset[1]),
        Atom("f1", f, np.array([0.0, 1.0, 0.0])),
        Atom("f2", f, np.array([0.0, 0.0, 1.0])),
        Atom("f0", f, np.array([1.0, 0.0, 0.0])),
    ]
    codes = np.concatenate([np.arange(LEVELS), rng.integers(0, LEVELS, N - LEVELS)])
    y = 2 + x[0] + f + rng.normal(size=LEVELS)[codes] + rng.normal(size=N) + y_offset
    terms = [RandomTerm(0, tuple(columns)) for columns in terms]
    factors = [factor("g", codes)] if terms else []
    return design(atoms, [c(*a) for a in fixed], terms, factors, y, weights, ones)


def c(*atoms):
    return Column(":".join(map(str, atoms)) or "Intercept", tuple(atoms))


def solve(X, y, Z_terms, codes, T_terms, weights=None):
    engine = DenseEngine(X, y, [(codes, Z) for Z in Z_terms], weights)
    logdet, S = engine.factorize([np.linalg.cholesky(T) for T in T_terms])
    Q = np.linalg.inv(S[:-1, :-1])
    beta = Q @ S[:-1, -1]
    b = engine.random_effects(np.append(-beta, 1.0))
    r2 = S[-1, -1] - S[:-1, -1] @ beta
    return {"logdet": logdet, "Q": Q, "beta": beta, "b": b, "r2": r2}


FIXED = {
    "slopes": [(), (X0,), (X1,)],
    "interaction": [(), (X0,), (X1,), (X0, X1)],
    "interaction without main effect": [(), (X0,), (X0, X1)],
    "by factor": [(), (X0,), (F1,), (F2,), (X0, F1), (X0, F2)],
    "three way": [(), (X0,), (X1,), (F1,), (X0, X1), (X0, F1), (X1, F1), (X0, X1, F1)],
    "square as a product": [(), (X0,), (X0, X0)],
    "higher order first": [(), (X0, X1), (X1,), (X0,)],
}
RANDOM = {
    "intercept": [[ONE]],
    "slope": [[ONE, c(X0)]],
    "independent": [[ONE], [c(X0)]],
    "interaction": [[ONE, c(X0), c(X1), c(X0, X1)]],
}


@pytest.mark.parametrize("random", RANDOM)
@pytest.mark.parametrize("fixed", FIXED)
def test_undoing_is_exact(fixed, random):
    """Fits in standardized and original coordinates at the same covariance agree in everything."""
    w = np.random.default_rng(9).uniform(0.5, 2, N)
    example = make(
        FIXED[fixed], RANDOM[random], offset=(1.0, -20.0), scale=(0.3, 10.0), y_offset=5.0, weights=w
    )
    standardization = standardize(example)
    layout = build_layout(example, standardization)
    U, codes = dense_u(example, layout), example.factors[0].codes
    T = [np.eye(q) * 0.7 + 0.1 for _, _, q in layout.term_slices]
    Z = [U[:, layout.z[0][start : start + q]] for _, start, q in layout.term_slices]
    inside = solve(U[:, layout.x], U[:, layout.y], Z, codes, T, w)

    X = dense_columns(example.atoms, example.fixed, N)
    Z = [dense_columns(example.atoms, term.columns, N) for term in example.terms]
    maps, A, y_scale = standardization.z_maps, standardization.fixed_map(), standardization.y_scale
    relative = [B @ Tt @ B.T for B, Tt in zip(maps, T, strict=True)]
    raw = solve(X, example.response, Z, codes, relative, w)

    np.testing.assert_allclose(inside["logdet"], raw["logdet"], rtol=1e-8)
    np.testing.assert_allclose(standardization.beta(inside["beta"]), raw["beta"], rtol=1e-6)
    np.testing.assert_allclose(A @ inside["Q"] @ A.T, raw["Q"], rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(y_scale * np.sqrt(inside["r2"]), np.sqrt(raw["r2"]), rtol=1e-6)
    expected = np.linalg.slogdet(raw["Q"])[1] - np.linalg.slogdet(inside["Q"])[1]
    np.testing.assert_allclose(2.0 * np.linalg.slogdet(A)[1], expected, rtol=1e-6)
    for t, b in enumerate(raw["b"]):
        found = inside["b"][t] @ maps[t].T * y_scale
        np.testing.assert_allclose(found, b, rtol=1e-5, atol=1e-7 * np.abs(b).max())


def centred_atoms(columns):
    return [sum(center != 0 for center in column.centers) for column in columns]


def test_atoms_are_centred_only_where_the_expansion_stays_inside():
    cases = {
        ((), (X0,), (X1,), (X0, X1)): [0, 1, 1, 2],
        ((), (X0,), (X0, X1)): [0, 1, 1],  # x1 - c1 leaves x0, present; x0 - c0 would leave x1, absent
        ((), (X0,), (X0, F1)): [0, 1, 0],  # needs f1
        ((), (X0,), (F1,), (X0, F1)): [0, 1, 0, 1],
        ((), (X0, X0)): [0, 0],
    }
    for fixed, expected in cases.items():
        assert centred_atoms(standardize(make(fixed, [])).x_columns) == expected
    without_constant = standardize(make([(X0,), (X1,)], [], ones=None))
    assert centred_atoms(without_constant.x_columns) == [0, 0] and without_constant.y_center == 0.0
    terms = [[c(X0)], [ONE, c(X1)]]
    assert [centred_atoms(columns) for columns in standardize(make([()], terms)).z_columns] == [[0], [0, 1]]


def test_constant_in_the_span_of_dummies():
    """0 + f + x: the dummies add up to 1, so x and y may be centred."""
    fixed = [(4,), (F1,), (F2,), (X0,)]
    example = make(fixed, [], ones=np.array([1.0, 1.0, 1.0, 0.0]), y_offset=1e3)
    products, standardization, layout = build_cross_products(example)
    assert centred_atoms(standardization.x_columns) == [0, 0, 0, 1] and standardization.y_center != 0
    C = products.C
    beta = standardization.beta(np.linalg.solve(C[:4, :4], C[:4, 4]))
    X = dense_columns(example.atoms, example.fixed, N)
    np.testing.assert_allclose(beta, np.linalg.lstsq(X, example.response, rcond=None)[0], rtol=1e-9)


def least_squares(example):
    products, standardization, layout = build_cross_products(example)
    p = len(layout.x)
    C = products.C
    kept, _ = check_rank(products, standardization, layout, example)
    inner = np.linalg.inv(C[np.ix_(kept, kept)])
    beta = inner @ C[kept, p]
    r2 = (C[p, p] - C[kept, p] @ beta) * standardization.y_scale**2
    A = standardization.fixed_map(kept)
    logdet = -np.linalg.slogdet(inner)[1] - 2.0 * np.linalg.slogdet(A)[1]
    vcov = A @ inner @ A.T
    return kept, standardization.beta(beta, kept), r2, logdet, vcov


@pytest.mark.parametrize("shift", [1e4, 1e7])
def test_offsets_lose_nothing(shift):
    fixed = [(), (X0,), (X1,), (X0, X1)]
    _, beta, r2, logdet, vcov = least_squares(make(fixed, [], offset=(0.0, 5.0)))
    _, moved, moved_r2, moved_logdet, moved_vcov = least_squares(
        make(fixed, [], offset=(shift, 5.0), y_offset=shift)
    )
    # b0 + b1 x0 + b2 x1 + b3 x0 x1 in terms of x0 + shift
    se = np.sqrt(np.diag(vcov) * r2 / N)
    np.testing.assert_allclose(moved[[1, 3]], beta[[1, 3]], atol=1e-8 * se[[1, 3]].min())
    np.testing.assert_allclose(moved[2] + shift * moved[3], beta[2], atol=1e-9 * shift * se[3])
    np.testing.assert_allclose(
        np.sqrt(np.diag(moved_vcov)[[1, 3]]), np.sqrt(np.diag(vcov)[[1, 3]]), rtol=1e-8
    )
    np.testing.assert_allclose(moved_r2, r2, rtol=1e-8)
    np.testing.assert_allclose(moved_logdet, logdet, rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scales_lose_nothing(scale):
    fixed = [(), (X0,), (F1,), (X0, F1)]
    _, beta, r2, logdet, _ = least_squares(make(fixed, [], offset=(2.0, 0.0)))
    _, scaled, scaled_r2, scaled_logdet, _ = least_squares(
        make(fixed, [], offset=(2.0 * scale, 0.0), scale=(scale, 1.0))
    )
    np.testing.assert_allclose(scaled * [1, scale, 1, scale], beta, rtol=1e-10)
    np.testing.assert_allclose(scaled_r2, r2, rtol=1e-10)
    np.testing.assert_allclose(scaled_logdet, logdet + 4 * np.log(scale), rtol=1e-10)


def test_columns_centred_relative_to_a_dropped_one():
    """x0:f1 is centred relative to f1, and f1 is dropped as a copy of an earlier column."""
    fixed = [(), (X0,), (F2,), (F1,), (X0, F1)]
    example = make(fixed, [], offset=(20.0, 0.0), y_offset=40.0)
    atoms = list(example.atoms)
    f = atoms[F1].values
    atoms[F2] = Atom("copy", f, np.array([2.0, 5.0, 2.0]))  # 2 + 3 f1
    example = design(atoms, example.fixed, [], [], example.response)
    assert centred_atoms(standardize(example).x_columns) == [0, 1, 0, 0, 1]
    kept, beta, r2, logdet, vcov = least_squares(example)
    np.testing.assert_array_equal(kept, [0, 1, 2, 4])
    X = dense_columns(example.atoms, example.fixed, N)[:, kept]
    expected, rss, *_ = np.linalg.lstsq(X, example.response, rcond=None)
    np.testing.assert_allclose(beta, expected, rtol=1e-9)
    np.testing.assert_allclose(vcov, np.linalg.inv(X.T @ X), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(logdet, np.linalg.slogdet(X.T @ X)[1], rtol=1e-9)
    np.testing.assert_allclose(r2, rss[0], rtol=1e-9)


def test_values_a_sample_does_not_show():
    """A rare indicator stored as a number, a constant, and zeros still get usable scales."""
    n = 50_000
    x = np.zeros(n)
    x[12_345] = 1e-6
    atoms = [Atom("rare", x), Atom("constant", np.full(n, 0.1)), Atom("zero", np.zeros(n))]
    example = design(atoms, [ONE, c(0), c(1), c(2)], [], [], np.arange(n, dtype=float))
    products, standardization, layout = build_cross_products(example)
    kept, dropped = check_rank(products, standardization, layout, example)
    np.testing.assert_array_equal(kept, [0, 1])
    assert dropped == ["1", "2"]
    C = products.C
    beta = standardization.beta(np.linalg.solve(C[:2, :2], C[:2, 4]), kept)
    np.testing.assert_allclose(beta[1] * 1e-6, 12_345 - (n * (n - 1) / 2 - 12_345) / (n - 1), rtol=1e-9)
