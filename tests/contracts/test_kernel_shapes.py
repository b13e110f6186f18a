"""Shapes that a kernel does not take are refused before it reads where nothing lies."""

from __future__ import annotations

from typing import Any

import pytest

from accel import catalog
from accel.cuda.geometry import require_countable
from accel.cuda.symbols import Symbol
from accel.errors import UsageError

KERNELS = {name: catalog.load("kernels", name) for name in catalog.names("kernels")}
X = (2, 5, 64)
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no axis": ("bias_gelu", {"x": ()}, r"takes x of 1 axis or more, not \[\]"),
    "more vectors than 32 bits": (
        "bias_gelu",
        {"x": (2**20, 2**15), "bias": (2**15,)},
        "up to 17179869184 values at once, not 34359738368",
    ),
    "more values than 32 bits": (
        "dequant_bias_act_quant",
        {"acc": (2**20, 2**15), "scale": (2**15,), "bias": (2**15,)},
        "up to 17179869184 values at once, not 34359738368",
    ),
    "two axes of scales": (
        "dequant_bias_act_quant",
        {"acc": (3, 96), "scale": (2, 48), "bias": (2, 48)},
        "one value a channel",
    ),
    "a step a channel": (
        "dequant_bias_act_quant",
        {"out_scale": (96,)},
        r"takes out_scale of one value, not \[96\]",
    ),
    "no zero point": (
        "dequant_bias_act_quant",
        {"out_zero_point": (0,)},
        r"takes out_zero_point of one value, not \[0\]",
    ),
    "no tokens' axis": ("masked_mean_pool_l2", {"x": (2, 64)}, r"takes x of 3 axes, not \[2, 64\]"),
    "a mask too short": (
        "masked_mean_pool_l2",
        {"x": X, "mask": (2, 4)},
        r"mask is \[2, 4\]; .* to be \[2, 5\]",
    ),
    "tokens of no size": (
        "masked_mean_pool_l2",
        {"x": (2, 5, 0), "mask": (2, 5)},
        "tokens of 1 to 8192, not 0",
    ),
    "scales of fewer columns": (
        "matmul_dequant_int4",
        {"scales": (15, 4)},
        r"scales is \[15, 4\]; .* to be \[16, 4\]",
    ),
    "zero points of fewer columns": (
        "matmul_dequant_int4",
        {"zero_points": (15, 2)},
        r"zero_points is \[15, 2\]; .* to be \[16, 2\]",
    ),
    "nothing to sum": (
        "matmul_dequant_int4",
        {"x": (4, 0), "packed": (16, 0), "scales": (16, 0), "zero_points": (16, 0)},
        "K a multiple of 128",
    ),
    "no classes' axis": (
        "nms",
        {"scores": (3, 60), "boxes": (3, 60, 4)},
        r"takes scores of 3 axes, not \[3, 60\]",
    ),
    "no threshold": ("nms", {"iou_threshold": (0,)}, r"iou_threshold of one value, not \[0\]"),
    "one image without its axis": (
        "preprocess_image",
        {"image": (8, 8, 3)},
        r"takes image of 4 axes, not \[8, 8, 3\]",
    ),
    "one residual for all": (
        "residual_layernorm",
        {"residual": ()},
        r"takes residual of 1 axis or more, not \[\]",
    ),
}


def _shapes(member: Any) -> dict[str, tuple[int, ...]]:
    case = next(iter(member.cases(member.DTYPES[0])))
    return {name: array.shape for name, array in case.inputs.items()}


@pytest.mark.parametrize("what", REFUSED)
def test_shapes_that_do_not_fit_are_refused(what: str) -> None:
    """The input, its sizes, and what is taken."""
    kernel, wrong, message = REFUSED[what]
    member = KERNELS[kernel]
    with pytest.raises(UsageError, match=f"^{kernel}.*{message}"):
        member.launch({**_shapes(member), **wrong}, member.DTYPES[0], member.VARIANTS[0])


@pytest.mark.parametrize(
    ("kernel", "baked", "message"),
    [
        ("matmul_dequant_int4", {"group": 48}, "takes groups of 128, 64, 32, not 48"),
        ("matmul_dequant_int4", {"group": 0}, "takes groups of 128, 64, 32, not 0"),
        ("bias_gelu", {"approximate": "erf"}, "'none' or 'tanh', not 'erf'"),
    ],
)
def test_constants_that_are_not_there_are_refused(kernel: str, baked: Any, message: str) -> None:
    """They would compile, and compute something else."""
    member = KERNELS[kernel]
    with pytest.raises(UsageError, match=message):
        member.launch(_shapes(member), member.DTYPES[0], baked)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_sizes_before_the_last_may_be_open_or_not(kernel: str) -> None:
    """A first axis that is known before one that is not: TensorRT's symbols stand left of an operator
    only. Of weights all sizes are known."""
    member = KERNELS[kernel]
    known = _shapes(member)
    for name in known:
        open_axes = (
            range(1, len(known[name]) - 1) if len(known[name]) > 2 else range(len(known[name]) - 1)
        )
        given = {
            other: tuple(
                Symbol(f"{other}{i}") if other == name and i in open_axes else size
                for i, size in enumerate(sizes)
            )
            for other, sizes in known.items()
        }
        try:
            found = member.launch(given, member.DTYPES[0], member.VARIANTS[0])
        except UsageError:
            continue  # this input's sizes have to be known
        assert found.grid


def test_a_number_of_values_that_is_open_is_not_counted() -> None:
    """A symbol of an engine's shape has no truth; as many as can be counted are taken."""
    require_countable("any", object(), 4)
    require_countable("any", 4 * 2**32, 4)
