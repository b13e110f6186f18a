"""What `make test` calls: nothing beside a test that is alone, and one line that counts both calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "xdist",
    reason="pytest-xdist of the dev extra; instead: nothing, since without it there is no suite.py to test",
)

ROOT = Path(__file__).parents[1]
MARKERS = '[tool.pytest.ini_options]\nmarkers = ["alone: a", "gpu: g"]\ntestpaths = ["tests"]\n'
TESTS = """
import os
import pytest

def test_shared(): assert os.environ["PYTEST_XDIST_WORKER"]
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.alone
def test_alone(): assert "PYTEST_XDIST_WORKER" not in os.environ
@pytest.mark.gpu
def test_gpu(): assert "PYTEST_XDIST_WORKER" not in os.environ
"""
FAILS = "def test_it(): assert False\n"


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("", 0, "0 failed, 3 passed, 1 skipped, 0 errors"),
        (FAILS, 1, "1 failed, 3 passed, 1 skipped, 0 errors"),
        (f"import pytest\n@pytest.mark.alone\n{FAILS}", 1, "1 failed, 3 passed, 1 skipped"),
    ],
    ids=["all pass", "a shared one fails", "one alone fails"],
)
def test_both_calls_count(tmp_path: Path, more: str, code: int, said: str) -> None:
    """Workers for what is shared, none for the rest; either call's failure is the suite's. Both
    JUnit files stay where they are asked for."""
    for folder in (".ci", "tests"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / ".ci" / "suite.py", tmp_path / ".ci")
    (tmp_path / "pyproject.toml").write_text(MARKERS)
    (tmp_path / "tests" / "test_one.py").write_text(TESTS)
    (tmp_path / "tests" / "test_more.py").write_text(more)
    outer = (
        "PYTEST_XDIST",
        "PYTEST_CURRENT",
        "PYTEST_ADDOPTS",
    )  # of the run that this is a part of
    environment = {k: v for k, v in os.environ.items() if not k.startswith(outer)}
    environment["ACCEL_JUNIT"] = ".benchmarks/junit"
    command = [sys.executable, str(tmp_path / ".ci" / "suite.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    last = done.stdout.splitlines()[-1]
    assert (done.returncode, last.startswith(f"both calls: {said}")) == (code, True), done.stdout
    kept = {path.name for path in (tmp_path / ".benchmarks" / "junit").iterdir()}
    assert kept == {"shared.xml", "alone.xml"}
