"""Tensor cores for 16-bit floats: int4 unpacked in registers, and m16n8k16 in float32 sums.

Pairs are two 16-bit floats in a uint32. int4 becomes a float without a conversion: its bits are put
under the exponent of a power of two, which is subtracted again (Kim et al., "Who Says Elephants Can't
Run", 2022, section 3.3). Who holds what in an mma is in PTX ISA 9.0, "Matrix Fragments for
mma.m16n8k16": with lane = 4 g + t, A's rows g and g + 8, B's column g, C's columns 2 t and 2 t + 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from accel.kernels._device import SIMULATED

if SIMULATED:
    from accel.cuda import warps
    from accel.kernels._device import _array, _floats, _require_aligned

    def turing() -> bool:
        """Is it compiled for compute capability 7.5, which has no bfloat16 and half the depth?"""
        return False

    def words(pointer: Any, i: Any) -> Any:
        """128 bits from element i on, as four uint32."""
        _require_aligned(pointer, i)
        found = _array(pointer)
        part = found[int(i) : int(i) + 16 // found.dtype.itemsize]
        return tuple(np.frombuffer(part.tobytes(), np.uint32))

    def integers(word: Any, zero: Any) -> Any:
        """The eight uint4 of a word, less the zero point, as float32."""
        return tuple(np.float32((int(word) >> 4 * k & 15) - int(zero)) for k in range(8))

    def unpack(pointer: Any, word: Any, zero: Any) -> Any:
        """The same as four pairs of the pointer's dtype: (0, 4), (1, 5), (2, 6), (3, 7)."""
        values = np.array(integers(word, zero), _floats(pointer).dtype)
        return tuple(np.ascontiguousarray(values.reshape(2, 4).T).view(np.uint32)[:, 0])

    def apart(pairs: Any) -> Any:
        """Pairs (0, 1), (2, 3), (4, 5), (6, 7) as `unpack` has them."""
        values = np.array(pairs, np.uint32).view(np.uint16)
        return tuple(np.ascontiguousarray(values.reshape(2, 4).T).view(np.uint32)[:, 0])

    def mma(pointer: Any, upper: Any, lower: Any, column: Any, sums: Any) -> Any:
        """C + A B over 32 x 4 pairs: A's rows g and g + 8 in `upper` and `lower`, B's column g."""
        kind = _floats(pointer).dtype
        lane, held = warps.gather([_decoded(part, kind) for part in (upper, lower, column)])
        g, t = lane // 4 * 4, lane % 4 * 8
        a = [np.concatenate([held[g + k][row] for k in range(4)]) for row in (0, 1)]
        b = [np.concatenate([held[t + n + k][2] for k in range(4)]) for n in (0, 4)]
        with np.errstate(all="ignore"):
            products = [a[row] @ b[n] for row in (0, 1) for n in (0, 1)]
            return tuple(np.float32(c + new) for c, new in zip(sums, products, strict=True))

    def _decoded(pairs: Any, kind: Any) -> Any:
        return np.array(pairs, np.uint32).view(kind).astype(np.float32)

else:
    from numba.cuda import dispatcher
    from numba.cuda.extending import intrinsic

    from accel.kernels._words import four

    WORD, HALF, FLOAT = ir.IntType(32), ir.HalfType(), ir.FloatType()
    ONE_SIXTEENTH, ONE = 0x2C002C00, 0x3F803F80  # pairs of float16, of bfloat16
    EVERY_FOURTH = 0x000F000F

    @intrinsic
    def turing(typingctx: Any) -> Any:
        """Is it compiled for compute capability 7.5, which has no bfloat16 and half the depth?"""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            return context.get_constant(types.boolean, _turing())

        return types.boolean(), generate

    @intrinsic
    def words(typingctx: Any, pointer: Any, i: Any) -> Any:
        """128 bits from element i on, as four uint32."""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            return context.make_tuple(b, signature.return_type, four(b, args[0], args[1]))

        return types.UniTuple(types.uint32, 4)(pointer, i), generate

    @intrinsic
    def integers(typingctx: Any, word: Any, zero: Any) -> Any:
        """The eight uint4 of a word, less the zero point, as float32."""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            exponent = WORD(0x4B000000)  # 2 ** 23: the mantissa's last bit is worth one
            offset = b.bitcast(b.or_(args[1], exponent), FLOAT)
            items = []
            for k in range(8):
                bits = b.and_(b.lshr(args[0], WORD(4 * k)), WORD(15))
                items.append(b.fsub(b.bitcast(b.or_(bits, exponent), FLOAT), offset))
            return context.make_tuple(b, signature.return_type, items)

        return types.UniTuple(types.float32, 8)(types.uint32, types.uint32), generate

    @intrinsic
    def unpack(typingctx: Any, pointer: Any, word: Any, zero: Any) -> Any:
        """The same as four pairs of the pointer's dtype: (0, 4), (1, 5), (2, 6), (3, 7)."""
        make = _halves if pointer.dtype == types.float16 else _bfloat16s

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            zeros = b.mul(args[2], WORD(0x00010001))
            return context.make_tuple(b, signature.return_type, make(b, args[1], zeros))

        return types.UniTuple(types.uint32, 4)(pointer, types.uint32, types.uint32), generate

    @intrinsic
    def apart(typingctx: Any, pairs: Any) -> Any:
        """Pairs (0, 1), (2, 3), (4, 5), (6, 7) as `unpack` has them."""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            given = [b.extract_value(args[0], k) for k in range(4)]
            items = []
            for first, second in ((given[0], given[2]), (given[1], given[3])):
                low = b.and_(first, WORD(0xFFFF))
                items.append(b.or_(low, b.shl(second, WORD(16))))
                high = b.and_(second, WORD(0xFFFF0000))
                items.append(b.or_(b.lshr(first, WORD(16)), high))
            return context.make_tuple(b, signature.return_type, items)

        return pairs(pairs), generate

    @intrinsic
    def mma(typingctx: Any, pointer: Any, upper: Any, lower: Any, column: Any, sums: Any) -> Any:
        """C + A B over 32 x 4 pairs: A's rows g and g + 8 in `upper` and `lower`, B's column g."""
        kind = "f16" if pointer.dtype == types.float16 else "bf16"

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            u, w, v, c = ([b.extract_value(part, k) for k in range(4)] for part in args[1:])
            deep = [([u[k], w[k], u[k + 1], w[k + 1]], v[k : k + 2]) for k in (0, 2)]
            flat = [([u[k], w[k]], v[k : k + 1]) for k in range(4)]
            if _turing():
                made = _chain(b, f"m16n8k8.row.col.f32.{kind}.{kind}.f32", flat, c)
            else:
                made = _chain(b, f"m16n8k16.row.col.f32.{kind}.{kind}.f32", deep, c)
            return context.make_tuple(b, signature.return_type, made)

        return sums(pointer, upper, lower, column, sums), generate

    def _turing() -> bool:
        """Of the GPU that is compiled for: 7.5 has tensor cores of half the depth, for float16."""
        return bool(dispatcher.get_current_device().compute_capability < (8, 0))

    def _halves(b: Any, word: Any, zeros: Any) -> list[Any]:
        """float16: 1024 + q, or 1024 + 16 q for the nibbles one further, which saves a shift."""
        near = b.or_(zeros, WORD(0xE400E400))  # -(1024 + zero)
        far = b.or_(b.shl(zeros, WORD(4)), WORD(0xD400D400))  # -(64 + zero)
        made = []
        for shift in (0, 8):
            part = b.lshr(word, WORD(shift))
            low = b.or_(b.and_(part, WORD(EVERY_FOURTH)), WORD(0x64006400))
            high = b.or_(b.and_(part, WORD(EVERY_FOURTH << 4)), WORD(0x64006400))
            made.append(_asm(b, "add.rn.f16x2 $0, $1, $2;", [low, near]))
            made.append(_asm(b, "fma.rn.f16x2 $0, $1, $2, $3;", [high, WORD(ONE_SIXTEENTH), far]))
        return made

    def _bfloat16s(b: Any, word: Any, zeros: Any) -> list[Any]:
        """bfloat16: 128 + q; seven bits of mantissa leave no room for the other nibble."""
        offset = b.or_(zeros, WORD(0xC300C300))  # -(128 + zero)
        made = []
        for shift in (0, 4, 8, 12):
            part = b.and_(b.lshr(word, WORD(shift)), WORD(EVERY_FOURTH))
            part = b.or_(part, WORD(0x43004300))
            made.append(_asm(b, "fma.rn.bf16x2 $0, $1, $2, $3;", [part, WORD(ONE), offset]))
        return made

    def _asm(b: Any, text: str, given: list[Any]) -> Any:
        kind = ir.FunctionType(WORD, [WORD] * len(given))
        return b.asm(kind, text, ",".join(["=r"] + ["r"] * len(given)), given, side_effect=False)

    def _chain(b: Any, shape: str, steps: list[tuple[list[Any], list[Any]]], sums: list[Any]) -> Any:  # fmt: skip
        for rows, columns in steps:
            sizes = (4, len(rows), len(columns), 4)
            ends = [sum(sizes[: k + 1]) for k in range(4)]
            lists = [
                "{" + ", ".join(f"${k}" for k in range(end - size, end)) + "}"
                for size, end in zip(sizes, ends, strict=True)
            ]
            pairs = [*rows, *columns]
            four = ir.LiteralStructType([FLOAT] * 4)
            kind = ir.FunctionType(four, [WORD] * len(pairs) + [FLOAT] * 4)
            wants = ",".join(["=f"] * 4 + ["r"] * len(pairs) + ["f"] * 4)
            asm = ir.InlineAsm(kind, f"mma.sync.aligned.{shape} {', '.join(lists)};", wants, True)
            made = b.call(asm, [*pairs, *sums])
            made.attributes.add("convergent")  # the whole warp at one place, or not at all
            sums = [b.extract_value(made, k) for k in range(4)]
        return sums
