"""What kernels share: 128-bit reads and writes, 16-bit floats as storage, reductions over a warp.

Arithmetic is float32 throughout; `read` and `get` widen, `write` and `put` round to nearest even.
bfloat16 is held as uint16: Numba's own type needs functions that only a linker brings. Under
NUMBA_ENABLE_CUDASIM pointers are numpy arrays, and each intrinsic has a twin in Python.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, cuda, types

f32, i32, i64, u32 = types.float32, types.int32, types.int64, types.uint32
ALL_LANES = 0xFFFFFFFF
LANES = {"float32": 4, "float16": 8, "bfloat16": 8}  # elements in 128 bits
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int32": 4, "int8": 1, "uint8": 1, "int64": 8}
BFLOAT16 = types.uint16  # how its bits are held


def stored(values: Any, dtype: str) -> Any:
    """A numpy array rounded to a dtype, bfloat16 among them."""
    import ml_dtypes

    return np.asarray(values).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


SIMULATED = bool(config.ENABLE_CUDASIM)

if SIMULATED:
    from accel.cuda import warps

    def get(pointer: Any, i: Any) -> Any:
        """Element i as float32."""
        return np.float32(_floats(pointer)[_inside(pointer, i)])

    def put(pointer: Any, i: Any, value: Any) -> None:
        """Store a float32 as element i."""
        _floats(pointer)[_inside(pointer, i)] = np.float32(value)

    def read(pointer: Any, i: Any) -> Any:
        """128 bits from element i on, as a tuple of float32."""
        _require_aligned(pointer, i)
        found = _floats(pointer)
        n = 16 // found.dtype.itemsize
        return tuple(np.float32(v) for v in found[int(i) : int(i) + n])

    def write(pointer: Any, i: Any, values: Any, at: Any) -> None:
        """Store 128 bits from element i on: values[at], values[at + 1] ..."""
        _require_aligned(pointer, i)
        n = 16 // _floats(pointer).dtype.itemsize
        _floats(pointer)[int(i) : int(i) + n] = values[int(at) : int(at) + n]

    def aligned(pointer: Any) -> bool:
        """Does the pointer stand on a 128-bit boundary?"""
        return bool(_array(pointer).ctypes.data % 16 == 0)

    def warp_sum(value: Any) -> Any:
        """The sum over the warp, in every lane."""
        lane, found = warps.gather(value)
        return _butterfly(found, np.add)[lane]

    def warp_max(value: Any) -> Any:
        """The largest over the warp, in every lane."""
        lane, found = warps.gather(value)
        return _butterfly(found, np.fmax)[lane]

    def _butterfly(found: Any, combine: Any) -> Any:
        """Every lane's result, added up in the order in which the shuffles add."""
        held = np.array(found, np.float32)
        if len(held) != 32:
            raise ValueError(
                f"a reduction over a warp of {len(held)} lanes: the others hold nothing"
            )
        for distance in (16, 8, 4, 2, 1):
            held = combine(held, held[np.arange(len(held)) ^ distance])
        return held

    def warp_best(score: Any, index: Any) -> Any:
        """The largest score over the warp and its index, in every lane; of equals the lowest index."""
        for distance in (16, 8, 4, 2, 1):
            other = warps.exchange((score, index), lambda lane: lane ^ distance)  # noqa: B023
            score, index = max((score, index), other, key=lambda pair: (pair[0], -pair[1]))
        return score, index

    def multiply(a: Any, b: Any) -> Any:
        """a * b rounded by itself, never as a part of a fused multiply-add."""
        return np.float32(a) * np.float32(b)

    def fused(a: Any, b: Any, c: Any) -> Any:
        """a * b + c rounded once: the product of two float32 is exact in float64."""
        return np.float32(np.float64(a) * np.float64(b) + np.float64(c))

    def device(function: Any) -> Any:
        """A function that kernels call: plain Python here, where Numba's would swap the module's
        globals in every thread."""
        return function

    def _array(pointer: Any) -> Any:
        """The numpy array inside the simulator's wrappers."""
        return pointer._item._ary

    def _floats(pointer: Any) -> Any:
        import ml_dtypes

        found = _array(pointer)
        return found.view(ml_dtypes.bfloat16) if found.dtype == np.uint16 else found

    def _inside(pointer: Any, i: Any) -> int:
        if not 0 <= int(i) < len(_array(pointer)):  # numpy would take a negative one from the end
            raise IndexError(f"element {int(i)} of {len(_array(pointer))}")
        return int(i)

    def _require_aligned(pointer: Any, i: Any) -> None:
        found = _array(pointer)
        if (found.ctypes.data + int(i) * found.dtype.itemsize) % 16:
            raise ValueError(f"128 bits at element {int(i)} of a pointer that is not aligned")
        _inside(pointer, i)
        _inside(pointer, int(i) + 16 // found.dtype.itemsize - 1)

else:
    from numba.cuda import dispatcher, libdevice
    from numba.cuda.extending import intrinsic

    SHORT, WORD, HALF, FLOAT = ir.IntType(16), ir.IntType(32), ir.HalfType(), ir.FloatType()
    HALVES = "{ .reg .b16 low, high; mov.b32 {low, high}, $2; cvt.f32.f16 $0, low; cvt.f32.f16 $1, high; }"

    @intrinsic
    def get(typingctx: Any, pointer: Any, i: Any) -> Any:
        """Element i as float32."""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            return _widen(b, b.load(b.gep(args[0], [args[1]])), pointer.dtype)

        return types.float32(pointer, i), generate

    @intrinsic
    def put(typingctx: Any, pointer: Any, i: Any, value: Any) -> Any:
        """Store a float32 as element i."""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            place = b.gep(args[0], [args[1]])
            b.store(_narrow(b, args[2], pointer.dtype), place)
            return context.get_dummy_value()

        return types.void(pointer, i, types.float32), generate

    @intrinsic
    def read(typingctx: Any, pointer: Any, i: Any) -> Any:
        """128 bits from element i on, as a tuple of float32."""
        n = 128 // pointer.dtype.bitwidth

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            place = b.gep(args[0], [args[1]])
            whole = b.load(b.bitcast(place, ir.VectorType(WORD, 4).as_pointer()), align=16)
            words = [b.extract_element(whole, WORD(k)) for k in range(4)]
            items = [item for word in words for item in _unpacked(b, word, pointer.dtype)]
            return context.make_tuple(b, signature.return_type, items)

        return types.UniTuple(types.float32, n)(pointer, i), generate

    @intrinsic
    def write(typingctx: Any, pointer: Any, i: Any, values: Any, at: Any) -> Any:
        """Store 128 bits from element i on: values[at], values[at + 1] ..."""
        n = 128 // pointer.dtype.bitwidth

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            place = b.gep(args[0], [args[1]])
            held = context.make_array(values)(context, b, args[2]).data
            first = context.cast(b, args[3], at, types.int64)
            taken = [b.load(b.gep(held, [b.add(first, ir.IntType(64)(k))])) for k in range(n)]
            whole = ir.Constant(ir.VectorType(WORD, 4), ir.Undefined)
            for k in range(4):
                items = taken[k * n // 4 : (k + 1) * n // 4]
                word = _packed(b, items, pointer.dtype)
                whole = b.insert_element(whole, word, WORD(k))
            b.store(whole, b.bitcast(place, whole.type.as_pointer()), align=16)
            return context.get_dummy_value()

        return types.void(pointer, i, values, at), generate

    @intrinsic
    def aligned(typingctx: Any, pointer: Any) -> Any:
        """Does the pointer stand on a 128-bit boundary?"""

        def generate(context: Any, b: Any, signature: Any, args: Any) -> Any:
            low = b.and_(b.ptrtoint(args[0], ir.IntType(64)), ir.IntType(64)(15))
            return b.icmp_unsigned("==", low, ir.IntType(64)(0))

        return types.boolean(pointer), generate

    # `dtype` is Numba's: in LLVM's types float16 and bfloat16 are both 16 bits. Words are taken apart
    # and put together in assembly or by masks: as vectors of 16-bit elements the compiler would turn
    # one access of 128 bits into two of 64.

    def _widen(b: Any, bits: Any, dtype: Any) -> Any:
        """float32 of a float, a half or a bfloat16's bits."""
        if dtype == types.float32:
            return bits
        if dtype == types.float16:
            return b.fpext(b.bitcast(bits, HALF), FLOAT)
        return b.bitcast(b.shl(b.zext(bits, WORD), WORD(16)), FLOAT)

    def _narrow(b: Any, value: Any, dtype: Any) -> Any:
        """The float32 as `dtype`, to nearest even; bfloat16 by adding half of what is cut, and the
        bit that breaks ties; a NaN would carry into infinity, so it becomes the quiet one."""
        if dtype == types.float32:
            return value
        if dtype == types.float16:
            return b.bitcast(b.fptrunc(value, HALF), SHORT)
        bits = b.bitcast(value, WORD)
        odd = b.and_(b.lshr(bits, WORD(16)), WORD(1))
        rounded = b.lshr(b.add(bits, b.add(odd, WORD(0x7FFF))), WORD(16))
        nan = b.fcmp_unordered("uno", value, value)
        return b.trunc(b.select(nan, WORD(0x7FC0), rounded), SHORT)

    def _unpacked(b: Any, word: Any, dtype: Any) -> list[Any]:
        """The one or two values in 32 bits, as float32."""
        if dtype == types.float32:
            return [b.bitcast(word, FLOAT)]
        if dtype == types.float16:
            both = _assembly(b, HALVES, "=f,=f,r", ir.LiteralStructType([FLOAT, FLOAT]), [word])
            return [b.extract_value(both, 0), b.extract_value(both, 1)]
        high = b.and_(word, WORD(0xFFFF0000))
        return [b.bitcast(bits, FLOAT) for bits in (b.shl(word, WORD(16)), high)]

    def _packed(b: Any, items: list[Any], dtype: Any) -> Any:
        """32 bits of one or two float32; the GPU's own conversion of a pair came with 8.0."""
        if dtype == types.float32:
            return b.bitcast(items[0], WORD)
        if dispatcher.get_current_device().compute_capability >= (8, 0):
            pair = "f16x2" if dtype == types.float16 else "bf16x2"
            return _assembly(b, f"cvt.rn.{pair}.f32 $0, $2, $1;", "=r,f,f", WORD, items)
        low, high = (b.zext(_narrow(b, item, dtype), WORD) for item in items)
        return b.or_(low, b.shl(high, WORD(16)))

    def _assembly(b: Any, text: str, constraints: str, result: Any, given: list[Any]) -> Any:
        kind = ir.FunctionType(result, [value.type for value in given])
        return b.call(ir.InlineAsm(kind, text, constraints), given)

    @cuda.jit(device=True)
    def warp_sum(value: Any) -> Any:
        """The sum over the warp, in every lane."""
        for distance in (16, 8, 4, 2, 1):
            value += cuda.shfl_xor_sync(ALL_LANES, value, distance)
        return value

    @cuda.jit(device=True)
    def warp_max(value: Any) -> Any:
        """The largest over the warp, in every lane."""
        for distance in (16, 8, 4, 2, 1):
            value = max(value, cuda.shfl_xor_sync(ALL_LANES, value, distance))
        return value

    @cuda.jit(device=True)
    def warp_best(score: Any, index: Any) -> Any:
        """The largest score over the warp and its index, in every lane; of equals the lowest index."""
        for distance in (16, 8, 4, 2, 1):
            other = cuda.shfl_xor_sync(ALL_LANES, score, distance)
            place = cuda.shfl_xor_sync(ALL_LANES, index, distance)
            if other > score or (other == score and place < index):
                score, index = other, place
        return score, index

    multiply = libdevice.fmul_rn  # rounded by itself, never as a part of a fused multiply-add
    fused = libdevice.fmaf_rn  # a * b + c rounded once

    def device(function: Any) -> Any:
        """A function that kernels call."""
        return cuda.jit(device=True)(function)
