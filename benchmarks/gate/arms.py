"""What is timed: a real model through accel's own steps, its copies, and variants that are slower.

    python benchmarks/gate/arms.py minilm .benchmarks/gate/work/minilm     # record.py calls this

MiniLM is exported, fused and quantized (dynamic int8), ResNet-20 exported as fp32; both run in ONNX
Runtime on every core. The variants are regressions that a person might ship: `nodes` has pairs of
multiplications by 2 and by 1/2 in its graph (exact, and not taken out by the runtime, which is
checked), `one_thread` has a thread fewer, `unfused` runs as accel's yardstick does: no fused operator,
no graph optimization, one thread. (A graph that was merely not fused beforehand is no slower here: the
runtime fuses it when it loads.) Each is made once.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accel import arrays, catalog, disk, graph, manifest, store, target, workload
from accel.evidence import Subject
from accel.measure import machine
from accel.steps import build, export, quantize
from accel.values import Model, Options, Plan, Request, Workload

EXAMPLES = Path(__file__).parents[2] / "examples"
SENTENCES = 8  # a pass over them takes 10 to 20 ms
PAIRS = {"minilm": 48, "resnet20": 8}  # of extra nodes: 7 to 9 % of a call on one thread
AFTER = {"SkipLayerNormalization", "LayerNormalization", "Relu"}  # the operators they stand behind
VARIANTS = ("plain", "nodes", "one_thread", "unfused")
REQUESTS, ARMS = "requests.npz", "arms.json"


def prepare(name: str, work: Path) -> None:
    """Make every variant, and the requests; `arms.json` is written last."""
    problem = workload.load(str(EXAMPLES / f"{name}.py"))
    asked = chosen(name, workload.requests(problem))
    arrays.save(work / REQUESTS, (r.inputs for r in asked))
    cores = machine.cores()
    plain = MODELS[name](problem, work, True)
    options = {"one_thread": {"threads": max(1, cores - 1)}}
    graphs = {
        "plain": plain,
        "nodes": with_nodes(plain, PAIRS[name], work / "nodes"),
        "one_thread": plain,
    }
    every = {"threads": cores}
    plans = {
        v: _built(m, options.get(v, every), asked, work / f"plan-{v}") for v, m in graphs.items()
    }
    unfused = MODELS[name](problem, work, False)
    plans["unfused"] = _built(unfused, {}, asked, work / "plan-unfused", "reference")
    told = {
        "requests": [{"group": r.group, "weight": r.weight} for r in asked],
        "arms": {v: subject(f"{name} {v}", p) for v, p in plans.items()},
    }
    disk.write(work / ARMS, manifest.text(told, work))


def load(work: Path) -> tuple[dict[str, Subject], tuple[Request, ...]]:
    """What `prepare` made: the subjects by their variant, and the requests."""
    told = manifest.read(work / ARMS)
    asked = zip(told["requests"], arrays.load(work / REQUESTS), strict=True)
    requests = tuple(Request(r["group"], r["weight"], feed) for r, feed in asked)
    found = {name: manifest.load(Subject, data, work) for name, data in told["arms"].items()}
    return found, requests


def chosen(name: str, found: Sequence[Request]) -> tuple[Request, ...]:
    """One group, equal weights: single sentences spread evenly over the lengths; a single image."""
    if name == "resnet20":
        return (dataclasses.replace(found[0], weight=1.0),)
    singles = [r for r in found if r.group == "sentence"]
    singles.sort(key=lambda r: r.inputs["input_ids"].shape[1])
    picks = np.linspace(0, len(singles) - 1, SENTENCES).round().astype(int)
    return tuple(dataclasses.replace(singles[i], weight=1 / SENTENCES) for i in picks)


def subject(name: str, plan: Plan) -> Subject:
    """The plan as the gate sees it."""
    digest, size = store.digest_file(plan.path), plan.path.stat().st_size
    return Subject(name, plan.path, digest, plan, (), size)


def _minilm(problem: Workload, work: Path, fused: bool) -> Model:
    root = _exported(problem, work, "torchscript")
    style = catalog.load("engines", "onnxruntime_cpu").style(target.load("cpu-local"))
    out = work / ("int8-fused" if fused else "int8-unfused")
    options = {"fuse": True} if fused else {}
    return quantize.quantize(root, "int8_dynamic", None, style, options, out).model


def _resnet20(problem: Workload, work: Path, _: bool) -> Model:
    return _exported(problem, work, "torch_export")


def _exported(problem: Workload, work: Path, exporter: str) -> Model:
    out = work / exporter
    if not (out / "model.onnx").exists():
        out.mkdir(parents=True, exist_ok=True)
        return export.export(problem, exporter, out)
    return graph.describe(out / "model.onnx")


def _built(
    model: Model, options: Options, asked: Sequence[Request], out: Path, engine: str = ""
) -> Plan:
    here = target.load("cpu-local")
    return build.build(model, engine or "onnxruntime_cpu", here, options, asked, out)


MODELS: Mapping[str, Callable[..., Model]] = {"minilm": _minilm, "resnet20": _resnet20}


def with_nodes(model: Model, pairs: int, out: Path) -> Model:
    """The graph with so many more pairs of nodes that change nothing and cost something."""
    proto = onnx.load(model.path)
    place = next(i for i, n in enumerate(proto.graph.node) if n.op_type in AFTER)
    old = proto.graph.node[place].output[0]
    values = {"accel_double": np.float32(2), "accel_halve": np.float32(0.5)}
    for name, value in values.items():
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    names = [f"accel_extra_{i}" for i in range(2 * pairs)]
    _rename(proto.graph, old, names[-1])
    chain = [
        helper.make_node("Mul", [before, list(values)[i % 2]], [name], name=name)
        for i, (before, name) in enumerate(zip([old, *names], names, strict=False))
    ]
    for i, node in enumerate(chain):
        proto.graph.node.insert(place + 1 + i, node)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.onnx"
    graph.save(proto, path)
    _survives(path, len(chain))
    return dataclasses.replace(graph.describe(path), inputs=model.inputs, outputs=model.outputs)


def _rename(found: Any, old: str, new: str) -> None:
    for node in found.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def _survives(path: Path, count: int) -> None:
    """ONNX Runtime must keep the nodes, or nothing would be slower."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_name("optimized.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kept = sum(
        any(name.startswith("accel_extra_") for name in node.output)
        for node in onnx.load(options.optimized_model_filepath).graph.node
    )
    Path(options.optimized_model_filepath).unlink()
    if kept < count:
        raise RuntimeError(f"ONNX Runtime kept {kept} of {count} extra nodes")


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]))
