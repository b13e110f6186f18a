"""Each operator against the parser's support list of each version: an operator that a list does not
name is unknown, not fine; so is an element type that the list does not give for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
JUDGED_BY = {"Where": 1, "OneHot": 2}  # the input whose type counts, where it is not the first
BY_OUTPUT = ("ConstantOfShape", "Constant", "RandomNormal", "RandomUniform", "EyeLike")
ANY = ("If", "Loop", "Scan", "DequantizeLinear")  # bodies, node by node; by the rule qdq
ELSEWHERE = ("DOUBLE", "UINT8", "STRING", "")  # judged by the rule dtypes
INTEGERS_SINCE = {"Pow": (10, 12)}  # docs/Changelog.md: integer-typed base tensors
INTEGERS = ("INT32", "INT64")


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """For every standard operator."""
    versions = _tensorrt.versions(target)
    for node in graph.standard():
        for version in versions:
            yield from _supported(node, version)
        yield from _typed(graph, node, versions)


def _supported(node: _graph.Node, version: _tensorrt.Version) -> Iterator[Finding]:
    found = _tensorrt.supported(node.operator, version)
    if found:
        return
    name, source = _tensorrt.text([version]), _tensorrt.source(version)
    if found is None:
        said = (
            f"{node.operator} is in no list that speaks of {name}: a plugin of that name may exist"
        )
        yield Finding("operators", "unknown", said, node.place, node.operator, source)
        return
    came = _tensorrt.since(node.operator)
    later = f"; it came with {came}" if came else ""
    said = f"{name} does not support {node.operator}{later}"
    yield Finding("operators", "error", said, node.place, node.operator, source)


def _typed(
    graph: _graph.Graph, node: _graph.Node, versions: Sequence[_tensorrt.Version]
) -> Iterator[Finding]:
    allowed = _tensorrt.types().get(node.operator, ())
    if not allowed or node.operator in ANY:
        return
    names = node.outputs if node.operator in BY_OUTPUT else node.inputs
    at = JUDGED_BY.get(node.operator, 0)
    seen = graph.dtype(names[at]) if len(names) > at else ""
    late = seen in INTEGERS and min(versions) < INTEGERS_SINCE.get(node.operator, (0, 0))
    if seen in ELSEWHERE or (seen in allowed and not late):
        return
    kept = [a for a in allowed if not (late and a in INTEGERS)]
    said = f"{node.operator} of {seen}; the list gives {', '.join(kept)}"
    source = _tensorrt.source(min(versions))
    yield Finding("operators", "unknown", said, node.place, node.operator, source)
