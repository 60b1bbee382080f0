"""Integer keys to level codes, and the scan for values that are not finite."""

import numpy as np
import numpy.typing as npt

_Keys = npt.NDArray[np.int32] | npt.NDArray[np.int64]

def first_nonfinite(x: npt.NDArray[np.float64], n_threads: int = 1) -> int: ...
def key_range(keys: _Keys, n_threads: int = 1) -> tuple[int, int]: ...
def used_levels(
    codes: npt.NDArray[np.int8] | npt.NDArray[np.int16] | npt.NDArray[np.int32],
    n_levels: int,
    n_threads: int = 1,
) -> npt.NDArray[np.bool_] | None: ...
def dense_codes(
    keys: _Keys, smallest: int, span: int, n_threads: int = 1
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]: ...
def hash_codes(keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]: ...
def grow_codes(
    keys: npt.NDArray[np.int64],
    slot_keys: npt.NDArray[np.int64],
    slot_levels: npt.NDArray[np.int32],
    n_levels: int,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]: ...
def relabel(codes: npt.NDArray[np.int32], rank: npt.NDArray[np.int32], n_threads: int = 1) -> None: ...
