"""w = DequantizeLinear(int4 [K, N], scale, zero, axis=0, block_size), y = MatMul(x, w)
->  y = MatMulDequantInt4(x, packed, scales, zero_points)

or with w = Transpose(DequantizeLinear(int4 [N, K], ..., axis=1, block_size)). The weight is a constant
and is packed anew: q + 8 for int4, which moves the zero point from 0 to 8. Sites are every
DequantizeLinear of 4-bit integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.kernels.matmul_dequant_int4 import DTYPES, GROUPS, OP

FOR_TENSORRT = {"plugin_namespace": "accel", "plugin_version": "1", "aot": 1}
FOUR_BITS = ("int4", "uint4")


def rules() -> tuple[Any, ...]:
    """Two: the weight as MatMul reads it, and transposed."""
    from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase

    class DequantizedMatMul(RewriteRuleClassBase):  # type: ignore[misc]  # it has no types
        """`anchors`: the operators that mark a site; `explain`: why the pattern does not fit one."""

        anchors = ("DequantizeLinear",)
        commute = False
        k_axis = 0

        def pattern(self, op: Any, x: Any, w: Any, scale: Any) -> Any:
            words = {"_allow_other_attributes": True, "_outputs": ["weight"]}
            weight = op.DequantizeLinear(w, scale, _allow_other_inputs=True, **words)
            return op.MatMul(x, op.Transpose(weight, perm=[1, 0]) if self.k_axis else weight)

        def check(self, context: Any, x: Any, weight: Any, **_: Any) -> Any:  # noqa: ARG002
            found, reason = MatchResult(), _reason(x, weight.producer(), self.k_axis)
            return found.fail(reason) if reason else found

        def rewrite(self, op: Any, x: Any, weight: Any, **_: Any) -> Any:
            return _put(op, x, weight, self.k_axis)

        def explain(self, anchor: Any) -> str:
            return _explain(anchor)

    class TransposedMatMul(DequantizedMatMul):
        k_axis = 1

    return DequantizedMatMul(), TransposedMatMul()


def _reason(x: Any, node: Any, k_axis: int) -> str:
    """Why the kernel cannot take this DequantizeLinear's place; "" where it can."""
    w, scale, zero = _inputs(node)
    weights, scales = _constant(w), _constant(scale)
    if _dtype(w) not in FOUR_BITS:
        return f"its weight is {_dtype(w)}, not int4 or uint4"
    if weights is None or weights.ndim != 2:
        return "its weight is not a constant of two axes"
    if scales is None or (zero is not None and _constant(zero) is None):
        return "its scale or its zero point is not a constant"
    block, axis = _attribute(node, "block_size", 0), _attribute(node, "axis", 1)
    if not block:
        return "it has no block_size: the kernel takes a scale a group"
    if block not in GROUPS:
        return f"block_size {block} is not one of those compiled: {', '.join(map(str, GROUPS))}"
    if axis % 2 != k_axis:
        return f"its blocks run along axis {axis}, not along K, axis {k_axis}"
    if weights.shape[k_axis] % block:
        return f"K, {weights.shape[k_axis]}, is not a multiple of block_size {block}"
    kind = _dtype(scale)
    if kind not in DTYPES or _dtype(x) not in (kind, "unknown"):
        return f"scale is {kind}, x {_dtype(x)}: the kernel takes one of {', '.join(DTYPES)}"
    if _attribute(node, "output_dtype", 0) not in (0, int(scale.dtype)):
        return f"its output_dtype is not {kind}, the scale's"
    return ""


def _put(op: Any, x: Any, weight: Any, k_axis: int) -> Any:
    import onnx_ir

    node = weight.producer()
    w, scale, zero = _inputs(node)
    integers, scales = _by_column(w, k_axis), _constant(scale)
    centre = 8 if _dtype(w) == "int4" else 0
    zeros = np.zeros(scales.shape, np.int8).T if k_axis == 0 else np.zeros(scales.shape, np.int8)
    if zero is not None:
        zeros = _by_column(zero, k_axis)
    made = {
        "packed": packed(integers + centre),
        "scales": np.ascontiguousarray(scales if k_axis else scales.T),
        "zero_points": packed(zeros + centre),
    }
    weights = [
        op.initializer(onnx_ir.tensor(values), _free(f"{weight.name}_{name}", node.graph))
        for name, values in made.items()
    ]
    group = _attribute(node, "block_size", 0)
    return getattr(op, OP)(x, *weights, _domain="accel.kernels", _version=1, group=group, **FOR_TENSORRT)  # fmt: skip


def _free(name: str, graph: Any) -> str:
    """The name, made longer until no initializer has it: the rewriter would lose a second one."""
    while name in graph.initializers:
        name += "_"
    return name


def packed(values: Any) -> Any:
    """[N, C] of 0..15 to [N, ceil(C / 2)] bytes, the even one in the low bits."""
    even = np.zeros((len(values), (values.shape[1] + 1) // 2 * 2), np.uint8)
    even[:, : values.shape[1]] = values
    return even[:, ::2] | even[:, 1::2] << 4


def _explain(node: Any) -> str:
    """Of a DequantizeLinear that was left: what stands around it; "" where it is not of int4."""
    w = node.inputs[0]
    if _dtype(w) not in FOUR_BITS:
        return ""
    weight = node.outputs[0]
    users = [user for user, _ in weight.uses()]
    if weight.is_graph_output() or len(users) != 1:
        return f"its result is read {len(users) + weight.is_graph_output()} times, not once"
    if users[0].op_type == "Transpose":
        users = [user for user, _ in users[0].outputs[0].uses()]
    if [user.op_type for user in users] != ["MatMul"]:
        return f"its result goes to {', '.join(u.op_type for u in users)}, not to one MatMul"
    return "it is not the second operand of its MatMul"


def _inputs(node: Any) -> tuple[Any, Any, Any]:
    return (*node.inputs[:2], node.inputs[2] if len(node.inputs) > 2 else None)


def _attribute(node: Any, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else int(found.value)


def _dtype(value: Any) -> str:
    return "unknown" if value.dtype is None else str(value.dtype.numpy())


def _constant(value: Any) -> Any:
    """The array of an initializer that no caller can replace, or of a Constant; else None."""
    if value.is_graph_input():
        return None
    node, found = value.producer(), value.const_value
    if found is None and node is not None and node.op_type == "Constant":
        found = node.attributes["value"].value if "value" in node.attributes else None
    return None if found is None else found.numpy()


def _by_column(value: Any, k_axis: int) -> Any:
    """[N, ...] as int8."""
    found = _constant(value).astype(np.int8)
    return found if k_axis else found.T


def function(opset: int) -> Any:
    """The FunctionProto; 17 or newer."""
    from onnx import TensorProto, parser

    to = f"<to = {TensorProto.FLOAT}>"
    return parser.parse_function(
        f"""<opset_import: ["": {opset}], domain: "accel.kernels">
        {OP} <group> (x, packed, scales, zero_points) => (y) {{
            last = Constant <value = int64[1] {{-1}}> ()
            first = Constant <value = int64[1] {{0}}> ()
            one = Constant <value = int64[1] {{1}}> ()
            flat = Constant <value = int64[2] {{0, -1}}> ()
            sixteen = Constant <value = float {{16.0}}> ()
            size = Constant <value_int: int = @group> ()
            group_size = Reshape (size, last)
            grouped = Concat <axis = 0> (flat, group_size)
            {_nibbles("packed", "pairs", to)}
            q = Reshape (pairs, grouped)
            {_nibbles("zero_points", "zero_pairs", to)}
            all_zeros = Reshape (zero_pairs, flat)
            groups = Shape <start = 1> (scales)
            zeros = Slice (all_zeros, first, groups, one)
            zero = Unsqueeze (zeros, last)
            scales_32 = Cast {to} (scales)
            scale = Unsqueeze (scales_32, last)
            centred = Sub (q, zero)
            scaled = Mul (centred, scale)
            columns = Reshape (scaled, flat)
            weight = Transpose <perm = [1, 0]> (columns)
            x_32 = Cast {to} (x)
            product = MatMul (x_32, weight)
            y = CastLike (product, x)
        }}"""
    )


def _nibbles(source: str, out: str, to: str) -> str:
    """[N, B] bytes to [N, B, 2] floats, the low bits first."""
    return f"""{source}_32 = Cast {to} ({source})
            {source}_high = Div ({source}_32, sixteen)
            {source}_upper = Floor ({source}_high)
            {source}_above = Mul ({source}_upper, sixteen)
            {source}_lower = Sub ({source}_32, {source}_above)
            {source}_odd = Unsqueeze ({source}_upper, last)
            {source}_even = Unsqueeze ({source}_lower, last)
            {out} = Concat <axis = 2> ({source}_even, {source}_odd)"""
