"""Random graphs through every recipe: it refuses in words, or gives a graph that answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import catalog, graph, workload
from accel.errors import CandidateBroken
from accel.protocols import Quantized
from accel.steps.export import export
from accel.values import Model, QuantStyle
from tests.fuzz.effort import effort
from tests.fuzz.graphs import Graph, graphs

RECIPES = ("fp32", "fp16", "bf16", "int8_dynamic", "int8_static", "int8_mixed", "weight_only")
ENGINES = ("onnxruntime_cpu", "openvino")
FEEDS = 4


@pytest.fixture(scope="module")
def styles() -> dict[str, QuantStyle]:
    """What each engine wants its integers to look like, on this machine."""
    from accel import target

    here = target.load("cpu-local")
    return {name: catalog.load("engines", name).style(here) for name in ENGINES}


def answers(path: Path, feed: dict[str, Any]) -> list[Any]:
    """What ONNX Runtime computes, its own rewriting left out."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def written(drawn: Graph, folder: Path) -> Model:
    """Exported as any user's .onnx is."""
    onnx.save(drawn.proto, folder / "given.onnx")
    (folder / "exported").mkdir()
    return export(workload.load(str(folder / "given.onnx")), "onnx", folder / "exported")


@pytest.mark.parametrize("recipe", RECIPES)
@effort(60)
@given(drawn=graphs(), engine=st.sampled_from(ENGINES), data=st.data())
def test_a_recipe_refuses_or_gives_a_graph_that_answers(
    recipe: str, styles: dict[str, QuantStyle], drawn: Graph, engine: str, data: st.DataObject
) -> None:
    """The ports are the same, and so are the shapes of its answers; what was finite stays finite."""
    module, style = catalog.load("recipes", recipe), styles[engine]
    options = data.draw(st.sampled_from(module.variants(style)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = written(drawn, folder)
        feeds = [drawn.feed(1 + seed % 2, seed) for seed in range(FEEDS)]
        (folder / "made").mkdir()
        made: Quantized | str
        try:
            made = module.apply(model, feeds, style, options, folder / "made")
        except CandidateBroken as error:
            made = str(error)
        if isinstance(made, str):
            assert len(made.split()) > 3
            return
        assert ports(made.model) == ports(model)
        assert graph.describe(made.model.path).digest == made.model.digest
        if not made.portable and not made.only.startswith("onnxruntime"):
            return
        feed = drawn.feed(3, seed=9)
        plain, other = answers(model.path, feed), answers(made.model.path, feed)
        assert [(o.shape, o.dtype) for o in other] == [(p.shape, p.dtype) for p in plain]
        assert not (np.isfinite(plain[0]).all() and not np.isfinite(other[0]).all())


def ports(model: Model) -> list[tuple[str, str, int]]:
    """Names, dtypes and ranks."""
    return [(p.name, p.dtype, len(p.shape)) for p in (*model.inputs, *model.outputs)]
