"""Small random graphs: layers drawn one after another, each where the shape at hand allows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

F = TensorProto.FLOAT
OPSETS = (11, 13, 15, 17, 18, 19, 20, 21, 22, 23)
IR = 8
SCALES = (0.0, 1e-6, 0.05, 0.5, 2.0, 50.0)  # of weights; a layer of zeros is legal, if idle
NAMES = (
    "",
    "node",
    "/model/layer.0/MatMul",
    "été",
    "two words",
    "x_quantized",
    "a:b",
    "%s",
    "--out",
)
MOST_LAYERS = 6
VOCABULARY = 20
Shape = tuple[int, ...]


@dataclass
class Drawn:
    """A graph that is being drawn: `value` of `shape` is what the next layer reads."""

    draw: Callable[[Any], Any]
    opset: int
    value: str = "x"
    shape: Shape = ()
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    functions: list[Any] = field(default_factory=list)
    past: list[tuple[str, Shape]] = field(default_factory=list)

    def node(self, operator: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> str:
        """Add a node; what it makes is the next layer's input."""
        made = f"{self.draw(st.sampled_from(NAMES))}{len(self.nodes)}"
        name = self.draw(st.sampled_from(("", f"n{len(self.nodes)}", made)))
        self.nodes.append(helper.make_node(operator, list(inputs), [made], name=name, **attributes))
        self.past.append((self.value, self.shape))
        self.value, self.shape = made, shape
        return made

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """Seeded normal values of a drawn size, some with a channel that is far larger."""
        size = self.draw(st.sampled_from(SCALES)) if scale is None else scale
        values = np.random.default_rng(len(self.weights)).normal(size=shape) * size
        if self.draw(st.integers(0, 9)) == 0:
            values[..., 0] *= 100
        return self.constant(values.astype(np.float32))

    def constant(self, values: Any) -> str:
        """An initializer."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name


@dataclass(frozen=True)
class Graph:
    """A model, and a feed by its batch."""

    proto: Any
    tokens: bool
    row: Shape  # of one sample

    def feed(self, rows: int, seed: int = 0) -> dict[str, Any]:
        """x: [rows, ...]."""
        rng = np.random.default_rng(seed)
        if self.tokens:
            return {"x": rng.integers(0, VOCABULARY, (rows, *self.row))}
        return {"x": rng.normal(size=(rows, *self.row)).astype(np.float32)}


def _matmul(g: Drawn) -> None:
    width = g.draw(st.sampled_from((1, 3, 8, 16)))
    g.node("MatMul", [g.value, g.weight(g.shape[-1], width)], (*g.shape[:-1], width))


def _gemm(g: Drawn) -> None:
    width, turned = g.draw(st.sampled_from((1, 5, 8))), g.draw(st.booleans())
    shape = (width, g.shape[-1]) if turned else (g.shape[-1], width)
    inputs = [g.value, g.weight(*shape), *([g.weight(width)] if g.draw(st.booleans()) else [])]
    more = {"alpha": g.draw(st.sampled_from((1.0, 0.5)))}
    g.node("Gemm", inputs, (g.shape[0], width), transB=int(turned), **more)


def _turned(g: Drawn) -> None:
    """A weight that is transposed by a node, as some exporters leave it."""
    width, before = g.draw(st.sampled_from((2, 8))), (g.value, g.shape)
    turned = g.node("Transpose", [g.weight(width, g.shape[-1])], (), perm=[1, 0])
    g.value, g.shape = before
    g.node("MatMul", [g.value, turned], (*g.shape[:-1], width))


def _conv(g: Drawn) -> None:
    n, channels, height, width = g.shape
    groups = g.draw(st.sampled_from((1, channels)))
    out = g.draw(st.sampled_from((4, 8))) if groups == 1 else channels
    kernel = g.draw(st.sampled_from([k for k in (1, 3) if k <= min(height, width)]))
    padded = g.draw(st.booleans())
    smaller = 0 if padded else kernel - 1
    inputs = [g.value, g.weight(out, channels // groups, kernel, kernel)]
    inputs += [g.weight(out)] if g.draw(st.booleans()) else []
    pads = [kernel // 2 if padded else 0] * 4
    shape = (n, out, height - smaller, width - smaller)
    g.node("Conv", inputs, shape, group=groups, kernel_shape=[kernel] * 2, pads=pads)


def _batchnorm(g: Drawn) -> None:
    channels = g.shape[1]
    own = [g.constant(np.full(channels, v, np.float32)) for v in (1.1, 0.1, 0.2, 1.5)]
    g.node("BatchNormalization", [g.value, *own], g.shape)


def _pool(g: Drawn) -> None:
    n, channels, height, width = g.shape
    operator = g.draw(st.sampled_from(("MaxPool", "AveragePool")))
    g.node(operator, [g.value], (n, channels, height // 2, width // 2), kernel_shape=[2, 2], strides=[2, 2])  # fmt: skip


def _pooled(g: Drawn) -> None:
    flat = g.shape[:2]
    g.node("GlobalAveragePool", [g.value], (*flat, 1, 1))
    g.node("Flatten", [g.value], flat)


def _activation(g: Drawn) -> None:
    g.node(g.draw(st.sampled_from(("Relu", "Sigmoid", "Tanh", "Identity", "Softmax"))), [g.value], g.shape)  # fmt: skip


def _clip(g: Drawn) -> None:
    bounds = [g.constant(np.float32(0)), g.constant(np.float32(6))]
    g.node("Clip", [g.value, *bounds], g.shape)


def _norm(g: Drawn) -> None:
    own = [g.weight(g.shape[-1], scale=0.5), g.weight(g.shape[-1], scale=0.1)]
    g.node("LayerNormalization", [g.value, *own], g.shape, axis=-1)


def _residual(g: Drawn) -> None:
    same = [name for name, shape in g.past if shape == g.shape and name != "x"] or [g.value]
    g.node("Add", [g.value, g.draw(st.sampled_from(same))], g.shape)


def _scaled(g: Drawn) -> None:
    operator = g.draw(st.sampled_from(("Mul", "Add", "Div")))
    g.node(operator, [g.value, g.constant(np.float32(1.5))], g.shape)


def _joined(g: Drawn) -> None:
    shape = (*g.shape[:-1], 2 * g.shape[-1])
    g.node("Concat", [g.value, g.value], shape, axis=len(shape) - 1)


def _halved(g: Drawn) -> None:
    """To float16 and back, as mixed exports do."""
    g.node("Cast", [g.value], g.shape, to=TensorProto.FLOAT16)
    g.node("Cast", [g.value], g.shape, to=F)


def _branch(g: Drawn) -> None:
    """Both branches read the outer value; one holds a product, so weights lie in a subgraph, too."""
    width, place = g.shape[-1], f"b{len(g.nodes)}"
    matrix = numpy_helper.from_array(np.eye(width, dtype=np.float32), f"{place}_w")
    out = helper.make_tensor_value_info(f"{place}_t", F, None)
    other = helper.make_tensor_value_info(f"{place}_e", F, None)
    body = [helper.make_node("MatMul", [g.value, matrix.name], [f"{place}_t"])]
    then = helper.make_graph(body, "then", [], [out], [matrix])
    last = helper.make_graph(
        [helper.make_node("Neg", [g.value], [f"{place}_e"])], "else", [], [other]
    )
    asked = g.constant(np.asarray(g.draw(st.booleans())))
    g.node("If", [asked], g.shape, then_branch=then, else_branch=last)


def _called(g: Drawn) -> None:
    """A function of the model's own."""
    name = f"Own{len(g.nodes)}"
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Neg", ["t"], ["b"])]
    imports = [helper.make_opsetid("", g.opset)]
    g.functions.append(helper.make_function("own", name, ["a"], ["b"], body, imports))
    g.node(name, [g.value], g.shape, domain="own")


ANY = (_activation, _clip, _scaled, _residual)
LAYERS = {  # by the rank of the value
    2: (*ANY, _matmul, _gemm, _turned, _joined, _halved, _branch, _called),
    3: (*ANY, _matmul, _turned, _joined, _halved, _branch, _called),
    4: (*ANY, _conv, _conv, _batchnorm, _pool, _pooled, _branch, _called),
}


def _offered(g: Drawn) -> list[Callable[[Drawn], None]]:
    found = list(LAYERS[len(g.shape)])
    if len(g.shape) < 4 and g.opset >= 17:
        found.append(_norm)
    if len(g.shape) == 4 and min(g.shape[2:]) < 2:
        found.remove(_pool)
    return found


@st.composite
def graphs(draw: Callable[[Any], Any]) -> Graph:
    """Rows of numbers, images or tokens through one to six layers, any batch."""
    kind = draw(st.sampled_from(("rows", "images", "tokens")))
    row: Shape = {"rows": (8,), "images": (3, 6, 6), "tokens": (4,)}[kind]
    g = Drawn(draw, draw(st.sampled_from(OPSETS)), shape=(1, *row))
    if kind == "tokens":
        g.node("Gather", [g.weight(VOCABULARY, 8, scale=1.0), "x"], (1, *row, 8))
    for _ in range(draw(st.integers(1, MOST_LAYERS))):
        draw(st.sampled_from(_offered(g)))(g)
    g.node("Identity", [g.value], g.shape)
    g.nodes[-1].output[0] = "y"
    batch = draw(st.sampled_from(("n", "batch_size")))
    given = helper.make_tensor_value_info(
        "x", TensorProto.INT64 if kind == "tokens" else F, [batch, *row]
    )
    made = helper.make_tensor_value_info("y", F, [batch, *g.shape[1:]])
    body = helper.make_graph(g.nodes, "drawn", [given], [made], g.weights)
    imports = [helper.make_opsetid("", g.opset)]
    imports += [helper.make_opsetid("own", 1)] if g.functions else []
    proto = helper.make_model(body, opset_imports=imports, functions=g.functions, ir_version=IR)
    onnx.checker.check_model(proto)
    return Graph(proto, kind == "tokens", row)
