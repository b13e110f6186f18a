"""A disk that is full, read-only or small: one message, exit 7, and the rerun gives the same bytes.

benchmarks/disk/full.py refuses each write of a run in turn, with fakes named as such; here it takes some
of them. The other tests need no C compiler and run the real processes.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kills
import pytest
import running

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "disk" / "full.py"
SMALL_BYTES = 2500  # the model and its feeds fit, a manifest does not
EVERY = 131

pytestmark = pytest.mark.slow


def told(said: str) -> str:
    """The one message of a command that failed."""
    [line] = [x for x in said.splitlines() if x.strip()]
    assert line.startswith("accel: ")
    return line


@pytest.mark.skipif(
    not (shutil.which("gcc") or shutil.which("cc")),
    reason="no C compiler for benchmarks/disk/refuse.c; the tests below run without one",
)
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_whichever_write_is_refused_first(tmp_path: Path, kind: str) -> None:
    """From that one on nothing is written; it ends with 7 and one line, and the rerun makes the same."""
    words = ["--out", str(tmp_path / "out"), "--kind", kind, "--every", str(EVERY), "--json"]
    command = [sys.executable, str(SCRIPT), *words]
    env = running.environment()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["writes"][kind] > 500
    assert len(found["cases"]) > 5
    assert [c for c in found["cases"] if c["wrong"]] == []


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """The kernel refuses what is longer: the run is told to make room, and goes on when there is some."""
    words = running.optimize(tmp_path, tmp_path / "work", "release", "--quiet")

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_BYTES, SMALL_BYTES))

    code, said = running.Run(words, preexec_fn=small).ended()
    assert code == 7
    assert "a limit on file sizes is reached" in told(said)
    assert "run the same command again" in told(said)
    code, said = running.Run(words).ended()
    assert (code, said) == (0, "")
    assert kills.digests(tmp_path)["release"]


ROOM = """
mount -t tmpfs -o size=48k none "$1" || exit 99
shift
"$@"
first=$?
mount -o remount,size=64m "$PLACE" || exit 99
"$@" || exit 98
ls "$PLACE"/work/store/quarantine 2>/dev/null && exit 97
exit $first
"""


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """48 kB of memory as a disk: exit 7; with more of it the same command comes to its end."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here to mount a small disk in; the tests above stand in")
    place = tmp_path / "disk"
    place.mkdir()
    words = running.optimize(tmp_path, place / "work", "disk/release", "--quiet")
    before = ["unshare", "-rm", "env", f"PLACE={place}", "sh", "-c", ROOM, "sh", str(place)]
    code, said = running.Run(words, before).ended()
    assert code == 7, said
    assert "is full" in told(said)
