"""A scikit-learn estimator: linear mixed models in pipelines and cross-validation.

Needs scikit-learn 1.6 or newer (``pip install 'fastlmm_core[sklearn]'``).
"""

import re

import numpy as np
import pandas as pd

import fastlmm_core as flm

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, check_X_y, column_or_1d, validate_data
except ImportError as error:
    raise flm.errors.MissingDependencyError(
        "fastlmm_core.sklearn needs scikit-learn 1.6 or newer: pip install 'fastlmm_core[sklearn]'"
    ) from error

__all__ = ["LMMRegressor"]


EXACT = "fits noise-free data, whose residual variance is zero: refused, as no test or interval exists"

EXPECTED_FAILED_CHECKS = {
    "check_sample_weights_shape": EXACT,
    "check_sample_weights_not_overwritten": EXACT,
    "check_regressors_no_decision_function": EXACT,
    "check_sample_weight_equivalence_on_dense_data": "fits as many coefficients as rows: refused",
}
"""For ``check_estimator(LMMRegressor(), expected_failed_checks=...)``."""


class LMMRegressor(RegressorMixin, BaseEstimator):
    """Linear mixed model as a regressor.

    Parameters
    ----------
    formula : str, optional
        Right-hand side in lme4's language, ``"Days + (Days | Subject)"``; a plain name may stand on the
        left (``"Reaction ~ ..."``) and is what y is called.  By default all columns of X but ``groups``
        enter as fixed effects, text and categorical columns as factors.
    groups : str or list of str, optional
        Without a formula: columns of X that get a random intercept each.
    slopes : list of str, optional
        Without a formula: columns of X whose slopes vary, with the intercept, over every group.
    reml : bool
        REML (default) or ML.
    random_effects : bool
        Whether predictions add the random effects of levels seen in `fit`.  Levels that were not seen are
        predicted at the population mean, so grouped cross-validation works.

    Attributes
    ----------
    result_ : LMMResults or LMResults
        The fit, with its summary and tests; without groups and bars a least-squares fit.
    n_features_in_ : int
    feature_names_in_ : (n_features,) ndarray of str, when X has names

    Notes
    -----
    X is a frame (pandas, polars, pyarrow) or a numeric array, whose columns are called ``x0, x1, ...``.
    Grouping columns are columns of X: ``GroupKFold`` gets them a second time, as ``groups=X["g"]``.
    In a pipeline, ``set_output(transform="pandas")`` keeps the names.  ``sample_weight`` are prior
    weights, ``Var(e_i) = sigma^2 / w_i``: of least squares they act as repetitions, of a mixed model they do
    not, as repeated rows tell more about a group than one precise row.

    Of scikit-learn's `check_estimator`, four checks do not apply: a model whose fixed effects fit the
    response exactly, or as many coefficients as rows, has no residual variance, and is refused with a
    ModelError (a ValueError).  `EXPECTED_FAILED_CHECKS` names them.
    """

    def __init__(self, formula=None, *, groups=None, slopes=None, reml=True, random_effects=True):
        self.formula = formula
        self.groups = groups
        self.slopes = slopes
        self.reml = reml
        self.random_effects = random_effects

    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : frame or (n, features) array
        y : (n,) array
        sample_weight : (n,) array, optional
            Prior weights, not negative; rows of weight 0 are left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError : shapes that differ, missing or infinite values, a column that is not there.
        """
        if y is None:
            raise ValueError("LMMRegressor requires y to be passed, but the target y is None")
        frame, y = self._checked(X, y)
        response, right = self._formula(frame)
        frame[response] = y
        frame.attrs = {}
        fitter = flm.lmer if "|" in re.sub(r"`[^`]*`", "", right) else flm.lm
        options = {"reml": self.reml} if fitter is flm.lmer else {}
        if sample_weight is not None:
            weights = np.asarray(sample_weight, float)
            options["weights"] = np.full(len(frame), float(weights)) if weights.ndim == 0 else weights
            if not options["weights"].any():
                raise ValueError("all sample weights are zero")
        text = f"{_quoted(response)} ~ {right}"
        self.result_ = fitter(text, frame, na_action="raise", **options)
        return self

    def predict(self, X):
        """Predicted responses.

        Parameters
        ----------
        X : frame or (n, features) array, with the columns of `fit`

        Returns
        -------
        (n,) float64 ndarray
        """
        check_is_fitted(self, "result_")
        frame, _ = self._checked(X, None)
        if isinstance(self.result_, flm.LMResults):
            return self.result_.predict(frame).to_numpy()
        re = "all" if self.random_effects else "none"
        return self.result_.predict(frame, re=re, new_levels="population").to_numpy()

    def _checked(self, X, y):
        """X as a frame of its own, and y (n,) float64."""
        fitting = y is not None
        if fitting and hasattr(y, "to_numpy"):
            y = y.to_numpy()
        if not hasattr(X, "columns") and not hasattr(X, "column_names"):
            if fitting:
                X, y = validate_data(self, X, y, y_numeric=True, dtype="numeric", ensure_min_samples=2)
            else:
                X = validate_data(self, X, reset=False, dtype="numeric")
            return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]), y
        converted = X if isinstance(X, pd.DataFrame) else X.to_pandas()
        validate_data(self, X, reset=fitting, skip_check_array=True)
        frame = converted.copy(deep=False)
        frame.index = pd.RangeIndex(len(frame))
        if fitting:
            y = column_or_1d(np.asarray(y), warn=True)
            _, y = check_X_y(np.zeros((len(frame), 1)), y, y_numeric=True, ensure_min_samples=2)
        return frame, y

    def _formula(self, frame) -> tuple[str, str]:
        """The response's name and the right-hand side."""
        if self.formula is None:
            return _free_name(frame), self._default_formula(frame)
        if self.groups is not None or self.slopes is not None:
            raise ValueError(
                "groups and slopes are for models without a formula: write (slope | group) into it"
            )
        left, tilde, right = self.formula.partition("~")
        if not tilde:
            return _free_name(frame), self.formula
        left = left.strip()
        if left and not re.fullmatch(r"`[^`]+`|[^\W\d]\w*", left):
            raise ValueError(
                f"the response is y as it is given: {left!r} is not a plain name; transform y with "
                "sklearn.compose.TransformedTargetRegressor"
            )
        return left.strip("`") or _free_name(frame), right.strip()

    def _default_formula(self, frame) -> str:
        groups = [self.groups] if isinstance(self.groups, str) else list(self.groups or ())
        slopes = [self.slopes] if isinstance(self.slopes, str) else list(self.slopes or ())
        absent = [name for name in (*groups, *slopes) if name not in frame.columns]
        if absent:
            raise ValueError(f"X has no column {absent[0]!r}; it has {', '.join(map(str, frame.columns))}")
        if slopes and not groups:
            raise ValueError("slopes vary over groups: name the columns in groups")
        fixed = [_quoted(name) for name in frame.columns if name not in groups]
        inside = " + ".join(["1", *map(_quoted, slopes)])
        return " + ".join(["1", *fixed, *(f"({inside} | {_quoted(g)})" for g in groups)])


def _quoted(name) -> str:
    name = str(name)
    if "`" in name:
        raise ValueError(f"column {name!r} cannot be named in a formula: it has a backtick")
    return f"`{name}`"


def _free_name(frame) -> str:
    name = "y"
    while name in frame.columns:
        name += "_"
    return name
