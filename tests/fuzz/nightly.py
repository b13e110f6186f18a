"""A night's search for files that break the ONNX opener: mutated graphs, guided by coverage.

    python -m tests.fuzz.nightly --minutes 60

Needs atheris (pip install -c constraints.txt atheris). Each worker is a process of its own: one that
crashes, hangs or grows is a finding, and the search goes on. The corpus and the findings stand under
.benchmarks/fuzz; a finding is a file that `accel inspect` can be given. Exit 1 where there are any.

Half of the mutations are of bytes, by libFuzzer; the others read the graph and change it where it is
still one (a field, a node, a tensor), and so come past the parser.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOME = Path(".benchmarks/fuzz")
HANG_S, MEMORY_MB = 10, 1500  # of one file; libFuzzer's own limits
LARGEST_BYTES = 1 << 16
SEEDS = 150  # random graphs that the search begins with
ROUND_S = 300  # of one worker


def main() -> int:
    """Workers one after another until the time is up."""
    asked = arguments()
    if asked.worker is not None:
        return worker(asked.worker)
    corpus, findings = HOME / "corpus", HOME / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    seed(corpus)
    end, runs = time.monotonic() + 60 * asked.minutes, 0
    while (left := end - time.monotonic()) > 1:
        done = one(corpus, findings, max(1, min(ROUND_S, int(left))))
        runs += done
        found = len(list(findings.iterdir()))
        left = end - time.monotonic()
        print(f"{runs:,} files, {found} findings, {left / 60:.0f} minutes left", flush=True)
    for path in sorted(findings.iterdir()):
        print(f"finding: {path}")
    return int(any(findings.iterdir()))


def arguments() -> argparse.Namespace:
    """Words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--worker", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser.parse_args()


def one(corpus: Path, findings: Path, seconds: int) -> int:
    """Run a worker; how many files it tried."""
    limits = [f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-rss_limit_mb={MEMORY_MB}"]
    places = [f"-artifact_prefix={findings}{os.sep}", str(corpus)]
    more = [
        f"-max_len={LARGEST_BYTES}",
        "-print_final_stats=1",
        f"-seed={random.randrange(1, 1 << 31)}",
    ]
    command = [sys.executable, "-m", "tests.fuzz.nightly", "--worker", *limits, *more, *places]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    (HOME / "last.log").write_text(done.stdout + done.stderr)
    for left in HOME.glob("worker-*.onnx"):
        left.unlink()
    told = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    return int(told[-1].rpartition(":")[2]) if told else 0


def seed(corpus: Path) -> None:
    """Random graphs, and every hostile ONNX file of the tests that is not large."""
    if any(corpus.iterdir()):
        return
    for i, data in enumerate((*_drawn(), *_hostile())):
        if len(data) <= LARGEST_BYTES:
            (corpus / f"seed-{i:04d}").write_bytes(data)


def _drawn() -> Iterator[bytes]:
    from hypothesis import HealthCheck, Phase, given, settings

    from tests.fuzz.graphs import Graph, graphs

    found: list[bytes] = []

    @settings(
        max_examples=SEEDS,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(graphs())
    def draw(made: Graph) -> None:
        found.append(made.proto.SerializeToString())

    draw()
    yield from found


def _hostile() -> Iterator[bytes]:
    import tempfile

    from tests.hostile import structures, tensors

    for case in (*structures.cases(), *tensors.cases()):
        with tempfile.TemporaryDirectory() as folder:
            path = case.make(Path(folder))
            if path.stat().st_size <= LARGEST_BYTES:
                yield path.read_bytes()


def worker(words: list[str]) -> int:
    """libFuzzer's loop: it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["accel"]):
        from accel import graph, sound, tensors
        from accel.legality import _graph
    del sound, tensors, _graph
    from accel.errors import AccelError
    from accel.questions import inspect

    path = HOME / f"worker-{os.getpid()}.onnx"

    def try_one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            graph.describe(path)
            inspect.inspect(path)
        except AccelError as error:
            if type(error) is AccelError or not str(error).strip():
                raise

    atheris.Setup([sys.argv[0], *words], try_one, custom_mutator=mutated)
    atheris.Fuzz()
    return 0


def mutated(data: bytes, most: int, turn: int) -> bytes:
    """Every other time a graph is changed as one; else bytes are, by libFuzzer."""
    import atheris
    import onnx
    from google.protobuf.message import DecodeError

    rng = random.Random(turn)
    if rng.random() < 0.5:
        return bytes(atheris.Mutate(data, most))
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
        for _ in range(rng.randint(1, 3)):
            change(proto, rng)
        made = bytes(proto.SerializeToString())
    except (DecodeError, ValueError, TypeError):
        return bytes(atheris.Mutate(data, most))
    return made if len(made) <= most else data[:most]


NUMBERS = (0, 1, -1, 2, 7, 13, 17, 30, 100, 2**31 - 1, 2**62, -(2**63), 2**63 - 1)
TEXTS = ("", "x", "y", "h", "w", "w0", "MatMul", "If", "Loop", "QuantizeLinear", "ai.onnx", "com.microsoft", "\x1b[2J", "../x", "location", "n")  # fmt: skip


def change(message: Any, rng: random.Random) -> None:
    """One field of a message, at a random depth: set, taken out, doubled, or moved."""
    fields = list(message.DESCRIPTOR.fields)
    there = [field for field, _ in message.ListFields()]
    field = rng.choice(there if there and rng.random() < 0.9 else fields)
    value = getattr(message, field.name)
    if field.message_type is not None:
        _inner(message, field, value, rng)
    elif hasattr(value, "append"):
        _many(value, field, rng)
    elif rng.random() < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(field, value, rng))


def _inner(message: Any, field: Any, value: Any, rng: random.Random) -> None:
    if not hasattr(value, "add"):
        change(value, rng)
    elif not value or rng.random() < 0.1:
        value.add()
    elif rng.random() < 0.7:
        change(rng.choice(value), rng)
    else:
        i, j = rng.randrange(len(value)), rng.randrange(len(value))
        how = rng.choice(("double", "remove", "move", "copy"))
        if how == "double":
            value.add().CopyFrom(value[i])
        elif how == "remove":
            del value[i]
        elif how == "copy":
            value[j].CopyFrom(value[i])
        else:
            value.sort(key=lambda _: rng.random())


def _many(value: Any, field: Any, rng: random.Random) -> None:
    how = rng.choice(("set", "add", "remove", "copy")) if value else "add"
    i = rng.randrange(len(value)) if value else 0
    if how == "add":
        value.append(_value(field, 0, rng))
    elif how == "remove":
        del value[i]
    elif how == "copy":
        value.append(value[i])
    else:
        value[i] = _value(field, value[i], rng)


def _value(field: Any, before: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.type == field.TYPE_BYTES:
        held = bytes(before or b"")
        cut = rng.randint(0, len(held))
        return rng.choice(
            (held[:cut], held + held[cut:], rng.randbytes(len(held)), rng.choice(TEXTS).encode())
        )
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e-40, 3e38))
    if field.type in (field.TYPE_INT32, field.TYPE_ENUM):
        return max(-(2**31), min(2**31 - 1, rng.choice((*NUMBERS, int(before) + 1))))
    if field.type == field.TYPE_UINT64:
        return abs(rng.choice(NUMBERS))
    return max(-(2**63), min(2**63 - 1, rng.choice((*NUMBERS, int(before) + 1))))


if __name__ == "__main__":
    sys.exit(main())
