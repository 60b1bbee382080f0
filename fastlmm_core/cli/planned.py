"""A plan as plain values."""

import math
from dataclasses import asdict

SCHEMA = 1
"""Version of `plan_values`; raised when a key changes its meaning or goes away."""


def plan_values(plan) -> dict:
    """What the text of a plan says, as dicts, lists, text and numbers; None for what is not known."""
    from fastlmm_core.stream.plan import ROWS_PER_SECOND

    spec, groups = plan.spec, plan.group_names
    memory, engines = plan.forecast(), plan.engines
    sizes = ("batches", "learning", "statistics", "fit", "peak")
    return {
        "schema": SCHEMA,
        "formula": plan.formula,
        "method": "REML" if plan.reml else "ML",
        "fixed": list(plan.layout.fixed_names),
        "random": [
            {"group": groups[term.factor], "terms": [column.name for column in term.columns]}
            for term in spec.terms
        ],
        "factors": [
            {"name": str(piece.piece), "levels": [str(level) for level in piece.levels]}
            for piece in spec.pieces
            if piece.levels is not None
        ],
        "groups": [_group(plan, name) for name in groups],
        "weights": spec.weights,
        "data": {
            "source": plan.source,
            "name": plan.data_name,
            "rows": plan.rows,
            "columns": list(plan.columns),
            "bytes_per_row": plan.row_bytes,
            "first_pass": list(plan.learned),
        },
        "bytes": {name: int(getattr(memory, name)) for name in sizes},
        "engine": None if engines is None else {"name": engines.engine, "reason": engines.reason},
        "engines": None
        if engines is None
        else [{name: _number(value) for name, value in asdict(row).items()} for row in engines.rows],
        "seconds": {"pass": None if plan.rows is None else plan.rows / ROWS_PER_SECOND},
    }


def _group(plan, name: str) -> dict:
    expected = plan.expected.get(name)
    if expected is None:
        return {"name": name, "levels": None, "how": None}
    return {"name": name, "levels": expected.levels, "how": expected.how}


def _number(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
