import numpy as np
from crossprod.crossprod_designs import ONE, design, factor

from fastlmm_core.crossprod.layout import build_layout
from fastlmm_core.crossprod.standardize import standardize
from fastlmm_core.formula.terms import Atom, Column, RandomTerm

N = 60
RNG = np.random.default_rng(0)
X = Column("x", (0,))


def layout_of(terms, codes):
    factors = [factor(f"g{f}", c) for f, c in enumerate(codes)]
    atoms = [Atom("x", RNG.normal(10, 1, N))]
    example = design(atoms, [ONE, X], terms, factors, RNG.normal(size=N))
    return build_layout(example, standardize(example))


def test_columns_are_shared_when_they_are_the_same():
    g = RNG.permutation(np.arange(N) % 7)
    together = layout_of([RandomTerm(0, (ONE, X))], [g])
    assert len(together.columns) == 3  # 1, x, y
    np.testing.assert_array_equal(together.z[0], [0, 1])
    # without an intercept in the term x is not centred there, so it is another column
    apart = layout_of([RandomTerm(0, (ONE,)), RandomTerm(0, (X,))], [g])
    assert len(apart.columns) == 4
    np.testing.assert_array_equal(apart.z[0], [0, 3])
    assert apart.columns[3].centers == (0.0,) and apart.columns[1].centers != (0.0,)


def test_terms_on_one_factor_lie_side_by_side():
    g, h = RNG.permutation(np.arange(N) % 7), RNG.permutation(np.arange(N) % 5)
    terms = [RandomTerm(0, (ONE,)), RandomTerm(1, (ONE, X)), RandomTerm(0, (X, ONE))]
    layout = layout_of(terms, [g, h])
    assert layout.term_slices == ((0, 0, 1), (1, 0, 2), (0, 1, 2))
    assert layout.k == (3, 2)
    assert layout.structure == "crossed" and layout.order == (0, 1)


def test_repeated_fixed_columns_keep_their_places():
    atoms = [Atom("x", RNG.normal(size=N))]
    example = design(
        atoms, [ONE, X, X], [RandomTerm(0, (X,))], [factor("g", np.arange(N) % 7)], RNG.normal(size=N)
    )
    layout = build_layout(example, standardize(example))
    np.testing.assert_array_equal(layout.x, [0, 1, 2])
    assert layout.y == 3


def test_eliminated_factor_has_most_random_effects():
    g, h = RNG.permutation(np.arange(N) % 7), RNG.permutation(np.arange(N) % 5)
    layout = layout_of([RandomTerm(0, (ONE,)), RandomTerm(1, (ONE, X))], [g, h])
    assert layout.order == (1, 0)


def test_a_chain_of_nesting_is_found_whatever_the_labels():
    inner = RNG.permutation(np.concatenate([np.arange(12), RNG.integers(0, 12, N - 12)]))
    relabel = RNG.permutation(12)
    middle, outer = relabel[inner] // 3, relabel[inner] // 6
    layout = layout_of([RandomTerm(f, (ONE,)) for f in range(3)], [middle, inner, outer])
    assert layout.structure == "tree" and layout.order == (1, 0, 2)
    np.testing.assert_array_equal(layout.parent[0], relabel // 3)
    np.testing.assert_array_equal(layout.parent[1], np.arange(4) // 2)


def test_one_row_out_of_place_makes_factors_crossed():
    inner = np.repeat(np.arange(12), 5)
    outer = inner // 4
    outer[-1] = 0
    layout = layout_of([RandomTerm(0, (ONE,)), RandomTerm(1, (ONE,))], [inner, outer])
    assert layout.structure == "crossed" and layout.parent == ()


def test_two_of_three_nested_is_crossed():
    inner, other = np.repeat(np.arange(12), 5), np.arange(N) % 5
    layout = layout_of([RandomTerm(f, (ONE,)) for f in range(3)], [inner, inner // 4, other])
    assert layout.structure == "crossed" and layout.order == (0, 2, 1)


def test_sorted_codes_are_noticed():
    codes = np.sort(np.arange(N) % 7)
    assert layout_of([RandomTerm(0, (ONE,))], [codes]).is_sorted == (True,)
    codes[[3, 30]] = codes[[30, 3]]
    assert layout_of([RandomTerm(0, (ONE,))], [codes]).is_sorted == (False,)
