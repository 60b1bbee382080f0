"""The documentation's Python runs, its pages load nothing, and its reference has every public name."""

import contextlib
import importlib
import io
import os
import re
import warnings
from pathlib import Path

import pytest

import fastlmm_core as flm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "fastlmm_core" / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if p.parent.name != "snippets") if DOCS.is_dir() else []
MANUAL = [page for page in PAGES if page.name != "messages.md"]  # whose cases are tests of their own

FENCE = re.compile(r'^```python exec="1"([^\n]*)\n(.*?)^```$', flags=re.DOTALL | re.MULTILINE)
SNIPPET = re.compile(r'^--8<-- "(.+)"$', flags=re.MULTILINE)
NEEDS = re.compile(r"^(?:import|from) (duckdb|pyarrow|dask|polars|sklearn|click|matplotlib)", re.MULTILINE)

pytestmark = pytest.mark.skipif(not PAGES, reason="the pages are not beside the tests")

NAMES = {
    "flm": """
        lmer lm load_dataset list_datasets save load Control anova plan fit CrossProducts Plan
        LMMResults LMResults power simulate simulate_design compare bootstrap_lrt exact_rlrt
        FastLMMError FormulaError ModelError DataError NumericalError RankWarning ConvergenceWarning
        MonteCarloWarning
    """,
    "LMMResults": """
        params bse tvalues df pvalues cov_params conf_int theta sigma scale varcorr cov_re ranef coef
        llf deviance reml_criterion aic bic df_modelwc nobs ngroups fittedvalues resid resid_scaled
        is_singular converged convergence marginal_cov icc r2 summary predict simulate refit anova
        contrast emmeans ranova profile bootstrap influence plot report tidy glance augment check loo
        caic robust equation describe re_pca to_ml to_reml drop_terms cov_varcorr design weights objective
        hypotheses vif acf shrinkage
    """,
    "PlotAccessor": "residuals qq ranef ranef_hist fit_lines shrinkage profile influence acf",
    "BootstrapTest": "statistic df p p_error draws n_failed table",
    "LMResults": """
        params bse tvalues pvalues cov_params conf_int sigma llf aic bic nobs fittedvalues resid summary
        predict anova contrast emmeans influence rsquared rsquared_adj fvalue f_pvalue simulate design weights
    """,
    "Control": "engine tol max_iter n_starts probes mc_error seed",
    "Plan": "accumulate to_json from_json",
    "CrossProducts": "merge save load nobs ngroups",
    "Certificate": """
        converged reason iterations n_values n_gradients newton_decrement max_scaled_gradient
        min_hessian_eigenvalue boundary kkt_min_eigenvalue monte_carlo
    """,
    "LMMRegressor": "fit predict formula groups slopes reml random_effects result_",
}
"""The contract: owner -> public names that the reference must show."""


def included(code: str) -> str:
    """A block with its snippets."""
    return SNIPPET.sub(lambda found: (DOCS / "snippets" / found[1]).read_text(encoding="utf-8"), code)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line and code of each block that the site runs, in its order."""
    text = page.read_text(encoding="utf-8")
    return [(text[: found.start()].count("\n") + 1, included(found[2])) for found in FENCE.finditer(text)]


@pytest.mark.slow
@pytest.mark.parametrize("page", MANUAL, ids=lambda page: str(page.relative_to(DOCS)))
def test_blocks_run(page, monkeypatch):
    code = blocks(page)
    for name in sorted({name for _, text in code for name in NEEDS.findall(text)}):
        pytest.importorskip(name)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(flm.__file__).parents[1])]))
    names = {"__name__": "page"}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        for line, text in code:
            exec(compile("\n" * line + text, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_fence_of_python_runs(page):
    text = page.read_text(encoding="utf-8")
    opened = re.findall(r"^```python.*$", text, flags=re.MULTILINE)
    assert len(opened) == len(FENCE.findall(text))
    for head in opened:
        assert 'session="' in head, f"{head} does not see the names of the blocks before it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_lines_of_shown_code_fit_the_page(page):
    for options, code in FENCE.findall(page.read_text(encoding="utf-8")):
        if "source=" in options:
            shown = [line for line in code.splitlines() if "markdown-exec: hide" not in line]
            assert not [line for line in shown if len(line) > 96]


def reference() -> dict[str, tuple[object, str]]:
    """Name -> (object, options) of what the reference pages render."""
    found = {}
    for page in (DOCS / "api").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for path, options in re.findall(r"^::: ([\w.]+)\n((?: {4}.*\n)*)", text, flags=re.MULTILINE):
            module, _, name = path.rpartition(".")
            found[name] = getattr(importlib.import_module(module), name), options
    return found


@pytest.mark.parametrize("owner", NAMES)
def test_public_names_are_in_the_reference(owner):
    rendered = reference()
    for name in NAMES[owner].split():
        if owner == "flm":
            assert rendered[name][0] is getattr(flm, name), name
            assert rendered[name][0].__doc__, name
            continue
        whole, options = rendered[owner]
        member = getattr(whole, name, None)
        in_class = re.search(rf"^\s*(?:\w+, )*{name}(?:, \w+)* :", whole.__doc__, re.MULTILINE)
        shown = "members: []" not in options and getattr(member, "__doc__", None)
        assert in_class or shown, f"{owner}.{name}"


def test_all_exported_names_are_in_the_reference():
    rendered = reference()
    assert not [name for name in flm.__all__ if name not in rendered and name != "__version__"]


def test_pages_are_not_installed():
    package = Path(flm.__file__).parent
    if package == DOCS.parent:
        pytest.skip("an in-place build is under test")
    assert not (package / "docs").exists()


def test_pages_ask_for_nothing_from_elsewhere():
    for page in [*PAGES, *DOCS.glob("*.css"), ROOT / "mkdocs.yml"]:
        if page.exists():
            text = page.read_text(encoding="utf-8")
            assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\(", text), page
