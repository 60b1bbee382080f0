"""Milliseconds to import fastlmm_core and to reach `lmer`, medians of fresh processes; more than 300 fail."""

import re
import statistics
import subprocess
import sys

LIMIT = 300
STEPS = {
    "import fastlmm_core": "import fastlmm_core",
    "and reach lmer": "import fastlmm_core; fastlmm_core.lmer",
}


def milliseconds(code):
    """Of importing what ``code`` imports; a warning is an error."""
    command = [sys.executable, "-W", "error", "-X", "importtime", "-c", code]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    own = re.findall(r"^import time: +(\d+) \| +\d+ \|", report, flags=re.MULTILINE)
    with_site = [sys.executable, "-X", "importtime", "-c", ""]
    bare = subprocess.run(with_site, check=True, capture_output=True, text=True).stderr
    start = re.findall(r"^import time: +(\d+) \| +\d+ \|", bare, flags=re.MULTILINE)
    return (sum(map(int, own)) - sum(map(int, start))) / 1000


medians = {name: statistics.median(milliseconds(code) for _ in range(7)) for name, code in STEPS.items()}
print(", ".join(f"{name} {median:.0f} ms" for name, median in medians.items()))
sys.exit(medians["import fastlmm_core"] > LIMIT)
