"""The dense Schur complement by tiles, and the threads that BLAS may use meanwhile."""

import threading

import numpy as np
import pytest
from oracle.henderson import Henderson, everything, sparse_design
from oracle.sparse import cross_products

import fastlmm_core as flm
from fastlmm_core.mme import blas_threads as blas
from fastlmm_core.mme import crossed
from fastlmm_core.mme.crossed import CrossedEngine


@pytest.mark.parametrize("sizes", [(600, 300), (40, 500), (30, 2150)])
def test_tiles_against_henderson(sizes, monkeypatch):
    monkeypatch.setattr(crossed, "LEAST_PARALLEL_WORK", 0)
    Xy, factors = sparse_design(4 * sum(sizes), sizes, (1, 1), p=2)
    cp, Lambda = cross_products(Xy, factors), [np.array([[0.8]]), np.array([[0.6]])]
    found = [everything(CrossedEngine(cp, np.arange(2), n_threads), Lambda) for n_threads in (1, 2, 3)]
    for other in found[1:]:
        for one, two in zip(found[0], other):
            np.testing.assert_array_equal(one, two)
    direct = Henderson(Xy, factors, Lambda)
    logdet, S, *F = found[0][:4]
    assert logdet == pytest.approx(direct.logdet, rel=1e-11)
    np.testing.assert_allclose(S, Xy.T @ direct.solve(Xy), rtol=1e-9, atol=1e-8)
    for actual, expected in zip(F, direct.F()):
        np.testing.assert_allclose(actual, expected, rtol=1e-9)
    variances = np.split(np.diag(direct.Minv), np.cumsum(direct.sizes)[:-1])
    for actual, L, expected in zip(found[0][-2:], Lambda, variances):
        np.testing.assert_allclose(actual.ravel(), L[0, 0] ** 2 * expected, rtol=1e-9)


@pytest.fixture
def pools():
    found = blas.pools()
    if not found:
        pytest.skip("this BLAS has no number of threads to set")
    return found


def test_threads_come_back(pools):
    before = [pool.get() for pool in pools]
    with blas.blas_threads(1):
        assert [pool.get() for pool in pools] == [1] * len(pools)
        with blas.blas_threads(2):
            assert [pool.get() for pool in pools] == [2] * len(pools)
        assert [pool.get() for pool in pools] == [1] * len(pools)
    assert [pool.get() for pool in pools] == before
    with pytest.raises(KeyError), blas.blas_threads(1):
        raise KeyError
    assert [pool.get() for pool in pools] == before


def test_overlapping_requests_end_with_the_first_setting(pools):
    before, entered, finish = [pool.get() for pool in pools], threading.Event(), threading.Event()

    def other():
        with blas.blas_threads(2):
            entered.set()
            finish.wait(10)

    thread = threading.Thread(target=other)
    with blas.blas_threads(1):
        thread.start()
        assert entered.wait(10)
    assert [pool.get() for pool in pools] == [2] * len(pools)
    finish.set()
    thread.join()
    assert [pool.get() for pool in pools] == before


def test_a_fit_keeps_blas_to_one_thread(pools, monkeypatch):
    before, seen = [pool.get() for pool in pools], []
    schur = crossed.DenseSchur

    class Watched(schur):
        def factor(self):
            seen.extend(pool.get() for pool in pools)
            return super().factor()

    monkeypatch.setattr(crossed, "DenseSchur", Watched)
    rng = np.random.default_rng(0)
    g, h = rng.integers(0, 20, 300), rng.integers(0, 10, 300)
    frame = {"g": g, "h": h, "y": rng.normal(size=300) + rng.normal(size=20)[g]}
    flm.lmer("y ~ 1 + (1 | g) + (1 | h)", frame, n_threads=1)
    assert seen and set(seen) == {1}
    assert [pool.get() for pool in pools] == before
