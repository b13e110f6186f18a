"""The rewrite rule of nms: rows of a fixed number inside, the graph's own number outside."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from accel import graph
from accel.steps import swap


def _swapped(path: Path) -> tuple[swap.Swapped, Any]:
    made = swap.swap(graph.describe(path), path.parent / "swapped", ("nms",))
    return made, onnx.load(made.model.path)


def _run(proto: Any, *inputs: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


class Selected(torch.autograd.Function):
    """How YOLO's end-to-end exports write the operator: by a symbol, for ONNX alone."""

    @staticmethod
    def forward(_ctx: Any, *_: Any) -> Any:
        return torch.zeros((4, 3), dtype=torch.int64)

    @staticmethod
    def symbolic(g: Any, *inputs: Any) -> Any:
        return g.op("NonMaxSuppression", *inputs, center_point_box_i=1)


class Detector(torch.nn.Module):
    """Boxes and scores to the rows that are kept, and their boxes."""

    def forward(self, boxes: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        limits = torch.tensor([5]), torch.tensor([0.45]), torch.tensor([0.25])
        selected = Selected.apply(boxes, scores, *limits)
        return torch.cat([selected.float(), boxes[selected[:, 0], selected[:, 2]]], 1)


def test_nms_of_an_exported_detector_is_found(tmp_path: Path) -> None:
    """The rows that follow are the same ones, in the same order, and what gathers by them too."""
    path = tmp_path / "model.onnx"
    draw = np.random.default_rng(3)
    boxes = np.concatenate([draw.random((2, 50, 2)), 0.2 + draw.random((2, 50, 2)) / 2], -1)
    scores = np.round(draw.random((2, 3, 50)), 1)  # many are equal
    given = (boxes.astype(np.float32), scores.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Detector(),
            tuple(map(torch.tensor, given)),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["boxes", "scores"],
            dynamic_axes={"boxes": {0: "batch"}, "scores": {0: "batch"}},
        )
    made, proto = _swapped(path)
    assert (made.sites, made.refused) == ({"nms": 1}, ())
    found = _run(proto, *given)
    assert len(found) > 12
    assert np.array_equal(found, _run(onnx.load(path), *given))
    assert np.array_equal(found, _run(onnx.inliner.inline_local_functions(proto), *given))


def _graph(nodes: Any, inputs: Any, outputs: Any, constants: Any) -> Any:
    """A checked model at opset 17."""
    made = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(n, *kind) for n, kind in inputs.items()],
        [helper.make_tensor_value_info(n, *kind) for n, kind in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(model))
    return model


def _nms(path: Path, boxes: Any = 40, drop: int = 0, most: Any = 3) -> Path:
    limits = {
        "most": np.array(most or 0, np.int64),
        "iou": np.array([0.5], np.float32),
        "score": np.array([0.1], np.float32),
    }
    inputs = {
        "boxes": (TensorProto.FLOAT, ["n", boxes, 4]),
        "scores": (TensorProto.FLOAT, ["n", 2, boxes]),
    }
    if most is None:
        del limits["most"]
        inputs["most"] = (TensorProto.INT64, [1])
    names = ["boxes", "scores", "most", "iou", "score"]
    node = helper.make_node("NonMaxSuppression", names[: len(names) - drop], ["rows"])
    onnx.save(_graph([node], inputs, {"rows": (TensorProto.INT64, ["rows", 3])}, limits), path)
    return path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"drop": 1}, "it has no score_threshold"),
        ({"drop": 2}, "it has no iou_threshold"),
        ({"most": None}, "its max_output_boxes_per_class is not a constant"),
        ({"most": 0}, "its max_output_boxes_per_class is 0"),
        (
            {"boxes": "found"},
            "the number of its boxes is not known: its scores are [n, 2, found]",
        ),
        ({"boxes": 40_000}, "it has 40000 boxes, more than 32768"),
    ],
    ids=["no score", "no iou", "most is an input", "none", "unknown", "too many"],
)
def test_another_nms_is_refused(how: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """With what the kernel would need to know."""
    made, _ = _swapped(_nms(tmp_path / "model.onnx", **how))
    assert made.sites == {"nms": 0}
    assert [r.reason for r in made.refused] == [reason]


def test_no_limit_is_the_number_of_boxes(tmp_path: Path) -> None:
    """Exporters of torchvision's nms write the largest int64; no more than all boxes can be kept."""
    path = _nms(tmp_path / "model.onnx", most=np.iinfo(np.int64).max)
    made, proto = _swapped(path)
    assert made.sites == {"nms": 1}
    draw = np.random.default_rng(5)
    boxes = draw.random((1, 40, 4)).astype(np.float32)
    scores = draw.random((1, 2, 40)).astype(np.float32)
    found = _run(proto, boxes, scores)
    assert np.array_equal(found, _run(onnx.load(path), boxes, scores))
