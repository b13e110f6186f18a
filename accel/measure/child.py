"""One function call in a fresh process: a crash, a hang or a leak there costs one candidate.

The child leads its own session. A guardian forked from it holds the read end of a pipe whose write
end only the parent has: when the parent dies, however it dies, the pipe ends and the guardian kills
the whole group, so that a `kill -9` of the parent leaves nothing behind. (PR_SET_PDEATHSIG alone
reaches the child but not the compilers it started.)
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from accel import disk, errors, manifest
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.measure import machine

T = TypeVar("T")
POLL_S = 0.02  # how often memory and time limits are looked at
# For an interpreter to end behind its result. Torch's compile workers may hold one up for 300 s
# (PyTorch 2.11, torch/_inductor/compile_worker/subproc_pool.py, SubprocPool.shutdown).
LINGER_S = 20.0
REAP_S, REAP_POLL_S = 1.0, 0.001  # for what was killed to be gone
PAGE_BYTES = 4096  # of any file, on a disk
STACKS, STACKS_S = signal.SIGUSR1, 0.5  # asks a child to write into its log where its threads are
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Spawned:
    """A running child, and the parent's end of its leash (closing it kills the group)."""

    process: subprocess.Popen[bytes]
    leash: typing.IO[bytes]  # a file knows that it is closed; a bare number is soon another file's


def call(
    function: str,
    arguments: Mapping[str, Any],
    kind: type[T],
    *,
    log: Path,
    timeout_s: float,
    memory_bytes: int | None = None,
) -> T:
    """The result of "package.module:function" called with these arguments in a fresh process.

    Arguments and result travel as JSON (`manifest`); the function's type hints decode them. What
    the child prints goes to `log`. An AccelError raised there is raised here, class and message
    kept. A child that does not end behind its result is killed, and the result counts.
    Raises CandidateBroken for any other exception, a crash, or a limit that was passed."""
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        job, result = Path(folder, "job.json"), Path(folder, "result.json")
        absolute = {k: v.absolute() if isinstance(v, Path) else v for k, v in arguments.items()}
        job.write_text(manifest.text({"function": function, "arguments": absolute}))
        spawned = spawn("accel.measure.child", (str(job), str(result)), log)
        try:
            trouble = _watch(spawned.process, result, timeout_s, memory_bytes)
        finally:
            end(spawned)
        return _result(kind, result, trouble, function, log)


def spawn(module: str, words: Sequence[str], log: Path, fds: Sequence[int] = ()) -> Spawned:
    """Start `python -m module <leash> words...` in its own session, its output going to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    read, write = os.pipe()
    command = [sys.executable, "-P", "-m", module, str(read), *words]
    try:
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment(),
                pass_fds=(read, *fds),
                start_new_session=True,
            )
    except BaseException:
        os.close(write)
        raise
    finally:
        os.close(read)
    return Spawned(process, os.fdopen(write, "wb"))


def environment() -> dict[str, str]:
    """What every child sees: the same seed, threads and import path; no downloads, no bars."""
    fixed = {
        **dict.fromkeys(THREADS, str(machine.cores())),
        "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path),
        "PYTHONHASHSEED": "0",
        "PYTHONFAULTHANDLER": "1",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**os.environ, **fixed}


def end(spawned: Spawned) -> None:
    """Kill whatever is left of a child and its descendants, and reap it. Safe to call twice."""
    if spawned.leash.closed:
        return
    family = kill_tree(spawned.process.pid)
    spawned.leash.close()
    spawned.process.wait()
    _reap(-spawned.process.pid, *family)


def kill_tree(pid: int) -> tuple[int, ...]:
    """SIGKILL a session leader, its group, and descendants that left the group: which these were."""
    import psutil

    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return tuple(process.pid for process in family)


def _reap(*whom: int) -> None:
    """Wait for killed processes, and -groups, that fell to this one: a container's first process inherits
    all orphans, the guardian too. Elsewhere none is ours, and the kernel says so at once."""
    deadline = time.monotonic() + REAP_S
    for one in whom:
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline:
                if os.waitpid(one, os.WNOHANG)[0] == 0:
                    time.sleep(REAP_POLL_S)


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants."""
    import psutil

    try:
        leader = psutil.Process(pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def exit_text(code: int) -> str:
    """How a process ended: "killed by SIGSEGV" or "exit code 3"."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def guard(leash: int) -> None:
    """Fork the guardian: it waits for the leash to end, then kills this process group.

    It keeps no other file open, so the pipes of the process it guards close when that one dies."""
    group = os.getpgrp()
    if os.fork():
        os.close(leash)
        return
    os.closerange(0, leash)
    os.closerange(leash + 1, 4096)
    os.read(leash, 1)
    os.killpg(group, signal.SIGKILL)


def error_data(error: BaseException) -> dict[str, str]:
    """An exception as the parent needs it; the traceback goes to the log."""
    try:
        disk.blame(error)
    except AccelError as told:
        error = told
    if isinstance(error, AccelError):
        return {"class": type(error).__name__, "message": str(error)}
    with contextlib.suppress(OSError):  # the log's disk may be full
        traceback.print_exception(error)
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__
    return {"class": "", "message": text}


def raise_data(data: Mapping[str, str], what: str, log: Path) -> typing.NoReturn:
    """Raise what `error_data` described, as the same AccelError or as CandidateBroken."""
    kind = getattr(errors, data["class"], None) if data["class"] else None
    if isinstance(kind, type) and issubclass(kind, AccelError):
        raise kind(data["message"])
    _require_room(log)
    raise CandidateBroken(f"{what} failed: {data['message']}. The whole story: less {log}")


def _require_room(log: Path) -> None:
    """Raise EnvironmentProblem where nothing can be written: whatever failed there is not to blame. (A
    runtime whose file was cut short says anything, or dies.)"""
    for place in (log.parent, disk.temporary()):
        with disk.guarded(place):
            disk.write(place / f".room-{os.getpid()}", bytes(PAGE_BYTES))
            (place / f".room-{os.getpid()}").unlink()


def _watch(
    process: subprocess.Popen[bytes], result: Path, timeout_s: float, limit: int | None
) -> str:
    deadline, done = time.monotonic() + timeout_s, False
    while True:
        try:
            process.wait(POLL_S)
            return exit_text(process.returncode) if process.returncode else ""
        except subprocess.TimeoutExpired:
            if not done and result.exists():
                deadline, done = time.monotonic() + LINGER_S, True
            if time.monotonic() > deadline:
                return "" if done else _hung(process, timeout_s)
            if limit is not None and (used := tree_bytes(process.pid)) > limit:
                return f"used {used / 1e6:.0f} MB; at most {limit / 1e6:.0f} MB were allowed"


def _hung(process: subprocess.Popen[bytes], timeout_s: float) -> str:
    """The last thing that is asked of a process before it is killed: where it is."""
    process.send_signal(STACKS)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STACKS_S)
    return f"did not end within {timeout_s:g} s and was killed; its log ends with where it was"


def _result(kind: type[T], path: Path, trouble: str, function: str, log: Path) -> T:
    if trouble or not path.exists():
        trouble = trouble or "ended without a result"
        _require_room(log)
        raise CandidateBroken(f"{function} {trouble}. What it printed: less {log}")
    try:
        data = json.loads(path.read_bytes())
        if "error" not in data:
            return manifest.load(kind, data["value"])
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        name = getattr(kind, "__name__", kind)
        raise CandidateBroken(
            f"{function} gave no {name}: {error}. What it printed: less {log}"
        ) from None
    raise_data(data["error"], function, log)


def _run(job: Mapping[str, Any]) -> Any:
    module, _, name = job["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(function)
    words = {k: manifest.load(hints.get(k, Any), v) for k, v in job["arguments"].items()}
    try:
        return function(**words)
    except OSError as error:
        out = job["arguments"].get("out")
        disk.blame(error, None if out is None else Path(out))
        raise


def main(leash: str, job: str, result: str) -> None:
    """Run the job and write what came of it; the file appears whole or not at all."""
    guard(int(leash))
    faulthandler.register(STACKS, all_threads=True)
    try:
        answer = {"value": manifest.dump(_run(json.loads(Path(job).read_text(encoding="utf-8"))))}
    except BaseException as error:
        answer = {"error": error_data(error)}
    temporary = Path(result).with_suffix(".part")
    temporary.write_text(json.dumps(answer), encoding="utf-8")
    temporary.replace(result)
    try:
        sys.stdout.flush()
    except OSError:  # the log's disk is full, and what was printed would end us with 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
