"""What changed between two subjects, in a few lines for people: the graphs, then the plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from accel import graph
from accel.errors import BadModel
from accel.evidence import Subject
from accel.values import Model, Plan, Port

NAMED = 6  # told of each kind in its one line
LONGEST = 60  # characters of one option or fact
QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
INTEGER = ("QLinear", "Integer", "MatMulNBits", "QGemm", "QAttention")  # parts of operators' names


def lines(candidate: Subject, baseline: Subject) -> tuple[str, ...]:
    """From the baseline to the candidate, a line a kind, 11 at most; nothing is raised."""
    if candidate.plan is None or baseline.plan is None:
        lost = [s for s in (baseline, candidate) if s.plan is None]
        return tuple(f"{s.name} could not be read: {s.trouble}" for s in lost)
    return (
        *_graphs(candidate.plan, baseline.plan),
        *_sizes(candidate, baseline),
        *_plans(candidate.plan, baseline.plan),
    )


def _graphs(candidate: Plan, baseline: Plan) -> list[str]:
    if candidate.model.digest == baseline.model.digest:
        return [f"the graphs are the same (digest {candidate.model.digest[:12]})"]
    ports = _ports(candidate.model, baseline.model)
    read = [_skeleton(plan) for plan in (baseline, candidate)]
    wrong = next((r for r in read if isinstance(r, str)), None)
    if wrong is not None:
        return [f"the graphs differ, and {wrong}", *ports]
    there, here = read
    return [*(_operators(there, here) or [_weights(there, here)]), *_kinds(there, here), *ports]


def _skeleton(plan: Plan) -> Any:
    """The ModelProto, or why there is none."""
    path = plan.model.path
    if path.suffix != ".onnx":
        return f"the one that {plan.engine} was built from is not at hand"
    try:
        return graph.skeleton(path)
    except (BadModel, OSError) as error:
        return f"one cannot be read: {error}"


def _operators(there: Any, here: Any) -> list[str]:
    had, has = graph.operators(there), graph.operators(here)
    changed = {op: has.get(op, 0) - had.get(op, 0) for op in {**had, **has}}
    ranked = sorted(changed.items(), key=lambda item: -abs(item[1]))
    told = [f"{op} {n:+d}" for op, n in ranked if n]
    total = f"{sum(had.values()):,} -> {sum(has.values()):,} nodes"
    return [f"operators: {_few(told)} ({total})"] if told else []


def _weights(there: Any, here: Any) -> str:
    """Of two graphs with the same operators: what else can differ."""
    tensors = [{t.name: t.SerializeToString() for t in g.graph.initializer} for g in (there, here)]
    names = [n for n in {**tensors[0], **tensors[1]} if tensors[0].get(n) != tensors[1].get(n)]
    if names:
        return f"same operators, other weights: {_few(names)}"
    return "same operators and weights, other attributes, wiring or ports"


def _kinds(there: Any, here: Any) -> list[str]:
    read: tuple[tuple[str, Callable[[Any], Mapping[str, int]]], ...] = (
        ("opset", _opsets),
        ("elements of weights", graph.dtype_census),
        ("quantization", _quantized),
    )
    return [
        f"{what}: {told}" for what, count in read if (told := _moved(count(there), count(here)))
    ]


def _opsets(proto: Any) -> dict[str, int]:
    return {o.domain or "ai.onnx": o.version for o in proto.opset_import}


def _quantized(proto: Any) -> dict[str, int]:
    """Q/DQ nodes, and operators that compute on integers."""
    found = graph.operators(proto)
    return {
        "Q/DQ nodes": sum(n for op, n in found.items() if op.rpartition(".")[2] in QUANTIZED),
        "integer operators": sum(
            n for op, n in found.items() if any(part in op for part in INTEGER)
        ),
    }


def _ports(candidate: Model, baseline: Model) -> list[str]:
    pairs = (
        ("inputs", baseline.inputs, candidate.inputs),
        ("outputs", baseline.outputs, candidate.outputs),
    )
    return [
        f"{what}: {_listed(there)} -> {_listed(here)}"
        for what, there, here in pairs
        if there != here
    ]


def _listed(ports: tuple[Port, ...]) -> str:
    told = [f"{p.name} {p.dtype} [{', '.join(map(str, p.shape))}]" for p in ports]
    return _few(told)


def _sizes(candidate: Subject, baseline: Subject) -> list[str]:
    there, here = baseline.size_bytes, candidate.size_bytes
    if there == here:
        return []
    share = f" ({here / there - 1:+.1%})" if there else ""
    return [f"size: {there / 1e6:.2f} -> {here / 1e6:.2f} MB{share}"]


def _plans(candidate: Plan, baseline: Plan) -> list[str]:
    told = (
        [] if candidate.engine == baseline.engine else [f"{baseline.engine} -> {candidate.engine}"]
    )
    engine = [f"engine: {told[0]}"] if told else []
    kinds = (
        ("options", baseline.options, candidate.options),
        ("versions", baseline.versions, candidate.versions),
        ("read back from the engine", baseline.facts, candidate.facts),
    )
    return engine + [f"{what}: {moved}" for what, a, b in kinds if (moved := _moved(a, b))]


def _moved(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What is not the same in two mappings: "threads 2 -> 1"; empty where nothing is."""
    names = [k for k in {**there, **here} if there.get(k) != here.get(k)]
    return _few([f"{k} {_short(there.get(k))} -> {_short(here.get(k))}" for k in names])


def _short(value: Any) -> str:
    if value is None:
        return "none"
    told = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return told if len(told) <= LONGEST else told[: LONGEST - 3] + "..."


def _few(told: list[str]) -> str:
    more = f" and {len(told) - NAMED} more" if len(told) > NAMED else ""
    return ", ".join(told[:NAMED]) + more
