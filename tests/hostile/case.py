"""One hostile file: how it is made, which command opens it, and what the answer must be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.legality.building import F, body, model, node, weight

Verdict = Literal["refuse", "report", "accept"]
Made = Callable[[Path], Path]
CODES = {"refuse": 2, "report": 0, "accept": 0}
EXECUTED = "EXECUTED"  # a file that appears where data ran as code
SECONDS, BYTES = 10.0, 1 << 30  # of one answer
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # all but the end of a line
LONGEST = 700  # of one clear message
X, Y = ("x", F, [2, 4]), ("y", F, [2, 4])
__all__ = ["EXECUTED", "Case", "Made", "X", "Y", "body", "helper", "model", "node", "weight"]


@dataclass(frozen=True)
class Case:
    """`name` up to a colon is the defect: what follows is one of many places of the same one."""

    name: str
    make: Made  # writes into an empty folder; the file that the command is given
    verdict: Verdict = "refuse"
    says: tuple[str, ...] = ()  # all of it stands in the answer
    command: tuple[str, ...] = ("inspect", "{}")  # {}: the name of that file
    code: int | None = None  # where a report ends with another one than 0
    terminal: bool = False  # the answer goes to a terminal
    leaves: tuple[str, ...] = ()  # files that stand in the folder then

    @property
    def defect(self) -> str:
        """What is wrong, wherever it is."""
        return self.name.partition(":")[0]

    def words(self, made: Path) -> list[str]:
        """The command line."""
        return [word.replace("{}", made.name) for word in self.command]


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float  # by the wall clock
    cpu_s: float
    rss_bytes: int


def complaints(case: Case, folder: Path, answer: Answer) -> list[str]:
    """Everything in which an answer is not what the case asks for."""
    both = answer.out + answer.err
    wanted = CODES[case.verdict] if case.code is None else case.code
    found = [f"exit {answer.code}, not {wanted}: {both[-2000:]}"] * (answer.code != wanted)
    found += [f"does not say {word!r}: {both[:2000]}" for word in case.says if word not in both]
    found += [f"no file {name}" for name in case.leaves if not (folder / name).is_file()]
    found += ["a traceback"] * ("Traceback" in both)
    found += ["a control character"] * bool(STEERING.search(both))
    found += ["data was executed"] * any(folder.rglob(EXECUTED))
    found += [f"{answer.seconds:.1f} s"] * (answer.seconds > SECONDS)
    found += [f"{answer.rss_bytes / 1e6:.0f} MB"] * (answer.rss_bytes > BYTES)
    found += ["more than one document on stdout"] * ("--json" in case.command and _many(answer.out))
    return found + (_refusal(case, answer) if case.verdict == "refuse" else [])


def _many(text: str) -> bool:
    """Is it anything but one JSON document?"""
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _refusal(case: Case, answer: Answer) -> list[str]:
    """One clear message, and no answer beside it."""
    lines = (answer.out if case.terminal else answer.err).splitlines()
    found = [f"{len(lines)} lines on stderr"] * (len(lines) != 1)
    found += ["no message"] * (not any(line.startswith("accel: ") for line in lines))
    found += ["a message too long to read"] * any(len(line) > LONGEST for line in lines)
    return found + ["something on stdout"] * (bool(answer.out) and not case.terminal)


def file(name: str, content: bytes | str) -> Made:
    """Writes these bytes."""
    data = content.encode() if isinstance(content, str) else content

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def graph(proto: Any, edit: Callable[[Any], None] = lambda _: None) -> Made:
    """Writes a copy of a graph, spoiled by `edit`."""

    def make(folder: Path) -> Path:
        made = onnx.ModelProto()
        made.CopyFrom(proto)
        edit(made)
        (folder / "m.onnx").write_bytes(made.SerializeToString())
        return folder / "m.onnx"

    return make


def dense(columns: int = 4, **more: Any) -> Any:
    """relu(x @ w): x [2, 4]."""
    drawn = np.random.default_rng(0).normal(size=(4, columns))
    return model(
        [node("MatMul", "x w", "h"), node("Relu", "h", "y")],
        [X],
        [("y", F, [2, columns])],
        [weight("w", drawn)],
        **more,
    )


def relu(**more: Any) -> Any:
    """abs(relu(x)), nothing else."""
    return model([node("Relu", "x", "h"), node("Abs", "h", "y")], [X], [Y], **more)


def truth(name: str = "c") -> tuple[str, int, list[int | str | None]]:
    """A port of one boolean."""
    return (name, TensorProto.BOOL, [])
