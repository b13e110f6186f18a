"""The state of every thread of a launch, and one PTX instruction applied to some of them."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accel.cuda import _ptx_ops as ops
from accel.cuda.geometry import WARP
from accel.errors import CandidateBroken

BASE = 1 << 40  # of global memory: no small number is an address by chance
UNSIGNED: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SIMPLE: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "div": ops.divide,
    "rem": lambda a, b: a - ops.divide(a, b) * b,
}
LONELY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda a: -a,
    "abs": np.abs,
    "not": lambda a: ~a,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "rcp": lambda a: a.dtype.type(1) / a,
    "ex2": np.exp2,
    "lg2": np.log2,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
}


@dataclass
class Lanes:
    """Registers hold unsigned words, as wide as declared: a value for every thread."""

    parameters: Mapping[str, int]
    special: Mapping[str, Any]
    kinds: Mapping[str, str]
    arena: Any
    symbols: Mapping[str, int]
    shared: Any  # uint8 [blocks, bytes]
    local: Any  # uint8 [threads, bytes]
    block: Any  # of each thread
    thread: Any  # its number in its block
    warp: Any  # its warp's number in the grid
    registers: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def in_warp(self) -> Any:
        """Threads of each warp."""
        return np.bincount(self.warp)

    @property
    def count(self) -> int:
        """Threads."""
        return len(self.block)

    def holds(self, guard: str, at: Any) -> Any:
        """Which threads the guard lets through."""
        found = self._get(guard.lstrip("!"), ops.KINDS["pred"], at)
        return ~found if guard.startswith("!") else found

    def run(self, instruction: Any, at: Any) -> None:
        """Apply it to the threads `at`. Raises CandidateBroken for what is illegal or unknown."""
        name, operands = instruction.name, instruction.operands
        kind = ops.KINDS.get(name[-1])
        special = getattr(self, f"_{name[0]}", None)
        with np.errstate(all="ignore"):
            if name[-1].endswith("x2"):
                self._pairwise(name, operands, at, ops.KINDS[name[-1].removesuffix("x2")])
            elif name[:1] == ("cvt",) and name[-2].endswith("x2"):
                high, low = (self._get(o, kind, at) for o in operands[1:])
                half = ops.KINDS[name[-2].removesuffix("x2")]
                self._set(operands[0], ops.words(np.stack([low, high], 1).astype(half)), at)
            elif special is not None:
                special(name, operands, at, kind)
            elif name[0] in SIMPLE and len(operands) == 3:
                a, b = (self._get(o, kind, at) for o in operands[1:])
                self._set(operands[0], SIMPLE[name[0]](a, b), at)
            elif name[0] in LONELY and len(operands) == 2:
                made = LONELY[name[0]](self._get(operands[1], kind, at))
                self._set(operands[0], made.astype(kind), at)
            else:
                raise CandidateBroken("an instruction that the emulator does not know")

    # registers and constants

    def _get(self, operand: Any, kind: Any, at: Any) -> Any:
        if operand in self.kinds:
            if operand not in self.registers:
                raise CandidateBroken(f"{operand} is read before it is written")
            return _seen_as(self.registers[operand][at], kind)
        if operand in self.special:
            return _seen_as(self.special[operand][at], kind)
        if operand in self.symbols:
            return np.full(len(at), self.symbols[operand], kind)
        return np.full(len(at), _constant(str(operand), kind), kind)

    def _set(self, register: Any, value: Any, at: Any) -> None:
        declared = ops.KINDS[self.kinds[register]]
        held = self.registers.get(register)
        if held is None:
            plain = np.dtype(np.bool_) if declared == np.bool_ else UNSIGNED[declared.itemsize]
            held = self.registers[register] = np.zeros(self.count, plain)
        if value.dtype.itemsize < held.dtype.itemsize and ops.integer(value.dtype):
            value = value.astype(f"{value.dtype.kind}{held.dtype.itemsize}")
        held[at] = value.view(held.dtype) if value.dtype.itemsize == held.dtype.itemsize else value

    # instructions of a form of their own: named as PTX names them

    def _mov(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        to, source = operands
        if isinstance(to, tuple):  # a word taken apart, the low half first
            half = UNSIGNED[kind.itemsize // len(to)]
            parts = self._get(source, kind, at).view(half).reshape(len(at), -1)
            for i, register in enumerate(to):
                self._set(register, np.ascontiguousarray(parts[:, i]), at)
        elif isinstance(source, tuple):
            half = np.dtype(UNSIGNED[kind.itemsize // len(source)])
            parts = np.stack([self._get(s, half, at) for s in source], 1)
            self._set(to, np.ascontiguousarray(parts).view(UNSIGNED[kind.itemsize]).ravel(), at)
        else:
            self._set(to, self._get(source, kind, at), at)

    def _cvta(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        self._set(operands[0], self._get(operands[1], kind, at), at)

    def _cvt(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        source = self._get(operands[1], kind, at)
        self._set(operands[0], ops.convert(source, ops.KINDS[name[-2]], name), at)

    def _setp(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        a, b = (self._get(o, kind, at) for o in operands[1:3])
        found = ops.COMPARE[name[1]](a, b)
        if len(operands) == 4:
            other = self._get(operands[3], ops.KINDS["pred"], at)
            found = {"and": found & other, "or": found | other, "xor": found ^ other}[name[2]]
        self._set(operands[0], found, at)

    def _selp(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        a, b = (self._get(o, kind, at) for o in operands[1:3])
        self._set(operands[0], np.where(self._get(operands[3], ops.KINDS["pred"], at), a, b), at)

    def _mul(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        self._set(operands[0], self._product(name, operands, at, kind), at)

    def _mad(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        product = self._product(name, operands, at, kind)
        self._set(operands[0], product + self._get(operands[3], product.dtype, at), at)

    def _product(self, name: Any, operands: Any, at: Any, kind: Any) -> Any:
        a, b = (self._get(o, kind, at) for o in operands[1:3])
        if "wide" in name:
            return ops.widened(a) * ops.widened(b)
        return ops.high(a, b) if "hi" in name else a * b

    def _fma(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        self._set(operands[0], ops.fma(*(self._get(o, kind, at) for o in operands[1:])), at)

    def _pairwise(self, name: Any, operands: Any, at: Any, half: Any) -> None:
        """Two 16-bit floats in a word."""
        verb: Any = {**SIMPLE, **LONELY, "mul": lambda a, b: a * b, "fma": ops.fma}[name[0]]
        given = [ops.pairs(self._get(o, ops.KINDS["b32"], at), half) for o in operands[1:]]
        self._set(operands[0], ops.words(verb(*given)), at)

    def _min(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        a, b = (self._get(o, kind, at) for o in operands[1:])
        self._set(operands[0], ops.extreme(a, b, name[0] == "max", "NaN" in name), at)

    _max = _min

    def _shl(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        by = self._get(operands[2], ops.KINDS["u32"], at)
        value = self._get(operands[1], kind, at)
        self._set(operands[0], ops.shift(value, by, name[0] == "shl"), at)

    _shr = _shl

    def _clz(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        self._set(operands[0], ops.leading_zeros(self._get(operands[1], kind, at)), at)

    def _prmt(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        self._set(operands[0], ops.permute(*(self._get(o, kind, at) for o in operands[1:])), at)

    def _shfl(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        """Of whole warps: every lane of the mask must be here."""
        value, by = (self._get(o, ops.KINDS["u32"], at) for o in operands[1:3])
        lane = self.thread[at] % WARP
        turn = {"bfly": lane ^ by, "up": lane - by.astype(np.int64), "down": lane + by, "idx": by}
        source = turn[name[2]].astype(np.int64)
        source = np.where((source < 0) | (source >= WARP), lane, source)
        first = at - lane  # of each thread's warp: threads are numbered block by block
        here = np.full(self.count, -1)
        here[at] = np.arange(len(at))
        order = here[np.minimum(first + source, self.count - 1)]
        if (order < 0).any():
            raise CandidateBroken("a shuffle reads a lane that is not here")
        self._set(str(operands[0]).partition("|")[0], value[order], at)

    def _mma(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        whole = len(at) % WARP == 0 and not np.diff(self.warp[at].reshape(-1, WARP)).any()
        if name[3] not in ("m16n8k8", "m16n8k16") or not whole:
            raise CandidateBroken("mma of another shape, or with lanes that are not here")
        words = [[self._get(r, ops.KINDS["b32"], at) for r in o] for o in operands[1:3]]
        sums = [self._get(r, ops.KINDS["f32"], at) for r in operands[3]]
        made = ops.multiply_tiles(words[0], words[1], sums, name[7])
        for register, value in zip(operands[0], made, strict=True):
            self._set(register, value, at)

    # memory

    def _ld(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        to, address = operands
        if name[1] == "param":
            self._set(to, np.full(len(at), self.parameters[address[1:-1]]).astype(kind), at)
            return
        registers = to if isinstance(to, tuple) else (to,)
        memory, start = self._memory(name[1], address, at, kind.itemsize * len(registers), 1)
        for i, register in enumerate(registers):
            place = start[:, None] + np.arange(kind.itemsize) + i * kind.itemsize
            self._set(register, memory[place].view(kind).ravel(), at)

    def _st(self, name: Any, operands: Any, at: Any, kind: Any) -> None:
        address, source = operands
        registers = source if isinstance(source, tuple) else (source,)
        memory, start = self._memory(name[1], address, at, kind.itemsize * len(registers), 2)
        for i, register in enumerate(registers):
            value = np.ascontiguousarray(self._get(register, kind, at)).view(np.uint8)
            place = start[:, None] + np.arange(kind.itemsize) + i * kind.itemsize
            memory[place] = value.reshape(len(at), -1)

    def _memory(self, space: str, address: str, at: Any, size: int, right: int) -> Any:
        """The bytes of a space, and where in them each thread's access begins."""
        found = re.fullmatch(r"\[([^+\]]+)(?:\+(-?\d+))?\]", address)
        if not found or space not in ("global", "shared", "local"):
            raise CandidateBroken(f"an access that the emulator does not know: {space} {address}")
        start = self._get(found[1], ops.KINDS["u64"], at).astype(np.int64) + int(found[2] or 0)
        if (start % size).any():
            raise CandidateBroken(f"an access of {size} bytes that is not aligned")
        if space != "global":
            held, owner = (self.shared, self.block) if space == "shared" else (self.local, None)
            if (start < 0).any() or (start + size > held.shape[1]).any():
                raise CandidateBroken(f"an access outside of {space} memory")
            owners = at if owner is None else owner[at]
            return held.reshape(-1), owners * held.shape[1] + start
        start = start - BASE
        inside = (start >= 0) & (start + size <= len(self.arena.bytes))
        ends = np.where(inside, start + size - 1, 0)
        begins = np.where(inside, start, 0)
        allowed = np.minimum(self.arena.rights[begins], self.arena.rights[ends])
        if not inside.all() or (allowed < right).any():
            verb = "writes" if right == 2 else "reads"
            raise CandidateBroken(f"a thread {verb} where no array of its own lies")
        return self.arena.bytes, start


def _seen_as(bits: Any, kind: Any) -> Any:
    """A register's words as a type that is as wide, or their lower part."""
    if bits.dtype == kind:
        return bits
    if bits.dtype.itemsize != kind.itemsize:
        bits = bits.astype(UNSIGNED[kind.itemsize])
    return bits.view(kind)


def _constant(text: str, kind: Any) -> Any:
    """A number as PTX writes it: 0f3F800000, 0d..., hexadecimal or decimal, -1 for all ones."""
    if text[:2] in ("0f", "0F"):
        return np.float32(struct.unpack(">f", bytes.fromhex(text[2:]))[0])
    if text[:2] in ("0d", "0D"):
        return np.float64(struct.unpack(">d", bytes.fromhex(text[2:]))[0])
    value = int(text.rstrip("U"), 0)
    if kind == np.bool_:
        return bool(value)
    wrapped = value & ((1 << (8 * kind.itemsize)) - 1)
    return np.array([wrapped], UNSIGNED[kind.itemsize]).view(kind)[0]
