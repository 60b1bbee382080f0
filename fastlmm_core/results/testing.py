"""Tests of linear hypotheses on a fit: contrasts, tables of terms, marginal means."""

import warnings

import numpy as np
import pandas as pd

from fastlmm_core.errors import RankWarning
from fastlmm_core.inference.adjust import METHODS, Family
from fastlmm_core.inference.anova import gram_triangle, term_hypotheses, type_number, weighted_triangle
from fastlmm_core.inference.cells import Rows, alias_relations, estimable, representative_rows
from fastlmm_core.inference.contrasts import hypotheses
from fastlmm_core.inference.distributions import f_upper
from fastlmm_core.inference.emmeans import read_specs
from fastlmm_core.inference.tests import AdjustedTests, Method, Satterthwaite
from fastlmm_core.results.coefficients import FixedEffects, choose
from fastlmm_core.results.collinearity import inflation
from fastlmm_core.results.fitrows import FitRows
from fastlmm_core.results.margins import (
    MarginalMeans,
    contrasts_frame,
    covariance_of,
    margins,
    means_frame,
)
from fastlmm_core.results.restriction import restrictions
from fastlmm_core.results.streamrows import StatisticsRows


class Testing:
    """Methods over what `FixedEffects` and a fit's rows offer."""

    __test__ = False  # not a test class

    def _methods(self) -> dict:
        """Ways to find degrees of freedom, the default first: name -> maker of a `Method`."""
        return {
            "satterthwaite": lambda: Satterthwaite(self._vcov, self._solved.calculus),
            "kenward-roger": lambda: AdjustedTests(self._solved.kenward_roger),
        }

    def _method(self, ddf: str | None) -> Method:
        methods = self._methods()
        return choose(next(iter(methods)) if ddf is None else ddf, methods, "ddf")()

    @property
    def _representative(self) -> Rows:
        """Rows with the linear relations of the design."""
        if "_representative_rows" not in self.__dict__:
            design = self._rows.design if isinstance(self._rows, FitRows) else None
            rows = representative_rows(design, self._spec, self._kept)
            self.__dict__["_representative_rows"] = rows
        return self.__dict__["_representative_rows"]

    def _is_estimable(self, L: np.ndarray) -> np.ndarray:
        if len(self._kept) == len(self._names):
            return np.ones(len(L), bool)
        known = isinstance(self._rows, FitRows)
        return estimable(L, self._kept, alias_relations(self._representative) if known else None)

    def contrast(
        self,
        L,
        rhs=0.0,
        ddf: str | None = None,
        joint: bool = False,
        level: float = 0.95,
        adjust: str = "none",
    ) -> pd.DataFrame:
        """Test linear combinations of the fixed effects, ``L beta = rhs``.

        Parameters
        ----------
        L : str, list of str, (p,) or (c, p) array, dict, DataFrame with coefficients as columns, or a fit
            Text such as ``"week - treatment[T.succimer] = 0"`` or ``"2*Days + Intercept = 250"``;
            names are those of `params`, backticks around them are allowed.  A dict has weights by
            coefficient, 0 for others.  A fit of the same rows whose fixed part is nested in this one's stands
            for the restrictions that lead to it (with ``joint=True``: pbkrtest's ``KRmodcomp``).
        rhs : float or (c,) array
            Hypothesised values; added to constants in the text.
        ddf : ``"satterthwaite"`` (default) or ``"kenward-roger"``
            Degrees of freedom and, for Kenward-Roger, the covariance.
        joint : bool
            One F test of all rows together in place of a t test of each.
        level : float
            Coverage of the confidence limits.
        adjust : ``"none"``, ``"mvt"``, ``"sidak"``, ``"scheffe"``, ``"bonferroni"``, ``"holm"``, ``"fdr"``
            For p values and limits of the rows as one family, as in `emmeans`.

        Returns
        -------
        DataFrame
            A row per contrast: ``estimate`` (``L beta``), ``std_error``, ``df``, ``t`` (of
            ``estimate - rhs``), ``p`` (two-sided), ``lower``, ``upper``.  With ``joint=True`` one
            row: ``F, num_df, den_df, p``.

        Raises
        ------
        FormulaError : text that does not parse, or names no coefficient.
        ModelError : a fit whose fixed part is not nested in this one's.
        ValueError : arrays of another width.

        Warns
        -----
        RankWarning : rows that aliased columns make not estimable; they are NaN.

        Notes
        -----
        Satterthwaite: Giesbrecht & Burns (1985), doi:10.2307/2530872, and for joint tests Fai &
        Cornelius (1996), doi:10.1080/00949659608811740, as lmerTest.  Kenward & Roger (1997),
        doi:10.2307/2533558, as pbkrtest.

        Examples
        --------
        >>> import fastlmm_core as flm
        >>> fit = flm.lmer("Reaction ~ Days + (Days | Subject)", flm.load_dataset("sleepstudy"))
        >>> row = fit.contrast("Intercept + 9*Days = 300")
        >>> row[["estimate", "std_error", "df", "t", "p"]].round(3)  # doctest: +NORMALIZE_WHITESPACE
                                  estimate  std_error    df      t      p
        Intercept + 9*Days = 300   345.611     14.629  17.0  3.118  0.006
        """
        if isinstance(L, FixedEffects):
            L = restrictions(self, L)
        asked = hypotheses(L, self._names, rhs)
        method = self._method(ddf)
        if joint:
            return self._joint_frame([("joint", asked.L)], method, asked.rhs)
        return self._contrast_frame(asked.L, method, asked.rhs, level, asked.labels, adjust)

    def anova(self, type=3, ddf: str | None = None) -> pd.DataFrame:
        """F tests of the terms of the fixed part, as lmerTest's ``anova``.

        Parameters
        ----------
        type : 1, 2, 3 or ``"I"``, ``"II"``, ``"III"``
            I: terms in the order of the formula; II: each after all terms that do not contain it;
            III: each averaged over the levels of the others (does not depend on the coding).
        ddf : ``"satterthwaite"`` (default) or ``"kenward-roger"``

        Returns
        -------
        DataFrame
            A row per term, columns ``sum_sq, mean_sq, num_df, den_df, F, p``; ``mean_sq`` is F times
            sigma^2 (F before Kenward-Roger's factor).  A term without columns of its own is NaN.

        Notes
        -----
        Kuznetsova, Brockhoff & Christensen (2017), doi:10.18637/jss.v082.i13.  Hypotheses of
        types I and II weigh the rows of a mixed model equally, prior weights or not, as there.

        Examples
        --------
        >>> import fastlmm_core as flm
        >>> fit = flm.lmer("yield ~ nitro + Variety + (1 | Block / Variety)", flm.load_dataset("Oats"))
        >>> fit.anova().round(3)  # doctest: +NORMALIZE_WHITESPACE
                    sum_sq    mean_sq  num_df  den_df        F      p
        term
        nitro    19536.400  19536.400       1    53.0  118.003  0.000
        Variety    491.821    245.911       2    10.0    1.485  0.272
        """
        number = type_number(type)
        method = self._method(ddf)
        found = term_hypotheses(number, self._spec, self._kept, self._triangle, lambda: self._representative)
        beta, rows = self._beta[self._kept], []
        for _, L in found:
            if not len(L):
                rows.append([np.nan] * 6)
                continue
            F, q, df, factor = method.joint(L, beta, 0.0)
            mean_sq = F / factor * self.scale
            rows.append([mean_sq * q, mean_sq, q, df, F, f_upper(F, q, df)])
        columns = ["sum_sq", "mean_sq", "num_df", "den_df", "F", "p"]
        frame = pd.DataFrame(rows, columns=columns, index=pd.Index([name for name, _ in found], name="term"))
        return frame.astype({"num_df": int}) if frame["num_df"].notna().all() else frame

    def hypotheses(self, type=3) -> dict[str, pd.DataFrame]:
        """What `anova` tests: per term L (c, p) with coefficients as columns, the hypothesis ``L beta = 0``.

        Parameters
        ----------
        type : as for `anova`.

        Returns
        -------
        dict : term -> DataFrame, which `contrast` takes; lmerTest's ``show_tests``.
        """
        number = type_number(type)
        found = term_hypotheses(number, self._spec, self._kept, self._triangle, lambda: self._representative)
        tables = {}
        for name, L in found:
            full = np.zeros((len(L), len(self._names)))
            full[:, self._kept] = L
            tables[name] = pd.DataFrame(full, columns=list(self._names))
        return tables

    def _triangle(self) -> np.ndarray:
        """R with ``R'R = X'X`` of the kept columns, which types I and II are about (as in lmerTest)."""
        solved, rows = self._solved, self._rows
        products = getattr(solved, "products", None)
        if products is not None and not products.weighted:  # the fit's own sums are X'X
            x = products.x[self._kept]
            return gram_triangle(products.C[np.ix_(x, x)], solved.fixed.A)
        if isinstance(rows, StatisticsRows):
            x = rows.layout.x[rows.kept]
            return gram_triangle(rows.moments[np.ix_(x, x)], rows.fixed_map)
        if "triangle" in vars(rows):  # a fit that was read from a file
            return rows.triangle
        return weighted_triangle(self._rows.design, self._kept)

    def emmeans(
        self,
        specs,
        by=None,
        at: dict | None = None,
        contr=None,
        adjust: str | None = None,
        ddf: str | None = None,
        weights: str = "equal",
        level: float = 0.95,
        var: str | None = None,
    ):
        """Estimated marginal means of factors, or slopes in a covariate, and their comparisons.

        Parameters
        ----------
        specs : str or list of str
            Variables to estimate means for; the others are averaged over.  Text may name groups and a
            comparison: ``"a"``, ``"a:b"``, ``"a | b"``, ``"pairwise ~ a | b"``.
        by : str or list of str, optional
            Variables whose levels are compared apart.
        at : dict, optional
            Variable -> value or values in the reference grid.  By default factors have all their
            levels, numbers their mean over the rows, or both values if they have two.
        contr : str or dict, optional
            Comparisons: ``"pairwise"``, ``"revpairwise"`` (the later less the earlier), ``"consec"`` (with
            the one before), ``"trt.vs.ctrl"`` (with the first; ``"trt.vs.ctrlk"`` the last), ``"eff"`` (with
            the mean of all; ``"del.eff"`` of the others), ``"mean_chg"`` (after a place with up to it),
            ``"poly"``; a dict has a list of weights, one per mean, for each label.
        adjust : str, optional
            For p values and limits of comparisons, within each group: ``"tukey"``, ``"dunnett"``, ``"mvt"``
            (multivariate t with the comparisons' correlations), ``"sidak"``, ``"scheffe"``,
            ``"bonferroni"``, ``"holm"``, ``"fdr"`` (Benjamini & Hochberg), ``"none"``.  Default: Tukey's for
            all pairs, Dunnett's (emmeans' approximation) against a control, ``"mvt"`` for ``"consec"`` and
            ``"mean_chg"``, ``"fdr"`` for effects, else none.  Tukey's for another family becomes
            Sidak's; limits with Holm's and fdr are Bonferroni's.
        ddf : ``"satterthwaite"`` (default) or ``"kenward-roger"``
        weights : ``"equal"``, ``"proportional"``, ``"outer"``, ``"cells"`` or ``"flat"``
            Of what is averaged over, by numbers of rows: its combinations; the product of its one-way
            frequencies; each cell's own; cells that have rows, equally.
        level : float
            Coverage of the limits; those of the means are not adjusted.
        var : str, optional
            Slopes in this numeric variable in place of means.

        Returns
        -------
        DataFrame, or with ``contr`` a `MarginalMeans` of two
            ``emmeans``: the variables, then ``emmean`` (``"<var>.trend"``), ``SE, df, lower, upper``.
            ``contrasts``: ``contrast``, groups, ``estimate, SE, df, lower, upper, t, p``.
            ``.attrs["notes"]`` says what was averaged over and how p values were adjusted.

        Raises
        ------
        FormulaError : a name that the fixed part does not use.
        DataError : a level the fit did not see; a fit read from a file, which has no rows.

        Warns
        -----
        RankWarning : means that empty cells make not estimable; they are NaN.

        Notes
        -----
        Searle, Speed & Milliken (1980), doi:10.2307/2684063; conventions of R's emmeans (Lenth).
        Levels of a factor nested in another (``a / b``) are averaged within the levels they belong to.
        With ``"mvt"`` each comparison has its own degrees of freedom, as in emmeans, which cuts them to
        whole numbers (here they stay); probabilities are by a fixed rule of 65536 points.

        Examples
        --------
        >>> import fastlmm_core as flm
        >>> fit = flm.lmer("score ~ Machine + (1 | Worker / Machine)", flm.load_dataset("Machines"))
        >>> fit.emmeans("Machine", contr="pairwise").contrasts.round(3)  # doctest: +NORMALIZE_WHITESPACE
          contrast  estimate     SE    df   lower   upper      t      p
        0    A - B    -7.967  2.177  10.0 -13.934  -1.999 -3.660  0.011
        1    A - C   -13.917  2.177  10.0 -19.884  -7.949 -6.393  0.000
        2    B - C    -5.950  2.177  10.0 -11.918   0.018 -2.733  0.051
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, found {level!r}")
        asked, method = read_specs(specs, by, contr), self._method(ddf)
        found = margins(self, asked, at, var, weights)
        column = "emmean" if var is None else f"{var}.trend"
        means = means_frame(self, found, method, level, column)
        if asked.contr is None:
            return means
        return MarginalMeans(means, contrasts_frame(self, found, asked.contr, adjust, method, level))

    def vif(self) -> pd.DataFrame:
        """Variance inflation factors of the terms of the fixed part, the intercept left out.

        Returns
        -------
        DataFrame
            A row per term: ``gvif`` (for one coefficient the VIF), ``df`` its coefficients, ``scaled``
            ``gvif^(1 / (2 df))``: by how much collinearity lengthens a confidence interval.

        Raises
        ------
        ModelError : fewer than two terms.

        Notes
        -----
        Fox & Monette (1992), doi:10.1080/01621459.1992.10475190, from the covariance of the estimates, as
        ``vif`` of R's car.
        """
        return inflation(self)

    def _contrast_frame(self, L, method: Method, rhs, level: float, labels, adjust="none") -> pd.DataFrame:
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, found {level!r}")
        estimate, se, df = self._linear_functions(L, method, labels)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (estimate - rhs) / se
        if adjust in ("tukey", "dunnett") or adjust not in METHODS:
            known = ", ".join(repr(name) for name in METHODS if name not in ("tukey", "dunnett"))
            raise ValueError(f"no adjustment {adjust!r} of contrasts; available: {known}")
        family = Family(df, adjust, covariance=covariance_of(self, L, method, adjust))
        reach = family.critical_values(level) * se
        return pd.DataFrame(
            {
                "estimate": estimate,
                "std_error": se,
                "df": df,
                "t": t,
                "p": family.p_values(t),
                "lower": estimate - reach,
                "upper": estimate + reach,
            },
            index=list(labels),
        )

    def _linear_functions(self, L, method: Method, labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``L beta`` (c,), standard errors and degrees of freedom; NaN where not estimable."""
        good = self._is_estimable(L)
        if not good.all():
            names = [str(label) for label, ok in zip(labels, good) if not ok]
            self._warn_not_estimable(names)
        used = L[:, self._kept]
        with np.errstate(divide="ignore", invalid="ignore"):
            df = np.where(good, method.df(used), np.nan)
        estimate = np.where(good, used @ self._beta[self._kept], np.nan)
        se = np.where(good, np.sqrt(np.einsum("ci,ij,cj->c", used, method.vcov, used)), np.nan)
        return estimate, se, df

    def _warn_not_estimable(self, names: list[str]) -> None:
        kept = set(self._kept.tolist())
        dropped = [name for j, name in enumerate(self._names) if j not in kept]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        warnings.warn(
            f"not estimable, as the columns {', '.join(dropped)} are linear in the others: {shown}",
            RankWarning,
            stacklevel=4,
        )

    def _joint_frame(self, tests, method: Method, rhs=0.0) -> pd.DataFrame:
        """F tests of (label, L over all p columns)."""
        rows = []
        for label, L in tests:
            good = bool(self._is_estimable(L).all())
            if not good:
                self._warn_not_estimable([label])
            F = q = df = np.nan
            if good and L.any():
                F, q, df, _ = method.joint(L[:, self._kept], self._beta[self._kept], rhs)
            rows.append((F, q, df, f_upper(F, q, df) if np.isfinite(F) and np.isfinite(q) else np.nan))
        return pd.DataFrame(rows, columns=["F", "num_df", "den_df", "p"], index=[label for label, _ in tests])
