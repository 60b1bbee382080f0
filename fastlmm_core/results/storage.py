"""Fits to one file and back, without the data rows."""

from dataclasses import asdict

import numpy as np

from fastlmm_core.archive import put_arrays, read_archive, take_arrays, write_archive
from fastlmm_core.errors import DataError
from fastlmm_core.formula.spec import DesignSpec, pack_index, unpack_index
from fastlmm_core.inference.estimates import Estimates, VarianceCalculus
from fastlmm_core.inference.grid import Numbers
from fastlmm_core.inference.kenward_roger import KenwardRoger
from fastlmm_core.inference.ols import LeastSquares
from fastlmm_core.inference.solved import SolvedModel, StoredModel
from fastlmm_core.inference.stored import SMALL_BYTES, pack, statistics_bytes, unpack
from fastlmm_core.optimize.certificate import Certificate, Step
from fastlmm_core.results.facts import LinearFacts, MixedFacts, RowCount, Term
from fastlmm_core.results.fit import LMMResults
from fastlmm_core.results.fitrows import AbsentRows, FitRows
from fastlmm_core.results.margins import known_numbers, reference_numbers
from fastlmm_core.results.ols import LMResults

ESTIMATE_ARRAYS = ("kept", "beta", "Q", "theta", "theta_lower")
KENWARD_ROGER = ("Phi", "adjusted", "W", "P")
ESTIMATE_VALUES = ("reml", "n", "r2", "logdet_V0", "logdet_XX", "sum_log_weights")


def save(fit, path, statistics: bool | None = None) -> None:
    """Write a fit to one file.

    Parameters
    ----------
    fit : LMMResults or LMResults
    path : str or path-like
    statistics : bool, optional
        Whether the sums over the rows by level go into the file; by default where they take at most
        32 MB.  With them a loaded fit answers everything that needs no rows: errors of predictions,
        profiles, bootstrap, `ranova`, Kenward-Roger.  A fit by probes has none.

    Notes
    -----
    The file holds estimates, random effects with their covariances, degrees of
    freedom, and what `predict` needs, but no data rows: its size does not depend on their number.
    Arrays and JSON only: reading it cannot execute code.
    """
    if isinstance(fit, LMMResults):
        values, arrays = _mixed_parts(fit)
        stored = _statistics(fit, statistics)
        if stored is not None:
            values["statistics"] = stored
    elif isinstance(fit, LMResults):
        values, arrays = _linear_parts(fit)
    else:
        raise TypeError(f"save takes a fit made by lmer or lm, found {type(fit).__name__}")
    write_archive(path, take_arrays(values, arrays, "values"), arrays)


def load(path):
    """Read a fit written by `save`.

    Returns
    -------
    LMMResults or LMResults : row attributes raise a DataError that says why.

    Raises
    ------
    DataError : the file is truncated, altered, or no saved fit.
    """
    values, arrays = read_archive(path)
    makers = {"mixed": _mixed_fit, "linear": _linear_fit}
    try:
        return makers[values["kind"]](put_arrays(values, arrays), arrays)
    except Exception as error:  # parts of the wrong kind fail in many ways
        raise DataError(
            f"{path} lacks a part of a saved fit, or has one of another kind: {error!r}"
        ) from error


def _common_values(fit) -> dict:
    facts = fit._facts
    return {
        "formula": facts.formula,
        "data_name": facts.data_name,
        "response": facts.response,
        "coefficients": list(facts.coefficients),
        "has_constant": facts.has_constant,
        "weights_name": facts.weights_name,
        "rows": asdict(facts.rows),
        "timings": fit.timings,
        "spec": fit._spec.to_dict(),
        "numbers": _numbers_part(fit),
    }


def _numbers_part(fit) -> dict:
    """What reference grids need of numeric variables."""
    if isinstance(fit._rows, FitRows):
        found = known_numbers(fit)
    else:
        found = reference_numbers(fit)
    return {name: [number.mean, number.range, number.values] for name, number in found.items()}


def _kept_numbers(values: dict) -> dict:
    stored = values.get("numbers", {})
    return {
        "numbers": {
            str(name): Numbers(float(mean), float(width), None if few is None else tuple(few))
            for name, (mean, width, few) in stored.items()
        }
    }


def _triangle_part(fit) -> dict:
    """What tests of terms need of X; fits whose rows are gone may not have it."""
    try:
        return {"triangle": fit._triangle()}
    except DataError:
        return {}


def _kept_triangle(arrays: dict) -> dict:
    return {"triangle": arrays["triangle"]} if "triangle" in arrays else {}


def _common_facts(values: dict) -> dict:
    return {
        "formula": values["formula"],
        "data_name": values["data_name"],
        "response": values["response"],
        "coefficients": tuple(values["coefficients"]),
        "has_constant": bool(values["has_constant"]),
        "weights_name": values["weights_name"],
        "rows": RowCount(**values["rows"]),
    }


def _mixed_parts(fit: LMMResults) -> tuple[dict, dict]:
    facts, solved, estimates = fit._facts, fit._solved, fit._estimates
    values = {
        "kind": "mixed",
        **_common_values(fit),
        "reml": facts.reml,
        "factors": list(facts.factors),
        "levels": [pack_index(levels) for levels in facts.levels],
        "terms": [[term.factor, list(term.names)] for term in facts.terms],
        "engine": facts.engine,
        "engine_reason": facts.engine_reason,
        "averaged": bool(solved.calculus.averaged),
        "estimates": {name: getattr(estimates, name) for name in ESTIMATE_VALUES},
        "convergence": asdict(fit.convergence) | {"trace": [list(step) for step in fit.convergence.trace]},
        "variances": list(fit._rows.variances),
    }
    arrays = {name: getattr(estimates, name) for name in ESTIMATE_ARRAYS}
    arrays |= {f"term{t}": T for t, T in enumerate(estimates.terms)}
    arrays |= {f"modes{f}": b for f, b in enumerate(solved.random_effects)}
    arrays |= {f"condcov{f}": solved.conditional_covariance(f) for f in range(len(facts.factors))}
    calculus = solved.calculus
    arrays |= {name: getattr(calculus, name) for name in ("information", "covariance", "jacobian")}
    if calculus.to_theta is not None:
        arrays["to_theta"] = calculus.to_theta
    arrays["quantiles"] = fit._rows.quantiles
    arrays |= _triangle_part(fit)
    adjustment = vars(solved).get("kenward_roger") or vars(solved).get("adjustment")
    if adjustment is not None:
        arrays |= {f"kr_{name}": getattr(adjustment, name) for name in KENWARD_ROGER}
    return values, arrays


def _mixed_fit(values: dict, arrays: dict) -> LMMResults:
    facts = MixedFacts(
        **_common_facts(values),
        reml=bool(values["reml"]),
        factors=tuple(values["factors"]),
        levels=tuple(unpack_index(stored) for stored in values["levels"]),
        terms=tuple(Term(factor, tuple(names)) for factor, names in values["terms"]),
        engine=values["engine"],
        engine_reason=values.get("engine_reason", ""),
    )
    estimates = Estimates(
        **{name: values["estimates"][name] for name in ESTIMATE_VALUES},
        **{name: arrays[name] for name in ESTIMATE_ARRAYS},
        terms=tuple(arrays[f"term{t}"] for t in range(len(facts.terms))),
    )
    _check_shapes(facts, estimates, arrays)
    solved: StoredModel | SolvedModel = StoredModel(
        estimates,
        VarianceCalculus(
            arrays["information"], arrays["covariance"], arrays["jacobian"], arrays.get("to_theta"),
            bool(values.get("averaged", values["convergence"].get("monte_carlo") is not None)),
        ),
        tuple(arrays[f"modes{f}"] for f in range(len(facts.factors))),
        tuple(arrays[f"condcov{f}"] for f in range(len(facts.factors))),
        KenwardRoger(*(arrays[f"kr_{name}"] for name in KENWARD_ROGER)) if "kr_W" in arrays else None,
    )
    if "statistics" in values:
        _check_statistics(facts, values["statistics"])
        solved = unpack(values["statistics"], estimates).with_results(solved)
    ended = dict(values["convergence"])
    ended["boundary"] = tuple(ended["boundary"])
    ended["trace"] = [Step(*step) for step in ended["trace"]]
    known = {"variances": tuple(values["variances"]), "quantiles": arrays["quantiles"]}
    rows = AbsentRows(known | _kept_triangle(arrays) | _kept_numbers(values))
    spec = DesignSpec.from_dict(values["spec"])
    return LMMResults(facts, solved, Certificate(**ended), rows, spec, values["timings"])


def _check_statistics(facts: MixedFacts, stored: dict) -> None:
    """ValueError where the statistics are those of another model."""
    columns = [len(facts.factor_columns(f)) for f in range(len(facts.factors))]
    terms = [[term.factor, len(term.names)] for term in facts.terms]
    if (
        list(stored["levels"]) != [len(levels) for levels in facts.levels]
        or [len(z) for z in stored["z"]] != columns
        or [[f, q] for f, _, q in stored["blocks"]] != terms
        or len(stored["x"]) != len(facts.coefficients)
    ):
        raise ValueError("the statistics do not belong to the model")


def _check_shapes(facts: MixedFacts, estimates: Estimates, arrays: dict) -> None:
    """ValueError where arrays do not belong together."""
    p, r, m = len(facts.coefficients), len(estimates.kept), len(estimates.theta)
    expected = {
        "kept": (r,), "beta": (p,), "Q": (r, r), "theta": (m,), "theta_lower": (m,),
        **{f"term{t}": (len(term.names),) * 2 for t, term in enumerate(facts.terms)},
    }  # fmt: skip
    for f, levels in enumerate(facts.levels):
        k = len(facts.factor_columns(f))
        expected |= {f"modes{f}": (len(levels), k), f"condcov{f}": (len(levels), k, k)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"array {name!r} has shape {arrays[name].shape}, not {shape}")


def _statistics(fit: LMMResults, wanted: bool | None) -> dict | None:
    """What `inference.stored` keeps of the equations, or None."""
    solved = fit._solved
    known = isinstance(solved, SolvedModel) and fit._facts.engine != "iterative"
    if wanted and not known:
        why = "was made by probes" if isinstance(solved, SolvedModel) else "has lost them"
        raise DataError(f"save cannot store the statistics: this fit {why}")
    if not known or wanted is False:
        return None
    return pack(solved) if wanted or statistics_bytes(solved.products) <= SMALL_BYTES else None


def _linear_parts(fit: LMResults) -> tuple[dict, dict]:
    estimates = fit._estimates
    values = {
        "kind": "linear",
        **_common_values(fit),
        "n": estimates.n,
        "rss": estimates.rss,
        "sum_log_weights": estimates.sum_log_weights,
        "model_squares": list(fit._rows.model_squares),
    }
    arrays = {
        "kept": estimates.kept,
        "beta": estimates.beta,
        "Q": estimates.Q,
        "quantiles": fit._rows.quantiles,
    }
    return values, arrays | _triangle_part(fit)


def _linear_fit(values: dict, arrays: dict) -> LMResults:
    facts = LinearFacts(**_common_facts(values))
    estimates = LeastSquares(
        values["n"],
        arrays["kept"].astype(np.intp),
        arrays["beta"],
        arrays["Q"],
        values["rss"],
        values["sum_log_weights"],
    )
    known = {"model_squares": tuple(values["model_squares"]), "quantiles": arrays["quantiles"]}
    rows = AbsentRows(known | _kept_triangle(arrays) | _kept_numbers(values))
    return LMResults(facts, estimates, rows, DesignSpec.from_dict(values["spec"]), values["timings"])
