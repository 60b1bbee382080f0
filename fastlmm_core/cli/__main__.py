"""``python -m fastlmm_core.cli``."""

from . import script

script()
