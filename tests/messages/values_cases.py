"""Groups and values that go wrong."""

import fastlmm_core as flm
from fastlmm_core.errors import DataWarning

from .endings import SLEEP, answer, close, error, warning

GROUPS = "Groups"
_ROOMS = (
    'rooms = pd.DataFrame({"school": np.repeat(["a", "b", "c"], 8), "y": np.sin(np.arange(24.0))})\n'
    'rooms["room"] = np.tile([1, 1, 2, 2, 3, 3, 4, 4], 3)\n'
)
_groups = [
    answer(
        GROUPS, "ids as floating-point numbers",
        'ids = sleep.assign(Subject=sleep.Subject.astype(str).astype(float))\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", ids).params',
        close(*SLEEP), "fitted: what stands behind the bar is always a factor",
    ),
    error(
        GROUPS, "a group with one level",
        'one = sleep[sleep.Subject == "308"]\nflm.lmer("Reaction ~ Days + (1 | Subject)", one)',
        flm.ModelError, "(1 | Subject)", "Subject has 1 level", "at least 2", "leave the term out",
    ),
    error(
        GROUPS, "a level for every row",
        'rows = sleep.assign(row=range(180))\nflm.lmer("Reaction ~ Days + (1 | row)", rows)',
        flm.ModelError, "row has 180 levels for 180 rows", "cannot be told apart", "another column",
    ),
    error(
        GROUPS, "more random effects than rows",
        'few = sleep[sleep.Days < 2]\nflm.lmer("Reaction ~ Days + (Days | Subject)", few)',
        flm.ModelError, "2 columns x 18 levels = 36 random effects for 36 rows", "leave columns out",
    ),
    answer(
        GROUPS, "groups of one to three rows",
        'few = sleep[sleep.Days < 1 + np.repeat(np.arange(18) % 3, 10)]\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", few).converged',
        bool, "fitted: small groups are shrunk more",
    ),
    answer(
        GROUPS, "missing values in the group only",
        'sleep.loc[[3, 17], "Subject"] = np.nan\n'
        'fit = flm.lmer("Reaction ~ Days + (1 | Subject)", sleep)\n'
        "fit.describe('rows')",
        lambda text: "2 were left out" in text and "missing Subject: 2" in text,
        "these rows are left out, and the summary says so",
    ),
    answer(
        GROUPS, "levels that do not occur",
        'some = sleep[sleep.Subject.isin(["308", "309", "310"])]\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", some).ngroups',
        lambda value: dict(value) == {"Subject": 3}, "only levels that occur count",
    ),
    answer(
        GROUPS, "ids that start again in each group, written as crossed",
        _ROOMS +
        'flm.lmer("y ~ 1 + (1 | school) + (1 | room)", rooms).ngroups',
        lambda value: dict(value) == {"room": 4, "school": 3},
        "4 rooms that all schools share: the counts in the summary show it",
    ),
    answer(
        GROUPS, "ids that start again in each group, written as nested",
        _ROOMS +
        'flm.lmer("y ~ 1 + (1 | school/room)", rooms).ngroups',
        lambda value: dict(value) == {"school:room": 12, "school": 3}, "12 rooms",
    ),
    answer(
        GROUPS, "a variance of zero (singular fit)",
        'fit = flm.lmer("Yield ~ 1 + (1 | Batch)", flm.load_dataset("Dyestuff2"))\n'
        "str(fit.summary())",
        lambda text: "Singular fit: a variance is zero" in text and "boundary: Batch.Intercept" in text,
        "fitted; the summary and is_singular say so",
    ),
]  # fmt: skip

VALUES = "Values"
_values = [
    warning(
        VALUES, "numbers kept as text",
        'text = sleep.assign(Days=sleep.Days.astype(str))\n'
        'len(flm.lmer("Reaction ~ Days + (1 | Subject)", text).params)',
        DataWarning, "column 'Days' holds numbers kept as text", "a factor with 10 levels",
        "pd.to_numeric(data['Days'])", check=lambda value: value == 10,
    ),
    warning(
        VALUES, "numbers as text, with a word among them",
        'text = sleep.assign(Days=sleep.Days.astype(str).replace("3", "none"))\n'
        'len(flm.lmer("Reaction ~ Days + (1 | Subject)", text).params)',
        DataWarning, "column 'Days' holds numbers kept as text (all but 'none')", "errors='coerce'",
    ),
    error(
        VALUES, "a response kept as text",
        'text = sleep.assign(Reaction=sleep.Reaction.astype(str))\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", text)',
        flm.DataError, "the response 'Reaction' is not a number", "text such as '194.3322'", "pd.to_numeric",
    ),
    error(
        VALUES, "a response with a word in it",
        'text = sleep.assign(Reaction=sleep.Reaction.astype(str))\n'
        'text.loc[3, "Reaction"] = "n/a"\nflm.lmer("Reaction ~ Days + (1 | Subject)", text)',
        flm.DataError, "the response 'Reaction' is not a number", "'n/a' is none", "errors='coerce'",
    ),
    error(
        VALUES, "decimal commas",
        'text = sleep.assign(Reaction=sleep.Reaction.astype(str).str.replace(".", ","))\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", text)',
        flm.DataError, "the response 'Reaction' is not a number", "text such as '194,",
        "read it with decimal=','",
    ),
    error(
        VALUES, "a categorical response",
        'parts = sleep.assign(Reaction=pd.cut(sleep.Reaction, 2, labels=["fast", "slow"]))\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", parts)',
        flm.DataError, "the response 'Reaction' is not a number", "text such as 'fast'",
    ),
    answer(
        VALUES, "a response of True and False",
        'slow = sleep.assign(slow=sleep.Reaction > 300)\n'
        'flm.lmer("slow ~ Days + (1 | Subject)", slow).params',
        close(0.0545, 0.0842, to=1e-2), "fitted as 1 and 0: a linear probability model",
    ),
    error(
        VALUES, "a constant response",
        'same = sleep.assign(Reaction=1.0)\nflm.lmer("Reaction ~ Days + (1 | Subject)", same)',
        flm.ModelError, "the response 'Reaction' is constant (1 in all 180 rows)", "another column",
    ),
    error(
        VALUES, "a response computed from a predictor",
        'exact = sleep.assign(Reaction=2.0 * sleep.Days)\nflm.lmer("Reaction ~ Days + (1 | Subject)", exact)',
        flm.ModelError, "the residual variance is zero", "fit the response exactly", "computed from columns",
    ),
    warning(
        VALUES, "a constant predictor",
        'same = sleep.assign(arm=1.0)\nflm.lmer("Reaction ~ Days + arm + (1 | Subject)", same).params[:2]',
        flm.RankWarning, "were dropped: arm (1 in all rows)", "NaN", check=close(*SLEEP),
    ),
    warning(
        VALUES, "a factor with one level",
        'same = sleep.assign(arm="control")\n'
        'flm.lmer("Reaction ~ Days + arm + (1 | Subject)", same).params',
        flm.RankWarning, "arm has one level ('control')", "has no coefficient", check=close(*SLEEP),
    ),
    warning(
        VALUES, "two columns that say the same",
        'both = sleep.assign(hours=24 * sleep.Days)\n'
        'flm.lmer("Reaction ~ Days + hours + (1 | Subject)", both).params[:2]',
        flm.RankWarning, "linear in the others were dropped: hours", "NaN", check=close(*SLEEP),
    ),
    answer(
        VALUES, "a factor with a level that does not occur",
        'arm = pd.Categorical(np.where(sleep.Days > 4, "late", "early"), ["early", "middle", "late"])\n'
        'list(flm.lmer("Reaction ~ arm + (1 | Subject)", sleep.assign(arm=arm)).params.index)',
        lambda names: names == ["Intercept", "arm[T.late]"], "a coefficient only for levels that occur",
    ),
    answer(
        VALUES, "tiny units",
        'units = sleep.assign(Days=sleep.Days * 1e-9)\n'
        'flm.lmer("Reaction ~ Days + (Days | Subject)", units).params * [1, 1e-9]',
        close(*SLEEP), "the same fit",
    ),
    answer(
        VALUES, "huge units: milliseconds for days",
        'units = sleep.assign(Days=sleep.Days * 8.64e7)\n'
        'fit = flm.lmer("Reaction ~ Days + (Days | Subject)", units)\n'
        "[*fit.params * [1, 8.64e7], len(fit.convergence.boundary)]",
        close(*SLEEP, 0), "the same fit, with no variance at its bound",
    ),
    error(
        VALUES, "numbers whose squares no float holds",
        'units = sleep.assign(Reaction=sleep.Reaction * 1e200)\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", units)',
        flm.DataError, "the values of 'Reaction' reach 4.7e+202", "change the unit",
    ),
    warning(
        VALUES, "small steps far from zero",
        'far = sleep.assign(Days=sleep.Days + 1e15)\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", far).params.notna().sum()',
        flm.RankWarning, "Days (varies by 9 around 1e+15: subtract its mean)", check=lambda value: value == 1,
    ),
    answer(
        VALUES, "nanoseconds since 1970",
        'when = sleep.assign(when=1.7e18 + 1e9 * sleep.Days)\n'
        'flm.lmer("Reaction ~ when + (1 | Subject)", when).params["when"] * 1e9',
        close(SLEEP[1]), "the same slope per second",
    ),
    error(
        VALUES, "dates as a predictor",
        'when = pd.Timestamp("2024-01-01") + pd.to_timedelta(sleep.Days, unit="D")\n'
        'flm.lmer("Reaction ~ when + (1 | Subject)", sleep.assign(when=when))',
        flm.DataError, "column 'when' holds times", "days since the start", "pd.Timedelta('1D')",
    ),
    error(
        VALUES, "durations as a predictor",
        'passed = sleep.assign(passed=pd.to_timedelta(sleep.Days, unit="D"))\n'
        'flm.lmer("Reaction ~ passed + (1 | Subject)", passed)',
        flm.DataError, "column 'passed' holds times", "make it a number",
    ),
    error(
        VALUES, "infinite values",
        'sleep["rate"] = 1 / sleep.Days\nflm.lmer("Reaction ~ rate + (1 | Subject)", sleep)',
        flm.DataError, "'rate' has 18 values (rows 0, 10, 20, 30, 40, ...) that are infinite",
        "mark them as missing",
    ),
    error(
        VALUES, "the logarithm of 0",
        'flm.lmer("Reaction ~ log(Days) + (1 | Subject)", sleep)',
        flm.DataError, "'log(Days)' has 18 values (rows 0, 10,", "infinite", "change the expression (log(0)",
    ),
    warning(
        VALUES, "the root of a negative number",
        'flm.lmer("Reaction ~ sqrt(Days - 5) + (1 | Subject)", sleep).nobs',
        DataWarning, "'sqrt(Days - 5)' is no number in 90 rows (rows 0, 1, 2,", "left out",
        check=lambda value: value == 90,
    ),
    error(
        VALUES, "numbers and words in one column",
        'sleep["dose"] = [1, "two"] * 90\nflm.lmer("Reaction ~ dose + (1 | Subject)", sleep)',
        flm.DataError, "column 'dose' holds values of several types", "int (90 rows) and str (90 rows)",
        "'two'", "pd.to_numeric(data['dose'], errors='coerce')",
    ),
    error(
        VALUES, "a list in every row",
        'sleep["dose"] = [[1.0, 2.0]] * 180\nflm.lmer("Reaction ~ dose + (1 | Subject)", sleep)',
        flm.DataError, "column 'dose' holds list (180 rows)", "a row or a column of its own",
    ),
    error(
        VALUES, "pandas' periods",
        'sleep["month"] = pd.PeriodIndex(["2024-01", "2024-02", "2024-03"] * 60, freq="M")\n'
        'flm.lmer("Reaction ~ month + (1 | Subject)", sleep)',
        flm.DataError, "column 'month' holds Period (180 rows)", "levels by .astype(str)",
    ),
    error(
        VALUES, "complex numbers",
        'sleep["wave"] = sleep.Days + 1j\nflm.lmer("Reaction ~ wave + (1 | Subject)", sleep)',
        flm.DataError, "column 'wave' holds complex numbers", "real part",
    ),
    answer(
        VALUES, "Python's decimals",
        'from decimal import Decimal\nsleep["Days"] = [Decimal(day) for day in sleep.Days]\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep).params',
        close(*SLEEP), "fitted",
    ),
    answer(
        VALUES, "pandas' integers with missing values",
        'sleep["Days"] = sleep.Days.astype("Int64").mask(sleep.Days == 0)\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep).nobs',
        lambda value: value == 162, "rows with a missing value are left out, and counted in the summary",
    ),
    error(
        VALUES, "a column without a value",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep.assign(Days=np.nan))',
        flm.DataError, "no rows are left of 180", "Days has 180 missing",
    ),
]  # fmt: skip

CASES = (*_groups, *_values)
