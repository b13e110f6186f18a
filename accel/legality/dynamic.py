"""Dynamic axes against the requests that a profile is made of, and sizes that depend on data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel.legality import _graph, _tensorrt
from accel.values import Finding, Request, Target

ENGINES = _tensorrt.ENGINES
WIDE = 8  # least to greatest size of one axis, from which several profiles are worth a try
PROFILE = "NVIDIA/TensorRT#1116: 'Network has dynamic or shape inputs, but no optimization profile has been defined.'"
BY_DATA = ("NonZero", "NonMaxSuppression", "Unique", "Compress")
DATA = "NVIDIA/TensorRT#4120: the output shape of NonZero 'depends on the actual data'"
RULE = "a rule of thumb of accel's, to be measured: a profile is tuned for its optimum"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """Each open axis of each input, and operators whose outputs' sizes only a run can tell."""
    for name, value in graph.inputs.items():
        yield from _input(name, _graph.shape(value), requests)
    for node in graph.standard():
        if node.operator in BY_DATA:
            said = f"{node.operator}: its output's size depends on data; no CUDA graph, and outputs are allocated as it runs"
            yield Finding("dynamic", "warning", said, node.place, node.operator, DATA)


def _input(
    name: str, sizes: Sequence[int | str | None] | None, requests: Sequence[Request]
) -> Iterator[Finding]:
    shapes = {r.inputs[name].shape for r in requests if name in r.inputs}
    if sizes is None:
        said = f"input {name} has no rank; a profile needs one"
        yield Finding("dynamic", "error", said, name, source=PROFILE)
        return
    wrong = sorted(s for s in shapes if len(s) != len(sizes))
    if wrong:
        said = f"a request gives {name} the shape {list(wrong[0])}; it has {len(sizes)} axes"
        yield Finding("dynamic", "error", said, name, source=PROFILE)
        return
    for axis, size in enumerate(sizes):
        seen = sorted({s[axis] for s in shapes})
        yield from _axis(name, axis, size, seen)


def _axis(name: str, axis: int, size: int | str | None, seen: Sequence[int]) -> Iterator[Finding]:
    if isinstance(size, int):
        if any(n != size for n in seen):
            said = f"a request gives axis {axis} of {name} the size {seen[-1]}; the graph fixes it at {size}"
            yield Finding("dynamic", "error", said, name, source=PROFILE)
        return
    what = f"axis {size}" if size else f"axis {axis} of {name}, which has no name,"
    if not seen:
        said = f"{what} is dynamic, and no request tells its least, usual and greatest size"
        again = "accel inspect MODEL --for TARGET --data feeds.npz"
        yield Finding("dynamic", "unknown", said, name, source=PROFILE, fix=again)
    elif seen[-1] >= WIDE * seen[0] > 0:
        said = f"{what} goes from {seen[0]} to {seen[-1]}: two profiles may be quicker than one"
        split = "split the requests into groups of like sizes"
        yield Finding("dynamic", "note", said, name, source=RULE, fix=split)
