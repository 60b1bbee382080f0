from fastlmm_core._kernels._rows import ColumnProgram
from fastlmm_core._typing import Float, Int32, Int64

SLICES: int

def pass_direct(
    program: ColumnProgram,
    weights: Float | None,
    bounds: Int64,
    factors: list[tuple[Int32, Int32, Float, Int64 | None, bool]],
    C_partial: Float | None,
    n_threads: int = 1,
) -> None: ...
def pass_owned(
    program: ColumnProgram,
    weights: Float | None,
    tile_rows: int,
    factors: list[tuple[Int32, Int32, Float, Int64 | None]],
    C_partial: Float | None,
    n_threads: int = 1,
) -> None: ...
def pair_blocks(
    program: ColumnProgram,
    weights: Float | None,
    k_f: int,
    f: Int32,
    g: Int32,
    levels_f: int,
    levels_g: int,
    all_ones: bool,
    n_threads: int = 1,
) -> tuple[Int64, Int32, Float]: ...
def scan_codes(codes: Int32) -> tuple[int, int, bool]: ...
def occurring(R: Float, a: int, j: int) -> tuple[Int64, Int64]: ...
def find_parents(inner: Int32, outer: Int32, levels: int) -> Int32 | None: ...
