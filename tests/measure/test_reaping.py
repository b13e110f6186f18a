"""As a container's first process, accel inherits every orphan: none stays a zombie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STRAYS = """
import subprocess, sys, time
from pathlib import Path
from accel.measure import child

child.guard(int(sys.argv[1]))
subprocess.Popen(["sleep", "600"])
subprocess.Popen(["sleep", "600"], start_new_session=True)
Path(sys.argv[2]).touch()
time.sleep(600)
"""
FIRST = """
import ctypes, os, sys, time
from pathlib import Path
import psutil
from accel.measure import child
from accel.measure.worker import Worker

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
log, note = Path("log"), Path("note")
child.call("os:getpid", {}, int, log=log, timeout_s=60)
with Worker("arm", log) as worker:
    worker.ask("memory")
    worker.stop()
spawned = child.spawn("accel_strays", (str(note),), log)
while not note.exists():
    assert spawned.process.poll() is None
    time.sleep(0.01)
child.end(spawned)
print([(p.status(), p.name()) for p in psutil.Process().children(recursive=True)])
start = time.monotonic()
child._reap(-1 << 30, 1 << 22)
assert time.monotonic() - start < child.REAP_S / 2
"""


def test_children_leave_no_zombies_where_orphans_fall_to_us(tmp_path: Path) -> None:
    """One that ends by itself, one that is stopped, one with children in and out of its group; and
    what is nobody's child costs no time."""
    (tmp_path / "accel_strays.py").write_text(STRAYS)
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", FIRST],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert done.returncode == 0, done.stderr
