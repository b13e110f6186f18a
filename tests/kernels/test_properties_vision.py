"""Properties of nms and preprocess_image on shapes that nobody chose: nms as it is compiled, in the emulator,
preprocess_image's source in the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel import catalog, testing
from accel.cuda.simulator import Simulator
from accel.errors import UsageError
from accel.kernels._device import stored
from accel.protocols import Case
from accel.values import Options

NMS, PREPROCESS = (catalog.load("kernels", name) for name in ("nms", "preprocess_image"))
FEW = settings(max_examples=12, derandomize=True, deadline=None)
DTYPES = st.sampled_from(["float32", "float16", "bfloat16"])


@pytest.fixture(scope="module")
def run() -> Iterator[Simulator]:
    """One process that simulates."""
    with Simulator() as simulator:
        yield simulator


@st.composite
def detections(draw: st.DrawFn) -> tuple[str, Case]:
    """Few places for boxes and few scores: overlaps and ties are the rule."""
    images, classes, boxes = (draw(st.integers(1, most)) for most in (2, 2, 80))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    dtype = draw(DTYPES)
    inputs = {
        "boxes": stored(random.integers(0, 30, (images, boxes, 4)), dtype),
        "scores": stored(random.integers(0, 16, (images, classes, boxes)) / 16, dtype),
        "iou_threshold": np.array([draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))], np.float32),
        "score_threshold": np.array([draw(st.sampled_from([0.0, 0.25, 0.9]))], np.float32),
    }
    baked = {
        "max_output_boxes_per_class": draw(st.sampled_from([1, 3, 6])),  # each is compiled
        "center_point_box": draw(st.integers(0, 1)),
    }
    return dtype, Case("drawn", inputs, baked, draw(st.integers(0, 1)))


@given(detections())
@settings(FEW, max_examples=40)
def test_what_nms_keeps(drawn: tuple[str, Case]) -> None:
    """The reference's boxes; each once, best first, above the score threshold, and no two of them
    overlap by more than the IoU threshold."""
    dtype, case = drawn
    found, baked = testing.emulate("nms", dtype, case).outputs, case.baked or {}
    want = NMS.reference(case.inputs, baked)
    assert np.array_equal(found["indices"], want["indices"])
    assert np.array_equal(found["count"], want["count"])
    scores = case.inputs["scores"].astype(np.float32)
    for image, label in np.ndindex(*found["count"].shape):
        kept = found["indices"][image, label][: found["count"][image, label]]
        assert (found["indices"][image, label][len(kept) :] == -1).all()
        assert len(set(kept)) == len(kept)
        ranked = [(-scores[image, label, i], i) for i in kept]
        assert ranked == sorted(ranked)
        assert (scores[image, label, kept] > case.inputs["score_threshold"]).all()
        boxes = case.inputs["boxes"][image, kept].astype(np.float64)
        overlap = _overlap(boxes, baked["center_point_box"])
        assert (overlap <= case.inputs["iou_threshold"] + 1e-6).all()


def _overlap(boxes: Any, centred: int) -> Any:
    """Intersection over union of every pair, its own left out. # boxes: [K, 4] -> [K, K]"""
    a, b = boxes[:, :2], boxes[:, 2:]
    low, high = (a - b / 2, a + b / 2) if centred else (np.minimum(a, b), np.maximum(a, b))
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = np.clip(sides, 0, None).prod(-1)
    areas = (high - low).prod(-1)
    union = areas[:, None] + areas - shared
    found = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found * (1 - np.eye(len(boxes)))


@st.composite
def images(draw: st.DrawFn) -> tuple[str, Case]:
    """Any size to any size, stretched or letterboxed."""
    number, height, width = (draw(st.integers(1, most)) for most in (2, 40, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    inputs = {
        "image": random.integers(0, 256, (number, height, width, 3), np.uint8),
        "mean": random.uniform(0, 255, 3).astype(np.float32),
        "inv_std": random.uniform(0.003, 0.03, 3).astype(np.float32),
    }
    baked = _to(draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.integers(0, 1)))
    return draw(DTYPES), Case("drawn", inputs, baked, draw(st.integers(0, 1)))


def _to(height: int, width: int, letterbox: int = 0) -> Options:
    return {"height": height, "width": width, "letterbox": letterbox, "to": PREPROCESS.FLOAT32}


@given(images())
@FEW
def test_any_size_to_any_size(run: Simulator, drawn: tuple[str, Case]) -> None:
    """The reference's pixels, within the tolerance of the dtype."""
    dtype, case = drawn
    found = run("preprocess_image", dtype, case).outputs["y"].astype(np.float64)
    want = PREPROCESS.reference(case.inputs, case.baked)["y"]
    worst = (np.abs(found - want) / (1 + np.abs(want))).max()
    assert worst <= PREPROCESS.TOLERANCE[dtype]


@given(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40), st.integers(0, 1))
@FEW
def test_the_same_size_is_the_identity(run: Simulator, number: int, height: int, width: int, letterbox: int) -> None:  # fmt: skip
    """Bit for bit: no pixel is mixed with another, stretched or letterboxed."""
    image = np.random.default_rng(height).integers(0, 256, (number, height, width, 3), np.uint8)
    plain = {"mean": np.zeros(3, np.float32), "inv_std": np.ones(3, np.float32)}
    case = Case("same size", {"image": image, **plain}, _to(height, width, letterbox))
    found = run("preprocess_image", "float32", case).outputs["y"]
    assert np.array_equal(found, image.transpose(0, 3, 1, 2))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.integers(0, 255))
@FEW
def test_one_colour_stays_that_colour(run: Simulator, height: int, width: int, side: int, level: int) -> None:  # fmt: skip
    """Stretched, all of it; letterboxed, there is nothing but that colour and grey."""
    image = np.full((1, height, width, 3), level, np.uint8)
    plain = {"mean": np.zeros(3, np.float32), "inv_std": np.ones(3, np.float32)}
    for letterbox, allowed in ((0, {level}), (1, {level, int(PREPROCESS.GREY)})):
        case = Case("one colour", {"image": image, **plain}, _to(side, side + 3, letterbox))
        found = run("preprocess_image", "float32", case).outputs["y"]
        assert set(np.unique(found)) <= allowed
        assert level in found


@pytest.mark.parametrize(
    ("kernel", "shapes", "baked", "message"),
    [
        (NMS, {"scores": (1, 1, 32_769)}, {}, "up to 32768 boxes an image, not 32769"),
        (NMS, {"scores": (1, 1, 8)}, {"max_output_boxes_per_class": 0}, "1 box a class or more"),
        (PREPROCESS, {"image": (1, 8, 8, 4)}, {}, "3 channels, last, not 4"),
        (PREPROCESS, {"image": (1, 8, 40_000, 3)}, {}, "sides of 1 to 32767 here, not 40000"),
        (PREPROCESS, {"image": (1, 8, 8, 3)}, {"width": 20_000}, "1 to 16384 here, not 20000"),
    ],
    ids=["boxes", "none to keep", "channels", "image", "result"],
)
def test_what_does_not_fit_is_refused(kernel: Any, shapes: Any, baked: Options, message: str) -> None:  # fmt: skip
    """Before anything is launched, with the value seen and what is allowed."""
    boxes = (1, shapes["scores"][-1], 4) if "scores" in shapes else ()
    shapes = {"boxes": boxes, "mean": (3,), "inv_std": (3,), **shapes}
    with pytest.raises(UsageError, match=message):
        kernel.launch(shapes, "float32", {**kernel.VARIANTS[0], **baked})
