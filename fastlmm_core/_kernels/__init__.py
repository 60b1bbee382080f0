"""The compiled modules.

An OpenMP thread that waits at a barrier spins by default.  On a machine that
does other work too, spinning threads take the processors from the ones they
wait for, and a fit can take several times as long.  libgomp reads
OMP_WAIT_POLICY once, when it is loaded: the policy is set for that moment only,
and not at all if the user has chosen one or libgomp is loaded already.
"""

import os

if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
    os.environ["OMP_WAIT_POLICY"] = "passive"
    try:
        from fastlmm_core._kernels import _encode  # noqa: F401  loads libgomp
    finally:
        del os.environ["OMP_WAIT_POLICY"]
