"""Refuse the writes of a small `accel optimize`, from each one on: a full disk, and a read-only one.

    python benchmarks/disk/full.py --out .benchmarks/disk                every write, function calls
    python benchmarks/disk/full.py --out .benchmarks/disk --processes --every 40    real processes

refuse.c lies between the processes and the kernel and counts what changes a folder: data, names,
syncs. First comes a run that nothing is refused; then, for each n, one whose n-th write and all later
ones fail, and the same command again with room. The first must end with exit code 7 and one line, the
second with the bytes of the undisturbed run, step by step. The clock is a fake (fake_clock.py), and
without --processes the children are function calls, another fake (fake_children.py). Needs a C
compiler. Exit code 1: a write whose refusal came out otherwise.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE.parents[1])]
KINDS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "quota": errno.EDQUOT, "broken": errno.EIO}
COUNTER = "DISK_COUNTER"
ENVIRONMENT = 7  # accel.errors.EnvironmentProblem.exit_code


@dataclass(frozen=True)
class Case:
    """One refusal, and what came of it."""

    kind: str
    at: int  # the first write that was refused
    code: int
    said: str
    wrong: tuple[str, ...]  # empty: as promised


@dataclass(frozen=True)
class Result:
    """All of them."""

    writes: Mapping[str, int]  # kind -> how many there are
    cases: tuple[Case, ...]


def main() -> None:
    """Compile, begin again under the disk that refuses, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="an empty folder to work in")
    parser.add_argument(
        "--kind", action="append", choices=KINDS, help="default: full and read-only"
    )
    parser.add_argument(
        "--every", type=int, default=1, help="every so many-th write; default: each"
    )
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument(
        "--processes", action="store_true", help="real children, which takes longer"
    )
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if COUNTER not in os.environ:
        begin(asked.out.absolute())
    result = story(asked)
    print(json.dumps(dataclasses.asdict(result), indent=1) if asked.json else text(result))
    sys.exit(1 if any(case.wrong for case in result.cases) else 0)


def begin(out: Path) -> None:
    """Start this script again, under refuse.c."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SystemExit("A C compiler is needed, for refuse.c.")
    (out / "disk" / "tmp").mkdir(parents=True)
    library, counter = out / "refuse.so", out / "counter"
    words = ["-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "refuse.c"), "-ldl"]
    subprocess.run([compiler, *words], check=True)
    counter.write_bytes(bytes(24))
    disk = {"DISK_UNDER": str(out / "disk"), COUNTER: str(counter), "LD_PRELOAD": str(library)}
    places = {"TMPDIR": str(out / "disk" / "tmp"), "PYTHONPATH": os.pathsep.join(sys.path)}
    still = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    os.execve(
        sys.executable,
        [sys.executable, __file__, *sys.argv[1:]],
        {**os.environ, **disk, **places, **still},
    )


class Disk:
    """The three numbers that refuse.c looks at."""

    def __init__(self) -> None:
        with Path(os.environ[COUNTER]).open("r+b") as file:
            self._held = mmap.mmap(file.fileno(), 24)

    def refuse(self, at: int, number: int) -> None:
        """From the at-th write from now on, with this errno; 0: never."""
        self._held[:] = struct.pack("qqq", 0, at, number)

    @property
    def writes(self) -> int:
        """Since then."""
        found: int = struct.unpack("qqq", self._held)[0]
        return found


Run = Callable[[list[str], Path], tuple[int, str]]  # words, folder -> exit code, what it said


def story(asked: argparse.Namespace) -> Result:
    """Every kind; in each, every so many-th write."""
    out = asked.out.absolute()
    disk, words = Disk(), command(out)
    run: Run = in_processes if asked.processes else in_a_fork()
    writes, cases = {}, []
    for kind in asked.kind or ("full", "read-only"):
        alone = out / "disk" / f"{kind}-alone"
        disk.refuse(0, KINDS[kind])
        code, said = run(words, alone)
        if code:
            raise SystemExit(f"It failed with nothing refused ({code}): {said}")
        writes[kind], wanted = disk.writes, digests(alone)
        for at in range(asked.first, writes[kind] + 1, asked.every):
            folder = out / "disk" / f"{kind}-{at}"
            cases.append(case(run, words, folder, disk, kind, at, wanted))
            shutil.rmtree(folder, ignore_errors=True)
            if cases[-1].wrong:
                print(line(cases[-1]), file=sys.stderr, flush=True)
    return Result(writes, tuple(cases))


def case(
    run: Run, words: list[str], folder: Path, disk: Disk, kind: str, at: int, wanted: Any
) -> Case:
    """Refused, and run again with room."""
    disk.refuse(at, KINDS[kind])
    code, said = run(words, folder)
    disk.refuse(0, KINDS[kind])
    told = [x for x in said.splitlines() if x.strip()]
    wrong = [] if code == ENVIRONMENT else [f"exit code {code}"]
    if code and (len(told) != 1 or not told[0].startswith("accel: ")):
        wrong.append(f"{len(told)} lines, not one message")
    if code == 0 and digests(folder) == wanted:
        wrong = []  # what was refused came behind all that counts
    again, more = run(words, folder)
    if again:
        wrong.append(f"run again: exit code {again}: {more}")
    elif (found := digests(folder)) != wanted:
        names = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
        wrong.append(f"run again: {', '.join(names)} differ")
    return Case(kind, at, code, said, tuple(wrong))


def command(out: Path) -> list[str]:
    """The words of a small run; its model and its data are made."""
    import kills

    return [*kills.optimize(out / "disk")[2:], "--quiet"]


def digests(folder: Path) -> Mapping[str, Any]:
    """Of every step and of the release."""
    import kills

    return kills.digests(folder)


def places(folder: Path) -> list[str]:
    """Where a run works."""
    return ["--work", str(folder / "work"), "--out", str(folder / "release")]


def in_processes(words: list[str], folder: Path) -> tuple[int, str]:
    """The real command line, with real children."""
    line = [sys.executable, str(HERE.parent / "fake_clock.py"), *words, *places(folder)]
    done = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    return done.returncode, done.stderr


def in_a_fork() -> Run:
    """The command line in a fork of this process, which has imported all that it needs."""
    import fake_children
    import fake_clock

    from accel import catalog, cli, pipeline
    from accel.measure import ceiling, instrument

    for family, name in (
        ("engines", "reference"),
        ("recipes", "fp32"),
        ("recipes", "int8_dynamic"),
    ):
        catalog.load(family, name)
    fake_children.install()
    instrument._taken = fake_clock.taken
    ceiling.VERB = "fake_clock:ceilings"
    del pipeline

    def run(words: list[str], folder: Path) -> tuple[int, str]:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            os.dup2(writer, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            tempfile.tempdir = None  # each looks for its own, as a process does
            sys.argv = ["accel", *words, *places(folder)]
            code = 70
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            said = stream.read().decode(errors="replace")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said

    return run


def line(one: Case) -> str:
    """What came of one refusal."""
    came = "as promised" if not one.wrong else "; ".join(one.wrong)
    return f"{one.kind} from write {one.at} on: {came}: {one.said.strip()[-300:]}"


def text(result: Result) -> str:
    """The counts, and what came out otherwise."""
    bad = [line(case) for case in result.cases if case.wrong]
    lines = []
    for kind, writes in result.writes.items():
        of = [case for case in result.cases if case.kind == kind]
        good = sum(not case.wrong for case in of)
        lines.append(f"{kind}: {writes} writes; {good} of {len(of)} refusals came out as promised")
    return "\n".join([*bad, *lines])


if __name__ == "__main__":
    main()
