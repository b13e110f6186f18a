"""Kill `accel optimize` with -9 at chosen moments, run it again, and see what was kept.

    python benchmarks/resume.py examples/minilm.py --out .benchmarks/resume \\
        --at export:1 --at quantize:2 --at measure:0 -- --max-drop 0.5pt

A moment VERB:N is: N steps of that verb are finished and the next one is under way. After each kill
the same command runs again, up to the next moment, and in the end to its end; then once more with
nothing changed. Everything after `--` goes to `accel optimize`. With --undisturbed a run of its own
store, never killed, tells whether the release is the same. Exit code 1: something was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from accel import store

POLL_S = 0.01
GONE_S = 10.0  # how long a guardian may take to end its group
MARK = "ACCEL_RESUME_MARK"  # in the environment of everything that a run starts
STEP = re.compile(r"[a-z]+-[0-9a-f]{20}")

Steps = Mapping[str, tuple[int, str]]  # finished step -> inode of its folder, digest of its files


@dataclass(frozen=True)
class Kill:
    """One kill -9, and what became of the steps that were finished by then."""

    at: str
    finished: int
    kept: int  # the same folder with the same bytes, when all was over
    lost: tuple[str, ...]  # made again, changed or gone
    orphans: tuple[str, ...]  # command lines still alive after GONE_S


@dataclass(frozen=True)
class Result:
    """The whole story."""

    kills: tuple[Kill, ...]
    resumed: str  # what the run that came to its end said of its steps
    again: str  # what one more run, with nothing changed, said
    again_s: float
    differing: tuple[str, ...] | None  # artefacts unlike the undisturbed run's; None: not asked

    @property
    def good(self) -> bool:
        """Nothing was lost, left alive, or came out otherwise."""
        return not any(k.lost or k.orphans for k in self.kills) and not self.differing


def main() -> None:
    """Kill, rerun, compare, print."""
    asked, words = arguments()
    result = story(asked, words)
    print(json.dumps(dataclasses.asdict(result), indent=1) if asked.json else text(result))
    sys.exit(0 if result.good else 1)


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what follows `--`."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--at", action="append", type=moment, required=True, metavar="VERB:N")
    parser.add_argument("--undisturbed", action="store_true", help="compare with such a run, too")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]


def moment(word: str) -> tuple[str, int]:
    """ "export:1" -> ("export", 1)."""
    verb, _, count = word.partition(":")
    return verb, int(count)


def story(asked: argparse.Namespace, words: list[str]) -> Result:
    """Every kill, the run to the end, one more, and the undisturbed one."""
    asked.out.mkdir(parents=True, exist_ok=True)
    command = optimize(asked.workload, words, asked.out / "killed")
    steps = asked.out / "killed" / "work" / "store"
    seen = [kill(command, steps, asked.out, *at) for at in asked.at]
    resumed = finish(command, asked.out)
    last = finished(steps)
    start = time.monotonic()
    again = finish(command, asked.out)
    again_s = time.monotonic() - start
    differing = None
    if asked.undisturbed:
        finish(optimize(asked.workload, words, asked.out / "undisturbed"), asked.out)
        differing = differences(*(artefacts(asked.out / n) for n in ("killed", "undisturbed")))
    kills = tuple(
        judged(at, before, last, left) for at, (before, left) in zip(asked.at, seen, strict=True)
    )
    return Result(kills, resumed, again, again_s, differing)


def optimize(workload: str, words: list[str], folder: Path) -> list[str]:
    """The command whose steps and release go to `folder`."""
    places = ["--work", str(folder / "work"), "--out", str(folder / "release")]
    return [sys.executable, "-m", "accel", "optimize", workload, *words, *places]


def kill(
    command: list[str], steps: Path, logs: Path, verb: str, count: int
) -> tuple[Steps, tuple[str, ...]]:
    """Kill -9 the command's process group at a moment: the finished steps, and who stayed alive.

    The engines' processes lead groups of their own: they must end by themselves."""
    mark = uuid.uuid4().hex
    with (logs / f"killed-at-{verb}-{count}.log").open("w") as log:
        run = subprocess.Popen(
            command, stderr=log, stdout=log, env={**os.environ, MARK: mark}, start_new_session=True
        )
    try:
        while not under_way(steps, verb, count):
            if run.poll() is not None:
                raise SystemExit(f"It ended before {verb}:{count}; see {log.name}")
            time.sleep(POLL_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    return finished(steps), alive(mark)


def under_way(steps: Path, verb: str, count: int) -> bool:
    """Whether `count` steps of a verb are finished and one more has begun to write."""
    done = [p for p in steps.glob(f"{verb}-*") if STEP.fullmatch(p.name)]
    return len(done) >= count and any(steps.glob(f".tmp-{verb}-*"))


def finished(steps: Path) -> Steps:
    """Every finished step. Made again, it would be another folder, even with equal bytes."""
    return {
        p.name: (p.stat().st_ino, store.digest_json(store.digest_files(p)))
        for p in steps.iterdir()
        if p.is_dir() and STEP.fullmatch(p.name)
    }


def alive(mark: str) -> tuple[str, ...]:
    """Who still carries a run's mark once its guardians have had time to end their groups."""
    end = time.monotonic() + GONE_S
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(POLL_S)
    return left


def marked(mark: str) -> tuple[str, ...]:
    """Command lines of the processes that carry a mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return tuple(found)


def finish(command: list[str], logs: Path) -> str:
    """Run to the end; what it said of its steps."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    with (logs / "finished.log").open("a") as log:
        log.write(done.stderr + done.stdout)
    if done.returncode:
        raise SystemExit(f"It failed ({done.returncode}); see {log.name}")
    said = [x.removeprefix("note: ") for x in done.stderr.splitlines()]
    return next(x for x in reversed(said) if x.startswith("reused "))


def judged(at: tuple[str, int], before: Steps, after: Steps, orphans: tuple[str, ...]) -> Kill:
    """What became of the steps that were finished when it was killed."""
    lost = tuple(sorted(name for name in before if after.get(name) != before[name]))
    return Kill(f"{at[0]}:{at[1]}", len(before), len(before) - len(lost), lost, orphans)


def artefacts(folder: Path) -> Mapping[str, str]:
    """What a release says of its files, measurements apart."""
    found: Mapping[str, str] = json.loads((folder / "release" / "accel.json").read_text())[
        "artefacts"
    ]
    return found


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> tuple[str, ...]:
    """Artefacts that the two do not share."""
    return tuple(sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name)))


def text(result: Result) -> str:
    """The story, a line a fact."""
    lines: list[Any] = [
        f"kill -9 at {k.at}: {k.finished} steps finished, {k.kept} kept with equal digests; "
        f"{len(k.orphans)} orphans"
        for k in result.kills
    ]
    lines += [f"  not kept: {name}" for k in result.kills for name in k.lost]
    lines += [f"  still alive: {words}" for k in result.kills for words in k.orphans]
    lines += [f"run to the end: {result.resumed}"]
    lines += [f"run again: {result.again}, in {result.again_s:.1f} s"]
    if result.differing is not None:
        unlike = ", ".join(result.differing) or "none"
        lines.append(f"artefacts unlike those of an undisturbed run: {unlike}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
