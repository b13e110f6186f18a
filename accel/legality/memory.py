"""The least memory that the graph takes, against what the target has: weights, and live values at their peak.

An engine needs more: its context, its kernels' workspace, and while it builds both the weights as
they were and as it lays them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel import graph as graphs
from accel import roofline
from accel.errors import AccelError, BadModel
from accel.legality import _graph
from accel.values import Finding, Model, Request, Target

ENGINES = ()
TIGHT = 0.5  # of the memory: a build holds the weights twice, and shares memory with the system
LIVENESS = "liveness over the file's order (accel.roofline.peak)"
OOM = "NVIDIA/TensorRT#4258: 'Requested amount of GPU memory (15485030400 bytes) could not be allocated'"


def check(graph: _graph.Graph, target: Target, requests: Sequence[Request]) -> Iterator[Finding]:
    """At the sizes of the greatest request; axes that no request tells count as 1."""
    if target.memory_bytes is None or graph.trouble:
        return
    try:
        model = graphs.describe(graph.path)
        axes = _greatest(model, requests)
        found = roofline.peak(graph.path, axes)
    except BadModel:
        return  # the rule valid tells why
    except AccelError as error:
        said = f"the peak memory cannot be told: {error}"
        yield Finding("memory", "unknown", said[:300], source=LIVENESS)
        return
    yield from _judged(found, target.memory_bytes, axes)


def _greatest(model: Model, requests: Sequence[Request]) -> dict[str, int]:
    """Each open axis at its greatest size among the requests."""
    told = [roofline.of_feed(model.inputs, r.inputs) for r in requests]
    return {
        name: max((t[name] for t in told if name in t), default=1)
        for name in roofline.axes(model.inputs)
    }


def _judged(found: roofline.Peak, memory_bytes: int, axes: dict[str, int]) -> Iterator[Finding]:
    at = f" at {', '.join(f'{k} {v}' for k, v in axes.items())}" if axes else ""
    said = (
        f"{_size(found.total_bytes)} at least{at} ({_size(found.weights_bytes)} of weights, "
        f"{_size(found.activations_bytes)} live at once); the target has {_size(memory_bytes)}"
    )
    if found.unknown:
        said += f"; {len(found.unknown)} values of unknown size are not counted"
    if found.total_bytes > memory_bytes:
        yield Finding("memory", "error", said, found.node, source=f"{LIVENESS}; {OOM}")
    elif found.total_bytes > TIGHT * memory_bytes:
        yield Finding("memory", "warning", said, found.node, source=f"{LIVENESS}; {OOM}")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
