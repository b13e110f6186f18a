"""What launching refuses before the driver sees it; test_launch.py runs this beside a fake driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_arrays import FAKE, OP, SHAPE, Array, arrays, fresh  # noqa: F401  a fixture

from accel.cuda import launch, plans
from accel.errors import UsageError

HOST = np.zeros(SHAPE, np.float32)
REFUSED = {
    "a list": ({"x": [1.0]}, r"A list has no GPU memory to read\. Pass a torch tensor"),
    "an array of the host": ({"x": HOST}, r"input 'x' is in the host's memory; move it"),
    "a tensor of the host": ({"x": torch.zeros(SHAPE)}, r"'x' is in the host's memory"),
    "an unknown address": ({"x": Array(SHAPE, "<f4", 4096, -0xD0)}, r"'x' is in the host's memory"),
    "strides": (
        {"x": Array(SHAPE, "<f4", 4096, strides=(4, 8, 4))},
        r"input 'x' is not contiguous; pass x\.contiguous\(\)",
    ),
    "a dtype of its own": (
        {"gamma": Array((384,), "<f2", 4096)},
        r"'gamma' is float16; beside the other arrays it has to be float32\. The kernel has: float32, float16, bfloat16\. Nothing is cast",
    ),
    "a dtype of nobody": ({"x": Array(SHAPE, "<c8", 4096)}, r"The dtype '<c8' is none that"),
    "another device": (
        {"x": Array(SHAPE, "<f4", 4096, device=1)},
        r"all arrays have to be on one device; here: x on 1, residual on 0",
    ),
    "one input too many": ({"z": Array((1,), "<f4", 4096)}, r"takes the inputs x, residual"),
    "a bias too short": (
        {"beta": Array((383,), "<f4", 4096)},
        r"residual_layernorm: beta is \[383\]; beside the other inputs it has to be \[384\]",
    ),
    "a residual of another height": (
        {"residual": Array((2, 384), "<f4", 4096)},
        r"residual is \[2, 384\]; beside the other inputs it has to be \[3, 384\]",
    ),
    "a row too long": (
        {"x": Array((1, 20000), "<f4", 4096), "gamma": Array((20000,), "<f4", 4096), "beta": Array((20000,), "<f4", 4096)},
        r"takes rows of up to 8192, not 20000",
    ),
    "more rows than int32": (
        {"x": Array((2**31, 1), "<f4", 4096), "residual": Array((1, 1), "<f4", 4096), "gamma": Array((1,), "<f4", 4096), "beta": Array((1,), "<f4", 4096)},
        r"a size of 2147483648 does not fit the int32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_inputs_that_a_kernel_cannot_take_are_refused(what: str) -> None:
    """Before anything is started, with the array, what it is and what it has to be."""
    wrong, message = REFUSED[what]
    inputs, outputs = arrays()
    if "row" in what:
        outputs = {
            n: Array(wrong["x"].__cuda_array_interface__["shape"], "<f4", 1) for n in outputs
        }
    before = FAKE.fake_launches()
    with pytest.raises(UsageError, match=message):
        launch.run(OP, {**inputs, **wrong}, outputs)
    assert FAKE.fake_launches() == before


@pytest.mark.parametrize("baked", [{}, {"epsilon": 1e-5, "axis": -1}, {"eps": 1e-5}])
def test_constants_of_other_names_are_refused(baked: dict[str, float]) -> None:
    """With the names that the kernel bakes in."""
    inputs, outputs = arrays()
    with pytest.raises(UsageError, match="residual_layernorm bakes in epsilon; given were"):
        launch.run(OP, inputs, outputs, baked)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Array((2, 3, 383), "<f4", 4096), r"output 'y' is \[2, 3, 383\]; .* to be \[2, 3, 384\]"),
        (Array(SHAPE, "<f4", 4096, data=((0xD0 << 40) + 1, True)), r"output 'y' is read-only"),
        (HOST, r"output 'y' is in the host's memory"),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_are_refused(wrong: Any, message: str) -> None:
    """Sizes, memory, permission."""
    inputs, outputs = arrays()
    with pytest.raises(UsageError, match=message):
        launch.run(OP, inputs, {**outputs, "y": wrong})


def test_a_missing_input_is_named() -> None:
    """All that it takes, and what was given."""
    inputs, outputs = arrays()
    del inputs["beta"]
    with pytest.raises(
        UsageError, match=r"inputs x, residual, gamma, beta; given were x, residual, gamma\."
    ):
        launch.run(OP, inputs, outputs)


def test_an_unknown_device_is_refused() -> None:
    """How many there are."""
    with pytest.raises(UsageError, match=r"no CUDA device 7; this machine has 2"):
        launch.prepare(OP, "float32", device=7)


def test_a_dtype_that_the_arrays_do_not_tell_is_asked_for() -> None:
    """An op whose dtype shows in its output only."""
    signature = SimpleNamespace(inputs=(("x", "uint8"),), outputs=())
    member = SimpleNamespace(DTYPES=("float32", "float16"), signature=lambda *_: signature)
    given = {"x": ((4,), "uint8", 0, True, True)}
    with pytest.raises(
        UsageError, match=r"the arrays fit float32 and float16\. Say which, as dtype="
    ):
        plans._dtype("made_up", member, None, {}, given, None)
    assert plans._dtype("made_up", member, "float16", {}, given, None) == "float16"
