"""Paths and data shared by the tests."""

import os
import sys
from pathlib import Path

# tests run many small fits: threads of the BLAS would only wait for each other
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

sys.path.insert(0, str(Path(__file__).parent))
