"""What every kernel's PTX computes: the compiler's work, run instruction by instruction on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel import catalog
from accel.cuda import interpreter, interpreter_thread
from accel.cuda.interpreter_ops import as_bits, as_float, mma
from accel.errors import CandidateBroken
from accel.protocols import Case

NAMES = catalog.names("kernels")
KERNELS = {name: catalog.load("kernels", name) for name in NAMES}
TYPED = [(name, dtype) for name in NAMES for dtype in KERNELS[name].DTYPES]


def _require_right(name: str, dtype: str, case: Case, compute_capability: str) -> None:
    member = KERNELS[name]
    baked = member.VARIANTS[0] if case.baked is None else case.baked
    found = interpreter.interpret(name, dtype, case, compute_capability)
    want = member.reference(case.inputs, baked)
    for output, kind in member.signature(dtype, baked).outputs:
        got, right = found[output].astype(np.float64), np.asarray(want[output], np.float64)
        finite = np.isfinite(right)
        assert np.array_equal(got[~finite], right[~finite], equal_nan=True)
        error = np.abs(got[finite] - right[finite]) / (1 + np.abs(right[finite]))
        assert error.max(initial=0.0) <= member.TOLERANCE[kind], output


@pytest.mark.parametrize("compute_capability", ["7.5", "9.0", "12.0"])
@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_the_compiled_kernel_is_right(name: str, dtype: str, compute_capability: str) -> None:
    """Its first case, for the oldest GPU, for Hopper and for Blackwell, which has another compiler."""
    case = next(iter(KERNELS[name].cases(dtype)))
    _require_right(name, dtype, case, compute_capability)


@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_the_compiled_kernel_is_right_at_any_address(name: str, dtype: str) -> None:
    """Its first case that misses a 128-bit boundary: the interpreter faults where a GPU would."""
    case = next((c for c in KERNELS[name].cases(dtype) if c.offset), None)
    if case is None:
        pytest.skip(f"{name} has no case that is not aligned")
    _require_right(name, dtype, case, "9.0")


def _run(lines: str, memory: bytearray, threads: int = 32) -> None:
    text = f".visible .entry k(\n\t.param .u64 k_param_0\n)\n{{\n{lines}\n\tret;\n}}\n"
    interpreter.run(interpreter_thread.parse(text), (1, 1, 1), (threads, 1, 1), [0], memory)


def test_an_access_that_a_gpu_faults_on_is_an_error() -> None:
    """Beyond the memory, and four words from an address that is no multiple of 16."""
    load = "mov.u64 %rd1, {}; \n ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%rd1];"
    _run(load.format(48).replace("; \n", ";\n"), bytearray(64))
    for place in (64, 56):
        with pytest.raises(CandidateBroken, match=f"4 x 4 bytes at {place}"):
            _run(load.format(place).replace("; \n", ";\n"), bytearray(64))


def test_an_instruction_that_is_not_known_is_refused_by_name() -> None:
    """Rather than passed over."""
    with pytest.raises(CandidateBroken, match=r"does not know brev\.b32"):
        _run("brev.b32 %r1, 3;", bytearray(16))


def test_lanes_that_do_not_meet_are_an_error() -> None:
    """A shuffle that half of the warp branches around would hang or read nothing on a GPU."""
    lines = """
    mov.u32 %r1, %tid.x;
    setp.lt.u32 %p1, %r1, 16;
    @%p1 bra $L1;
    shfl.sync.bfly.b32 %r2|%p2, %r1, 1, 31, -1;
    $L1:"""
    with pytest.raises(CandidateBroken, match="meet at different places"):
        _run(lines, bytearray(16))


def test_sixteen_bit_floats_round_to_nearest_even() -> None:
    """Ties, the largest, what lies beyond it, and NaN."""
    assert as_bits(1 + 2**-11, "f16") == as_bits(1.0, "f16")
    assert as_bits(1 + 3 * 2**-11, "f16") == as_bits(1 + 2**-9, "f16")
    assert as_bits(1 + 2**-8, "bf16") == as_bits(1.0, "bf16")
    assert as_float(as_bits(1e6, "f16"), "f16") == np.inf
    assert np.isnan(as_float(as_bits(float("nan"), "bf16"), "bf16"))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_tensor_core_multiplies_the_fragments_of_the_manual(depth: int) -> None:
    """One element of A and one of B at a time: the sum stands in the one lane that the manual says.

    PTX ISA: A[g, 2 t] is the low half of lane 4 g + t's first register, B[2 t, g] of its only or
    first one, C[g, 2 t] its first float."""
    for row, column, k in ((0, 0, 0), (3, 5, 2), (7, 7, 6)):
        lanes: list[Any] = [[[0] * (depth // 4), [0] * (depth // 8), [0] * 4] for _ in range(32)]
        lanes[4 * row + k // 2][0][0] = as_bits(3.0, "f16")
        lanes[4 * column + k // 2][1][0] = as_bits(5.0, "f16")
        found = mma(f"m16n8k{depth}", "f16", lanes)
        where = [(lane, i) for lane in range(32) for i in range(4) if found[lane][i]]
        assert where == [(4 * row + column // 2, column % 2)]
        assert as_float(found[where[0][0]][where[0][1]], "f32") == 15.0
