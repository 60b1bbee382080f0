"""A fit in plain words: the model, its rows, and how the search ended."""

from fastlmm_core.results.numbers import format_one

MOST_NAMES = 12
"""Names listed in one sentence; of more, the first and a count."""


def words(fit) -> dict[str, str]:
    """Paragraphs by name: ``model``, ``rows`` and, of a mixed model, ``certificate``."""
    found = {"model": _model(fit), "rows": _rows(fit)}
    if hasattr(fit, "convergence"):
        found["certificate"] = _certificate(fit)
    return found


def _listed(names) -> str:
    names = list(map(str, names))
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _readable(names) -> list[str]:
    return ["the intercept" if name == "Intercept" else name for name in names]


def _model(fit) -> str:
    facts, mixed = fit._facts, hasattr(fit, "convergence")
    kind = "linear mixed model" if mixed else "linear model"
    how = {True: "restricted maximum likelihood (REML)", False: "maximum likelihood (ML)"}
    method = how[facts.reml] if mixed else "least squares"
    fixed = [name for j, name in enumerate(fit._names) if j in fit._kept]
    sentences = [f"A {kind} of {facts.response}, fitted by {method} to {fit.nobs:,} rows."]
    if fixed:
        sentences.append(f"Fixed effects: {_listed(_readable(fixed))}.")
    if fit._spec.offsets:
        sentences.append(f"Added with coefficient 1 (offset): {_listed(fit._spec.offsets)}.")
    if mixed:
        sentences += [_term(facts, term) for term in facts.terms]
        sentences.append(
            "Random effects of different terms are independent of each other and of the residuals."
        )
    spread = "the residuals have one variance"
    if facts.weights_name:
        spread = (
            f"the residual variance of a row is sigma squared divided by its weight ({facts.weights_name})"
        )
    sentences.append(f"Given all effects, rows are independent and normal; {spread}.")
    return " ".join(sentences)


def _term(facts, term) -> str:
    group, levels = facts.factors[term.factor], len(facts.levels[term.factor])
    verb = "varies" if len(term.names) == 1 else "vary"
    text = f"{_listed(_readable(term.names))} {verb} over the {levels:,} levels of {group}"
    text = text[0].upper() + text[1:]
    return text + (", with correlations estimated." if len(term.names) > 1 else ".")


def _rows(fit) -> str:
    rows = fit._facts.rows
    if not rows.dropped:
        return f"All {rows.used:,} rows of the data were used."
    why = "; ".join(f"{reason}: {count:,}" for reason, count in rows.reasons.items())
    left = f"{rows.dropped:,} {_were(rows.dropped)} left out"
    return f"{rows.used:,} of {rows.given:,} rows were used; {left}{f' ({why})' if why else ''}."


def _certificate(fit) -> str:
    c = fit.convergence
    steps = f"{c.iterations} Newton step{'s' * (c.iterations != 1)}"
    if c.converged:
        head = f"The search for the variances ended at a certified minimum after {steps} ({c.reason})."
    else:
        head = (
            f"The search for the variances did not end at a certified minimum: it stopped after {steps} "
            f"({c.reason}). Treat the estimates with caution."
        )
    lines = [
        head,
        f"One more Newton step would lower the criterion by {_below(c.newton_decrement, 1e-10)}; the largest "
        f"gradient, in units of its curvature, is {_below(c.max_scaled_gradient, 1e-6)}.",
    ]
    lowest = c.min_hessian_eigenvalue
    if lowest == lowest:
        shape = "a strict minimum" if lowest > 0 else "not a strict minimum"
        if not c.converged:
            shape = "the criterion bends upwards" if lowest > 0 else "the criterion does not bend upwards"
        lines.append(
            f"The smallest eigenvalue of the scaled Hessian is {format_one(lowest, 3)}: {shape} "
            "in all directions that are free."
        )
    if c.boundary:
        lines.append(
            f"At the boundary, that is estimated as exactly 0: {_listed(c.boundary)}. The criterion rises "
            "when they leave 0, which was checked."
            if c.converged
            else f"At the boundary, that is estimated as exactly 0: {_listed(c.boundary)}."
        )
    if fit.is_singular:
        lines.append(
            "The fit is singular: a variance is zero or a correlation is 1 or -1; the data do not support "
            "all random effects of the formula."
            if c.boundary
            else "Some theta is below 1e-4, which lme4 calls singular, but none is at its bound: theta "
            "depends on units, so look at a predictor in very small units."
        )
    if c.monte_carlo is not None:
        lines.append(
            f"Traces were estimated with {c.monte_carlo.probes} probes: the error this leaves in theta "
            f"is at most {c.monte_carlo.worst:.2g} standard errors, and the log-likelihood has sd "
            f"{c.monte_carlo.loglik_sd:.2g}."
        )
    return " ".join(lines)


def _below(value: float, floor: float) -> str:
    return f"less than {floor:.0e}" if value < floor else format_one(value, 2)
