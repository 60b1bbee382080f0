"""statsmodels' ``mixedlm`` arguments, translated to one formula and fitted here."""

import difflib
import inspect
import re

import numpy as np
import pandas as pd

import fastlmm_core as flm

__all__ = ["mixedlm", "translate"]


def mixedlm(
    formula, data, groups=None, re_formula=None, vc_formula=None, *, reml=True, missing="drop", **options
):
    """Fit a mixed model written as for statsmodels' ``mixedlm``.

    Parameters
    ----------
    formula : str
        Response and fixed effects, ``"Reaction ~ Days"``.
    data : DataFrame
    groups : str or (n,) array
        Column of the groups, or the groups themselves.
    re_formula : str, optional
        Random effects of a group, ``"~Days"``: correlated.  By default a random intercept, or with
        ``vc_formula`` none.
    vc_formula : dict, optional
        Name -> formula of independent effects that share one variance within each group: ``"0 + C(b)"``,
        ``"0 + x"``, ``"0 + C(b):x"`` or ``"1"``.
    reml : bool
    missing : ``"drop"`` or ``"raise"``
    options : of `lmer`.

    Returns
    -------
    LMMResults
        Fitted already, with an attribute ``translation``: the formula that `lmer` was given.

    Raises
    ------
    FormulaError
        A variance component that lme4's language has no words for.

    Notes
    -----
    ``fit.params`` holds fixed effects only; variances are in ``fit.varcorr()`` in units of the response,
    where statsmodels' parameters are relative to the residual variance.  With one group for all
    rows (statsmodels' way to crossed effects) the components are not nested in it.
    """
    if missing not in ("drop", "raise"):
        raise ValueError(f"missing is 'drop' or 'raise', found {missing!r}")
    if vc_formula is not None and not hasattr(vc_formula, "items"):
        raise TypeError(f"vc_formula is a dict such as {{'b': '0 + C(b)'}}, found {vc_formula!r}")
    unknown = [name for name in options if name not in inspect.signature(flm.lmer).parameters]
    if unknown:
        raise TypeError(
            f"{unknown[0]!r} is no option here: options are those of lmer (weights, control, ...); no "
            "fit depends on a choice of optimizer or parametrization"
        )
    data, groups = _with_groups(data, groups)
    text = translate(formula, data, groups, re_formula, vc_formula)
    fit = flm.lmer(text, data, reml=reml, na_action=missing, **options)
    fit.__dict__["translation"] = text
    return fit


def translate(formula, data, groups, re_formula=None, vc_formula=None) -> str:
    """The formula of `lmer` for arguments of ``mixedlm``.

    Parameters
    ----------
    formula, re_formula, vc_formula : as for `mixedlm`
    data : DataFrame, for the kinds of its columns
    groups : str, a column of ``data``

    Returns
    -------
    str
    """
    one_group = data[groups].nunique() == 1
    group, bars = _quoted(groups), []
    if re_formula is not None or not vc_formula:
        inside = "1" if re_formula is None else _right(re_formula)
        if inside.replace(" ", "") in ("0", "-1"):
            inside = ""
        if inside and one_group:
            raise flm.FormulaError(
                f"all rows are in one group of {groups!r}: effects of that group ({inside}) are not "
                "identified; leave re_formula out and name the effects in vc_formula"
            )
        if inside:
            bars.append(f"({inside} | {group})")
    for name, text in (vc_formula or {}).items():
        bars.append(_component(name, text, data, None if one_group else group))
    if not bars:
        raise flm.FormulaError("the model has no random effects: fit it with lm")
    return " + ".join([formula.strip(), *bars])


def _component(name, text, data, group) -> str:
    """One bar for one variance component."""
    inside = _right(text)
    terms = [term.strip() for term in inside.split("+") if term.strip() not in ("", "0", "-1", "- 1")]
    terms = [re.sub(r"\s*-\s*1$", "", term) for term in terms]
    no_intercept = inside != "1" and (
        re.match(r"\s*0\s*\+|\s*-\s*1\s*\+", inside) or re.search(r"-\s*1\s*$", inside)
    )
    if inside == "1":
        if group is None:
            raise flm.FormulaError(
                f"vc_formula[{name!r}]: an intercept of one group of all rows is not identified"
            )
        return f"(1 | {group})"
    if not no_intercept or len(terms) != 1 or "*" in terms[0]:
        raise flm.FormulaError(
            f"vc_formula[{name!r}] is {text!r}: one term without an intercept can be translated, like "
            "'0 + C(b)', "
            "'0 + x' or '0 + C(b):x'; give other terms entries of their own"
        )
    factors, slopes = [], []
    for piece in (piece.strip() for piece in terms[0].split(":")):
        column = _factor_column(piece, data)
        factors.append(_quoted(column)) if column is not None else slopes.append(piece)
    where = ":".join([*([group] if group else []), *factors])
    if not where:
        raise flm.FormulaError(f"vc_formula[{name!r}] is {text!r}: a slope needs groups to vary over")
    return f"(0 + {':'.join(slopes)} | {where})" if slopes else f"(1 | {where})"


def _factor_column(piece: str, data):
    """The column behind a factor: ``C(b)``, or the name of a column that is no number."""
    found = re.fullmatch(r"C\(\s*([^,()]+?)\s*\)", piece)
    name = (found[1] if found else piece).strip("`")
    if name.startswith("Q(") or name not in data.columns:
        return None
    return name if found or not pd.api.types.is_numeric_dtype(data[name]) else None


def _right(text: str) -> str:
    return text.rpartition("~")[2].strip()


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f"`{name}`"


def _with_groups(data, groups):
    if groups is None:
        raise flm.FormulaError("groups is a column of the data, or an array of group labels: it is missing")
    if not isinstance(data, pd.DataFrame):
        data = data.to_pandas() if hasattr(data, "to_pandas") else pd.DataFrame(data)
    if isinstance(groups, str):
        if groups not in data.columns:
            near = difflib.get_close_matches(groups, map(str, data.columns), 3, 0.6)
            hint = f"columns are {', '.join(map(repr, data.columns))}"
            if near:
                hint = f"did you mean {', '.join(map(repr, near))}?"
            raise flm.FormulaError(f"the data have no column {groups!r} to group by: {hint}")
        return data, groups
    labels = np.asarray(groups)
    if labels.shape != (len(data),):
        raise flm.DataError(f"groups has shape {labels.shape}; the data have {len(data)} rows")
    name = getattr(groups, "name", None)
    if not isinstance(name, str) or (name in data.columns and not np.array_equal(data[name], labels)):
        name = "group"
        while name in data.columns:
            name += "_"
    return data.assign(**{name: labels}), name
