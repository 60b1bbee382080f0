import numpy as np

from fastlmm_core._typing import Float, Int32, Int64

class ColumnProgram:
    n: int
    n_columns: int
    capsule: object
    def __init__(
        self,
        n: int,
        values: list[np.ndarray],
        tables: list[np.ndarray | None],
        start: object,
        atom: object,
        center: object,
        multiplier: object,
        product: object | None = None,
    ) -> None: ...
    def dense(self, lo: int, hi: int) -> Float: ...
    def dense_rows(self, rows: Int64) -> Float: ...
    def add_fixed(self, coefficients: Float, lo: int, hi: int, out: Float, n_threads: int = 1) -> None: ...
    def add_random(self, codes: Int32, b: Float, out: Float, n_threads: int = 1) -> None: ...

def residual_summary(
    y: Float,
    eta: Float | None,
    parts: list[tuple[ColumnProgram, Int32 | None, Float]],
    weights: Float | None,
    sigma: float,
    ranks: Int64,
    n_threads: int = 1,
) -> tuple[Float, float, float]: ...
