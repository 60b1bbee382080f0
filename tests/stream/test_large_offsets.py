"""Products of row, level and column numbers beyond 2^31, on memory that is reserved but hardly touched."""

import mmap

import numpy as np
import pytest

from fastlmm_core._kernels import _pass
from fastlmm_core.crossprod.rows import ScaledColumn, add_random_effects, column_program, linear_predictor
from fastlmm_core.formula.terms import Atom, Column

FAR = (1 << 31) + 4096  # more than an int32 can count

if not hasattr(mmap, "MAP_NORESERVE") and not hasattr(mmap, "MAP_PRIVATE"):
    pytest.skip("no reserved memory on this system", allow_module_level=True)


def reserved(shape, dtype):
    """Zeros that take address space alone until they are written."""
    dtype = np.dtype(dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    try:
        memory = mmap.mmap(-1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, flags=flags)
    except (OSError, ValueError):
        pytest.skip("the system does not reserve so much address space")
    return np.frombuffer(memory, dtype).reshape(shape)


def small_columns(rng, n):
    values = [rng.standard_normal(n) for _ in range(3)]
    atoms = [Atom(str(at), x) for at, x in enumerate(values)]
    columns = [ScaledColumn(), *(ScaledColumn((a,), (0.0,)) for a in range(3))]
    return column_program(atoms, columns, n), np.column_stack([np.ones(n), *values])


@pytest.mark.parametrize("way", ["direct", "owned"])
def test_sums_of_levels_far_out(way):
    """R[level, a, j] with level * k * u beyond 2^31 numbers (17 GB of address space)."""
    rng = np.random.default_rng(1)
    n, k, u = 3000, 2, 4
    levels = FAR // (k * u) + 5
    program, U = small_columns(rng, n)
    codes = (levels - 1 - rng.integers(0, 50, n)).astype(np.int32)
    R, counts = reserved((1, levels, k, u), np.float64), reserved((1, levels), np.int64)
    z = np.array([0, 2], np.int32)
    if way == "direct":
        C = np.zeros((1, u, u))
        _pass.pass_direct(program, None, np.array([0, n]), [(codes, z, R, counts, True)], C, 2)
    else:
        C = np.zeros((_pass.SLICES, u, u))
        _pass.pass_owned(program, None, 1024, [(codes, z, R, counts)], C, 2)
    assert R.size > 1 << 31 and (levels - 50) * k * u > 1 << 31
    found = R[0, levels - 50 :]
    expected = np.zeros((50, k, u))
    np.add.at(expected, codes - (levels - 50), U[:, z, None] * U[:, None, :])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(counts[0, levels - 50 :], np.bincount(codes - (levels - 50), minlength=50))
    np.testing.assert_allclose(np.triu(C.sum(axis=0)), np.triu(U.T @ U), rtol=1e-12)


def test_copies_of_sums_far_out():
    """The last of many copies: piece * levels * k * u beyond 2^31 numbers."""
    rng = np.random.default_rng(2)
    n, pieces, u = 640, 64, 4
    levels = FAR // (pieces * u) + 64
    program, U = small_columns(rng, n)
    codes = rng.integers(levels - 8, levels, n).astype(np.int32)
    R, counts = reserved((pieces, levels, 1, u), np.float64), reserved((pieces, levels), np.int64)
    bounds = np.arange(pieces + 1) * n // pieces
    _pass.pass_direct(program, None, bounds, [(codes, np.zeros(1, np.int32), R, counts, False)], None, 2)
    last = slice(bounds[-2], n)
    expected = np.zeros((8, u))
    np.add.at(expected, codes[last] - (levels - 8), U[last])
    assert ((pieces - 1) * levels + levels - 8) * u > 1 << 31
    np.testing.assert_allclose(R[-1, levels - 8 :, 0], expected, rtol=1e-12, atol=1e-12)


def test_rows_far_out():
    """Row numbers beyond 2^31: the last of so many rows, as numbers and as codes of a table."""
    rng = np.random.default_rng(3)
    n, m = FAR, 2000
    x, codes = reserved(n, np.int8), reserved(n, np.int8)
    x[n - m :], codes[n - m :] = rng.integers(-9, 9, m), rng.integers(0, 7, m)
    table = rng.standard_normal(7)
    atoms = [Atom("x", x), Atom("f", codes, table)]
    columns = [Column("x", (0,)), Column("x:f", (0, 1))]
    found = linear_predictor(atoms, columns, np.array([2.0, 3.0]), n, lo=n - m, hi=n, n_threads=2)
    expected = x[n - m :] * (2.0 + 3.0 * table[codes[n - m :]])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    some = np.array([n - 1, n - m, n - 7])
    program = column_program(atoms, [ScaledColumn((0, 1), (0.0, 0.0))], n)
    np.testing.assert_allclose(program.dense_rows(some)[:, 0], x[some] * table[codes[some]], rtol=1e-12)


def test_effects_of_levels_far_out():
    """b[level * q + j] beyond 2^31 numbers."""
    rng = np.random.default_rng(4)
    n, q = 1000, 4
    levels = FAR // q + 40
    b = reserved((levels, q), np.float64)
    b[levels - 30 :] = rng.standard_normal((30, q))
    codes = (levels - 1 - rng.integers(0, 30, n)).astype(np.int32)
    values = rng.standard_normal((3, n))
    atoms = [Atom(str(j), values[j]) for j in range(3)]
    columns = [Column("one", ()), *(Column(str(j), (j,)) for j in range(3))]
    found = add_random_effects(np.zeros(n), codes, atoms, columns, b, n_threads=2)
    expected = b[codes, 0] + np.einsum("jn,nj->n", values, b[codes, 1:])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
