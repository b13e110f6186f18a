"""Tensors without elements: what a runtime does with them is seldom what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
SOURCE = "onnx/onnx-tensorrt docs/Changelog.md, 8.4 GA (2022-06-06): 'misc issues when dealing with empty tensors'"
OPTIONAL = {"Resize": (1, 2)}  # older exporters give an empty tensor where an input is left out


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Every value with a size of 0, but for those that stand for an input that is left out."""
    for name, sizes in graph.sizes.items():
        if 0 not in sizes or _left_out(graph, name):
            continue
        maker = graph.producers.get(name)
        said = f"{name} has the shape {list(sizes)}: no elements"
        operator, where = (maker.operator, maker.place) if maker else ("", name)
        yield Finding("empty", "warning", said, where, operator, SOURCE)


def _left_out(graph: _graph.Graph, name: str) -> bool:
    readers = graph.consumers.get(name, ())
    return bool(readers) and all(
        n.operator in ("Concat", "Reshape", "Expand", "ConstantOfShape", "ReduceSum")
        or any(name == x and i in OPTIONAL.get(n.operator, ()) for i, x in enumerate(n.inputs))
        for n in readers
    )
