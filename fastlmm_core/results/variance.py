"""Shares of variance: intraclass correlation and R squared."""


def icc_values(fixed: float, random: float, residual: float) -> dict[str, float]:
    """Adjusted (given the fixed effects) and unadjusted share of the random variance."""
    return {
        "adjusted": random / (random + residual),
        "unadjusted": random / (fixed + random + residual),
    }


def r2_values(fixed: float, random: float, residual: float) -> dict[str, float]:
    """Share of the fixed, and of the fixed and random, variance (Nakagawa & Schielzeth 2013, eqs. 29, 30)."""
    total = fixed + random + residual
    return {"marginal": fixed / total, "conditional": (fixed + random) / total}
