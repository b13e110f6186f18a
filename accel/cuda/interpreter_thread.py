"""A PTX program as the interpreter holds it, and one thread of it; registers are bits."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from accel.cuda.interpreter_ops import FLOAT, INTEGER, as_bits, as_float, halves, signed, whole
from accel.errors import CandidateBroken

LINE = re.compile(r"(?:@(!?)(%p\d+)\s+)?([\w.:]+)\s*(.*);$")
ADDRESS = re.compile(r"\[([%\w$]+)(?:\+?(-?\d+))?\]$")
APART = re.compile(r"\{([^{}]*)\}|([^,\s][^,]*)")
SHORT = re.compile(r"\{ (\.reg \.\w+ [\w, ]+;) (.*) \}$")  # assembly with registers of its own
Meeting = Generator[tuple[Any, ...], Any, None]


@dataclass(frozen=True)
class Program:
    """Instructions as (guard, wanted, opcode, operands), and where labels stand."""

    code: tuple[tuple[str, bool, tuple[str, ...], tuple[Any, ...]], ...]
    labels: dict[str, int]
    parameters: tuple[str, ...]
    arrays: dict[str, int]  # of shared and of local memory: name -> where it begins
    shared_bytes: int
    local_bytes: int


def parse(text: str) -> Program:
    """The one entry of a PTX text."""
    head, _, body = text.partition(".entry")[2].partition("{")
    shared, shared_bytes = _arrays("shared", text)
    local, local_bytes = _arrays("local", text)
    code: list[Any] = []
    labels = {}
    for raw in body.splitlines():
        line = raw.partition("//")[0].strip()
        inner = SHORT.match(line)
        for part in [p + ";" for p in inner[2].split("; ")] if inner else [line]:
            one = part.replace(";;", ";")
            if one.endswith(":"):
                labels[one[:-1]] = len(code)
            elif one and one not in "{}" and not one.startswith("."):
                code.append(_instruction(one))
    parameters = tuple(re.findall(r"\.param .*?(\w+)[,\n]", head))
    return Program(tuple(code), labels, parameters, shared | local, shared_bytes, local_bytes)


def _arrays(space: str, text: str) -> tuple[dict[str, int], int]:
    """Where the arrays of a space begin, and where the last one ends."""
    places, end = {}, 0
    for name, size in re.findall(rf"\.{space} \.align \d+ \.b8\s+(\w+)\[(\d+)\]", text):
        places[name], end = end, end + -(-int(size) // 16) * 16
    return places, end


def _instruction(line: str) -> tuple[str, bool, tuple[str, ...], tuple[Any, ...]]:
    found = LINE.match(line)
    if found is None:
        raise CandidateBroken(f"the interpreter cannot read the PTX line {line!r}")
    operands = tuple(
        tuple(x.strip() for x in group.split(",")) if group else plain.strip()
        for group, plain in APART.findall(found[4])
    )
    return found[2] or "", found[1] != "!", tuple(found[3].split(".")), operands


@dataclass
class Thread:
    """One thread: its registers and what it sees of memory."""

    program: Program
    memory: bytearray
    shared: bytearray
    special: dict[str, int]
    arguments: dict[str, int]
    bits: dict[str, int] = field(default_factory=dict)
    local: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.local = bytearray(self.program.local_bytes)

    def run(self) -> Meeting:
        """Until it returns; yields where it must meet others, and is sent what it gets there."""
        at, code = 0, self.program.code
        while True:
            guard, wanted, op, given = code[at]
            at += 1
            if guard and bool(self.bits[guard]) != wanted:
                continue
            if op[0] == "ret":
                return
            if op[0] == "bra":
                at = self.program.labels[given[0]]
            elif op[0] in ("bar", "barrier"):
                yield ("barrier",)
            elif op[0] == "shfl":
                found = yield ("shfl", op[2], self.value(given[1]), self.value(given[2]))
                out, _, inside = given[0].partition("|")
                self.bits |= {out: found, inside: 1}
            elif op[0] == "mma":
                parts = [[self.value(x) for x in part] for part in given[1:]]
                self.bits.update(zip(given[0], (yield ("mma", op[3], op[7], parts)), strict=True))
            else:
                self.alone(op, given)

    def value(self, operand: str, kind: str = "b64") -> int:
        """The bits of a register or a constant, cut to the type's width."""
        found = self.bits.get(operand)
        if found is None:
            found = self.special.get(operand, self.program.arrays.get(operand))
        if found is None:
            found = int(operand[2:], 16) if operand.startswith("0f") else int(operand, 0)
        return found & ((1 << _width(kind)) - 1)

    def alone(self, op: tuple[str, ...], given: tuple[Any, ...]) -> None:
        """An instruction that needs no other thread."""
        kind, out = op[-1], given[0]
        if op[0] == "ld" and op[1] == "param":
            self.bits[out] = self.arguments[given[1].strip("[]")] & ((1 << _width(kind)) - 1)
        elif op[0] in ("ld", "st"):
            self._access(op, given)
        elif op[0] in ("mov", "cvta"):
            self._move(out, given[1], kind)
        elif op[0] == "setp":
            self.bits[out] = int(self._compare(op[1], kind, given[1:]))
        elif op[0] == "selp":
            self.bits[out] = self.value(given[1 if self.bits[given[3]] else 2], kind)
        elif op[0] == "cvt":
            self.bits[out] = self._convert(op, given)
        else:
            self.bits[out] = self._arithmetic(op, given)

    def _access(self, op: tuple[str, ...], given: tuple[Any, ...]) -> None:
        place, names = (given[1], given[0]) if op[0] == "ld" else (given[0], given[1])
        names = (names,) if isinstance(names, str) else names
        space = {"shared": self.shared, "local": self.local}.get(op[1], self.memory)
        size, found = _width(op[-1]) // 8, ADDRESS.match(place)
        start = self.value(found[1]) + int(found[2] or 0) if found else -1
        if start % (size * len(names)) or not 0 <= start <= len(space) - size * len(names):
            raise CandidateBroken(f"{'.'.join(op)} of {len(names)} x {size} bytes at {start}")
        for k, name in enumerate(names):
            part = slice(start + k * size, start + (k + 1) * size)
            if op[0] == "st":
                space[part] = self.value(name, op[-1]).to_bytes(size, "little")
            else:
                loaded = int.from_bytes(space[part], "little")
                self.bits[name] = signed(loaded, op[-1]) & (1 << 64) - 1 if op[-1][0] == "s" else loaded  # fmt: skip

    def _move(self, out: Any, source: Any, kind: str) -> None:
        if isinstance(out, str) and isinstance(source, str):
            self.bits[out] = self.value(source, kind)
        elif isinstance(out, str):
            part = _width(kind) // len(source)
            self.bits[out] = sum(
                self.value(x, f"b{part}") << k * part for k, x in enumerate(source)
            )
        else:
            part = _width(kind) // len(out)
            for k, name in enumerate(out):
                self.bits[name] = self.value(source) >> k * part & ((1 << part) - 1)

    def _compare(self, how: str, kind: str, given: Sequence[str]) -> bool:
        read: Callable[[int, str], Any] = as_float if kind[0] == "f" else signed
        x, y = (read(self.value(v, kind), kind) for v in given)
        found = {
            "nan": x != x or y != y,
            "eq": x == y,
            "ne": x != y,
            "lt": x < y,
            "le": x <= y,
            "gt": x > y,
            "ge": x >= y,
        }
        return bool(found[how])

    def _convert(self, op: tuple[str, ...], given: tuple[Any, ...]) -> int:
        to, source = op[-2], op[-1]
        if to.endswith("16x2"):  # the second operand is the low half
            both = [as_bits(as_float(self.value(x), "f32"), to[:-2]) for x in given[:0:-1]]
            return both[0] | both[1] << 16
        bits = self.value(given[1], source)
        number = as_float(bits, source) if "f" in source else signed(bits, source)
        if "f" in to:
            return as_bits(number, to)
        return whole(number, op[1], to) & ((1 << _width(to)) - 1)

    def _arithmetic(self, op: tuple[str, ...], given: tuple[Any, ...]) -> int:
        kind, name = op[-1], "mul.hi" if "hi" in op else op[0]
        values = [self.value(v, kind) for v in given[1:]]
        if kind.endswith("16x2"):
            parts = [halves(v, kind[:-2]) for v in values]
            both = [as_bits(FLOAT[name](*x), kind[:-2]) for x in zip(*parts, strict=True)]
            return both[0] | both[1] << 16
        table = FLOAT if kind[0] == "f" else INTEGER
        if name not in table:
            raise CandidateBroken(f"the interpreter does not know {'.'.join(op)}")
        if kind[0] == "f":
            return as_bits(FLOAT[name](*(as_float(v, kind) for v in values)), kind)
        width = _width(kind) * (2 if "wide" in op else 1)
        return int(INTEGER[name](*(signed(v, kind) for v in values))) & ((1 << width) - 1)


@functools.cache
def _width(kind: str) -> int:
    return {"pred": 1, "f16x2": 32, "bf16x2": 32}.get(kind) or int(kind.lstrip("busf"))
