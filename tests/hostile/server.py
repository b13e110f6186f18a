"""A process that has imported accel once and forks for every case: its start is paid for once, and each
case is still a process of its own, whose time and memory are its own.

The fork calls the console script's own function. A line of JSON on stdin asks, a line on stdout answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
KILLED_S = 30.0  # beyond what a case may take: how long it took is told all the same
GUARD_BYTES = 6 << 30  # of address space: the machine outlives a case that fails
POLL_S = 0.004


class Server:
    """The other end: `ask` runs one command in a folder."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = str(ROOT)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, folder: Path, words: list[str], terminal: bool = False) -> dict[str, Any]:
        """What an Answer holds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"folder": str(folder), "words": words, "terminal": terminal}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """Nothing is left of it."""
        self._process.communicate()


def main() -> None:
    """Answer until stdin ends."""
    _warm()
    for line in sys.stdin:
        print(json.dumps(_answer(**json.loads(line))), flush=True)


def _warm() -> None:
    """What most commands import; none of it starts a thread."""
    import accel.cli
    import accel.legality._graph
    import accel.questions.inspect
    from accel import catalog

    assert Path(accel.__file__).is_relative_to(ROOT)
    for name in catalog.names("legality"):
        catalog.load("legality", name)


def _answer(folder: str, words: list[str], terminal: bool) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        master, slave = os.openpty() if terminal else (-1, -1)
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            _become(folder, words, *((slave, slave) if terminal else (out.fileno(), err.fileno())))
        status, used = _wait(pid, began, master, out)
        seconds = time.monotonic() - began
        for end in (master, slave) if terminal else ():
            os.close(end)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "out": _read(out),
            "err": _read(err),
            "seconds": seconds,
            "cpu_s": used.ru_utime + used.ru_stime,
            "rss_bytes": used.ru_maxrss * 1024,
        }


def _wait(pid: int, began: float, master: int, out: Any) -> tuple[int, Any]:
    while True:
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if master >= 0:
            while select.select([master], [], [], 0)[0]:
                out.write(os.read(master, 1 << 16).replace(b"\r\n", b"\n"))
        if ended:
            return status, used
        if time.monotonic() - began > KILLED_S:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def _read(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read(4 << 20).decode(errors="replace"))


def _become(folder: str, words: list[str], out: int, err: int) -> NoReturn:
    """The command `accel`, in a session of its own."""
    code: Any = 99
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        resource.setrlimit(resource.RLIMIT_AS, (GUARD_BYTES, GUARD_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = ["accel", *words]
        from accel.cli import main as accel

        accel()
    except SystemExit as ending:
        code = ending.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    main()
