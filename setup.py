"""Extension modules of fastlmm_core; all metadata is in pyproject.toml.

Each Cython file in ``src_c/cython`` is a thin wrapper over the C files named
for it in ``EXTENSIONS``.  Environment switches:

``FASTLMM_CORE_OPENMP=0``   build without OpenMP
``FASTLMM_CORE_DEBUG=1``    -O1 -g, bounds checks and C assertions
``FASTLMM_CORE_SANITIZE=1`` AddressSanitizer and UndefinedBehaviorSanitizer; ``thread``: ThreadSanitizer
``FASTLMM_CORE_COVERAGE=1`` -O0 and gcov's counters in the C kernels
``FASTLMM_CORE_ONLY=_a,_b`` build only these extensions (development)

The kernels are C11 with the vector types of GCC and Clang.  On Windows they
are therefore compiled by clang-cl, which comes with Visual Studio.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# extension -> C sources below src_c/
EXTENSIONS = {
    "_threads": ["threads/fork.c"],
    "_encode": ["encode/encode.c", "encode/keys.c", "encode/texts.c", "encode/text_order.c"],
    "_rows": ["rows/columns.c", "rows/quantiles.c", "crossprod/codes.c"],
    "_pass": [
        "crossprod/pass.c",
        "crossprod/blocks.c",
        "crossprod/codes.c",
        "crossprod/pairs.c",
        "rows/columns.c",
    ],
    "_merge": ["crossprod/merge.c"],
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


MSVC = sys.platform == "win32" and "MSC" in sys.version
SERIAL = ["-Wno-unknown-pragmas"]
# libomp of the two package managers of macOS, whose cc has none of its own
MACOS_LIBOMP = ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp", "/opt/local/lib/libomp")


def switch(name, default="0"):
    return os.environ.get(f"FASTLMM_CORE_{name}", default) not in ("", "0")


def clang_cl():
    """Path of clang-cl, the compiler of the kernels on Windows."""
    found = shutil.which(os.environ.get("CC", "clang-cl"))
    standard = Path(os.environ.get("PROGRAMFILES", "C:/Program Files"), "LLVM/bin/clang-cl.exe")
    if not found and not standard.exists():
        sys.exit("fastlmm_core: no clang-cl: install the component C++ Clang tools of Visual Studio, or LLVM")
    return found or str(standard)


def compiler():
    """The command distutils will compile with, as a list."""
    if MSVC:
        return [clang_cl()]
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()


def openmp_choices():
    """Pairs of compile and link flags, one of which may give OpenMP."""
    if MSVC:
        library = Path(clang_cl()).parent.parent / "lib"
        yield ["-openmp"], [f"/LIBPATH:{library}", "libomp.lib"]
        return
    yield ["-fopenmp"], ["-fopenmp"]
    if sys.platform == "darwin":
        for prefix in MACOS_LIBOMP:
            if Path(prefix).is_dir():
                yield ["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"], [f"-L{prefix}/lib", "-lomp"]


def links(compile_flags, link_flags):
    """Whether a program that calls OpenMP can be built with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.c")
        probe.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        between = ["-link"] if MSVC else ["-o", "probe"]
        command = [*compiler(), *compile_flags, str(probe), *between, *link_flags]
        try:
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
        except (OSError, subprocess.CalledProcessError):
            return False
        return True


def openmp_flags():
    """Flags that compile and link OpenMP with this compiler, or none and silence about its pragmas."""
    if not switch("OPENMP", "1"):
        return SERIAL, []
    for compile_flags, link_flags in openmp_choices():
        if links(compile_flags, link_flags):
            return compile_flags, link_flags
    print("fastlmm_core: no OpenMP with this compiler, building serial kernels", file=sys.stderr)
    return SERIAL, []


def flags():
    """Flags to compile and to link with."""
    compile_flags, link_flags = openmp_flags()
    if MSVC:
        return ["/std:c11", "/O2", *compile_flags], link_flags
    debug, sanitize, coverage = switch("DEBUG"), switch("SANITIZE"), switch("COVERAGE")
    level = "-O0" if coverage else "-O1" if debug or sanitize else "-O3"
    compile_flags = ["-std=c11", level, *compile_flags]
    compile_flags += ["-fno-math-errno"]  # or eight square roots are taken one by one
    compile_flags += ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]
    if debug or sanitize or coverage:
        compile_flags += ["-g", "-DFLM_DEBUG=1"]
    checks = "thread" if os.environ.get("FASTLMM_CORE_SANITIZE") == "thread" else "address,undefined"
    extra = [f"-fsanitize={checks}", "-fno-omit-frame-pointer"] if sanitize else []
    if coverage:
        # a file that two extensions share is compiled twice, under one name and stamp; threads add atomically
        extra += ["--coverage", "-frandom-seed=kernels", "-fprofile-update=atomic"]
    return compile_flags + extra, link_flags + extra


def extensions():
    compile_flags, link_flags = flags()
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


class build_kernels(build_ext):
    """Calls clang-cl in place of Microsoft's compiler."""

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            self.compiler.initialize()
            self.compiler.cc = clang_cl()
        super().build_extensions()


setup(
    cmdclass={"build_ext": build_kernels},
    ext_modules=cythonize(
        extensions(),
        include_path=["src_c/cython"],
        build_dir="build/cython-checked" if switch("DEBUG") else "build/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": switch("DEBUG"),
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            # no module writes to a global after import, and every object belongs to one fit
            "freethreading_compatible": True,
        },
    ),
)
