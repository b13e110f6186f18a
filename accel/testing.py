"""Helpers for tests of accel and of workloads: models of a few kilobytes, and a clock that obeys.

>>> model = mlp(tmp_path / "m.onnx")         # float32 [batch, 8] -> [batch, 4]
>>> request(model, batch=2).inputs["x"].shape
(2, 8)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import store
from accel.values import Model, Plan, Port, Request


def mlp(path: Path, *, width: int = 8, classes: int = 4, layers: int = 1, seed: int = 0) -> Model:
    """Write `layers` x (MatMul, Relu) and a last MatMul: x [batch, width] -> y [batch, classes]."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    draw = np.random.default_rng(seed)
    nodes, weights, value = [], [], "x"
    for i in range(layers + 1):
        last = i == layers
        shape = (width, classes if last else width)
        data = (draw.normal(size=shape) / width**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(data, f"w{i}"))
        product = "y" if last else f"p{i}"
        nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [product], name=f"matmul{i}"))
        if not last:
            nodes.append(helper.make_node("Relu", [product], [f"r{i}"], name=f"relu{i}"))
            value = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", classes])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path)
    port_in, port_out = _port("x", width), _port("y", classes)
    return Model(path, store.digest_file(path), (port_in,), (port_out,), ("testing.mlp",))


def request(model: Model, *, batch: int = 1, group: str = "all", weight: float = 1.0) -> Request:
    """Seeded normal inputs for a model whose first axis is the batch and the rest is fixed."""
    import numpy as np

    draw = np.random.default_rng(batch)
    feed = {
        p.name: draw.normal(size=(batch, *(int(d) for d in p.shape[1:]))).astype(p.dtype)
        for p in model.inputs
    }
    return Request(group, weight, feed)


def plan(model: Model, engine: str = "onnxruntime_cpu", **options: Any) -> Plan:
    """A plan whose artefact is the ONNX file itself, as engines without a build step have."""
    return Plan(engine, model, model.path, {"threads": 1, **options})


@dataclass
class Clock:
    """A clock that moves only when told: pass it where `time.monotonic` is expected."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


def _port(name: str, size: int) -> Port:
    return Port(name, "float32", ("batch", size))
