"""What launching refuses before the driver sees it; test_launch.py runs this beside a fake driver."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_arrays import FAKE, OP, SHAPE, Array, arrays, fresh  # noqa: F401  a fixture

from accel import catalog
from accel.cuda import launch, plans
from accel.errors import UsageError


class Reluctant:
    """A producer that gives nothing, as a tensor that needs its gradient does."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("it requires gradient")


HOST = np.zeros(SHAPE, np.float32)
REFUSED = {
    "a list": ({"x": [1.0]}, r"A list has no GPU memory to read\. Pass a torch tensor"),
    "a producer that refuses": (
        {"x": Reluctant()},
        r"A Reluctant is not given by DLPack: it requires gradient",
    ),
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
    "no axis at all": ({"x": Array((), "<f4", 4096)}, r"takes x of 1 axis or more, not \[\]"),
    "a residual without an axis": (
        {"residual": Array((), "<f4", 4096)},
        r"takes residual of 1 axis or more, not \[\]",
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


READ_PAST = [
    ("masked_mean_pool_l2", "mask", (1, 36), r"mask is \[1, 36\]; .* to be \[1, 37\]"),
    ("masked_mean_pool_l2", "mask", (37,), r"mask is \[37\]; .* to be \[1, 37\]"),
    ("masked_mean_pool_l2", "x", (37, 384), r"takes x of 3 axes, not \[37, 384\]"),
    ("dequant_bias_act_quant", "out_scale", (0,), r"takes out_scale of one value, not \[0\]"),
    ("dequant_bias_act_quant", "out_zero_point", (3,), r"takes out_zero_point of one value, not \[3\]"),
    ("nms", "iou_threshold", (0,), r"takes iou_threshold of one value, not \[0\]"),
    ("nms", "score_threshold", (2, 1), r"takes score_threshold of one value, not \[2, 1\]"),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "name", "shape", "message"), READ_PAST)
def test_an_input_that_a_kernel_would_read_past_is_refused(
    kernel: str, name: str, shape: Any, message: str
) -> None:
    """Its sizes are looked at even where the outputs do not depend on them."""
    member = catalog.load("kernels", kernel)
    dtype, case = member.DTYPES[0], next(iter(member.cases(member.DTYPES[0])))
    inputs, outputs = arrays(kernel, dtype)
    kind = inputs[name].__cuda_array_interface__["typestr"]
    wrong = {**inputs, name: Array(shape, kind, 4096)}
    before = FAKE.fake_launches()
    with pytest.raises(UsageError, match=message):
        launch.run(kernel, wrong, outputs, case.baked, dtype=dtype)
    assert FAKE.fake_launches() == before


@pytest.mark.parametrize("name", ["packed", "scales", "zero_points"])
def test_weights_of_unlike_rows_are_refused(name: str) -> None:
    """One row of each a column of the result."""
    kernel = "matmul_dequant_int4"
    inputs, outputs = arrays(kernel)
    said = inputs[name].__cuda_array_interface__
    wrong = {**inputs, name: Array((1, *said["shape"][1:]), said["typestr"], 4096)}
    baked = next(iter(catalog.load("kernels", kernel).cases("float32"))).baked
    with pytest.raises(UsageError, match=r"beside the other inputs it has to be"):
        launch.run(kernel, wrong, outputs, baked, dtype="float32")


def test_a_constant_that_the_kernel_does_not_have_is_refused() -> None:
    """By launching and by preparing, with those that there are."""
    inputs, outputs = arrays()
    message = r"residual_layernorm has no constant 'eps'\. It has: epsilon\."
    with pytest.raises(UsageError, match=message):
        launch.run(OP, inputs, outputs, {"eps": 1e-5})
    with pytest.raises(UsageError, match=message):
        launch.prepare(OP, "float32", {"eps": 1e-5})
