"""The emulator computes what PTX says, and stops at everything that a GPU would punish or not see."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from accel.cuda import _ptx_ops, _ptx_text, emulator
from accel.errors import CandidateBroken
from accel.protocols import Case, Launch, Signature

HEAD = """
.version 9.0
.target sm_87
.address_size 64
.visible .shared .align 4 .b8 smem_0[128];
.visible .entry k(.param .u64 k_param_0, .param .u32 k_param_1, .param .u64 k_param_2)
{
.local .align 16 .b8 depot[8];
.reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<40>; .reg .f32 %f<40>; .reg .b64 %rd<40>;
ld.param.u64 %rd1, [k_param_0];
ld.param.u32 %r1, [k_param_1];
ld.param.u64 %rd2, [k_param_2];
mov.u32 %r2, %tid.x;
mul.wide.u32 %rd3, %r2, 4;
add.s64 %rd4, %rd1, %rd3;
add.s64 %rd5, %rd2, %rd3;
"""


def _execute(body: str, x: Any, kind: str = "float32", threads: int = 32, scalar: int = 7) -> Any:
    """Thread i reads x[i] at [%rd4] and writes y[i] at [%rd5]; %r1 is the scalar."""
    signature = Signature((("x", str(x.dtype)),), ("n",), (("y", kind),))
    arena = emulator._arena(signature, Case("", {"x": x}), {"y": (threads,)})
    program = _ptx_text.parse(HEAD + body + "\nret;\n}")
    emulator.execute(program, Launch((1, 1, 1), (threads, 1, 1), (scalar,)), arena, signature)
    return emulator._taken(arena, "y", (threads,), np.dtype(kind))


X = np.linspace(-40, 55, 32).astype(np.float32)
I = np.linspace(-(2**31), 2**31 - 1, 32).astype(np.int32)  # noqa: E741
FLOATS = [
    ("add.f32 %f2, %f1, 0f3FC00000;", X + np.float32(1.5)),
    ("neg.f32 %f2, %f1;", -X),
    ("max.f32 %f2, %f1, 0f00000000;", np.maximum(X, 0)),
    ("fma.rn.f32 %f2, %f1, %f1, %f1;", (X.astype(float) ** 2 + X).astype(np.float32)),
    ("ex2.approx.ftz.f32 %f2, %f1;", np.exp2(X)),
    ("setp.gt.f32 %p1, %f1, 0f00000000; selp.f32 %f2, %f1, 0f3F800000, %p1;", np.where(X > 0, X, 1)),
    ("cvt.rmi.f32.f32 %f2, %f1;", np.floor(X)),
    ("cvt.rn.f16.f32 %rs1, %f1; cvt.f32.f16 %f2, %rs1;", X.astype(np.float16).astype(np.float32)),
    ("cvt.rzi.s32.f32 %r3, %f1; cvt.rn.f32.s32 %f2, %r3;", np.trunc(X)),
    ("mov.b32 {%rs1, %rs2}, %f1; mov.b32 %f2, {%rs1, %rs2};", X),
    ("setp.lt.u32 %p1, %r2, 5; @%p1 bra L; mov.f32 %f2, %f1; bra.uni M;\nL:\nmov.f32 %f2, 0f00000000;\nM:\n", np.where(np.arange(32) < 5, 0, X)),
    ("mov.f32 %f2, 0f00000000; mov.u32 %r3, 0;\nL:\nadd.f32 %f2, %f2, %f1; add.s32 %r3, %r3, 1; setp.le.u32 %p1, %r3, %r2; @%p1 bra L;\n", np.array([np.add.accumulate(np.full(i + 1, v, np.float32))[-1] for i, v in enumerate(X)])),
    ("shfl.sync.bfly.b32 %f2|%p1, %f1, 1, 31, -1;", X[np.arange(32) ^ 1]),
    ("shfl.sync.down.b32 %f2, %f1, 4, 31, -1;", np.concatenate([X[4:], X[28:]])),
    ("mov.f32 %f3, %f1; setp.lt.u32 %p1, %r2, 9; @%p1 bra L;\nM:\nshfl.sync.bfly.b32 %f2, %f3, 1, 31, -1; bra.uni E;\nL:\nneg.f32 %f3, %f1; bra.uni M;\nE:\n", np.where(np.arange(32) < 9, -X, X)[np.arange(32) ^ 1]),
    ("mov.u64 %rd6, depot; mul.wide.u32 %rd7, %r2, 0; add.s64 %rd6, %rd6, %rd7; st.local.f32 [%rd6+4], %f1; ld.local.f32 %f2, [%rd6+4];", X),
    ("shl.b32 %r3, %r2, 2; mov.u32 %r4, smem_0; add.s32 %r4, %r4, %r3; cvt.u64.u32 %rd6, %r4; st.shared.f32 [%rd6], %f1; bar.sync 0; xor.b64 %rd6, %rd6, 124; ld.shared.f32 %f2, [%rd6];", X[::-1]),
]  # fmt: skip
INTEGERS = [
    ("div.s32 %r4, %r3, 7;", np.trunc(I / 7)),
    ("rem.s32 %r4, %r3, 7;", np.fmod(I.astype(float), 7)),
    ("shr.s32 %r4, %r3, 40;", np.where(I < 0, -1, 0)),
    ("shr.u32 %r4, %r3, 28;", (I.view(np.uint32) >> 28).astype(np.int32)),
    ("mul.hi.s32 %r4, %r3, %r3;", (I.astype(object) ** 2 >> 32).astype(np.int32)),
    ("clz.b32 %r4, %r2;", np.array([32 - int(i).bit_length() for i in range(32)])),
    ("prmt.b32 %r4, %r3, 0, 0x0123;", I.byteswap()),
    ("cvt.s8.s32 %r4, %r3; cvt.s32.s8 %r4, %r4;", I.astype(np.int8)),
    ("min.s32 %r4, %r3, -1;", np.minimum(I, -1)),
    ("add.s32 %r4, %r3, %r1;", (I.astype(np.int64) + 7).astype(np.int32)),
]


@pytest.mark.parametrize(("body", "want"), FLOATS, ids=[b[:40] for b, _ in FLOATS])
def test_floats(body: str, want: Any) -> None:
    """Arithmetic, comparisons, conversions, branches, loops, shuffles, shared memory."""
    got = _execute(f"ld.global.f32 %f1, [%rd4]; {body} st.global.f32 [%rd5], %f2;", X)
    assert np.array_equal(got, np.asarray(want, np.float32))


@pytest.mark.parametrize(("body", "want"), INTEGERS, ids=[b[:30] for b, _ in INTEGERS])
def test_integers(body: str, want: Any) -> None:
    """Signs, widths, wrapping, shifts past the width."""
    got = _execute(f"ld.global.s32 %r3, [%rd4]; {body} st.global.s32 [%rd5], %r4;", I, "int32")
    assert np.array_equal(got, np.asarray(want).astype(np.int32))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("ld.global.f32 %f1, [%rd4+128];", "reads where no array"),
        ("ld.global.f32 %f1, [%rd4+-4];", "reads where no array"),
        ("st.global.f32 [%rd4], 0f00000000;", "writes where no array of its own"),
        ("ld.global.f32 %f1, [%rd4+2];", "not aligned"),
        ("ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd4];", "16 bytes that is not aligned"),
        ("mov.u64 %rd6, 256; ld.shared.f32 %f1, [%rd6];", "outside of shared memory"),
        ("add.f32 %f2, %f9, %f9;", "%f9 is read before it is written"),
        ("vote.sync.any.pred %p1, %p1, -1;", "does not know, in: vote"),
        ("setp.lt.u32 %p1, %r2, 3; @%p1 shfl.sync.bfly.b32 %r3, %r2, 16, 31, -1;", "not here"),
        (
            "setp.lt.u32 %p1, %r2, 3; @%p1 bra L; shfl.sync.bfly.b32 %r3, %r2, 1, 31, -1;\nL:\n",
            "lanes of a warp never come",
        ),
        ("L:\nbra.uni L;", "did not end"),
    ],
)
def test_what_a_gpu_would_punish_is_an_error(body: str, said: str, monkeypatch: Any) -> None:
    """And so is what it would let pass: a read of nothing, a shuffle with absent lanes."""
    monkeypatch.setattr(emulator, "MOST_STEPS", 1000)
    with pytest.raises(CandidateBroken, match=said):
        _execute(body, X)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_tiles_multiply(kind: str) -> None:
    """mma.m16n8k16 on fragments laid out as the PTX manual says, against a plain product."""
    draw = np.random.default_rng(0)
    a, b, c = draw.normal(size=(16, 16)), draw.normal(size=(16, 8)), draw.normal(size=(16, 8))
    dtype = np.float16 if kind == "f16" else ml_dtypes.bfloat16
    a, b, c = a.astype(dtype), b.astype(dtype), c.astype(np.float32)
    lane = np.arange(32)
    group, pair = lane // 4, lane % 4 * 2

    def words(first: Any, second: Any) -> Any:
        return np.stack([first, second], 1).view(np.uint16).view(np.uint32).ravel()

    left = [words(a[group + r, pair + k], a[group + r, pair + k + 1]) for k in (0, 8) for r in (0, 8)]  # fmt: skip
    right = [words(b[pair + k, group], b[pair + k + 1, group]) for k in (0, 8)]
    sums = [c[group + r, pair + i] for r in (0, 8) for i in (0, 1)]
    made = _ptx_ops.multiply_tiles(left, right, sums, kind)
    want = (a.astype(float) @ b.astype(float) + c).astype(np.float32)
    for i, value in enumerate(made):
        assert np.allclose(value, want[group + 8 * (i // 2), pair + i % 2], rtol=1e-6)
