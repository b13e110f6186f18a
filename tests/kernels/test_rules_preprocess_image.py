"""The rewrite rule of preprocess_image, on what torch's two exporters really write."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from accel import graph
from accel.steps import swap

MEAN, STD = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # ImageNet's
EXPORTERS = {"torch_export": 23, "torchscript": 17}  # and the opset that each writes here


class Normalised(torch.nn.Module):
    """Bytes to planes, as a detector's or a classifier's first lines have it."""

    def __init__(
        self, early: bool = True, antialias: bool = False, divide: bool = True, **how: Any
    ):
        super().__init__()
        self.early, self.divide = early, divide
        self.how = {"size": (12, 20), "mode": "bilinear", "align_corners": False} | how
        self.how["antialias"] = antialias
        self.mean = torch.nn.Buffer(torch.tensor(MEAN).view(1, 3, 1, 1))
        self.std = torch.nn.Buffer(torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).float()
        if self.early:
            x = functional.interpolate(x / 255, **self.how)
        else:
            x = functional.interpolate(x, **self.how) * (1 / 255)
        return ((x - self.mean) / self.std if self.divide else x).tanh()


def _exported(module: torch.nn.Module, exporter: str, path: Path) -> Path:
    image = torch.zeros((2, 16, 24, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of deprecations inside of it
        if exporter == "torchscript":
            torch.onnx.export(
                module.eval(),
                (image,),
                str(path),
                dynamo=False,
                opset_version=EXPORTERS[exporter],
                input_names=["image"],
                dynamic_axes={"image": {0: "batch", 1: "height", 2: "width"}},
            )
        else:
            sizes = {i: torch.export.Dim(n) for i, n in enumerate(("batch", "height", "width"))}
            torch.onnx.export(
                module.eval(),
                (image,),
                str(path),
                dynamo=True,
                opset_version=EXPORTERS[exporter],
                dynamic_shapes=(sizes,),
                verbose=False,
            )
    return path


def _swapped(path: Path) -> tuple[swap.Swapped, Any]:
    made = swap.swap(graph.describe(path), path.parent / "swapped", ("preprocess_image",))
    return made, onnx.load(made.model.path)


def _run(proto: Any, *inputs: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def _bytes(*sizes: int) -> Any:
    return np.random.default_rng(7).integers(0, 256, sizes, np.uint8)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    "how", [{}, {"early": False}, {"divide": False}], ids=["scaled first", "scaled last", "only scaled"]
)  # fmt: skip
def test_preprocessing_is_found(exporter: str, how: dict[str, Any], tmp_path: Path) -> None:
    """One node is left of it, the outputs are within float32's rounding, and the body inlined gives
    the same bits."""
    path = _exported(Normalised(**how), exporter, tmp_path / "model.onnx")
    made, proto = _swapped(path)
    assert (made.sites, made.refused) == ({"preprocess_image": 1}, ())
    assert {n.op_type for n in proto.graph.node} == {"PreprocessImage", "Constant", "Tanh"}
    image = _bytes(3, 30, 17, 3)
    found = _run(proto, image)
    assert found.shape == (3, 3, 12, 20)
    np.testing.assert_allclose(found, _run(onnx.load(path), image), rtol=0, atol=2e-6)
    inlined = onnx.inliner.inline_local_functions(proto)
    assert np.array_equal(found, _run(inlined, image))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"antialias": True}, "its antialias is 1, not 0"),
        (
            {"align_corners": True},
            "its coordinate_transformation_mode is align_corners, not half_pixel",
        ),
        ({"mode": "nearest", "align_corners": None}, "its mode is nearest, not linear"),
        (
            {"size": None, "scale_factor": 0.5},
            "it has scales, not sizes: its result has no fixed size",
        ),
    ],
    ids=["antialias", "align_corners", "nearest", "scale_factor"],
)
def test_another_resize_is_refused(how: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """With what is different about it, and the graph stays as it was."""
    path = _exported(Normalised(**how), "torch_export", tmp_path / "model.onnx")
    made, proto = _swapped(path)
    assert made.sites == {"preprocess_image": 0}
    assert [r.reason for r in made.refused] == [reason]
    assert not proto.functions


def _hand_made(change: Callable[[dict[str, Any]], object], path: Path) -> Path:
    """Transpose, Cast, Resize, Sub, Div: as exporters write it, with one thing changed."""
    parts: dict[str, Any] = {
        "perm": [0, 3, 1, 2],
        "to": TensorProto.FLOAT,
        "image": (TensorProto.UINT8, ["n", "h", "w", 3]),
        "mean": np.ones((1, 3, 1, 1), np.float32),
        "std": np.full((1, 3, 1, 1), 2, np.float32),
        "gain": False,  # a scale that is not a constant
        "last": [],
    }
    change(parts)
    kind = helper.tensor_dtype_to_np_dtype(parts["to"])
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=parts["perm"]),
        helper.make_node("Cast", ["planes"], ["values"], to=parts["to"]),
        helper.make_node("Shape", ["values"], ["lead"], start=0, end=2),
        helper.make_node("Concat", ["lead", "size"], ["sizes"], axis=0),
        helper.make_node("Mul", ["values", "gain"], ["gained"]),
        helper.make_node("Resize", ["gained", "", "", "sizes"], ["resized"], mode="linear"),
        helper.make_node("Sub", ["resized", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        *parts["last"],
    ]
    last = nodes[-1].output[0]
    constants = {
        "size": np.array([4, 6], np.int64),
        "mean": parts["mean"].astype(kind),
        "std": parts["std"].astype(kind),
    }
    inputs = {"image": parts["image"]}
    if parts["gain"]:
        inputs["gain"] = (parts["to"], [1])
    else:
        constants["gain"] = np.ones(1, kind)
    result = (parts.get("result", parts["to"]), ["n", "c", "y", "x"])
    made = _graph(nodes, inputs, {last: result}, constants)
    onnx.save(made, path)
    return path


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda p: p.update(image=(TensorProto.UINT8, ["n", "h", "w", 4])),
            "its image is [n, h, w, 4], not [B, H, W, 3]",
        ),
        (
            lambda p: p.update(perm=[0, 1, 2, 3], image=(TensorProto.UINT8, ["n", 3, "h", "w"])),
            "its image is not turned from [B, H, W, 3] to planes",
        ),
        (lambda p: p.update(to=TensorProto.FLOAT16), "its arithmetic is not float32"),
        (
            lambda p: p.update(gain=True),
            "its scale, mean or deviation is not a constant, one number a channel",
        ),
    ],
    ids=["channels", "planes", "float16", "scaled by an input"],
)
def test_another_preprocessing_is_refused(change: Any, reason: str, tmp_path: Path) -> None:
    """Whatever the kernel would not do as the graph does."""
    made, _ = _swapped(_hand_made(change, tmp_path / "model.onnx"))
    assert made.sites == {"preprocess_image": 0}
    assert [r.reason for r in made.refused] == [reason]


def test_a_cast_that_follows_is_taken_in(tmp_path: Path) -> None:
    """The kernel writes 16-bit floats itself: `to` says so, and the body casts."""

    def to_half(parts: dict[str, Any]) -> None:
        cast = helper.make_node("Cast", ["scaled"], ["half"], to=TensorProto.FLOAT16)
        parts.update(last=[cast], result=TensorProto.FLOAT16)

    path = _hand_made(to_half, tmp_path / "model.onnx")
    made, proto = _swapped(path)
    assert made.sites == {"preprocess_image": 1}
    assert "Cast" not in {n.op_type for n in proto.graph.node}
    image = _bytes(1, 9, 8, 3)
    found, before = _run(proto, image), _run(onnx.load(path), image)
    assert found.dtype == before.dtype == np.float16
    np.testing.assert_allclose(found.astype(float), before.astype(float), rtol=1e-3, atol=1e-3)


def test_what_cannot_be_folded_stays(tmp_path: Path) -> None:
    """A mean a pixel is no mean a channel: the node takes the resize, the rest is left as it is."""
    mean = np.random.default_rng(1).random((1, 3, 4, 6)).astype(np.float32)
    path = _hand_made(lambda p: p.update(mean=mean), tmp_path / "model.onnx")
    made, proto = _swapped(path)
    assert made.sites == {"preprocess_image": 1}
    assert [n.op_type for n in proto.graph.node if n.op_type != "Constant"] == [
        "PreprocessImage",
        "Sub",
        "Div",
    ]
    image = _bytes(2, 5, 9, 3)
    np.testing.assert_allclose(_run(proto, image), _run(onnx.load(path), image), rtol=1e-5)


def test_a_resize_of_activations_is_no_site(tmp_path: Path) -> None:
    """What was never an image of bytes is neither swapped nor refused."""
    floats = (TensorProto.FLOAT, ["n", "h", "w", 3])
    path = _hand_made(lambda p: p.update(image=floats), tmp_path / "model.onnx")
    made, _ = _swapped(path)
    assert (made.sites, made.refused) == ({"preprocess_image": 0}, ())
