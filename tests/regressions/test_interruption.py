"""Ctrl-C once ended only the rough search that finds a start, and the fit went on."""

from types import SimpleNamespace

import pytest

from fastlmm_core.optimize import score
from fastlmm_core.optimize.control import Control


@pytest.mark.parametrize("reason", ["interrupted", "Newton decrement below tolerance"])
def test_an_interrupted_scout_ends_the_fit(monkeypatch, reason):
    found = SimpleNamespace(certificate=SimpleNamespace(reason=reason), theta=[1.0])
    monkeypatch.setattr(score, "ProfiledObjective", lambda *_: None)
    monkeypatch.setattr(score, "solve_score", lambda *_, **__: found)
    objective = SimpleNamespace(engine=SimpleNamespace(scout=lambda: None), n=10, reml=True)
    if reason == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            score.scouted_start(objective, None, Control())
    else:
        assert score.scouted_start(objective, None, Control()) == [1.0]
