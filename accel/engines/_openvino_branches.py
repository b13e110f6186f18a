"""Static shapes as branches of one model, so that they share their weights.

    y = If(t_0, f_0(x_0), f_1(x_1))    f_i: the graph at its shape i; more shapes make a tree of Ifs

OpenVINO's CPU plugin packs a constant once in a compiled model, whichever branch reads it. Compiled
apart, every shape has constants of its own, and they evict each other from the cache: MiniLM in int8
took 1.10 times as long on sentences of mixed lengths, in the same run, and 46 MB more. What a branch
does not share (code, primitives, scales: 5 MB of pages that a call touches on MiniLM) is evicted
while others run: back in a branch, the first call took 1.05 times a repeated one after one call
elsewhere, 1.2 after four, 1.3 after sixteen, whatever the pages' size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openvino
from openvino import opset13 as ops

from accel.padding import Sizes
from accel.values import Port


def branches(model: Any, ports: Sequence[Port], shapes: Sequence[Sizes]) -> Any:
    """A model whose inputs are, shape by shape, those of `ports`, and then the truth values that
    `turns` gives for the shape to run. Its outputs are the graph's."""
    return _tree([_shaped(model, ports, sizes) for sizes in shapes])


def turns(chosen: int, shapes: int) -> list[bool]:
    """The truth value of each If on the way to a shape: is it in the first half of what is left?"""
    return [chosen < middle for middle in _middles(0, shapes)]


def _middles(first: int, end: int) -> list[int]:
    if end - first < 2:
        return []
    middle = (first + end) // 2
    return [middle, *_middles(first, middle), *_middles(middle, end)]


def _shaped(model: Any, ports: Sequence[Port], sizes: Sizes) -> Any:
    made = model.clone()  # shares the weights
    made.reshape({p.name: [sizes.get(d, d) if isinstance(d, str) else d for d in p.shape] for p in ports})  # fmt: skip
    return openvino.Model(made.get_results(), [made.input(p.name).get_node() for p in ports])


def _tree(bodies: Sequence[Any]) -> Any:
    if len(bodies) == 1:
        return bodies[0]
    half = len(bodies) // 2
    one, other = _tree(bodies[:half]), _tree(bodies[half:])
    inner = [p for body in bodies for p in body.get_parameters()]
    given = [ops.parameter(p.get_partial_shape(), p.get_element_type()) for p in inner]
    takes = [ops.parameter([], openvino.Type.boolean) for _ in bodies[1:]]
    node = ops.if_op(takes[0])
    node.set_then_body(one)
    node.set_else_body(other)
    inputs = sum(len(body.get_parameters()) for body in bodies[:half])
    for value, inside in zip([*given[:inputs], *takes[1:half]], one.get_parameters(), strict=True):
        node.set_input(value.output(0), inside, None)
    for value, inside in zip([*given[inputs:], *takes[half:]], other.get_parameters(), strict=True):
        node.set_input(value.output(0), None, inside)
    pairs = zip(one.get_results(), other.get_results(), strict=True)
    results = [ops.result(node.set_output(a, b)) for a, b in pairs]
    return openvino.Model(results, [*given, *takes])
