"""How long each node's kernel takes, by ONNX Runtime's own profiler.

Every call is slower under it, the more so the more nodes there are: the times of two graphs are good
for telling which nodes differ, not for saying how long a call takes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from accel import arrays
from accel.engines import onnxruntime_cpu
from accel.errors import CandidateBroken
from accel.plain import flat
from accel.values import Plan

CALLS = 20  # of each request; the first of them is left out
ENDS = "_kernel_time"


def profile(plan: Plan, requests: Path, weights: Sequence[float]) -> dict[str, float]:
    """ "operator name" of a node -> seconds of its kernel: the median over calls of each request, the
    requests weighted. A node in a loop counts once, with its median pass.

    Raises CandidateBroken where the plan does not run."""
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    feeds = arrays.load(requests)
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        threads = int(plan.options["threads"])
        session = onnxruntime_cpu.session(plan.path, threads, level, watched=Path(folder))
        try:
            for feed in feeds:
                for _ in range(CALLS):
                    session.run(None, dict(feed))
        except Exception as error:  # onnxruntime raises a dozen types of its own
            raise CandidateBroken(f"ONNX Runtime could not run: {flat(error)[:400]}") from None
        finally:
            told = Path(session.end_profiling()).read_text(encoding="utf-8")
    passes: dict[str, list[float]] = defaultdict(list)
    for event in json.loads(told):
        if event.get("cat") == "Node" and event["name"].endswith(ENDS):
            name = f"{event['args']['op_name']} {event['name'].removesuffix(ENDS)}"
            passes[name].append(event["dur"] * 1e-6)
    return {name: _weighted(seconds, weights) for name, seconds in passes.items()}


def _weighted(seconds: Sequence[float], weights: Sequence[float]) -> float:
    """Passes stand in the order of the calls; a node that some calls leave out cannot be told apart."""
    if len(seconds) != CALLS * len(weights):
        return statistics.median(seconds)
    parts = (seconds[i * CALLS + 1 : (i + 1) * CALLS] for i in range(len(weights)))
    return sum(w * statistics.median(part) for w, part in zip(weights, parts, strict=True))
