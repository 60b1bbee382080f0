"""Sums over two sets of rows added level by level."""

import numpy as np
import numpy.typing as npt

_Places = npt.NDArray[np.int64] | None

def union_keys(
    a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], n_threads: int = 1
) -> tuple[npt.NDArray[np.int64], _Places, _Places]: ...
def add_rows(
    A: npt.NDArray[np.float64],
    from_a: _Places,
    B: npt.NDArray[np.float64],
    from_b: _Places,
    n_threads: int = 1,
) -> npt.NDArray[np.float64]: ...
def add_counts(
    A: npt.NDArray[np.int64],
    from_a: _Places,
    B: npt.NDArray[np.int64],
    from_b: _Places,
    n_threads: int = 1,
) -> npt.NDArray[np.int64]: ...
def order_codes(codes: npt.NDArray[np.int32], levels: int) -> npt.NDArray[np.int64]: ...
