"""Kill a small `accel optimize` with -9 at random moments, run it again, compare every step's bytes.

    python benchmarks/kills.py --out .benchmarks/kills --kills 30

It runs under a fake clock (fake_clock.py, named as such), so that every step's files, measurements
too, are the same in every run. First comes a run that is left alone; then, for each kill, one that is
killed at a moment drawn evenly from that one's duration, and run again to its end. In turns the
command alone is killed (what it started must end by itself) and all of its processes at once. With
--chain the kills follow each other in one work folder, which takes less time. Exit code 1: a step or
a file of the release differs, something is left half-made, or a process stayed alive.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from resume import MARK, alive

from accel import arrays, store, testing

HERE = Path(__file__).parent
WORDS = ["--engine", "onnxruntime_cpu", "--recipe", "int8_dynamic", "--max-drop", "90pt", "--epochs", "2"]  # fmt: skip
EARLY_S = 0.2  # no run is killed before
CHAIN = (0.3, 0.6)  # of a run's duration: when each of a chain is, so that it gets on before
Digests = Mapping[str, Mapping[str, str]]  # step, or "release" -> file -> sha256


@dataclass(frozen=True)
class Kill:
    """One kill -9, and what came of it."""

    after_s: float
    whole: bool  # everything that the run had started was killed as well
    finished: int  # steps, by then
    orphans: tuple[str, ...]  # command lines still alive ten seconds later
    wrong: tuple[str, ...] = ()  # what differs in the end from the run that was left alone


@dataclass(frozen=True)
class Result:
    """The whole story."""

    steps: int
    undisturbed_s: float
    kills: tuple[Kill, ...]

    @property
    def survived(self) -> int:
        """Kills after which all came out the same, and nobody stayed alive."""
        return sum(not k.wrong and not k.orphans for k in self.kills)


def main() -> None:
    """Kill, rerun, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", action="store_true", help="all of them in one work folder")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = story(asked.out.absolute(), asked.kills, random.Random(asked.seed), asked.chain)
    print(json.dumps(dataclasses.asdict(result), indent=1) if asked.json else text(result))
    sys.exit(0 if result.survived == len(result.kills) else 1)


def story(out: Path, kills: int, coin: random.Random, chain: bool) -> Result:
    """The run that is left alone, and those that are killed."""
    command = optimize(out)
    start = time.monotonic()
    finish(command, out / "alone")
    took_s = time.monotonic() - start
    wanted = digests(out / "alone")
    if chain:
        moments = [took_s * coin.uniform(*CHAIN) for _ in range(kills)]
        seen = [kill(command, out / "chain", at, i % 2 == 1) for i, at in enumerate(moments)]
        wrong = ended(command, out / "chain", wanted)
        done = [dataclasses.replace(one, wrong=wrong) for one in seen]
    else:
        done = []
        for i in range(kills):
            folder = out / f"kill-{i:02d}"
            one = kill(command, folder, coin.uniform(EARLY_S, took_s), i % 2 == 1)
            done.append(dataclasses.replace(one, wrong=ended(command, folder, wanted)))
            print(line(done[-1]), file=sys.stderr, flush=True)
    return Result(len(wanted) - 1, took_s, tuple(done))


def optimize(out: Path) -> list[str]:
    """The command, but for where it works; its model and its data are made."""
    out.mkdir(parents=True, exist_ok=True)
    model = testing.mlp(out / "model.onnx", layers=2)
    arrays.save(out / "feeds.npz", [testing.request(model, batch=n).inputs for n in (1, 4)])
    words = ["optimize", str(model.path), "--data", str(out / "feeds.npz"), *WORDS]
    return [sys.executable, str(HERE / "fake_clock.py"), *words]


def run(command: list[str], folder: Path, mark: str) -> subprocess.Popen[bytes]:
    """The command under way, in a work folder of its own; what it says is kept beside that."""
    folder.mkdir(parents=True, exist_ok=True)
    places = ["--work", str(folder / "work"), "--out", str(folder / "release")]
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, MARK: mark, "PYTHONPATH": path}
    with (folder / "told.log").open("a") as log:
        return subprocess.Popen(
            [*command, *places], env=environment, stdout=log, stderr=log, start_new_session=True
        )


def finish(command: list[str], folder: Path) -> None:
    """Run to the end."""
    mark = uuid.uuid4().hex
    if run(command, folder, mark).wait():
        raise SystemExit(f"It failed; see {folder / 'told.log'}")
    if left := alive(mark):
        raise SystemExit(f"It ended, and left behind: {left}")


def kill(command: list[str], folder: Path, after_s: float, whole: bool) -> Kill:
    """Start it, and kill it a while later: it alone, or with everything that it has started."""
    mark = uuid.uuid4().hex
    process = run(command, folder, mark)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    for victim in carriers(mark) if whole else [process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.wait()
    orphans = alive(mark)
    return Kill(after_s, whole, len(digests(folder)), orphans)


def carriers(mark: str) -> list[int]:
    """Every process that carries a mark, the newest last."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process.pid)
    return found


def ended(command: list[str], folder: Path, wanted: Digests) -> tuple[str, ...]:
    """Run to the end: what differs from the run that was left alone, and what is left half-made."""
    finish(command, folder)
    found = digests(folder)
    unlike = [n for n in sorted(found.keys() | wanted.keys()) if found.get(n) != wanted.get(n)]
    places = (folder, folder / "work" / "store", folder / "work" / "data")
    half = [str(p) for place in places for p in place.glob(".*") if p.name != ".using"]
    quarantined = list((folder / "work" / "store" / store.QUARANTINE).glob("*"))
    return (*unlike, *half, *map(str, quarantined))


def digests(folder: Path) -> Digests:
    """The files of every finished step, its record included, and of the release."""
    steps = (folder / "work" / "store").glob("*-*")
    places = [p for p in steps if p.is_dir() and not p.name.startswith(".")]
    found = {p.name: store.digest_files(p) for p in places}
    release = folder / "release"
    return {**found, "release": store.digest_files(release)} if release.exists() else found


def line(one: Kill) -> str:
    """What came of one kill."""
    what = "all its processes" if one.whole else "the command"
    came = "all equal" if not one.wrong else f"DIFFERENT: {', '.join(one.wrong)}"
    left = f"; STILL ALIVE: {', '.join(one.orphans)}" if one.orphans else ""
    return f"{what} killed after {one.after_s:.1f} s, {one.finished} steps finished: {came}{left}"


def text(result: Result) -> str:
    """The story, a line a kill."""
    return "\n".join(
        [
            f"left alone: {result.steps} steps in {result.undisturbed_s:.1f} s",
            *map(line, result.kills),
            f"kills survived: {result.survived} of {len(result.kills)}",
        ]
    )


if __name__ == "__main__":
    main()
