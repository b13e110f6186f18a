"""Faults in a child process, made for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from accel.errors import CandidateBroken, EnvironmentProblem, NoBaseline
from accel.measure import child
from accel.values import Port

pytestmark = pytest.mark.alone
FAULTS = """
import os, signal, subprocess, sys, time
from pathlib import Path
from accel.errors import NoBaseline
from accel.values import Port

def widen(port: Port, by: int, where: Path) -> Port:
    assert where.is_absolute()
    return Port(port.name, port.dtype, (*port.shape, by))
def where() -> dict: return {"cwd": os.getcwd(), "omp": os.environ["OMP_NUM_THREADS"],
                             "offline": os.environ["HF_HUB_OFFLINE"], "leader": os.getpgrp() == os.getpid()}
def crash() -> None: os.kill(os.getpid(), signal.SIGSEGV)
def leave() -> None: os._exit(3)
def hang(note: Path) -> None:
    inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note.write_text(f"{os.getpid()} {inner.pid}")
    time.sleep(600)
def hoard() -> None:
    hoarded = []
    for _ in range(100):
        hoarded.append(b"x" * (50 << 20)); time.sleep(0.02)
def chatter() -> int:
    print('{"value": 7}'); os.write(1, b"\\xff\\x00garbage\\n"); print("oops", file=sys.stderr)
    return 5
def refuse() -> None: raise NoBaseline("nothing to compare with: run X")
def raises() -> None: raise RuntimeError("first line\\nlast line\\n")
def fills() -> None: open("/dev/full", "wb", 0).write(b"x")
def quits() -> None: sys.exit(2)
def lingers() -> int:
    import atexit
    atexit.register(time.sleep, 600)
    return 5
def stuck_here() -> None: time.sleep(600)
def scrawls() -> None:
    Path(sys.argv[3]).write_bytes(b"\\xff{ no answer"); os._exit(0)
"""


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "accel_faults.py").write_text(FAULTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def call(name: str, folder: Path, kind: Any = dict, **limits: Any) -> Any:
    arguments = limits.pop("arguments", {})
    limits = {"timeout_s": 60.0, **limits}
    return child.call(f"accel_faults:{name}", arguments, kind, log=folder / "log", **limits)


def gone(pid: int) -> bool:
    for _ in range(200):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_values_travel_both_ways(faults: Path) -> None:
    """Arguments are decoded by the function's hints, paths become absolute, the result by `kind`."""
    port = Port("x", "float32", ("batch",))
    arguments = {"port": port, "by": 3, "where": Path("relative")}
    assert call("widen", faults, Port, arguments=arguments).shape == ("batch", 3)


def test_surroundings(faults: Path) -> None:
    """The child keeps the folder, has capped threads and no network, and leads its own group."""
    found = call("where", faults)
    assert found["cwd"] == str(Path.cwd())
    assert int(found["omp"]) >= 1
    assert found["offline"] == "1"
    assert found["leader"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("crash", "killed by SIGSEGV"),
        ("leave", "exit code 3"),
        ("raises", "RuntimeError: last line"),
        ("quits", "SystemExit: 2"),
        ("absent", "AttributeError"),
    ],
)
def test_failures_are_candidate_broken(faults: Path, name: str, text: str) -> None:
    """A crash, an exit and a foreign exception say what happened and where the log is."""
    with pytest.raises(CandidateBroken, match=text) as caught:
        call(name, faults)
    assert str(faults / "log") in str(caught.value)


def test_own_errors_keep_class_and_message(faults: Path) -> None:
    """An AccelError arrives as itself."""
    with pytest.raises(NoBaseline, match=r"^nothing to compare with: run X$"):
        call("refuse", faults)


def test_garbage_on_stdout_is_only_logged(faults: Path) -> None:
    """What a library prints cannot be taken for the result."""
    assert call("chatter", faults, int) == 5
    assert b"garbage" in (faults / "log").read_bytes()


def test_hang_is_killed_with_its_descendants(faults: Path) -> None:
    """After the time limit nothing of the group is left, and the limit is named."""
    with pytest.raises(CandidateBroken, match="within 3 s"):
        call("hang", faults, timeout_s=3.0, arguments={"note": faults / "note"})
    assert all(gone(int(pid)) for pid in (faults / "note").read_text().split())


def test_a_hang_leaves_its_stack_in_the_log(faults: Path) -> None:
    """A killed child's log names the function that it was in, and the message says so."""
    with pytest.raises(CandidateBroken, match="its log ends with where it was"):
        call("stuck_here", faults, timeout_s=5.0)
    assert "in stuck_here" in (faults / "log").read_text()


def test_a_result_counts_where_the_process_does_not_end(
    faults: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written whole is taken after a while, and the process is killed."""
    monkeypatch.setattr(child, "LINGER_S", 0.2)
    start = time.monotonic()
    assert call("lingers", faults, int) == 5
    assert time.monotonic() - start < 30


def test_memory_limit(faults: Path) -> None:
    """A child that takes more than it may is killed, and the limit is named."""
    with pytest.raises(CandidateBroken, match="at most 300 MB"):
        call("hoard", faults, memory_bytes=300_000_000)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_orphans_when_the_parent_dies(faults: Path, how: signal.Signals) -> None:
    """A parent killed -9, or interrupted, leaves neither the child nor what the child started."""
    code = (
        "from pathlib import Path; from accel.measure import child; "
        f"child.call('accel_faults:hang', {{'note': Path({str(faults / 'note')!r})}}, dict, "
        f"log=Path({str(faults / 'log')!r}), timeout_s=500)"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(400):
            if (faults / "note").exists() and (faults / "note").read_text():
                break
            time.sleep(0.05)
        pids = [int(pid) for pid in (faults / "note").read_text().split()]
        parent.send_signal(how)
        assert all(gone(pid) for pid in pids)
    finally:
        parent.kill()
        parent.wait()


def test_a_full_disk_is_the_environments_problem(faults: Path) -> None:
    """What the child could not write is no fault of the candidate: exit 7, not 6."""
    with pytest.raises(EnvironmentProblem, match="is full"):
        call("fills", faults)


@pytest.mark.parametrize("name", ["scrawls", "chatter"])
def test_an_answer_of_another_kind_is_the_childs_fault(faults: Path, name: str) -> None:
    """Garbage where the result should be, or a number where a Port should: broken, with its log."""
    with pytest.raises(CandidateBroken, match=f"accel_faults:{name} gave no Port") as caught:
        call(name, faults, Port)
    assert str(faults / "log") in str(caught.value)
