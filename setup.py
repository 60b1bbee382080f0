"""Extension modules of fastlmm_core; all metadata is in pyproject.toml.

Each Cython file in ``src_c/cython`` is a thin wrapper over the C files named
for it in ``EXTENSIONS``.  Environment switches:

``FASTLMM_CORE_OPENMP=0``   build without OpenMP
``FASTLMM_CORE_DEBUG=1``    -O1 -g, bounds checks and C assertions
``FASTLMM_CORE_SANITIZE=1`` AddressSanitizer and UndefinedBehaviorSanitizer
``FASTLMM_CORE_ONLY=_a,_b`` build only these extensions (development)
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# extension -> C sources below src_c/
EXTENSIONS = {
    "_threads": ["threads/fork.c"],
    "_encode": ["encode/encode.c"],
    "_rows": ["rows/columns.c", "rows/quantiles.c", "crossprod/codes.c"],
    "_pass": [
        "crossprod/pass.c",
        "crossprod/blocks.c",
        "crossprod/codes.c",
        "crossprod/pairs.c",
        "rows/columns.c",
    ],
    "_tree": ["numeric/tree_levels.c", "numeric/tree_pack.c", "numeric/tree_chain.c", "numeric/tree_inner.c"],
    "_resample": [
        "resample/draw.c",
        "numeric/tree_levels.c",
        "numeric/tree_pack.c",
        "numeric/tree_chain.c",
    ],
    "_crossed": [
        "numeric/crossed_leaf.c",
        "numeric/crossed_columns.c",
        "numeric/crossed_stacked.c",
        "numeric/crossed_dense.c",
        "numeric/crossed_tiles.c",
    ],
    "_sparse": [
        "sparse/graph.c",
        "sparse/minimum_degree.c",
        "sparse/etree.c",
        "sparse/supernodes.c",
        "sparse/pattern.c",
        "sparse/rank_update.c",
        "sparse/multifrontal.c",
        "sparse/solve.c",
        "sparse/selected_inverse.c",
    ],
    "_schur": ["sparse/schur_pattern.c", "sparse/schur.c"],
    "_iterative": [
        "iterative/operator.c",
        "iterative/single.c",
        "iterative/blocks.c",
        "iterative/gradients.c",
    ],
}


SERIAL = ["-Wno-unknown-pragmas"]


def switch(name, default="0"):
    return os.environ.get(f"FASTLMM_CORE_{name}", default) not in ("", "0")


def openmp_flags():
    """Flags that compile and link OpenMP with this compiler, or none and silence about its pragmas."""
    if not switch("OPENMP", "1"):
        return SERIAL, []
    compiler = os.environ.get("CC", "cc")
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.c")
        probe.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        command = [*compiler.split(), "-fopenmp", str(probe), "-o", str(Path(folder, "probe"))]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            print("fastlmm_core: no OpenMP with this compiler, building serial kernels", file=sys.stderr)
            return SERIAL, []
    return ["-fopenmp"], ["-fopenmp"]


def extensions():
    compile_flags, link_flags = openmp_flags()
    debug, sanitize = switch("DEBUG"), switch("SANITIZE")
    compile_flags = ["-std=c11", "-O1" if debug or sanitize else "-O3", *compile_flags]
    compile_flags += ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]
    if debug or sanitize:
        compile_flags += ["-g", "-DFLM_DEBUG=1"]
    if sanitize:
        flags = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
        compile_flags += flags
        link_flags += flags
    only = [name for name in os.environ.get("FASTLMM_CORE_ONLY", "").split(",") if name]
    return [
        Extension(
            f"fastlmm_core._kernels.{name}",
            [f"src_c/cython/{name}.pyx", *(f"src_c/{source}" for source in sources)],
            include_dirs=["src_c/include"],
            extra_compile_args=compile_flags,
            extra_link_args=link_flags,
        )
        for name, sources in EXTENSIONS.items()
        if not only or name in only
    ]


setup(
    ext_modules=cythonize(
        extensions(),
        include_path=["src_c/cython"],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": switch("DEBUG"),
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
        },
    )
)
