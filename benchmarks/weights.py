"""What weights alone gain where memory is the limit, and lose where it is not: weight_only beside fp32.

    python benchmarks/weights.py --rows 1 16 256

A chain of products [rows, 4096] x [4096, 4096], each with a weight of its own, so that even in int4 they are
together larger than a cache. Every arm is a plan of accel's own, of every variant of the recipe and every
setting of the engine; in each round all run once, in an order drawn anew. A figure is fp32's time over the arm's,
in the same engine, paired by round: the median, and where nine rounds of ten lie.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from accel import catalog, graph, target
from accel.values import Feed, Model, Request

ENGINES = ("onnxruntime_cpu", "openvino")
ROUNDS = 30
DROPPED = 3  # rounds, of the first
PAUSE_S = (
    0.05  # the threads of the arm before spin for a while; the call behind it wakes this arm's own
)


def main() -> None:
    """Build every arm, time them in turns, print a table for each number of rows."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1])
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        base = chain(Path(folder) / "fp32.onnx", asked.size, asked.layers)
        sessions = {
            engine: dict(arms(engine, base, asked.threads, Path(folder) / engine))
            for engine in asked.engines
        }
        for rows in asked.rows:
            found = {e: ratios(timed(s, rows, asked.size)) for e, s in sessions.items()}
            print(json.dumps({"rows": rows, **found}) if asked.json else table(rows, found))


def chain(path: Path, size: int, layers: int) -> Model:
    """x w0 w1 ..., with weights that keep the size of the values."""
    draw = np.random.default_rng(0)
    names = ["x", *(f"h{i}" for i in range(1, layers)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], f"product{i}")
        for i in range(layers)
    ]
    weights = [draw.normal(size=(size, size)).astype(np.float32) / size**0.5 for _ in range(layers)]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", size]) for n in "xy"]
    held = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    body = helper.make_graph(nodes, "chain", ports[:1], ports[1:], held)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(body, opset_imports=opsets, ir_version=8), path)
    return graph.describe(path)


def arms(engine: str, base: Model, threads: int, out: Path) -> Iterator[tuple[str, Any]]:
    """Each variant and setting by name, loaded; fp32 first."""
    module, recipe = catalog.load("engines", engine), catalog.load("recipes", "weight_only")
    here = target.load("cpu-local")
    style, number = module.style(here), 0
    graphs: list[tuple[str, Model]] = [("fp32", base)]
    for variant in recipe.variants(style):
        number += 1
        (out / f"graph{number}").mkdir(parents=True)
        words = " ".join(f"{k}={v}" for k, v in variant.items())
        made = recipe.apply(base, None, style, variant, out / f"graph{number}")
        graphs.append((f"weight_only {words}", made.model))
    for name, model in graphs:
        for options in module.options(name.split()[0], here, [], {}):
            if options.get("precision") == "bf16" or "buckets" in options:
                continue
            number += 1
            (out / f"plan{number}").mkdir(parents=True)
            given = {**options, "threads": threads}
            request = [Request("all", 1.0, feed(1, int(base.inputs[0].shape[1])))]
            plan = module.build(model, here, given, request, out / f"plan{number}")
            rounded = " activations=int8" if "activations" in options else ""
            yield f"{name}{rounded}", module.load(plan)


def feed(rows: int, size: int) -> Feed:
    """Normal values."""
    return {"x": np.random.default_rng(rows).normal(size=(rows, size)).astype(np.float32)}


def timed(sessions: Mapping[str, Any], rows: int, size: int) -> dict[str, list[float]]:
    """Seconds of each arm in each round."""
    calls: list[tuple[str, Callable[[], Any]]] = [
        (name, session.bind(feed(rows, size))) for name, session in sessions.items()
    ]
    found: dict[str, list[float]] = {name: [] for name in sessions}
    draw = random.Random(0)
    for number in range(DROPPED + ROUNDS):
        draw.shuffle(calls)
        for name, call in calls:
            time.sleep(PAUSE_S)
            call()
            started = time.perf_counter()
            call()
            if number >= DROPPED:
                found[name].append(time.perf_counter() - started)
    return found


def ratios(seconds: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """fp32's time over each arm's: [median, 5th, 95th percentile]."""
    return {
        name: [
            round(float(q), 3) for q in np.percentile(np.divide(seconds["fp32"], s), (50, 5, 95))
        ]
        for name, s in seconds.items()
    }


def table(rows: int, found: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Text."""
    lines = [f"{rows} rows: fp32's time over the arm's (above 1 it is quicker)"]
    for engine, by_arm in found.items():
        lines += [
            f"  {engine:<16} {name:<44} {m:6.2f}  [{low:.2f}, {high:.2f}]"
            for name, (m, low, high) in by_arm.items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
