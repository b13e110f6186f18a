"""Integers in words: four int32 in one read of 128 bits, four bytes in one write of 32."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.kernels._device import SIMULATED

if SIMULATED:
    from accel.kernels._device import _array, _inside, _require_aligned

    def read_words(pointer: Any, i: Any) -> Any:
        """Four int32 from element i on."""
        _require_aligned(pointer, i)
        return tuple(np.int32(v) for v in _array(pointer)[int(i) : int(i) + 4])

    def write_bytes(pointer: Any, i: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        """Store the low eight bits of four int32 from element i on, which must be a multiple of 4."""
        found = _array(pointer)
        if (found.ctypes.data + int(i)) % 4:
            raise ValueError(f"32 bits at element {int(i)} of a pointer that is not aligned")
        _inside(pointer, int(i) + 3)
        found.view(np.uint8)[_inside(pointer, i) : int(i) + 4] = [
            int(v) & 255 for v in (a, b, c, d)
        ]

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    BYTE, WORD = ir.IntType(8), ir.IntType(32)

    def four(b: Any, pointer: Any, i: Any) -> list[Any]:
        """The code of one access of 128 bits: four words from element i on."""
        place = b.gep(pointer, [i])
        whole = b.load(b.bitcast(place, ir.VectorType(WORD, 4).as_pointer()), align=16)
        return [b.extract_element(whole, WORD(k)) for k in range(4)]

    @intrinsic
    def read_words(typingctx: Any, pointer: Any, i: Any) -> Any:
        """Four int32 from element i on."""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            return context.make_tuple(b, signature.return_type, four(b, args[0], args[1]))

        return types.UniTuple(types.int32, 4)(pointer, i), generate

    @intrinsic
    def write_bytes(
        typingctx: Any, pointer: Any, i: Any, first: Any, second: Any, third: Any, fourth: Any
    ) -> Any:
        """Store the low eight bits of four int32 from element i on, which must be a multiple of 4."""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            whole = ir.Constant(ir.VectorType(BYTE, 4), ir.Undefined)
            for k in range(4):
                whole = b.insert_element(whole, b.trunc(args[2 + k], BYTE), WORD(k))
            place = b.bitcast(b.gep(args[0], [args[1]]), whole.type.as_pointer())
            b.store(whole, place, align=4)
            return context.get_dummy_value()

        return types.void(pointer, i, *(types.int32,) * 4), generate
