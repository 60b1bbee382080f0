"""Responses of a planned study, from a formula, its rows and true values."""

import pandas as pd

from .planned import Parameters, plan_fit


def simulate(
    formula: str, data, *, sd, sigma: float, beta=None, cor=None, nsim: int = 1, seed=None,
    weights: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Draw responses of a model that was not fitted.

    Parameters
    ----------
    formula : str
        lme4's language; the response is a plain name and need not be among the columns.
    data : DataFrame, or dict of columns
        Rows of the design, see `simulate_design`.
    sd, cor : dict
        Group -> standard deviations of its random effects in the order of the formula, and their correlation
        (a number or a matrix; 0 by default).  A second term of a group is ``id.1``.
    sigma : residual standard deviation.
    beta : dict, optional
        Coefficient -> value; those not named are 0.
    nsim : number of responses.
    seed : int, SeedSequence or Generator, optional
    weights : str, optional
        Column of prior weights.

    Returns
    -------
    DataFrame
        Rows of ``data`` x nsim, columns ``sim_1, sim_2, ...``.

    Raises
    ------
    FormulaError, DataError, ModelError, ValueError : what is missing or unknown, by name.

    Notes
    -----
    As lme4's ``simulate(~ formula, newdata, newparams)``.  Of a fit: `LMMResults.simulate`.

    Examples
    --------
    >>> import fastlmm_core as flm
    >>> from fastlmm_core.design_tools import simulate
    >>> rows = flm.simulate_design({"subject": 20}, within={"week": [0, 1, 2, 3]})
    >>> y = simulate("y ~ week + (week | subject)", rows, beta={"Intercept": 10.0, "week": -1.0},
    ...              sd={"subject": [2.0, 0.5]}, cor={"subject": 0.3}, sigma=1.0, seed=1)
    >>> fit = flm.lmer("y ~ week + (week | subject)", rows.assign(y=y["sim_1"]))
    >>> fit.nobs, fit.ngroups
    (80, {'subject': 20})
    """
    frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
    truth = Parameters(beta or {}, sd, cor, sigma)
    fit = plan_fit(formula, frame, weights, True)
    values = {name: truth.beta.get(name, 0.0) for name in fit._names}
    unknown = [name for name in truth.beta if name not in values]
    if unknown:
        truth.beta_for(fit)  # names it
    return fit.simulate(nsim, seed, beta=values, theta=truth.theta_for(fit), sigma=truth.sigma)
