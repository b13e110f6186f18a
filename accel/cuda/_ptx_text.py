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
MEMORY = re.compile(r"\.(shared|local) \.align (\d+) \.b8\s+(\w+)\[(\d+)\]")
ENDS = ("bra", "ret", "exit", "bar")  # what a basic block ends with
MEETS = ("shfl", "mma")  # lanes of a warp wait for each other: a block of its own


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
    places: dict[str, int]  # array -> its offset in shared or local memory
    shared_bytes: int  # of a block
    local_bytes: int  # of a thread
    meets: frozenset[int]  # blocks that a whole warp enters at once


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
            found_one = _instruction(line)
            if found_one.name[0] in MEETS and blocks[-1]:
                blocks.append([])
            blocks[-1].append(found_one)
            if found_one.name[0] in (*ENDS, *MEETS):
                blocks.append([])
    places, sizes = _memory(head + body)
    return Program(
        tuple(map(tuple, blocks)),
        labels,
        tuple(re.findall(r"\.param \.\w+ (?:\.ptr \.align \d+ )?(\w+)", listed)),
        registers,
        places,
        sizes["shared"],
        sizes["local"],
        frozenset(i for i, b in enumerate(blocks) if b and b[0].name[0] in MEETS),
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


def _memory(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """Where each array lies in its own kind of memory, and how large those are."""
    places: dict[str, int] = {}
    ends = {"shared": 0, "local": 0}
    for space, align, name, size in MEMORY.findall(text):
        places[name] = ends[space] + -ends[space] % int(align)
        ends[space] = places[name] + int(size)
    return places, ends
