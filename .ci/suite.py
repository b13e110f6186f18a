"""The suite in two calls of pytest, with one line at the end that counts both.

Two workers share the machine; then, one by one, the tests that measure time or memory, and those
that hold a GPU. Their JUnit files stay where $ACCEL_JUNIT names a folder. Plain `pytest` runs all of it in one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
# worksteal: neighbours stay together, so that few fixtures of a file or an engine are made twice
SHARED = ["-m", "not alone and not gpu", "-n", "2", "--dist", "worksteal"]
ALONE = ["-m", "alone or gpu"]
CALLS = {"shared": SHARED, "alone": ALONE}
KEPT = "ACCEL_JUNIT"
KINDS = {"failures": "failed", "errors": "errors", "skipped": "skipped"}  # JUnit's, pytest's


def run(words: list[str], report: Path) -> tuple[int, Counter[str]]:
    """Its exit code, and how many tests ended how: none where it came to no report."""
    report.unlink(missing_ok=True)  # an earlier run's is not this one's
    command = [sys.executable, "-m", "pytest", *words, f"--junitxml={report}"]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return code, counted(report) if report.exists() else Counter()


def counted(report: Path) -> Counter[str]:
    """What a JUnit file counts; there an expected failure is skipped as well."""
    found: Counter[str] = Counter()
    for suite in ET.parse(report).iter("testsuite"):
        ended = {told: int(suite.get(kind, 0)) for kind, told in KINDS.items()}
        found.update(ended, passed=int(suite.get("tests", 0)) - sum(ended.values()))
    return found


def main() -> int:
    """The first exit code that is not 0; both calls are made whatever the first one says."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = ROOT / (os.environ.get(KEPT) or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        calls = [run(words, folder / f"{name}.xml") for name, words in CALLS.items()]
    total = sum((found for _, found in calls), Counter())
    told = ", ".join(f"{total[kind]} {kind}" for kind in ("failed", "passed", "skipped", "errors"))
    print(f"both calls: {told} in {time.monotonic() - began:.0f} s", flush=True)
    return next((code for code, _ in calls if code), 0)


if __name__ == "__main__":
    sys.exit(main())
