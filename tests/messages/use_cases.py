"""Tables, options and new data that go wrong."""

import fastlmm_core as flm

from .endings import SLEEP, answer, close, error

TABLES = "Tables"
_tables = [
    error(
        TABLES, "an empty table",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep[sleep.Days > 99])',
        flm.DataError, "the data have no rows",
    ),
    error(
        TABLES, "a table without columns",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", pd.DataFrame())',
        flm.FormulaError, "no column 'Days'", "no columns at all",
    ),
    error(
        TABLES, "one row",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep.head(1))',
        flm.DataError, "the data have one row", "needs more",
    ),
    error(
        TABLES, "a column that is the index",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep.set_index("Subject"))',
        flm.FormulaError, "no column 'Subject'", "it is the index of the table", "reset_index()", "^^^",
    ),
    error(
        TABLES, "a path for lm, which reads tables",
        'flm.lm("Reaction ~ Days", "sleep.csv")',
        flm.DataError, "data is the text 'sleep.csv'", "a table is needed", "pd.read_csv",
    ),
    error(
        TABLES, "a column for the table",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep["Reaction"])',
        flm.DataError, "data is one column (a Series)", "a table with all columns",
    ),
    error(
        TABLES, "an array for the table",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep.to_numpy())',
        flm.DataError, "data is an ndarray", "pd.DataFrame(data, columns=",
    ),
    error(
        TABLES, "a list of dicts for the table",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep.to_dict("records"))',
        flm.DataError, "a sequence of rows as dicts", "pd.DataFrame(data)",
    ),
    error(
        TABLES, "nothing for the table",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", None)',
        flm.DataError, "data is NoneType", "a pandas, polars or pyarrow table",
    ),
    error(
        TABLES, "a file that is not there",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", "sleep.csv")',
        flm.DataError, "there is no file sleep.csv",
    ),
    error(
        TABLES, "a file with semicolons read as one with commas",
        'import io\nlines = "Reaction;Days;Subject\\n250,1;0;a\\n260,3;1;a"\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", pd.read_csv(io.StringIO(lines.replace(",", "."))))',
        flm.FormulaError, "no column 'Days'", "one column, 'Reaction;Days;Subject'",
        "pd.read_csv(file, sep=';')",
    ),
    error(
        TABLES, "columns of different lengths",
        'flm.lmer("y ~ x + (1 | g)", {"y": [1.0, 2.0, 3.0], "x": [1.0, 2.0], "g": ["a", "a", "b"]})',
        flm.DataError, "columns differ in length", "'y' has 3", "'x' has 2",
    ),
    answer(
        TABLES, "a dict of columns",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", {name: sleep[name] for name in sleep}).params',
        close(*SLEEP), "fitted",
    ),
    answer(
        TABLES, "nulls of polars",
        "import polars as pl\n"
        'some = pl.DataFrame({"y": [1.0, 2.0, None, 4.0, 3.0, 7.0], "g": ["a", "a", "a", "b", "b", None]})\n'
        'flm.lmer("y ~ 1 + (1 | g)", some).nobs',
        lambda value: value == 4, "rows with a null are left out", needs=("polars",),
    ),
    answer(
        TABLES, "text and integers of Arrow",
        'arrow = sleep.astype({"Subject": "string[pyarrow]", "Days": "int64[pyarrow]"})\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", arrow).params',
        close(*SLEEP), "fitted", needs=("pyarrow",),
    ),
]  # fmt: skip

OPTIONS = "Weights and options"
_options = [
    answer(
        OPTIONS, "a weight of 0",
        'fit = flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights=np.r_[0.0, np.ones(179)])\n'
        "fit.describe('rows')",
        lambda text: "1 was left out" in text and "weight 0: 1" in text, "this row is left out, and counted",
    ),
    error(
        OPTIONS, "weights of 0 only",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights=np.zeros(180))',
        flm.DataError, "no rows are left of 180: 180 have weight 0",
    ),
    error(
        OPTIONS, "negative weights",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights=np.r_[-1.0, np.ones(179)])',
        flm.DataError, "'weights' has 1 value (row 0) that is negative", "the inverse of a variance",
    ),
    answer(
        OPTIONS, "a missing weight",
        'fit = flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights=np.r_[np.nan, np.ones(179)])\n'
        "fit.describe('rows')",
        lambda text: "missing weights: 1" in text, "this row is left out, and counted",
    ),
    error(
        OPTIONS, "weights as text",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights=["1"] * 180)',
        flm.DataError, "weights is not numeric", "pd.to_numeric",
    ),
    error(
        OPTIONS, "weights that no float can square",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights=np.full(180, 1e300))',
        flm.DataError, "the values of 'weights' reach 1e+300", "change the unit",
    ),
    error(
        OPTIONS, "too few weights",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights=np.ones(90))',
        flm.DataError, "weights has shape (90,), the data have 180 rows",
    ),
    error(
        OPTIONS, "a column of weights that is not there",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, weights="wt")',
        flm.FormulaError, "no column 'wt'", "columns are 'Reaction', 'Days', 'Subject'",
    ),
    error(
        OPTIONS, "contrasts that are no dict",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, contrasts="sum")',
        TypeError, "contrasts is a dict like {'arm': 'sum'}", "found 'sum'",
    ),
    error(
        OPTIONS, "contrasts of a column that is no factor",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, contrasts={"Days": "sum"})',
        flm.FormulaError, "contrasts name 'Days'", "no factor of this model", "C(Days)",
    ),
    error(
        OPTIONS, "a dict for the control",
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, control={"engine": "sparse"})',
        TypeError, "control is flm.Control(engine=", "found {'engine': 'sparse'}",
    ),
    error(
        OPTIONS, "missing values that must not be dropped",
        'sleep.loc[[4, 9], "Days"] = np.nan\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", sleep, na_action="raise")',
        flm.DataError, "'Days' has 2 values (rows 4, 9) that are missing", "na_action='drop'",
    ),
]  # fmt: skip

NEW = "New data"
_FIT = 'fit = flm.lmer("Reaction ~ Days + (1 | Subject)", sleep)\n'
_ARM = (
    'sleep["arm"] = np.where(sleep.Days > 4, "late", "early")\n'
    'fit = flm.lmer("Reaction ~ arm + (1 | Subject)", sleep)\n'
)
_new = [
    error(
        NEW, "a level that was not in the fit",
        _FIT + 'fit.predict(pd.DataFrame({"Days": [1, 2], "Subject": ["308", "999"]}))',
        flm.DataError, "'Subject' has levels the fit did not see: '999'", "new_levels='population'",
    ),
    error(
        NEW, "a level of a predictor that was not in the fit",
        _ARM + 'fit.predict(pd.DataFrame({"arm": ["middle"], "Subject": ["308"]}))',
        flm.DataError, "arm: level 'middle' did not occur in the fit", "'early', 'late'",
    ),
    error(
        NEW, "a column that is missing",
        _FIT + 'fit.predict(pd.DataFrame({"Subject": ["308"]}))',
        flm.FormulaError, "no column 'Days'", "columns are 'Subject'", "^^^^",
    ),
    error(
        NEW, "no group where random effects are wanted",
        _FIT + 'fit.predict(pd.DataFrame({"Days": [3.0]}))',
        flm.FormulaError, "no column 'Subject'", "re='none'", "^^^^^^^",
    ),
    error(
        NEW, "text where a number was",
        _FIT + 'fit.predict(pd.DataFrame({"Days": ["3"], "Subject": ["308"]}))',
        flm.DataError, "Days is not a number in these data", "text such as '3'", "pd.to_numeric",
    ),
    answer(
        NEW, "groups as numbers that were text",
        _FIT + 'fit.predict(pd.DataFrame({"Days": [3], "Subject": [308]}))',
        close(323.5907, to=1e-5), "predicted: 308 and '308' are one level",
    ),
    answer(
        NEW, "categories in another order",
        _ARM + 'arm = pd.Categorical(["late"], ["late", "early"])\n'
        'fit.predict(pd.DataFrame({"arm": arm, "Subject": ["308"]}))',
        close(365.5689, to=1e-5), "predicted by the names of the levels, not by their numbers",
    ),
    error(
        NEW, "single values for columns",
        _FIT + 'fit.predict({"Days": 3, "Subject": "308"})',
        flm.DataError, "column 'Days' is a single value", "an array or a list",
    ),
    error(
        NEW, "a list for the table",
        _FIT + "fit.predict([1, 2, 3])",
        flm.DataError, "a sequence of int", "a table is needed",
    ),
    answer(
        NEW, "missing values",
        _FIT + 'new = pd.DataFrame({"Days": [np.nan, 3.0], "Subject": ["308", "308"]})\n'
        "fit.predict(new).isna().tolist()",
        lambda value: value == [True, False], "NaN in that row",
    ),
    error(
        NEW, "fits of different rows compared",
        _FIT + 'flm.anova(fit, flm.lmer("Reaction ~ 1 + (1 | Subject)", sleep.head(100)))',
        flm.DataError, "the fits differ in rows", "180", "100", "drop rows with missing values first",
    ),
    error(
        NEW, "a coefficient that is not there",
        _FIT + 'fit.contrast("Dayz = 0")',
        flm.FormulaError, "did you mean 'Days'", "^^^^",
    ),
]  # fmt: skip

CASES = (*_tables, *_options, *_new)
