"""What rewrite rules share: the shape of a rule, reading a graph's values, the nodes that are put in.

A rule is what onnxscript's rewriter takes, and two things that it has not: the operators that mark
a site, and why the pattern does not fit around one. Its matcher says nothing where it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel import shapes
from accel.shapes import Sizes

DOMAIN = "accel.kernels"
STANDARD = ("", "ai.onnx")
FOR_TENSORRT = {"plugin_namespace": "accel", "plugin_version": "1", "aot": 1}
PASS_ON = ("Cast", "Identity")  # of a weight: still a weight


@dataclass(frozen=True)
class Rule:
    """One pattern of a kernel; values and nodes are onnx_ir's."""

    pattern: Callable[..., Any]  # (op, ...): the graph to find
    check: Callable[..., Any]  # (context, ...): a MatchResult, failed with the reason
    rewrite: Callable[..., Any]  # (op, ...): what is put in
    anchors: tuple[str, ...]  # operators that mark a site: put in, or refused with a reason
    explain: Callable[[Any], str]  # anchor: why the pattern does not fit; "" where it is no site
    commute: bool = False  # try the operands of Add and Mul both ways


def verdict(*reasons: str | bool) -> Any:
    """A check's result: refused with the first reason that is one, or consent."""
    from onnxscript.rewriter.pattern import MatchResult

    found, reason = MatchResult(), next((r for r in reasons if r), "")
    return found.fail(reason) if reason else found


def put(op: Any, name: str, inputs: tuple[Any, ...], outputs: int = 1, **baked: Any) -> Any:
    """A node of our domain, with what TensorRT's parser reads: the plugin, compiled ahead of time."""
    words = {"_domain": DOMAIN, "_version": 1, "_outputs": outputs}
    return getattr(op, name)(*inputs, **words, **FOR_TENSORRT, **baked)


def attribute(node: Any, name: str, default: Any) -> Any:
    """An attribute's value."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def sizes(value: Any) -> Sizes | None:
    """Numbers, symbols, None for what is not known; None for an unknown rank."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def text(value: Any) -> str:
    """Its sizes in words."""
    return shapes.text(sizes(value))


def dtype(value: Any) -> str:
    """numpy's name: "float32"; "unknown"."""
    return "unknown" if value.dtype is None else str(value.dtype.numpy())


def constant(value: Any) -> Any:
    """The array of a Constant node, or of an initializer that no caller can replace; else None."""
    if value is None or value.is_graph_input():
        return None
    node = value.producer()
    found = value.const_value
    if found is None and node is not None and node.op_type == "Constant":
        found = attribute(node, "value", None)
    return None if found is None else found.numpy()


def scalar(value: Any) -> float | None:
    """The number of a constant that holds one."""
    found = constant(value)
    return None if found is None or found.size != 1 else float(found.ravel()[0])


def near(value: Any, number: float) -> bool:
    """Is it the constant `number`, to within the rounding of its dtype?"""
    found = constant(value)
    if found is None or found.size != 1:
        return False
    rounded = np.asarray(number).astype(found.dtype)
    return bool(abs(float(found.ravel()[0]) - float(rounded)) <= 1e-6 * abs(number) + 1e-30)


def are_weights(*values: Any) -> bool:
    """Do they not depend on the model's inputs? Casts of a weight are weights."""
    return all(_is_weight(value) for value in values)


def _is_weight(value: Any) -> bool:
    node = value.producer()
    while node is not None and node.op_type in PASS_ON:
        value = node.inputs[0]
        node = value.producer()
    return value.is_initializer() or (node is not None and node.op_type == "Constant")


def ordered(a: Any, b: Any, columns: int | str | None) -> Any:
    """The one of two that has every row, and the one that is equal or repeats over leading axes.

    Both must have `columns` as their last axis; None where that cannot be shown."""
    for x, other in ((a, b), (b, a)):
        whole, part = sizes(x), sizes(other)
        known = whole and part and whole[-1] == part[-1] == columns
        if known and shapes.repeats(part or (), whole or ()):
            return x, other
    return None


def origin(value: Any) -> str:
    """Where a value comes from: "MatMul 'query'", "an input of the model", "a weight"."""
    node = value.producer()
    if node is None:
        return "a weight" if value.is_initializer() else "an input of the graph"
    operator = (
        node.op_type if node.domain in (*STANDARD, DOMAIN) else f"{node.domain}.{node.op_type}"
    )
    return f"{operator} {node.name!r}" if node.name else str(operator)


def maker(value: Any, *operators: str) -> Any:
    """The node that makes it, if that is one of these operators of ONNX; else None."""
    node = value.producer()
    found = node is not None and node.domain in STANDARD and node.op_type in operators
    return node if found else None


def used_besides(value: Any, *nodes: Any) -> bool:
    """Does anything but these nodes read the value, or the caller as an output?"""
    return value.is_graph_output() or any(user not in nodes for user, _ in value.uses())


def not_baked(name: str, value: float | None, allowed: tuple[float, ...]) -> str:
    """The reason against a constant that none of the allowed equals as float32, which is how a
    graph holds it; "" where one does."""
    if value is None:
        return f"its {name} is not a constant"
    if any(np.float32(a) == np.float32(value) for a in allowed):
        return ""
    known, short = ", ".join(f"{a:.0e}" for a in allowed), f"{value:.0e}"
    seen = short if np.float32(short) == np.float32(value) else f"{value:.8g}"
    return f"{name} {seen} is not one of those baked into the kernels: {known}"


def not_typed(value: Any, allowed: tuple[str, ...]) -> str:
    """The reason against a dtype that the kernel is not compiled for."""
    found = dtype(value)
    return "" if found in allowed else f"its dtype is {found}, not one of {', '.join(allowed)}"
