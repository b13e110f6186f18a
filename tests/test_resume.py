"""Kill -9 at any moment: the rerun goes on from the last finished step, and nothing else differs.

benchmarks/resume.py does the killing, here on the smallest run that has every kind of step.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "digits.py"
MOMENTS = ("export:1", "screen:1", "evaluate:2", "measure:0")
# the objective `size` needs no clock: which candidate wins is the same in every run
WORDS = [
    "--engine",
    "onnxruntime_cpu",
    "--recipe",
    "fp32",
    "--objective",
    "size",
    "--max-drop",
    "2pt",
    "--epochs",
    "2",
]

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four kills, the run to its end, one more run, and one that was never disturbed."""
    folder = tmp_path_factory.mktemp("resume")
    workload = folder / "digits.py"  # trained for less long, and timed at one request
    text = EXAMPLE.read_text(encoding="utf-8").replace("range(12)", "range(2)")
    workload.write_text(text.partition("def requests")[0], encoding="utf-8")
    moments = [w for at in MOMENTS for w in ("--at", at)]
    asked = [str(workload), "--out", str(folder / "out"), *moments, "--undisturbed", "--json"]
    command = [sys.executable, str(ROOT / "benchmarks" / "resume.py"), *asked, "--", *WORDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("at", range(len(MOMENTS)), ids=MOMENTS)
def test_what_was_finished_at_a_kill_is_kept(story: dict[str, Any], at: int) -> None:
    """Every finished step is the same folder with the same bytes when all is over."""
    kill = story["kills"][at]
    assert kill["at"] == MOMENTS[at]
    assert kill["finished"] > at  # each moment is later than the one before
    assert (kill["kept"], kill["lost"]) == (kill["finished"], [])


@pytest.mark.parametrize("at", range(len(MOMENTS)), ids=MOMENTS)
def test_a_kill_leaves_no_process_behind(story: dict[str, Any], at: int) -> None:
    """Only the parent's group is killed; what it had started ends by itself."""
    assert story["kills"][at]["orphans"] == []


def test_the_rerun_says_what_it_reused(story: dict[str, Any]) -> None:
    """The run that ends counts the steps found finished; one more run makes none."""
    reused, total, made = map(int, re.findall(r"\d+", story["resumed"])[:3])
    assert reused == story["kills"][-1]["finished"]
    assert (reused + made, made > 0) == (total, True)
    assert story["again"].startswith(f"reused {total} of {total} steps, 0 made")


def test_the_release_is_that_of_an_undisturbed_run(story: dict[str, Any]) -> None:
    """Its artefacts have equal digests, one by one; measurements are digested apart."""
    assert story["differing"] == []
