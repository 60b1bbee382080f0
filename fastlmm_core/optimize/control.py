"""Settings of a fit."""

from dataclasses import dataclass

ENGINES = ("auto", "dense", "sparse", "iterative")


@dataclass(frozen=True)
class Control:
    """How a model is fitted; the defaults suit every model known to us.

    Parameters
    ----------
    engine : ``"auto"`` chooses from the structure of the factors; ``"dense"``,
        ``"sparse"`` and ``"iterative"`` force how crossed factors are solved.
    tol : stop when the Newton decrement, the criterion still to gain, falls
        below this (criterion scale); None means 1e-10, 1e-12 for small models, or
        rounding error where that is larger.
    max_iter : Newton iterations of one start.
    n_starts : number of starting values; None lets the model decide.
    probes : random probes of the iterative engine per random-effect column; None means 50.
    mc_error : largest Monte Carlo error of a theta accepted from it, in standard errors; probes
        are added until it holds.  None: whatever the probes give, stated in the summary.
    seed : of the probes and of further starting values.

    Raises
    ------
    ValueError : a setting outside its range.
    """

    engine: str = "auto"
    tol: float | None = None
    max_iter: int = 200
    n_starts: int | None = None
    probes: int | None = None
    mc_error: float | None = None
    seed: int = 0

    def __post_init__(self):
        if self.engine not in ENGINES:
            raise ValueError(f"engine is one of {', '.join(ENGINES)}; got {self.engine!r}")
        for name in ("tol", "mc_error"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is a positive number or None; got {value!r}")
        for name in ("max_iter", "n_starts", "probes"):
            value = getattr(self, name)
            if value is None and name != "max_iter":
                continue
            if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
                raise ValueError(f"{name} is a positive whole number; got {value!r}")
        if isinstance(self.seed, bool) or not hasattr(self.seed, "__index__") or self.seed < 0:
            raise ValueError(f"seed is a whole number >= 0; got {self.seed!r}")
