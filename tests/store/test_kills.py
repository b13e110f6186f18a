"""Kill -9 at random moments: what comes out in the end is the same, step by step, and nobody is left.

benchmarks/kills.py does the killing, under a fake clock named as such; there are 30 of them when it is
run by hand. tests/test_resume.py kills runs whose clock is real.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import running

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"
KILLS = 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run left alone; one killed six times, three times with all its processes, and run to its end."""
    words = ["--out", str(tmp_path_factory.mktemp("kills")), "--kills", str(KILLS), "--chain"]
    command = [sys.executable, str(SCRIPT), *words, "--json"]
    env = running.environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_step_has_the_bytes_of_a_run_that_was_left_alone(story: dict[str, Any]) -> None:
    """Values, records and files, measurements too; nothing is half-made or in quarantine."""
    assert len(story["kills"]) == KILLS
    assert story["steps"] > 10
    assert [k["wrong"] for k in story["kills"]] == [[]] * KILLS


def test_kills_leave_no_process_behind(story: dict[str, Any]) -> None:
    """Whether the command alone is killed or everything at once."""
    assert {k["whole"] for k in story["kills"]} == {True, False}
    assert [k["orphans"] for k in story["kills"]] == [[]] * KILLS


def test_they_hit_a_run_that_was_getting_on(story: dict[str, Any]) -> None:
    """Later ones find more steps finished, and no kill takes one back."""
    finished = [k["finished"] for k in story["kills"]]
    assert finished == sorted(finished)
    assert 0 < finished[-1] <= story["steps"] + 1
