"""The yardstick of every check and score: fp32 in ONNX Runtime, one thread, nothing optimized.

No fusion, no layout change, no reordering: what the graph says, node by node. (The ONNX project's
own reference evaluator would be more independent, but its Conv and MatMul take minutes here.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxruntime

from accel import catalog
from accel.engines import onnxruntime_cpu
from accel.protocols import Probe, Session
from accel.values import Model, Options, Plan, QuantStyle, Refusal, Request, Target

BASELINE = True
LEVEL = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def probe() -> Probe:
    """Where ONNX Runtime is usable, so is this."""
    return onnxruntime_cpu.probe()


def style(target: Target) -> QuantStyle:
    """Never quantized for; ONNX Runtime's own style."""
    return onnxruntime_cpu.style(target)


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """fp32 only."""
    others = (name for name in catalog.names("recipes") if name != "fp32")
    plain = "the yardstick runs fp32 as it is, so that everything else can be compared with it"
    return {"fp32": None, **{name: Refusal(name, plain) for name in others}}


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """Nothing to choose: one thread, so that sums have one order."""
    return ({"threads": 1},)


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """The graph, as it is."""
    plan = onnxruntime_cpu.built(model, {**options, "threads": 1}, requests, out, LEVEL)
    return dataclasses.replace(plan, engine="reference")


def load(plan: Plan) -> Session:
    """One thread, whatever the plan says."""
    inner = onnxruntime_cpu.session(plan.path, 1, LEVEL, ports=plan.model.inputs)
    return onnxruntime_cpu.Session(inner, plan.model.inputs)
