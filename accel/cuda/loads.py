"""What each kernel is timed on: large inputs, which move 512 MB or more, and those of real models.

One function a kernel, of its name; each takes the dtype and gives its loads. Values are random:
zeros can run faster than data, and hide what was not written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from accel import catalog
from accel.errors import UsageError
from accel.values import Options

LARGE_BYTES = 512 * 10**6
SIZE = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1}

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Load:
    """Sizes to time one dtype of a kernel at."""

    name: str
    large: bool  # else a model's: reported apart, since caches and launches weigh there
    make: Callable[[str], Inputs]  # device -> tensors by name
    baked: Options | None = None


def of(kernel: str, dtype: str) -> tuple[Load, ...]:
    """The kernel's loads, large ones first.

    Raises UsageError for a kernel that has none here yet."""
    catalog.require("kernels", kernel)
    made = globals().get(kernel)
    if made is None:
        raise UsageError(
            f"Kernel {kernel!r} has no sizes to be timed at: add a function {kernel} to "
            f"accel/cuda/loads.py."
        )
    found: tuple[Load, ...] = made(dtype)
    return found


def residual_layernorm(dtype: str) -> tuple[Load, ...]:
    """x, residual -> y, s: four tensors; MiniLM at 8 and 1 sentences of 128 tokens."""

    def load(name: str, shape: tuple[int, ...], large: bool) -> Load:
        def make(device: str) -> Inputs:
            x, residual, gamma, beta = _normal(device, dtype, shape, shape, shape[-1:], shape[-1:])
            return {"x": x, "residual": residual, "gamma": gamma, "beta": beta}

        return Load(name, large, make)

    rows = _rows(4 * SIZE[dtype] * 1024)
    return (
        load(f"[{rows}, 1024]", (rows, 1024), True),
        load("MiniLM [8, 128, 384]", (8, 128, 384), False),
        load("MiniLM [1, 128, 384]", (1, 128, 384), False),
    )


def bias_gelu(dtype: str) -> tuple[Load, ...]:
    """x -> y; MiniLM's feed-forward block."""

    def load(name: str, shape: tuple[int, ...], large: bool) -> Load:
        def make(device: str) -> Inputs:
            x, bias = _normal(device, dtype, shape, shape[-1:])
            return {"x": x, "bias": bias}

        return Load(name, large, make)

    rows = _rows(2 * SIZE[dtype] * 4096)
    return (
        load(f"[{rows}, 4096]", (rows, 4096), True),
        load("MiniLM [8, 128, 1536]", (8, 128, 1536), False),
        load("MiniLM [1, 128, 1536]", (1, 128, 1536), False),
    )


def masked_mean_pool_l2(dtype: str) -> tuple[Load, ...]:
    """x is read; a third of each sentence is padding."""

    def load(name: str, batch: int, large: bool) -> Load:
        def make(device: str) -> Inputs:
            import torch

            (x,) = _normal(device, dtype, (batch, 128, 384))
            mask = (torch.arange(128, device=device) < 86).long().repeat(batch, 1)
            return {"x": x, "mask": mask}

        return Load(name, large, make)

    batch = _rows(SIZE[dtype] * 128 * 384)
    return (
        load(f"[{batch}, 128, 384]", batch, True),
        load("MiniLM [8, 128, 384]", 8, False),
        load("MiniLM [1, 128, 384]", 1, False),
    )


def dequant_bias_act_quant(dtype: str) -> tuple[Load, ...]:
    """int32 in, a byte out; MiniLM's feed-forward block."""

    def load(name: str, shape: tuple[int, ...], large: bool) -> Load:
        def make(device: str) -> Inputs:
            import torch

            draw = _draw(device)
            acc = torch.randint(
                -(2**15), 2**15, shape, dtype=torch.int32, device=device, generator=draw
            )
            scale, bias = _normal(device, "float32", shape[-1:], shape[-1:])
            return {
                "acc": acc,
                "scale": scale.abs() / 2**14,
                "bias": bias,
                "out_scale": torch.full((1,), 0.03, device=device),
                "out_zero_point": torch.full((1,), 3, dtype=getattr(torch, dtype), device=device),
            }

        return Load(name, large, make, {"relu": 1, "gelu": 0})

    rows = _rows(5 * 4096)
    return (
        load(f"[{rows}, 4096]", (rows, 4096), True),
        load("MiniLM [8, 128, 1536]", (8, 128, 1536), False),
    )


def preprocess_image(dtype: str) -> tuple[Load, ...]:
    """Images of near the result's size, so that each pixel is needed; one camera frame for YOLO."""

    def load(name: str, shape: tuple[int, ...], to: tuple[int, int, int], large: bool) -> Load:
        def make(device: str) -> Inputs:
            import torch

            image = torch.randint(
                0, 256, (*shape, 3), dtype=torch.uint8, device=device, generator=_draw(device)
            )
            mean = torch.tensor([123.675, 116.28, 103.53], device=device)
            return {
                "image": image,
                "mean": mean,
                "inv_std": 1 / torch.tensor([58.395, 57.12, 57.375], device=device),
            }

        baked = dict(zip(("height", "width", "letterbox"), to, strict=True))
        return Load(name, large, make, baked)

    images = _rows(3 * 256 * 256 + 3 * 224 * 224 * SIZE[dtype], 64)
    return (
        load(f"[{images}, 256, 256, 3] to 224 x 224", (images, 256, 256), (224, 224, 0), True),
        load("[1, 1080, 1920, 3] into 640 x 640", (1, 1080, 1920), (640, 640, 1), False),
    )


def nms(dtype: str) -> tuple[Load, ...]:
    """YOLO's 8,400 boxes, one class and 80; no load is large: it computes, and moves little."""

    def load(name: str, images: int, classes: int) -> Load:
        def make(device: str) -> Inputs:
            import torch

            draw = _draw(device)
            kind = getattr(torch, dtype)
            place = torch.rand(images, 8400, 2, device=device, generator=draw) * 600
            sides = torch.rand(images, 8400, 2, device=device, generator=draw) * 80 + 4
            scores = torch.rand(images, classes, 8400, device=device, generator=draw)
            return {
                "boxes": torch.cat([place, place + sides], -1).to(kind),
                "scores": scores.to(kind),
                "iou_threshold": torch.full((1,), 0.45, device=device),
                "score_threshold": torch.full((1,), 0.25, device=device),
            }

        return Load(name, False, make)

    return (load("YOLO [1, 1, 8400]", 1, 1), load("YOLO [8, 80, 8400]", 8, 80))


def matmul_dequant_int4(dtype: str) -> tuple[Load, ...]:
    """A decoding step at 1 and 4 rows: 2^30 weights, and a layer of Llama 3 8B (4,096 to 14,336)."""
    group = 128

    def load(name: str, rows: int, columns: int, depth: int, large: bool) -> Load:
        def make(device: str) -> Inputs:
            import torch

            draw = _draw(device)

            def bytes_(*shape: int) -> Any:
                return torch.randint(
                    0, 256, shape, dtype=torch.uint8, device=device, generator=draw
                )

            groups = depth // group
            (x, scales) = _normal(device, dtype, (rows, depth), (columns, groups))
            return {
                "x": x,
                "packed": bytes_(columns, depth // 2),
                "scales": (scales.abs() / depth).to(x.dtype),
                "zero_points": bytes_(columns, -(-groups // 2)),
            }

        return Load(name, large, make, {"group": group})

    return (
        load("1 x 16384 x 65536", 1, 65536, 16384, True),
        load("4 x 16384 x 65536", 4, 65536, 16384, True),
        load("Llama 3 8B 1 x 4096 x 14336", 1, 14336, 4096, False),
    )


def _rows(row_bytes: int, step: int = 1024) -> int:
    """Rows that move `LARGE_BYTES` at least, in whole steps."""
    return math.ceil(LARGE_BYTES / row_bytes / step) * step


def _draw(device: str) -> Any:
    import torch

    return torch.Generator(device).manual_seed(0)


def _normal(device: str, dtype: str, *shapes: tuple[int, ...]) -> list[Any]:
    import torch

    draw = _draw(device)
    kind = getattr(torch, dtype)
    return [torch.randn(s, dtype=kind, device=device, generator=draw) for s in shapes]
