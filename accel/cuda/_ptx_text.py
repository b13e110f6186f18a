"""PTX text as basic blocks of instructions: what the emulator runs.

One kernel, no calls: what `accel.cuda.ptx` makes. Names of registers stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from accel.errors import CandidateBroken

COMMENT = re.compile(r"//[^\n]*")
LABEL = re.compile(r"(\$?[A-Za-z_][\w$]*):$")
REGISTERS = re.compile(r"\.reg \.(\w+)\s+(.*)$")
SHARED = re.compile(r"\.shared \.align (\d+) \.b8 (\w+)\[(\d+)\]")
ENDS = ("bra", "ret", "exit", "bar")  # what a basic block ends with


@dataclass(frozen=True)
class Instruction:
    """`@!guard name operands`: name split at its dots, vectors of operands as tuples."""

    name: tuple[str, ...]  # ("ld", "global", "v4", "f32")
    operands: tuple[str | tuple[str, ...], ...]
    guard: str = ""  # "%p1", "!%p1", or none
    text: str = ""


@dataclass(frozen=True)
class Program:
    """A kernel's blocks in order; a label names the block that it stands before."""

    blocks: tuple[tuple[Instruction, ...], ...]
    labels: dict[str, int]
    parameters: tuple[str, ...]
    registers: dict[str, str]  # "%f1" -> "f32"
    shared: dict[str, int]  # array -> offset in the block's shared memory
    shared_bytes: int


def parse(text: str) -> Program:
    """Raises CandidateBroken for PTX of another shape than ours."""
    text = COMMENT.sub("", text)
    head, _, rest = text.partition(".entry")
    listed, _, body = rest.partition(")")
    registers: dict[str, str] = {}
    blocks: list[list[Instruction]] = [[]]
    labels: dict[str, int] = {}
    for line in _statements(body):
        found = LABEL.match(line)
        if found:
            if blocks[-1]:
                blocks.append([])
            labels[found[1]] = len(blocks) - 1
        elif line.startswith(".reg"):
            registers |= _declared(line)
        elif not line.startswith("."):
            blocks[-1].append(_instruction(line))
            if blocks[-1][-1].name[0] in ENDS:
                blocks.append([])
    shared, size = _shared(head + body)
    return Program(
        tuple(map(tuple, blocks)),
        labels,
        tuple(re.findall(r"\.param \.\w+ (\w+)", listed)),
        registers,
        shared,
        size,
    )


def _statements(body: str) -> Iterator[str]:
    """Statements and labels; the braces of scopes are dropped, those of vectors kept."""
    body = re.sub(r"(?m)^(\s*\$?[A-Za-z_][\w$]*:)\s*$", r"\1;", body)
    for part in body.split(";"):
        line = " ".join(part.split())
        while line[:1] in ("{", "}"):
            line = line[1:].strip()
        if line:
            yield line


def _declared(line: str) -> dict[str, str]:
    found = REGISTERS.match(line)
    if not found:
        raise CandidateBroken(f"a declaration that the emulator does not know: {line}")
    names: dict[str, str] = {}
    for name in (n.strip() for n in found[2].split(",")):
        count = re.fullmatch(r"(%\w+?)<(\d+)>", name)
        every = [f"{count[1]}{i}" for i in range(int(count[2]))] if count else [name]
        names |= dict.fromkeys(every, found[1])
    return names


def _instruction(line: str) -> Instruction:
    guard = ""
    if line.startswith("@"):
        guard, _, line = line[1:].partition(" ")
    name, _, rest = line.partition(" ")
    operands = tuple(
        tuple(p.strip() for p in o[1:-1].split(",")) if o.startswith("{") else o
        for o in (o.strip() for o in re.split(r",(?![^{]*\})", rest))
        if o
    )
    return Instruction(tuple(name.split(".")), operands, guard, line)


def _shared(text: str) -> tuple[dict[str, int], int]:
    places: dict[str, int] = {}
    end = 0
    for align, name, size in SHARED.findall(text):
        end += -end % int(align)
        places[name] = end
        end += int(size)
    return places, end
