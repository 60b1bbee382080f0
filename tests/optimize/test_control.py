"""Settings outside their range are refused when they are made."""

import pytest

from fastlmm_core.optimize.control import Control


def test_defaults():
    control = Control()
    assert (control.engine, control.tol, control.max_iter, control.n_starts) == ("auto", None, 200, None)
    assert (control.probes, control.mc_error, control.seed) == (None, None, 0)
    assert Control(engine="sparse", tol=1e-6, max_iter=3, n_starts=2, probes=8, mc_error=0.1, seed=4)


@pytest.mark.parametrize(
    "setting",
    [
        {"engine": "magic"},
        {"tol": 0.0},
        {"tol": float("nan")},
        {"mc_error": -1.0},
        {"max_iter": 0},
        {"max_iter": None},
        {"n_starts": 1.5},
        {"n_starts": True},
        {"probes": -1},
        {"seed": -1},
    ],
)
def test_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Control(**setting)
