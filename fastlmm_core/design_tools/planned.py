"""A model with the parameters of a plan in place of estimates."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from ..api import lmer
from ..errors import ConvergenceWarning, FormulaError, ModelError
from ..formula.parse import parse_formula
from ..inference.solved import SolvedModel

_EXAMPLES = {"beta": "{'week': 0.5}", "sd": "{'subject': [1.0, 0.3]}", "cor": "{'subject': 0.2}"}


class Parameters:
    """True values of a planned model.

    Parameters
    ----------
    beta : dict or Series, coefficient -> value; those not named are 0.
    sd : dict, random term's group -> standard deviations in the order of its columns.
    cor : dict, group -> correlation (of two columns) or correlation matrix; 0 where it is not named.
    sigma : residual standard deviation.
    """

    def __init__(self, beta, sd, cor, sigma):
        for name, given in (("beta", beta), ("sd", sd), ("cor", cor or {})):
            if not hasattr(given, "keys"):
                raise TypeError(f"{name} is a dict such as {_EXAMPLES[name]}, found {given!r}")
        self.beta = dict(beta)
        self.sd = {key: np.atleast_1d(np.asarray(value, float)) for key, value in dict(sd).items()}
        self.cor, self.sigma = dict(cor or {}), float(sigma)
        if not self.sigma > 0:
            raise ValueError(f"sigma is positive, found {sigma!r}")

    @classmethod
    def of(cls, fit) -> "Parameters":
        """The estimates of a fit."""
        sd, cor = {}, {}
        for key, _, cov in fit._blocks:
            sd[key] = np.sqrt(np.diag(cov))
            scale = np.where(sd[key] > 0, sd[key], 1.0)
            cor[key] = cov / np.outer(scale, scale) + np.diag(1.0 * (sd[key] == 0))
        return cls(fit.params.dropna(), sd, cor, fit.sigma)

    def changed(self, beta, sd, cor, sigma) -> "Parameters":
        return Parameters(
            self.beta | dict(beta or {}),
            self.sd | dict(sd or {}),
            self.cor | dict(cor or {}),
            self.sigma if sigma is None else sigma,
        )

    def beta_for(self, fit) -> np.ndarray:
        """By the coefficients of a fit (p,)."""
        unknown = [name for name in self.beta if name not in fit._names]
        if unknown:
            raise ValueError(f"no coefficient {unknown[0]!r}; the model has {', '.join(fit._names)}")
        return np.array([self.beta.get(name, 0.0) for name in fit._names])

    def theta_for(self, fit) -> np.ndarray:
        """Relative covariance parameters in lme4's order."""
        keys = fit._facts.keys
        for name in (*self.sd, *self.cor):
            if name not in keys:
                raise ValueError(f"no random term {name!r}; the model has {', '.join(keys)}")
        theta = []
        for key, term in zip(keys, fit._facts.terms):
            if key not in self.sd:
                raise ValueError(f"sd of the random term {key!r} ({', '.join(term.names)}) is missing")
            L = self._factor(key, term.names) / self.sigma
            theta += [L[a, b] for b in range(len(L)) for a in range(b, len(L))]
        return np.array(theta)

    def _factor(self, key, names) -> np.ndarray:
        """Lower triangular L with ``L L'`` the covariance of a term."""
        sd, q = self.sd[key], len(names)
        if sd.shape != (q,) or not (sd >= 0).all():
            raise ValueError(
                f"sd[{key!r}] takes one value of at least 0 for each of {', '.join(names)}; "
                f"found {sd.tolist()}"
            )
        given = np.asarray(self.cor.get(key, 0.0), float)
        R = np.eye(q) + given * (1 - np.eye(q)) if given.ndim == 0 else given
        if R.shape != (q, q) or not np.allclose(R, R.T) or not np.allclose(np.diag(R), 1.0):
            raise ValueError(f"cor[{key!r}] is one number or a {q} x {q} correlation matrix")
        try:
            return sd[:, None] * np.linalg.cholesky(R * (1 - 1e-12) + 1e-12 * np.eye(q))
        except np.linalg.LinAlgError:
            raise ValueError(f"cor[{key!r}] is no correlation matrix: it is not positive definite") from None


def plan_fit(formula: str, frame: pd.DataFrame, weights, reml: bool):
    """A fit of pure noise: the design, its coding and its statistics."""
    response = parse_formula(formula).response
    if not response.strip("`").replace("_", "a").isidentifier() and not response.startswith("`"):
        raise FormulaError(f"{formula}\nthe response of a planned study is a plain name, found {response}")
    y = np.random.default_rng(0).standard_normal(len(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return lmer(formula, frame.assign(**{response.strip("`"): y}), weights=weights, reml=reml)


def at_parameters(fit, parameters: Parameters) -> SolvedModel:
    """The fit's model at given parameters: its point in the engine's coordinates, for drawing from it."""
    old = fit._solved
    if not hasattr(old, "products"):
        raise ModelError(
            "power needs a fit made by lmer: this one was loaded or copied without its equations"
        )
    fixed, theta = old.fixed, parameters.theta_for(fit)
    beta = parameters.beta_for(fit)
    # beta[kept] = shift + scale A beta~
    standardized = np.linalg.solve(fixed.A, (beta[fixed.kept] - fixed.shift) / fixed.scale)
    s2 = (parameters.sigma / fixed.scale) ** 2
    point = replace(
        old.point, beta=standardized, Lambda=old.theta_map.to_Lambda(theta), s2=s2, r2=s2 * old.point.N
    )
    full = np.full(fixed.p, np.nan)
    full[fixed.kept] = beta[fixed.kept]
    estimates = replace(
        old.estimates, beta=full, theta=theta, r2=parameters.sigma**2 * old.point.N,
        terms=tuple(old.theta_map.term_T(theta)),
    )  # fmt: skip
    return SolvedModel(old.objective, point, old.theta_map, estimates, fixed, old.products)
