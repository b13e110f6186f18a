"""fp16 of a fused transformer: ONNX Runtime's own operators hold float16, what counts holds float32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from accel import catalog, graph, testing
from accel.errors import CandidateBroken
from accel.values import Model, QuantStyle

CUDA = QuantStyle(True, True, True, True, True, operators=("onnxruntime_cuda",), pairs="inputs")
FUSED = {"keep": "range", "fuse": True}
HEADS, WIDTH, LAYERS = 4, 64, 2


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small one, by the tracer: the form whose attention is fused."""
    torch = pytest.importorskip(
        "torch", reason="exports the graph; instead: tests/recipes/test_fp16.py"
    )
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "intermediate_size": 128}
    config = BertConfig(
        vocab_size=100, num_attention_heads=HEADS, attn_implementation="eager", **sizes
    )

    class Hidden(torch.nn.Module):  # type: ignore[misc,name-defined]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel(config, add_pooling_layer=False)

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state

    path = tmp_path_factory.mktemp("bert") / "m.onnx"
    example = tuple(torch.ones((2, 5), dtype=torch.int64) for _ in range(2))
    axes = {name: {0: "n", 1: "s"} for name in ("ids", "mask", "hidden")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of constants
        torch.onnx.export(
            Hidden().eval(), example, str(path), dynamo=False, opset_version=17,
            input_names=["ids", "mask"], output_names=["hidden"], dynamic_axes=axes,
        )  # fmt: skip
    return graph.describe(path)


def feed(length: int) -> dict[str, Any]:
    ids = np.random.default_rng(length).integers(1, 100, (2, length))
    mask = np.ones((2, length), np.int64)
    mask[1, length // 2 :] = 0
    return {"ids": ids, "mask": mask}


def run(path: Path, given: Any) -> Any:
    return onnxruntime.InferenceSession(str(path)).run(None, given)[0]


def test_fused_operators_are_of_16_bits_and_outputs_close(bert: Model, tmp_path: Path) -> None:
    """Attention, norms and GELU read and make float16; a CPU's provider casts around them."""
    feeds = [feed(n) for n in (4, 9)]
    made = catalog.load("recipes", "fp16").apply(bert, feeds, CUDA, FUSED, tmp_path)
    proto = onnx.load(made.model.path)
    own = [n for n in proto.graph.node if n.domain == "com.microsoft"]
    assert {"Attention", "SkipLayerNormalization"} <= {n.op_type for n in own}
    for node in own:
        assert node.output[0].endswith("__half"), node.op_type
    assert f"Attention {LAYERS} of {LAYERS}" in made.facts["fused"]
    assert not made.portable
    assert made.only == "onnxruntime"
    for given in (*feeds, feed(13)):
        np.testing.assert_allclose(run(made.model.path, given), run(bert.path, given), atol=2e-2)


def test_it_is_offered_where_there_are_kernels_for_it() -> None:
    """OpenVINO and TensorRT do not read these operators."""
    variants = catalog.load("recipes", "fp16").variants
    assert FUSED in variants(CUDA)
    for engine in ("openvino", "tensorrt"):
        assert FUSED not in variants(QuantStyle(True, True, True, True, True, operators=(engine,)))


def test_without_attention_there_is_nothing_to_fuse(tmp_path: Path) -> None:
    """The plain variants are there for it."""
    made = testing.mlp(tmp_path / "m.onnx")
    given = [{"x": np.ones((2, 8), np.float32)}]
    with pytest.raises(CandidateBroken, match="nothing to fuse"):
        catalog.load("recipes", "fp16").apply(made, given, CUDA, FUSED, tmp_path)
