"""nms: per image and class, the best box that is left, again and again, without what overlaps it

boxes: [B, N, 4]; scores: [B, C, N]; iou_threshold, score_threshold: [1], float32
indices: [B, C, K] int32, best first, -1 where there are no more; count: [B, C] int32

Greedy non-maximum suppression as ONNX's NonMaxSuppression defines it, with a fixed number of rows. A
box is (x1, y1, x2, y2), or (y1, x1, y2, x2), in any two opposite corners; with center_point_box it is
(x, y, width, height). Scores above the score threshold are candidates, hence never a NaN. Of equal
scores the lower index is first. A box goes where its overlap with a chosen one is above the IoU
threshold, in float32; a box with no area, or with a NaN, overlaps nothing.

A block takes one class of one image: no sorting, no workspace. Every thread keeps one bit for each of
its boxes, 32 at most; a pass over the bits that are left drops what the box chosen last overlaps and
finds the best of the rest, over the warp by shuffles and over the block through shared memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numba import cuda

from accel.cuda.geometry import WARP, product, require, require_single, sizes
from accel.errors import UsageError
from accel.kernels import _bodies
from accel.kernels._device import (
    BYTES,
    aligned,
    device,
    f32,
    get,
    i32,
    i64,
    multiply,
    read,
    stored,
    u32,
    warp_best,
)
from accel.protocols import Case, Launch, Shapes, Signature
from accel.values import Feed, Options

OP = "GreedyNms"  # TensorRT has a NonMaxSuppression of its own, and would take that
DTYPES = ("float32", "float16", "bfloat16")
VARIANTS: tuple[Options, ...] = ({"max_output_boxes_per_class": 100, "center_point_box": 0},)
TOLERANCE = {"int32": 0.0}
MOST = 32 * 1024  # boxes: a bit each, of 32 a thread, in a block of 1,024
USUAL = 8  # boxes a thread, where that takes no more than a block
NOTHING = 2**31 - 1  # stands for no box


def signature(dtype: str, baked: Options) -> Signature:
    """boxes, scores, thresholds | boxes an image, classes, K, are they centres | indices, count."""
    return Signature(
        (
            ("boxes", dtype),
            ("scores", dtype),
            ("iou_threshold", "float32"),
            ("score_threshold", "float32"),
        ),
        ("boxes_per_image", "classes", "kept", "centred"),
        (("indices", "int32"), ("count", "int32")),
    )


def output_shapes(shapes: Shapes, baked: Options) -> Shapes:
    """K places for each class of each image."""
    rows = shapes["scores"][:-1]
    return {"indices": (*rows, baked["max_output_boxes_per_class"]), "count": rows}


def launch(shapes: Shapes, dtype: str, baked: Options) -> Launch:
    """A block for each class of each image.

    Raises UsageError for more than 32,768 boxes, for none to keep, for boxes that do not fit the
    scores, and for thresholds that are not one value."""
    *rows, boxes = sizes("nms", shapes, "scores", 3)
    kept = baked["max_output_boxes_per_class"]
    require("nms", shapes, boxes=(rows[0], boxes, 4))
    if boxes > MOST:
        raise UsageError(f"nms takes up to {MOST} boxes an image, not {boxes}.")
    if kept < 1:
        raise UsageError(f"nms keeps 1 box a class or more, not {kept}.")
    require_single("nms", shapes, "iou_threshold", "score_threshold")
    threads = WARP
    while threads * USUAL < boxes and threads < MOST // 32:
        threads *= 2
    scalars = (boxes, rows[-1], kept, baked["center_point_box"])
    return Launch((product(rows), 1, 1), (threads, 1, 1), scalars)


def reference(inputs: Feed, baked: Options) -> dict[str, Any]:
    """float32, where the others are float64: which side of a threshold a box is on is the result."""
    boxes, scores = (inputs[n].astype(np.float32) for n in ("boxes", "scores"))
    least, most = (inputs[n].reshape(-1)[0] for n in ("score_threshold", "iou_threshold"))
    kept = baked["max_output_boxes_per_class"]
    low, high = _sides(boxes, baked["center_point_box"])  # [B, N, 2] each
    indices = np.full((*scores.shape[:-1], kept), -1, np.int32)
    count = np.zeros(scores.shape[:-1], np.int32)
    for image, label in np.ndindex(*count.shape):
        order = np.argsort(-scores[image, label], kind="stable")
        left = order[scores[image, label][order] > least]
        while left.size and count[image, label] < kept:
            chosen, left = left[0], left[1:]
            indices[image, label, count[image, label]] = chosen
            count[image, label] += 1
            left = left[~(_iou(low[image], high[image], chosen, left) > most)]
    return {"indices": indices, "count": count}


def _sides(boxes: Any, centred: int) -> tuple[Any, Any]:
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        return first - second * np.float32(0.5), first + second * np.float32(0.5)
    return np.minimum(first, second), np.maximum(first, second)


def _iou(low: Any, high: Any, one: Any, others: Any) -> Any:
    """Intersection over union of a box with others; NaN where both have no area."""
    with np.errstate(all="ignore"):
        shared = np.minimum(high[one], high[others]) - np.maximum(low[one], low[others])
        common = np.maximum(shared, 0).prod(-1)
        area, areas = (high[one] - low[one]).prod(-1), (high[others] - low[others]).prod(-1)
        return common / (area + areas - common)


@device
def _corners(boxes: Any, at: Any, wide: Any, centred: Any) -> Any:
    """(low, low, high, high) of the box that starts at element `at`."""
    if wide:
        a, b, c, d = read(boxes, at)[:4]
    else:
        a, b = get(boxes, at), get(boxes, at + i64(1))
        c, d = get(boxes, at + i64(2)), get(boxes, at + i64(3))
    if centred:
        c *= f32(0.5)
        d *= f32(0.5)
        return a - c, b - d, a + c, b + d
    return min(a, c), min(b, d), max(a, c), max(b, d)


def source(dtype: str, baked: Options) -> Any:
    """One row of scores a block. The shared halves take turns: one barrier a chosen box is enough."""
    four = dtype == "float32"  # a box is 128 bits

    def nms(boxes, scores, iou_threshold, score_threshold, boxes_per_image, classes, kept, centred, indices, count):  # type: ignore[no-untyped-def]  # fmt: skip
        thread, threads = i32(cuda.threadIdx.x), i32(cuda.blockDim.x)
        lane, warp, warps = thread % i32(WARP), thread // i32(WARP), threads // i32(WARP)
        row = i32(cuda.blockIdx.x)
        first = i64(row) * i64(boxes_per_image)  # of this class's scores
        corner = i64(row // classes) * i64(boxes_per_image) * i64(4)  # of this image's boxes
        out = i64(row) * i64(kept)
        wide = four and aligned(boxes)
        iou, least = get(iou_threshold, 0), get(score_threshold, 0)
        best_scores = cuda.shared.array(64, f32)
        best_places = cuda.shared.array(64, i32)

        left = u32(0)  # bit k: box k * threads + thread
        i = thread
        bit = u32(1)
        while i < boxes_per_image:
            if get(scores, first + i) > least:
                left |= bit
            bit = u32(bit << u32(1))
            i = i32(i + threads)

        x1 = y1 = x2 = y2 = area = f32(0)  # the box chosen last: at first one that overlaps nothing
        found = i32(0)
        while found < kept:
            best, place = f32(-math.inf), i32(NOTHING)
            rest = left
            while rest:
                k = i32(cuda.ffs(rest) - 1)
                bit = u32(u32(1) << u32(k))
                rest = u32(rest ^ bit)
                i = i32(k * threads + thread)
                a, b, c, d = _corners(boxes, corner + i64(i) * i64(4), wide, centred)
                common = multiply(
                    max(min(x2, c) - max(x1, a), f32(0)), max(min(y2, d) - max(y1, b), f32(0))
                )
                if common / (area + multiply(c - a, d - b) - common) > iou:
                    left = u32(left ^ bit)
                else:
                    score = get(scores, first + i)
                    if score > best:
                        best, place = score, i
            best, place = warp_best(best, place)
            half = i32((found % i32(2)) * i32(WARP))
            if lane == 0:
                best_scores[half + warp] = best
                best_places[half + warp] = place
            cuda.syncthreads()
            best, place = f32(-math.inf), i32(NOTHING)
            if lane < warps:
                best, place = best_scores[half + lane], best_places[half + lane]
            best, place = warp_best(best, place)
            if place == i32(NOTHING):
                break
            if place % threads == thread:
                left = u32(left ^ u32(u32(1) << u32(place // threads)))
                indices[out + found] = place
            x1, y1, x2, y2 = _corners(boxes, corner + i64(place) * i64(4), wide, centred)
            area = multiply(x2 - x1, y2 - y1)
            found = i32(found + 1)

        if thread == 0:
            count[row] = found
        i = i32(found + thread)
        while i < kept:
            indices[out + i] = i32(-1)
            i = i32(i + threads)

    return nms


def function(opset: int) -> Any:
    """NonMaxSuppression, whose rows are scattered to places of a fixed number.

    Its rows must come by image, class and selection, and equal scores lower index first: so does
    ONNX Runtime 1.32 (older ones leave the order of equals to a heap)."""
    from onnx import parser

    return parser.parse_function(_bodies.NMS.format(opset=opset, op=OP))


def rules() -> tuple[Any, ...]:
    """Every NonMaxSuppression is a site."""
    from accel.kernels import _swap_nms

    return _swap_nms.RULES


def cases(dtype: str) -> Iterable[Case]:
    """Ties, NaN, no area, overlap exactly at the threshold, reversed corners, centres, no result."""
    yield Case("one class", _draw(dtype, 1, 1, 60), _keep(10))
    yield Case("images and classes, corners in any order", _draw(dtype, 2, 2, 24), _keep(4))
    yield Case("four warps", _draw(dtype, 1, 1, 600), _keep(5))
    yield Case("centres and sizes", _draw(dtype, 1, 2, 40), _keep(5, centred=1))
    yield Case("one box, room for three", _draw(dtype, 1, 1, 1), _keep(3))
    yield Case("not aligned", _draw(dtype, 1, 1, 40), _keep(5), offset=1)
    yield Case("nothing above the threshold", _draw(dtype, 1, 2, 33, least=2.0), _keep(4))
    ties = _draw(dtype, 1, 1, 300, side=200)
    ties["scores"] = stored(np.round(ties["scores"].astype(np.float32) * 2) / 2, dtype)
    yield Case("equal scores: the lower index", ties, _keep(7))
    odd = _draw(dtype, 1, 1, 40)
    odd["scores"][0, 0, :6] = np.nan, np.inf, -np.inf, np.nan, 0.25, 1e-6
    odd["boxes"][0, 20:24, 2] = np.nan
    odd["boxes"][0, 24:28, 2] = np.inf
    yield Case("NaN and infinity in scores and boxes", odd, _keep(9))
    flat = _draw(dtype, 1, 1, 24)
    flat["boxes"][0, ::3, 2] = flat["boxes"][0, ::3, 0]
    flat["boxes"][0, 1::3] = flat["boxes"][0, 1]
    yield Case("no area, and the same box many times", flat, _keep(20))
    yield Case("overlap at the threshold stays", _at_the_threshold(dtype), _keep(4))


def _keep(most: int, centred: int = 0) -> Options:
    return {"max_output_boxes_per_class": most, "center_point_box": centred}


def _draw(dtype: str, images: int, classes: int, boxes: int, side: int = 40, least: float = 0.3) -> dict[str, Any]:  # fmt: skip
    """Boxes with corners in [0, side + 20)^2, in any order: many overlap; a third is not wanted."""
    draw = np.random.default_rng(images * classes * boxes)
    first = draw.integers(0, side, (images, boxes, 2))
    second = first + draw.integers(1, 20, first.shape)
    swapped = draw.random(first.shape) < 0.2
    corners = np.where(swapped, second, first), np.where(swapped, first, second)
    return {
        "boxes": stored(np.concatenate(corners, -1), dtype),
        "scores": stored(draw.random((images, classes, boxes)), dtype),
        "iou_threshold": np.array([0.45], np.float32),
        "score_threshold": np.array([least], np.float32),
    }


def _at_the_threshold(dtype: str) -> dict[str, Any]:
    """7 of 10 is 0.7 in float32, and not above it; 8 of 10 is; a score at its threshold is out."""
    boxes = [[0, 0, 10, 1], [0, 0, 7, 1], [0, 0, 8, 1], [50, 0, 60, 1], [50, 0, 57, 1]]
    return {
        "boxes": stored([boxes], dtype),
        "scores": stored([[[0.875, 0.75, 0.625, 0.5, 0.25]]], dtype),
        "iou_threshold": np.array([0.7], np.float32),
        "score_threshold": np.array([0.25], np.float32),
    }


def moved_bytes(shapes: Shapes, dtype: str, baked: Options) -> int:
    """Boxes and scores once, and what was chosen; not the passes over what a cache holds."""
    read_once = (math.prod(shapes["boxes"]) + math.prod(shapes["scores"])) * BYTES[dtype]
    rows = math.prod(shapes["scores"][:-1])
    return int(read_once + 4 * rows * (baked["max_output_boxes_per_class"] + 1))
