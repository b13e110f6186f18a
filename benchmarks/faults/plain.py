"""The plain sort that accel explain stands beside: values by how much they differ between two graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from case import Fault

from accel.explaining.parts import parts
from accel.explaining.view import View, aligned


def by_error(fault: Fault, feeds: Any) -> list[str]:
    """Values of the reference, by the largest of what qdq_loss_debug computes of each, worst first.

    In its terms: 20 log10(|x| / |x - y|) of a value in both graphs (xmodel_err), before and behind its pair
    (qdq_err), and of a weight (compute_weight_error)."""
    one, two = View(fault.reference), View(fault.candidate)
    names = aligned(one, two)
    ratio: dict[str, float] = {}
    pairs = [p for p in parts(one, two) if p.kind == "activation"]
    backs = {value: _back(two, names[value]) for p in pairs for value in (p.value, *p.also)}
    wanted = {n for n in names if n in one.makers} | set(backs)
    want = _values(fault.reference, sorted(wanted - {"x"}), feeds)
    got = _values(
        fault.candidate, sorted({names[n] for n in wanted} | set(backs.values()) - {"x"}), feeds
    )
    for name in wanted - {"x"}:
        _note(ratio, name, want[name], got[names[name]] if names[name] != "x" else None)
    for name, back in backs.items():
        before = (
            np.concatenate([f["x"].ravel() for f in feeds]) if name == "x" else got[names[name]]
        )
        _note(ratio, name, before, got[back])
    for part in parts(one, two):
        if part.kind == "weight":
            node, now = one.node(part.value), two.node(part.value)
            assert node is not None
            assert now is not None
            _note(
                ratio, part.value, one.array(node.input[part.slot]), two.array(now.input[part.slot])
            )
    return sorted(ratio, key=lambda n: ratio[n])


def _note(ratio: dict[str, float], name: str, x: Any, y: Any) -> None:
    if x is None or y is None or x.size != y.size or x.dtype.kind != "f":
        return
    off = float(np.linalg.norm(x.ravel().astype(np.float64) - y.ravel()))
    size = float(np.linalg.norm(x.ravel().astype(np.float64)))
    sqnr = 20 * np.log10(max(size, 1e-16) / max(off, 1e-16)) if np.isfinite(off) else -np.inf
    ratio[name] = min(ratio.get(name, np.inf), sqnr)


def _back(view: View, value: str) -> str:
    q = next(
        n for n in view.proto.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == value
    )
    return str(
        next(
            n.output[0]
            for n in view.proto.graph.node
            if n.op_type == "DequantizeLinear" and n.input[0] == q.output[0]
        )
    )


def _values(proto: Any, names: Sequence[str], feeds: Any) -> dict[str, Any]:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    known = {
        v.name: v.type.tensor_type.elem_type
        for v in onnx.shape_inference.infer_shapes(proto).graph.value_info
    }
    there = {o.name for o in made.graph.output}
    names = [n for n in names if n != "x"]
    made.graph.output.extend(
        onnx.helper.make_tensor_value_info(n, known.get(n, 1), None)
        for n in names
        if n not in there
    )
    session = onnxruntime.InferenceSession(made.SerializeToString(), quiet())
    runs = [session.run(names, f) for f in feeds]
    return {
        n: np.concatenate([np.asarray(r[i]).ravel() for r in runs]) for i, n in enumerate(names)
    }


def quiet() -> Any:
    """Every operator as it stands, and no warnings."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options
