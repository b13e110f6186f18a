"""preprocess_image: y = (resize(image) - mean) * inv_std, from bytes as a camera gives them to planes

image: [B, H, W, 3] uint8; mean, inv_std: [3] float32, in the image's units of 0 to 255
y: [B, 3, height, width]

The resize is bilinear with half-pixel centres and no antialiasing: ONNX's Resize "linear", PyTorch's
interpolate with align_corners=False. With letterbox the image is scaled to fit, centred, and the rest
is grey, as YOLO models expect it; sizes round half up, an odd rest goes below and to the right.
What is between two pixels is not rounded back to a byte, as OpenCV does. (v / 255 - m) / s is meant
by mean = 255 m and inv_std = 1 / (255 s).

A thread makes two pixels of a column, all three channels of each; the lanes of a warp are neighbours
in a row, so each plane is written in whole lines. Coordinates are ratios of integers: exact, where
float32 is off by 2e-4 of a pixel at a width of 4,000.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import cuda

from accel.cuda.geometry import cdiv, require, sizes
from accel.errors import UsageError
from accel.kernels import _bodies
from accel.kernels._device import BYTES, device, f32, get, i32, i64, put, u32
from accel.protocols import Case, Launch, Shapes, Signature
from accel.values import Feed, Options

OP = "PreprocessImage"
DTYPES = ("float32", "float16", "bfloat16")
FLOAT32, FLOAT16, BFLOAT16 = 1, 10, 16  # onnx.TensorProto's: `to`, which the ONNX body alone reads
VARIANTS: tuple[Options, ...] = ({"height": 224, "width": 224, "letterbox": 0, "to": FLOAT32},)
TOLERANCE = {"float32": 4e-5, "float16": 1e-3, "bfloat16": 8e-3}
GREY = 114.0  # of a letterbox: YOLOv5's and its successors' (ultralytics, LetterBox)
LARGEST_OUTPUT = 16_384  # a side: with these two, 2 * size * size stays within int32
LARGEST_INPUT = 32_767
COLUMNS, ROWS, EACH = 32, 4, 2  # threads of a block, and rows that a thread makes


def signature(dtype: str, baked: Options) -> Signature:
    """image, mean, inv_std | sizes of the image, sizes of the result, letterbox or not | y."""
    return Signature(
        (("image", "uint8"), ("mean", "float32"), ("inv_std", "float32")),
        ("image_height", "image_width", "height", "width", "letterbox"),
        (("y", dtype),),
    )


def output_shapes(shapes: Shapes, baked: Options) -> Shapes:
    """Three planes an image."""
    return {"y": (shapes["image"][0], 3, baked["height"], baked["width"])}


def launch(shapes: Shapes, dtype: str, baked: Options) -> Launch:
    """Blocks along a row, along a column, and an image each. The sizes are scalars: one machine code.

    Raises UsageError for other than three channels, and for sides beyond what int32 can scale."""
    images, image_height, image_width, channels = sizes("preprocess_image", shapes, "image", 4)
    height, width = baked["height"], baked["width"]
    if channels != 3:
        raise UsageError(f"preprocess_image takes 3 channels, last, not {channels}.")
    require("preprocess_image", shapes, mean=(3,), inv_std=(3,))
    for side, most in (
        (height, LARGEST_OUTPUT),
        (width, LARGEST_OUTPUT),
        (image_height, LARGEST_INPUT),
        (image_width, LARGEST_INPUT),
    ):
        if isinstance(side, int) and not 1 <= side <= most:
            raise UsageError(f"preprocess_image takes sides of 1 to {most} here, not {side}.")
    scalars = (image_height, image_width, height, width, baked["letterbox"])
    grid = (cdiv(width, COLUMNS), cdiv(height, ROWS * EACH), images)
    return Launch(grid, (COLUMNS, ROWS, 1), scalars)


def reference(inputs: Feed, baked: Options) -> dict[str, Any]:
    """float64; rows, then columns, and grey around."""
    image = inputs["image"].astype(np.float64)  # [B, H, W, 3]
    height, width = baked["height"], baked["width"]
    tall, wide = height, width
    if baked["letterbox"]:
        tall, wide = fitted(image.shape[1], image.shape[2], height, width)
    full = np.full((len(image), height, width, 3), GREY)
    top, left = (height - tall) // 2, (width - wide) // 2
    full[:, top : top + tall, left : left + wide] = _resized(_resized(image, tall, 1), wide, 2)
    mean, inv_std = (inputs[n].astype(np.float64) for n in ("mean", "inv_std"))
    return {"y": ((full - mean) * inv_std).transpose(0, 3, 1, 2)}


def fitted(image_height: int, image_width: int, height: int, width: int) -> tuple[int, int]:
    """The largest size of the image's proportions within a box; each side at least 1."""
    tall = (2 * image_height * width + image_width) // (2 * image_width)
    wide = (2 * image_width * height + image_height) // (2 * image_height)
    return min(height, max(1, tall)), min(width, max(1, wide))


def _resized(image: Any, size: int, axis: int) -> Any:
    """Linear along one axis."""
    have = image.shape[axis]
    at = np.maximum((2 * np.arange(size) + 1) * have - size, 0) / (2 * size)
    low = at.astype(np.int64)
    part = np.expand_dims(at - low, [i for i in range(image.ndim) if i != axis])
    first, second = image.take(low, axis), image.take(np.minimum(low + 1, have - 1), axis)
    return first * (1 - part) + second * part


@device
def _fit(one: Any, other: Any, limit: Any, limit_other: Any) -> Any:
    """The side `one` scaled as `other` is to its limit, half up; 1 at least, its own limit at most."""
    scaled = u32(u32(2) * u32(one) * u32(limit_other) + u32(other)) // u32(u32(2) * u32(other))
    return max(i32(1), min(i32(scaled), i32(limit)))


@device
def _source(at: Any, size: Any, have: Any) -> Any:
    """(pixel, next pixel, share of the next) among `have`, of position `at` of `size`; one outside
    of them counts as the nearest."""
    at = max(i32(0), min(i32(at), i32(size - 1)))
    over = i32(i32(2) * i32(size))
    place = max(i32(0), i32((i32(2) * at + i32(1)) * have - size))
    low = i32(u32(place) // u32(over))
    part = f32(i32(place - low * over)) / f32(over)
    return low, min(i32(low + 1), i32(have - 1)), part


def source(dtype: str, baked: Options) -> Any:
    """Grid (columns, rows, images); there is no barrier, so threads outside leave at once."""
    results = 3 * EACH

    def preprocess_image(image, mean, inv_std, image_height, image_width, height, width, letterbox, y):  # type: ignore[no-untyped-def]  # fmt: skip
        column = i32(cuda.blockIdx.x) * i32(COLUMNS) + i32(cuda.threadIdx.x)
        row = i32(cuda.blockIdx.y) * i32(ROWS * EACH) + i32(cuda.threadIdx.y)
        number = i64(cuda.blockIdx.z)
        if column >= width:
            return
        tall, wide = height, width
        if letterbox:
            tall = _fit(image_height, image_width, height, width)
            wide = _fit(image_width, image_height, width, height)
        left, top = (width - wide) // i32(2), (height - tall) // i32(2)
        x = i32(column - left)
        inside = x >= i32(0) and x < wide
        x0, x1, right = _source(x, wide, image_width)
        line = i64(image_width) * i64(3)
        first = number * i64(image_height) * line
        held = cuda.local.array(results, f32)
        for k in range(EACH):  # no branch and no store in here: all reads are on their way at once
            v = i32(row + k * ROWS - top)
            seen = inside and v >= i32(0) and v < tall
            y0, y1, down = _source(v, tall, image_height)
            upper, lower = first + i64(y0) * line, first + i64(y1) * line
            for c in range(3):
                a, b = f32(image[upper + x0 * 3 + c]), f32(image[upper + x1 * 3 + c])
                above = a + (b - a) * right
                a, b = f32(image[lower + x0 * 3 + c]), f32(image[lower + x1 * 3 + c])
                value = above + ((a + (b - a) * right) - above) * down
                held[k * 3 + c] = value if seen else f32(GREY)
        plane = i64(height) * i64(width)
        for c in range(3):
            middle, scale = get(mean, c), get(inv_std, c)
            for k in range(EACH):
                if row + k * ROWS < height:
                    at = (number * i64(3) + i64(c)) * plane + i64(row + k * ROWS) * i64(width)
                    put(y, at + i64(column), (held[k * 3 + c] - middle) * scale)

    return preprocess_image


def function(opset: int) -> Any:
    """Resize, Pad by nothing unless letterboxed, Sub, Mul; `to` is the result's ONNX type."""
    from onnx import parser

    return parser.parse_function(_bodies.PREPROCESS_IMAGE.format(opset=opset, op=OP, grey=GREY))


def rules() -> tuple[Any, ...]:
    """Every Resize of a uint8 image is a site; no exporter writes a letterbox."""
    from accel.kernels import _swap_preprocess_image

    return _swap_preprocess_image.RULES


def cases(dtype: str) -> Iterable[Case]:
    """Down, up, same size, both letterboxes, one pixel, one row, black and white, no alignment."""
    yield Case("smaller, and two of them", _draw(2, 37, 53), _to(12, 20))
    yield Case("larger", _draw(1, 9, 7), _to(20, 33))
    yield Case("the same size", _draw(1, 17, 13), _to(17, 13))
    yield Case("letterbox of a wide image", _draw(1, 20, 48), _to(32, 32, letterbox=1))
    yield Case("letterbox of a tall image, odd rest", _draw(2, 40, 16), _to(24, 23, letterbox=1))
    yield Case("letterbox that fits", _draw(1, 12, 12), _to(24, 24, letterbox=1))
    yield Case("letterbox to a line", _draw(1, 2, 300), _to(16, 16, letterbox=1))
    yield Case("one pixel", _draw(1, 1, 1), _to(5, 3))
    yield Case("one row", _draw(1, 1, 40), _to(1, 11))
    yield Case("not aligned", _draw(1, 15, 15), _to(10, 9), offset=1)
    edges = _draw(1, 24, 24)
    edges["image"][:] = np.where(np.indices((24, 24)).sum(0)[..., None] % 2, 255, 0)
    yield Case("black beside white", edges, _to(19, 31))


def _to(height: int, width: int, letterbox: int = 0) -> Options:
    return {"height": height, "width": width, "letterbox": letterbox, "to": FLOAT32}


def _draw(images: int, height: int, width: int) -> dict[str, Any]:
    """Noise, and ImageNet's mean and deviation."""
    draw = np.random.default_rng(images * height * width)
    return {
        "image": draw.integers(0, 256, (images, height, width, 3), np.uint8),
        "mean": np.array([123.675, 116.28, 103.53], np.float32),
        "inv_std": (1 / np.array([58.395, 57.12, 57.375])).astype(np.float32),
    }


def moved_bytes(shapes: Shapes, dtype: str, baked: Options) -> int:
    """Every result once; of the image each byte once, or where it shrinks what is sampled at least."""
    images, image_height, image_width, _ = shapes["image"]
    height, width = baked["height"], baked["width"]
    if baked["letterbox"]:
        tall, wide = fitted(image_height, image_width, height, width)
    else:
        tall, wide = height, width
    sampled = 3 * images * min(image_height, 2 * tall) * min(image_width, 2 * wide)
    return int(sampled + math.prod((images, 3, height, width)) * BYTES[dtype])
