"""Fits two classic data sets and shows what a fit says: ``python -m fastlmm_core.demo``."""

import time

import fastlmm_core as flm

MODELS = [
    ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    ("InstEval", "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)"),
]


def certificate(fit) -> str:
    """How the search ended, one fact a line."""
    c = fit.convergence
    lines = [
        f"converged            {fit.converged} ({c.reason})",
        f"iterations           {c.iterations}, {c.n_values} values, {c.n_gradients} gradients",
        f"criterion to gain    {c.newton_decrement:.1e} (Newton decrement)",
        f"scaled gradient      {c.max_scaled_gradient:.1e}",
        f"Hessian eigenvalue   {c.min_hessian_eigenvalue:.3g} (smallest, unit diagonal)",
        f"at the boundary      {', '.join(c.boundary) or 'nothing'}",
    ]
    return "\n".join(f"  {line}" for line in lines)


def main() -> None:
    lmer = flm.lmer  # loads what a fit needs, which is no part of its time
    for name, formula in MODELS:
        data = flm.load_dataset(name)
        print(f"\n=== {name}: {len(data)} rows")
        print(f">>> fit = flm.lmer({formula!r}, data)\n>>> print(fit.summary())")
        started = time.perf_counter()
        fit = lmer(formula, data)
        fitted = time.perf_counter()
        summary = str(fit.summary())
        shown = time.perf_counter()
        print(summary)
        print(f"\nCertificate\n{certificate(fit)}")
        print("\nSeconds")
        for stage, seconds in fit.timings.items():
            print(f"  {stage:<20} {seconds:8.4f}")
        print(f"  {'whole fit':<20} {fitted - started:8.4f}")
        print(f"  {'tests and summary':<20} {shown - fitted:8.4f}")


if __name__ == "__main__":
    main()
