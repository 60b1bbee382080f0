"""Formulas and names that go wrong."""

import fastlmm_core as flm
from fastlmm_core.errors import ModelWarning

from .endings import SLEEP, answer, close, error, warning

FORMULA = "Formulas"
_formula = [
    error(
        FORMULA, "a typing error in a column",
        'flm.lmer("Reaction ~ days + (Days | Subject)", sleep)',
        flm.FormulaError, "no column 'days'", "did you mean 'Days'", "^^^^",
    ),
    error(
        FORMULA, "a parenthesis that is not closed",
        'flm.lmer("Reaction ~ Days + (1 | Subject", sleep)',
        flm.FormulaError, "this parenthesis is not closed", "                      ^",
    ),
    error(
        FORMULA, "a bar without a group",
        'flm.lmer("Reaction ~ Days + (1 | )", sleep)',
        flm.FormulaError, "the grouping factor is missing after '|'", "write (1 | group)", "^",
    ),
    error(
        FORMULA, "a bar without terms",
        'flm.lmer("Reaction ~ Days + (| Subject)", sleep)',
        flm.FormulaError, "the terms are missing before '|'", "(1 | group)", "^",
    ),
    error(
        FORMULA, "a random term without parentheses",
        'flm.lmer("Reaction ~ Days + 1 | Subject", sleep)',
        flm.FormulaError, "must be in parentheses: (terms | group)", "^^^",
    ),
    error(
        FORMULA, "a covariance structure of another package",
        'flm.lmer("Reaction ~ Days + ar1(Days | Subject)", sleep)',
        flm.FormulaError, "structures such as ar1() are not supported", "(Days || Subject) none", "^^^^",
    ),
    error(
        FORMULA, "no random term",
        'flm.lmer("Reaction ~ Days", sleep)',
        flm.FormulaError, "has no random term like (1 | group)", "fit it with lm, or add one",
    ),
    error(
        FORMULA, "a random term for lm",
        'flm.lm("Reaction ~ Days + (1 | Subject)", sleep)',
        flm.FormulaError, "(1 | Subject)", "fit it with lmer",
    ),
    error(
        FORMULA, "an equals sign for the tilde",
        'flm.lmer("Reaction = Days + (1 | Subject)", sleep)',
        flm.FormulaError, "written with '~', not with '='", "             ^",
    ),
    error(
        FORMULA, "the formula as bytes",
        'flm.lmer(b"Reaction ~ Days + (1 | Subject)", sleep)',
        flm.FormulaError, "the formula is bytes, not text like 'y ~ x + (1 | group)'",
    ),
    error(
        FORMULA, "None for the formula",
        "flm.lmer(None, sleep)",
        flm.FormulaError, "the formula is NoneType, not text like",
    ),
    error(
        FORMULA, "data and formula in the wrong order",
        'flm.lmer(sleep, "Reaction ~ Days + (1 | Subject)")',
        flm.FormulaError, "the formula is DataFrame", "the formula comes first, then the data",
    ),
    error(
        FORMULA, "the response among the predictors",
        'flm.lmer("Reaction ~ Days + Reaction + (1 | Subject)", sleep)',
        flm.FormulaError, "the response Reaction is also among the terms", "leave it out",
        "                  ^^^",
    ),
    error(
        FORMULA, "the dot of R for all columns",
        'flm.lmer("Reaction ~ . + (1 | Subject)", sleep)',
        flm.FormulaError, "'.' has no meaning in a formula", "name the columns", "^",
    ),
    error(
        FORMULA, "the dollar of R",
        'flm.lmer("Reaction ~ sleep$Days + (1 | Subject)", sleep)',
        flm.FormulaError, "columns are named without their table", "^",
    ),
    error(
        FORMULA, "the table's name before the column",
        'flm.lmer("Reaction ~ sleep.Days + (1 | Subject)", sleep)',
        flm.FormulaError, "no column 'sleep.Days'", "did you mean 'Days'", "^^^",
    ),
    error(
        FORMULA, "a column in quotes",
        "flm.lmer(\"Reaction ~ Days + (1 | 'Subject')\", sleep)",
        flm.FormulaError, "quotes mark text", "goes without them", "^^^",
    ),
    error(
        FORMULA, "a comma between terms",
        'flm.lmer("Reaction ~ Days, (1 | Subject)", sleep)',
        flm.FormulaError, "',' cannot stand here: an operator is missing", "^",
    ),
    warning(
        FORMULA, "a square without I()",
        'flm.lmer("Reaction ~ Days^2 + (1 | Subject)", sleep).params',
        ModelWarning, "Days^2 is the term Days crossed with itself", "write I(Days^2)", check=close(*SLEEP),
    ),
    error(
        FORMULA, "a factor before a column",
        'flm.lmer("Reaction ~ 10 * Days + (1 | Subject)", sleep)',
        flm.FormulaError, "a number cannot be part of an interaction", "I(2 * x)", "^^",
    ),
    error(
        FORMULA, "an offset that is not closed",
        'flm.lmer("Reaction ~ offset(Days + (1 | Subject)", sleep)',
        flm.FormulaError, "the parenthesis of offset( is not closed", "^^^",
    ),
    answer(
        FORMULA, "an offset",
        'flm.lmer("Reaction ~ Days + offset(10 * Days) + (1 | Subject)", sleep).params',
        close(251.40510, 0.46729, to=1e-4), "the slope that is left beyond 10 a day",
    ),
    error(
        FORMULA, "a function that is not there",
        'flm.lmer("Reaction ~ print(Days) + (1 | Subject)", sleep)',
        flm.FormulaError, "there is no function print()", "known are", "np.",
    ),
    warning(
        FORMULA, "one random term twice",
        'flm.lmer("Reaction ~ Days + (1 | Subject) + (Days | Subject)", sleep).ngroups',
        ModelWarning, "both have an intercept per Subject", "cannot be told apart", "leave (1 | Subject) out",
    ),
    warning(
        FORMULA, "the group among the fixed effects as well",
        'flm.lmer("Reaction ~ Subject + (1 | Subject)", sleep).is_singular',
        ModelWarning, "Subject has a coefficient per level and a random intercept per level",
        "keep one of the two", check=bool,
    ),
    answer(
        FORMULA, "a random slope without its fixed slope",
        'flm.lmer("Reaction ~ 1 + (Days | Subject)", sleep).params',
        close(257.7618, to=1e-4), "fitted as written: slopes that vary around 0, as in lme4",
    ),
]  # fmt: skip

NAMES = "Names"
_names = [
    error(
        NAMES, "a name with a space",
        'times = sleep.rename(columns={"Reaction": "reaction time"})\n'
        'flm.lmer("reaction time ~ Days + (1 | Subject)", times)',
        flm.FormulaError, "an operator is missing", "goes in backticks: `reaction time`", "^^^^",
    ),
    answer(
        NAMES, "a name with a space in backticks",
        'times = sleep.rename(columns={"Reaction": "reaction time"})\n'
        'flm.lmer("`reaction time` ~ Days + (1 | Subject)", times).params',
        close(*SLEEP), "fitted",
    ),
    error(
        NAMES, "a name with a quote",
        "odd = sleep.rename(columns={\"Reaction\": \"y'\"})\n"
        "flm.lmer(\"y' ~ Days + (1 | Subject)\", odd)",
        flm.FormulaError, "the quote ' is not closed", "goes in backticks: `a'b`", "^",
    ),
    error(
        NAMES, "a name with a backtick",
        'odd = sleep.rename(columns={"Reaction": "y`s"})\nflm.lmer("y`s ~ Days + (1 | Subject)", odd)',
        flm.FormulaError, "the quote ` is not closed", "must be renamed", "^",
    ),
    error(
        NAMES, "names that are numbers",
        'numbered = sleep.set_axis([0, 1, 2], axis=1)\nflm.lmer("0 ~ 1 + (1 | 2)", numbered)',
        flm.FormulaError, "the response is a number", "goes in backticks: `0`", "^",
    ),
    answer(
        NAMES, "names that are numbers, in backticks",
        'numbered = sleep.set_axis([0, 1, 2], axis=1)\nflm.lmer("`0` ~ `1` + (1 | `2`)", numbered).params',
        close(*SLEEP), "fitted",
    ),
    answer(
        NAMES, "names in other alphabets",
        'other = sleep.rename(columns={"Days": "日数", "Reaction": "Größe"})\n'
        'flm.lmer("Größe ~ 日数 + (1 | Subject)", other).params',
        close(*SLEEP), "fitted",
    ),
    answer(
        NAMES, "names of Python and of functions",
        'other = sleep.rename(columns={"Days": "log", "Subject": "lambda"})\n'
        'flm.lmer("Reaction ~ log(log + 1) + (1 | lambda)", other).nobs',
        lambda value: value == 180, "fitted: a function is what a parenthesis follows",
    ),
    answer(
        NAMES, "a very long name",
        'other = sleep.rename(columns={"Days": "x" * 300})\n'
        'flm.lmer("Reaction ~ " + "x" * 300 + " + (1 | Subject)", other).params',
        close(*SLEEP), "fitted",
    ),
    error(
        NAMES, "one name for two columns",
        'twice = pd.concat([sleep, sleep[["Days"]]], axis=1)\n'
        'flm.lmer("Reaction ~ Days + (1 | Subject)", twice)',
        flm.DataError, "column 'Days' occurs 2 times", "rename all but one",
    ),
    error(
        NAMES, "columns in two levels (MultiIndex)",
        'wide = pd.concat({"first": sleep}, axis=1)\nflm.lmer("Reaction ~ Days + (1 | Subject)", wide)',
        flm.FormulaError, "no column 'Days'", "columns are tuples such as ('first', 'Days')", "'_'.join",
    ),
]  # fmt: skip

CASES = (*_formula, *_names)
