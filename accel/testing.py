"""Helpers for tests of accel and of workloads: models of a few kilobytes, and a clock that obeys.

>>> model = mlp(tmp_path / "m.onnx")         # float32 [batch, 8] -> [batch, 4]
>>> request(model, batch=2).inputs["x"].shape
(2, 8)
>>> model = attention(tmp_path / "a.onnx")   # ids, mask: int64 [batch, sequence]
>>> tokens(batch=2, length=5).inputs["ids"].shape
(2, 5)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import store
from accel.values import Model, Plan, Port, Request

if TYPE_CHECKING:
    from accel.cuda.simulator import Simulated
    from accel.protocols import Case

FLOAT = 1  # onnx.TensorProto.FLOAT


def mlp(path: Path, *, width: int = 8, classes: int = 4, layers: int = 1, seed: int = 0) -> Model:
    """Write `layers` x (MatMul, Relu) and a last MatMul: x [batch, width] -> y [batch, classes]."""
    made = _Drawn(seed)
    value = "x"
    for i in range(layers):
        made.weight(f"w{i}", (width, width), fan_in=width)
        made.node("MatMul", [value, f"w{i}"], f"p{i}")
        value = made.node("Relu", [f"p{i}"], f"r{i}")
    made.weight(f"w{layers}", (width, classes), fan_in=width)
    made.node("MatMul", [value, f"w{layers}"], "y")
    return made.write(
        path,
        [Port("x", "float32", ("batch", width))],
        [Port("y", "float32", ("batch", classes))],
        "testing.mlp",
    )


def convnet(path: Path, *, channels: int = 8, classes: int = 4, seed: int = 0) -> Model:
    """Write two 3x3 convolutions, a mean and a Gemm: x [batch, 3, 8, 8] -> y [batch, classes]."""
    made = _Drawn(seed)
    made.weight("k0", (channels, 3, 3, 3), fan_in=27)
    made.weight("c0", (channels,), fan_in=4)
    made.node("Conv", ["x", "k0", "c0"], "p0", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    made.node("Relu", ["p0"], "r0")
    made.weight("k1", (2 * channels, channels, 3, 3), fan_in=9 * channels)
    made.node("Conv", ["r0", "k1"], "p1", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    made.node("Relu", ["p1"], "r1")
    made.node("GlobalAveragePool", ["r1"], "mean")
    made.node("Flatten", ["mean"], "flat", axis=1)
    made.weight("w", (2 * channels, classes), fan_in=2 * channels)
    made.weight("b", (classes,), fan_in=4)
    made.node("Gemm", ["flat", "w", "b"], "y")
    return made.write(
        path,
        [Port("x", "float32", ("batch", 3, 8, 8))],
        [Port("y", "float32", ("batch", classes))],
        "testing.convnet",
    )


def attention(path: Path, *, words: int = 32, width: int = 8, seed: int = 0) -> Model:
    """Write one head of masked attention over an embedding of `words` tokens.

    ids, mask: int64 [batch, sequence] -> hidden: [batch, sequence, width] (a row each token),
    pooled: [batch, width] (the mean over mask). Padding with mask 0 changes neither."""
    made = _Drawn(seed)
    made.weight("table", (words, width), fan_in=1)
    made.node("Gather", ["table", "ids"], "embedded")
    for name in ("query", "key", "value"):
        made.weight(f"w_{name}", (width, width), fan_in=width)
        made.node("MatMul", ["embedded", f"w_{name}"], name)
    made.node("Transpose", ["key"], "key_t", perm=[0, 2, 1])
    made.node("MatMul", ["query", "key_t"], "scores")
    made.node("Cast", ["mask"], "seen", to=FLOAT)
    made.constant("one", 1.0, "float32")
    made.constant("far", -1e9, "float32")  # exp of it is 0 in every float type
    made.constant("at_1", [1], "int64")
    made.constant("at_2", [2], "int64")
    made.node("Sub", ["one", "seen"], "hidden_from")
    made.node("Mul", ["hidden_from", "far"], "bias_flat")
    made.node("Unsqueeze", ["bias_flat", "at_1"], "bias")  # [batch, 1, sequence]
    made.node("Add", ["scores", "bias"], "masked")
    made.node("Softmax", ["masked"], "weights", axis=-1)
    made.node("MatMul", ["weights", "value"], "hidden")
    made.node("Unsqueeze", ["seen", "at_2"], "column")  # [batch, sequence, 1]
    made.node("Mul", ["hidden", "column"], "kept")
    made.node("ReduceSum", ["kept", "at_1"], "summed", keepdims=0)
    made.node("ReduceSum", ["seen", "at_1"], "count", keepdims=1)
    made.node("Div", ["summed", "count"], "pooled")
    return made.write(
        path,
        [Port(name, "int64", ("batch", "sequence")) for name in ("ids", "mask")],
        [
            Port("hidden", "float32", ("batch", "sequence", width)),
            Port("pooled", "float32", ("batch", width)),
        ],
        "testing.attention",
    )


def request(model: Model, *, batch: int = 1, group: str = "all", weight: float = 1.0) -> Request:
    """Seeded normal inputs for a model whose first axis is the batch and the rest is fixed."""
    import numpy as np

    draw = np.random.default_rng(batch)
    feed = {
        p.name: draw.normal(size=(batch, *(int(d) for d in p.shape[1:]))).astype(p.dtype)
        for p in model.inputs
    }
    return Request(group, weight, feed)


def tokens(
    *, batch: int = 1, length: int = 5, words: int = 32, group: str = "all", weight: float = 1.0
) -> Request:
    """Seeded ids for `attention`; every second row of the batch is half as long by its mask."""
    import numpy as np

    draw = np.random.default_rng(1000 * batch + length)
    mask = np.ones((batch, length), np.int64)
    mask[1::2, (length + 1) // 2 :] = 0
    return Request(group, weight, {"ids": draw.integers(0, words, (batch, length)), "mask": mask})


def plan(model: Model, engine: str = "onnxruntime_cpu", **options: Any) -> Plan:
    """A plan whose artefact is the ONNX file itself, as engines without a build step have."""
    return Plan(engine, model, model.path, {"threads": 1, **options})


def simulate(kernel: str, dtype: str, case: Case) -> Simulated:
    """Run one case of a member of kernels/ in Numba's CUDA simulator: its outputs by name.

    It takes seconds, most of them to start a process that simulates; `accel.cuda.simulator` keeps
    one for many cases. Whatever the kernel raises is raised here."""
    from accel.cuda.simulator import Simulator

    with Simulator() as run:
        return run(kernel, dtype, case)


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


class _Drawn:
    """A graph under construction, its weights drawn from a seed; scaled so that values stay near 1."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        self._draw = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []

    def weight(self, name: str, shape: tuple[int, ...], *, fan_in: int) -> None:
        """Normal values with a variance of 1 / fan_in."""
        import numpy as np
        from onnx import numpy_helper

        data = (self._draw.normal(size=shape) / fan_in**0.5).astype(np.float32)
        self._tensors.append(numpy_helper.from_array(data, name))

    def constant(self, name: str, value: Any, dtype: str) -> None:
        import numpy as np
        from onnx import numpy_helper

        self._tensors.append(numpy_helper.from_array(np.array(value, dtype), name))

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node; returns its output's name."""
        from onnx import helper

        name = f"{operator.lower()}_{output}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def write(self, path: Path, inputs: list[Port], outputs: list[Port], story: str) -> Model:
        import onnx
        from onnx import helper

        values = [[_value(port) for port in ports] for ports in (inputs, outputs)]
        graph = helper.make_graph(self._nodes, story, *values, self._tensors)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(made, path)
        return Model(path, store.digest_file(path), tuple(inputs), tuple(outputs), (story,))


def _value(port: Port) -> Any:
    import numpy as np
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return helper.make_tensor_value_info(port.name, kind, list(port.shape))
