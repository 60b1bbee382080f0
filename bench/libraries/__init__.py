"""One adapter per library.

A Python adapter is a module with

* ``load()``: import the package, return a dict of versions; ImportError means not installed;
* ``refuses(model)``: why the library cannot fit the model, or an empty string;
* ``prepare(frame, model)``: the data in the form the library likes best, not timed;
* ``fit(prepared, model, settings)``: fit and make what a user reads (a summary with standard errors, and
  tests where the library has them); returns ``criterion`` (-2 restricted log-likelihood, or -2 log-likelihood
  when ``kind`` is "ML"), ``kind``, ``stages`` (seconds by name) and, if known, ``evaluations`` and
  ``converged``.

R libraries are run by ``lme4.R``.
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    name: str
    label: str
    language: str = "python"
    own: bool = False


LIBRARIES = {
    library.name: library
    for library in (
        Library("ours", "fastlmm_core", own=True),
        Library("lme4", "lme4 (R)", "R"),
        Library("lmerTest", "lmerTest (R)", "R"),
        Library("statsmodels", "statsmodels MixedLM"),
        Library("mixedlm", "mixedlm"),
        Library("mixedlm_rs", "mixedlm-rs"),
        Library("glmm", "glmm"),
        Library("gpboost", "GPBoost"),
        Library("lme_python", "lme-python"),
        Library("interlace", "interlace-lme"),
        Library("yardstick", "yardstick: copy, X'X", own=True),
    )
}
YARDSTICK = "yardstick"


class Stages:
    """Seconds by name: ``with stages("summary"): ...``."""

    def __init__(self):
        self.seconds = {}

    def __call__(self, name):
        self._name = name
        return self

    def __enter__(self):
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds[self._name] = time.perf_counter() - self._start


def single_group(model):
    """The one grouping column of a model, or None."""
    groups = model.groups
    return groups[0][0] if len(groups) == 1 and len(groups[0]) == 1 else None


def ids(frame, group):
    """One int64 key per level of an interaction of grouping columns."""
    if len(group) == 1 and frame[group[0]].dtype.kind == "i":
        return frame[group[0]].to_numpy()
    return frame.groupby(list(group), observed=True).ngroup().to_numpy()
