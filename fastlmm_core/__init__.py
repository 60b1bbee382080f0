"""Linear mixed models, fast and exact: lme4's formulas, Satterthwaite tests, certified optima."""

from importlib import import_module as _import_module

from fastlmm_core.errors import (
    ConvergenceWarning,
    DataError,
    DataWarning,
    FastLMMError,
    FormulaError,
    ModelError,
    ModelWarning,
    MonteCarloWarning,
    NumericalError,
    RankWarning,
)

__version__ = "0.1.0"

_LAZY = {
    "lmer": "api",
    "lm": "api",
    "save": "api",
    "load": "api",
    "anova": "results.comparison",
    "exact_rlrt": "results.comparison",
    "bootstrap_lrt": "results.bootstrap_lrt",
    "compare": "results.compare",
    "plan": "streaming",
    "fit": "streaming",
    "CrossProducts": "streaming",
    "Plan": "streaming",
    "Control": "optimize.control",
    "LMMResults": "results.fit",
    "LMResults": "results.ols",
    "power": "design_tools",
    "simulate": "design_tools",
    "simulate_design": "design_tools",
    "load_dataset": "datasets",
    "list_datasets": "datasets",
}

__all__ = [
    "ConvergenceWarning",
    "DataError",
    "DataWarning",
    "FastLMMError",
    "FormulaError",
    "ModelError",
    "ModelWarning",
    "MonteCarloWarning",
    "NumericalError",
    "RankWarning",
    "__version__",
    *_LAZY,
]


def __getattr__(name):
    if name in _LAZY:
        value = getattr(_import_module(f"fastlmm_core.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastlmm_core' has no attribute {name!r}")


def __dir__():
    public = {name for name in globals() if name.startswith("__") or not name.startswith("_")}
    return sorted(public | {*_LAZY})
