"""matmul_dequant_int4: its rule on small graphs, its layout, its launch, and what its PTX is made of."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxscript.rewriter import RewriteRuleSet

from accel.cuda import cubin, occupancy, ptx
from accel.errors import UsageError
from accel.kernels import matmul_dequant_int4 as kernel
from accel.target import load

N = 32
RANGES = {TensorProto.INT4: (-8, 8), TensorProto.UINT4: (0, 16), TensorProto.INT8: (-8, 8)}


def _model(
    opset: int = 21,
    kind: int = TensorProto.INT4,
    zero: bool = False,
    transposed: bool = False,
    axis: int | None = None,
    block: int = 32,
    depth: int = 128,
    constant: bool = True,
) -> Any:
    """x [B, 3, K], d = DequantizeLinear(w [K, N] or its transpose), y = MatMul(x, d)."""
    draw = np.random.default_rng(7)
    sizes = (N, depth) if transposed else (depth, N)
    axis = int(transposed) if axis is None else axis
    of_scale = [-(-s // block) if block and i == axis else s for i, s in enumerate(sizes)]
    of_scale = of_scale if block else [sizes[axis]]

    def tensor(name: str, kind: int, values: Any) -> Any:
        return helper.make_tensor(name, kind, values.shape, values.ravel().tolist())

    weight = tensor("w", kind, draw.integers(*RANGES[kind], sizes))
    scale = tensor("s", TensorProto.FLOAT, draw.uniform(0.5, 1.5, of_scale) / 16)
    zeros = tensor("z", kind, draw.integers(*RANGES[kind], of_scale))
    inputs = ["w", "s", "z"] if zero else ["w", "s"]
    attributes = {"axis": axis, "block_size": block}
    nodes = [helper.make_node("DequantizeLinear", inputs, ["d"], "dequantize", **attributes)]
    if transposed:
        nodes.append(helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["x", "t" if transposed else "d"], ["y"]))
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, depth])]
    ports += [] if constant else [helper.make_tensor_value_info("w", kind, sizes)]
    kept = [*([weight] if constant else []), scale, *([zeros] if zero else [])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3, N])
    graph = helper.make_graph(nodes, "g", ports, [output], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _read(proto: Any) -> Any:
    return onnx_ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def _swapped(proto: Any, opset: int = 21) -> tuple[Any, int]:
    model = _read(proto)
    count = RewriteRuleSet([rule.rule() for rule in kernel.rules()]).apply_to_model(model)
    made = onnx_ir.to_proto(model)
    if count:
        made.functions.append(kernel.function(opset))
    return made, count


def _run(proto: Any, feed: dict[str, Any], level: str = "ORT_ENABLE_ALL") -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    text = proto.SerializeToString()
    session = onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
@pytest.mark.parametrize("opset", [21, 23])
def test_a_dequantized_weight_becomes_one_node(
    opset: int, kind: int, zero: bool, transposed: bool
) -> None:
    """In ONNX Runtime the graph with the node gives what the graph before gave, to rounding.

    Before, its optimizer is off: it would fuse the two to an operator that rounds x to int8."""
    before = _model(opset, kind, zero, transposed)
    after, count = _swapped(before, opset)
    onnx.checker.check_model(after, full_check=True)
    assert count == 1
    assert [(n.domain, n.op_type) for n in after.graph.node] == [("accel.kernels", kernel.OP)]
    x = np.random.default_rng(0).normal(size=(2, 3, 128)).astype(np.float32)
    want = _run(before, {"x": x}, "ORT_DISABLE_ALL")
    np.testing.assert_allclose(_run(after, {"x": x}), want, rtol=1e-5, atol=1e-5)


def test_a_weight_of_the_name_that_it_would_give_stays() -> None:
    """Another initializer d_packed: both are kept, and the results are the same."""
    before = _model()
    taken = helper.make_tensor("d_packed", TensorProto.FLOAT, [1], [2.0])
    before.graph.initializer.append(taken)
    before.graph.node.add(op_type="Mul", input=["y", "d_packed"], output=["doubled"])
    before.graph.output[0].name = "doubled"
    after, count = _swapped(before)
    assert count == 1
    x = np.random.default_rng(0).normal(size=(2, 3, 128)).astype(np.float32)
    want = _run(before, {"x": x}, "ORT_DISABLE_ALL")
    np.testing.assert_allclose(_run(after, {"x": x}), want, rtol=1e-5, atol=1e-5)


def test_the_node_says_what_the_kernel_bakes() -> None:
    """Its group, and what TensorRT's parser needs to take the plugin."""
    made, _ = _swapped(_model(block=64))
    (node,) = made.graph.node
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert found == {"group": 64, "plugin_namespace": b"accel", "plugin_version": b"1", "aot": 1}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no block_size": ({"block": 0}, "no block_size"),
    "a block that is not compiled": ({"block": 16}, "block_size 16 .* compiled: 128, 64, 32"),
    "blocks along N": ({"axis": 1}, "run along axis 1, not along K, axis 0"),
    "a part of a block": ({"depth": 80}, "K, 80, is not a multiple of block_size 32"),
    "a weight from the caller": ({"constant": False}, "its weight is not a constant"),
    "eight bits": ({"kind": TensorProto.INT8}, "its weight is int8, not int4 or uint4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_its_reason(name: str) -> None:
    """The graph stays as it is, and the check says why."""
    changed, reason = REFUSED[name]
    proto = _model(**changed)
    made, count = _swapped(proto)
    assert count == 0
    assert [n.op_type for n in made.graph.node] == ["DequantizeLinear", "MatMul"]
    model = _read(proto)
    weight = next(n for n in model.graph if n.name == "dequantize").outputs[0]
    found = kernel.rules()[0].check(None, x=model.graph.inputs[0], weight=weight)
    assert not found
    assert re.search(reason, found.reason), found.reason


def test_a_scale_of_another_dtype_than_x_is_refused() -> None:
    """Where x is float16 by declaration and the weight float32."""
    model = _read(_model())
    model.graph.inputs[0].dtype = onnx_ir.DataType.FLOAT16
    weight = next(n for n in model.graph if n.name == "dequantize").outputs[0]
    found = kernel.rules()[0].check(None, x=model.graph.inputs[0], weight=weight)
    assert "scale is float32, x float16" in found.reason


def test_a_site_that_the_pattern_misses_says_what_stands_there() -> None:
    """A weight on the left, one that is read twice, one that is added; int8 is no site at all."""
    said = []
    for change in ("left", "twice", "added", "int8"):
        proto = _model(depth=N, kind=TensorProto.INT8 if change == "int8" else TensorProto.INT4)
        (product,) = (n for n in proto.graph.node if n.op_type == "MatMul")
        if change == "left":
            product.input[:] = ["d", "x"]
        elif change == "added":
            product.op_type = "Add"
        elif change == "twice":
            proto.graph.output.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, [N, N]))
        anchor = next(n for n in _read(proto).graph if n.name == "dequantize")
        said.append(kernel.rules()[0].explain(anchor))
    assert said == [
        "it is not the second operand of its MatMul",
        "its result is read 2 times, not once",
        "its result goes to Add, not to one MatMul",
        "",
    ]


@pytest.mark.parametrize("group", kernel.GROUPS)
def test_the_layout_is_that_of_matmulnbits(group: int) -> None:
    """ONNX Runtime's own operator takes the three tensors as they are."""
    draw = np.random.default_rng(group)
    groups, depth = 3, 3 * group
    feed = {
        "x": draw.normal(size=(2, depth)).astype(np.float32),
        "packed": draw.integers(0, 256, (N, depth // 2), np.uint8),
        "scales": draw.uniform(0.5, 1.5, (N, groups)).astype(np.float32),
        "zero_points": draw.integers(0, 256, (N, 2), np.uint8),
    }
    words: dict[str, Any] = {"K": depth, "N": N, "bits": 4, "block_size": group}
    node = helper.make_node("MatMulNBits", list(feed), ["y"], domain="com.microsoft", **words)
    weights = {
        "packed": feed["packed"].reshape(N, groups, group // 2),
        "scales": feed["scales"].ravel(),
        "zero_points": feed["zero_points"].ravel(),
    }
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, depth])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, N])
    kept = [onnx.numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph([node], "g", ports, [output], kept)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    got = _run(helper.make_model(graph, opset_imports=opsets, ir_version=10), {"x": feed["x"]})
    want = kernel.reference(feed, {"group": group})["y"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_sizes_that_do_not_belong_together_are_refused() -> None:
    """K that is no multiple of the group; scales of another group; bytes that are missing."""
    right = {"x": (1, 256), "packed": (8, 128), "scales": (8, 2), "zero_points": (8, 1)}
    kernel.launch(right, "float16", {"group": 128})
    for wrong in (
        {"x": (1, 200)},
        {"scales": (8, 4)},
        {"packed": (8, 256)},
        {"zero_points": (8, 2)},
    ):
        with pytest.raises(UsageError, match=r"K a multiple of 128, .*; not x \('1', "):
            kernel.launch({**right, **wrong}, "float16", {"group": 128})


def test_moved_bytes_are_the_weights_with_their_scales_and_x_and_y() -> None:
    """4096 x 4096 of int4 is 8 MiB; the rest adds 4 % at a group of 128."""
    shapes = {
        "x": (4, 4096),
        "packed": (4096, 2048),
        "scales": (4096, 32),
        "zero_points": (4096, 16),
    }
    weights, others = 4096 * 2048, 4096 * 32 * 2 + 4096 * 16 + 2 * (4 * 4096) * 2
    assert kernel.moved_bytes(shapes, "float16", {"group": 128}) == weights + others


@pytest.mark.parametrize("group", kernel.GROUPS)
@pytest.mark.parametrize("dtype", kernel.DTYPES)
def test_weights_are_loaded_128_bits_at_a_time_and_multiplied_by_tensor_cores(
    dtype: str, group: int
) -> None:
    """16-bit floats by mma (on Turing float16 alone, of half the depth), float32 without; twice as
    many in groups of 32, where 4 rows fill the columns of two."""
    for capability, deep in (("7.5", False), ("9.0", True)):
        text = ptx.compile("matmul_dequant_int4", dtype, {"group": group}, capability).text
        cores = dtype == "float16" or (dtype == "bfloat16" and deep)
        count = cores * (8 if deep else 16) * (2 if group == 32 else 1)
        assert text.count("mma.sync.aligned") == count
        assert text.count(f"mma.sync.aligned.m16n8k{16 if deep else 8}") == count
        assert len(re.findall(r"ld\.global\.v4\.[ub]32", text)) >= 2


@pytest.mark.parametrize("profile", ["t4", "a100", "h100", "rtx-5090"])
def test_enough_bytes_are_in_flight(profile: str) -> None:
    """Bandwidth times 600 ns: each warp has 1 KiB of weights under way while it computes."""
    target = load(profile)
    assert target.compute_capability
    made = ptx.compile("matmul_dequant_int4", "float16", {"group": 128}, target.compute_capability)
    _binary, usage = cubin.assemble(made)
    assert usage.spill_bytes == usage.stack_bytes == 0
    of_block = kernel.WARPS * 32
    words = (usage.registers, of_block, usage.shared_bytes, target.sm, target.compute_capability)
    in_flight = occupancy.blocks(*words) * kernel.WARPS * 1024
    multiprocessors = {"t4": 40, "a100": 108, "h100": 132, "rtx-5090": 170}[profile]
    assert in_flight >= target.peaks["bytes_per_s"] * 600e-9 / multiprocessors
