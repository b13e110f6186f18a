"""What bounds a release: where a call's time goes, and how near its products are to what the machine can do.

    python benchmarks/bound.py release            # a release whose winner runs in OpenVINO

For one request of each group: the kernels' own times as OpenVINO counts them, by kind; the operations of
products over the time of theirs, as a share of the highest rate that this machine was seen to reach in
the same type; and `at most`: how much quicker a call would be if all but the products cost nothing.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel import padding, release, roofline
from accel.floors import float32_as
from accel.measure import ceiling, machine
from accel.values import Feed, Plan, Request

PRODUCTS = (
    "FullyConnected",
    "Convolution",
    "MatMul",
    "Deconvolution",
)  # beginnings of OpenVINO's kinds
CALLS = 30
SHOWN = 6


def main() -> None:
    """A block a group."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    plan = release.intact(asked.release)
    if plan.engine != "openvino":
        sys.exit(f"{asked.release} runs in {plan.engine}; only OpenVINO counts its kernels' times.")
    rates = ceiling.measure(int(plan.options.get("threads", machine.cores()))).operations_per_s
    found = [group(plan, request, rates) for request in chosen(release.requests(asked.release))]
    print(json.dumps(found, indent=1) if asked.json else "\n\n".join(map(text, found)))


def chosen(requests: Sequence[Request]) -> list[Request]:
    """Of each group the one of median size."""
    groups: dict[str, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.group, []).append(request)
    return [sorted(some, key=_size)[len(some) // 2] for some in groups.values()]


def _size(request: Request) -> int:
    return max(math.prod(v.shape) for v in request.inputs.values())


def group(plan: Plan, request: Request, rates: Mapping[str, float]) -> dict[str, Any]:
    """The profile of one request, at the shape that the plan compiles for it."""
    feed = padded(plan, request.inputs)
    kinds = profile(plan, feed)
    sizes = roofline.of_feed(plan.model.inputs, feed)
    asked = roofline.work(plan.model.path, sizes, float32_as=float32_as(plan.options)).operations
    dtype = max(asked, key=lambda d: asked[d])
    products_s = sum(s for kind, s in kinds.items() if kind.startswith(PRODUCTS))
    total_s = sum(kinds.values())
    return {
        "group": request.group,
        "shape": next(list(v.shape) for v in feed.values()),
        "kernels_s": total_s,
        "kinds": dict(kinds.most_common()),
        "products_share": products_s / total_s,
        "dtype": dtype,
        "rate_ops_per_s": asked[dtype] / products_s,
        "ceiling_ops_per_s": rates.get(dtype),
        "at_most": total_s / products_s,
    }


def padded(plan: Plan, feed: Feed) -> dict[str, Any]:
    """The feed as the plan runs it: in the bucket that holds it, where it has some."""
    fill = plan.options.get("padding", {})
    wanted, axes = padding.sizes_of(plan.model, feed), padding.padded_axes(plan.model, fill)
    sizes = padding.fitting(plan.options.get("buckets", ()), wanted, axes) or wanted
    found = {}
    for port in plan.model.inputs:
        value = feed[port.name]
        room = [sizes[d] if isinstance(d, str) else d for d in port.shape]
        ends = [(0, int(n) - m) for n, m in zip(room, value.shape, strict=True)]
        found[port.name] = np.pad(value, ends, constant_values=fill.get(port.name, 0))
    return found


def profile(plan: Plan, feed: Mapping[str, Any]) -> collections.Counter[str]:
    """Seconds of a call by kind of kernel."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(plan.path))
    model.reshape({name: list(value.shape) for name, value in feed.items()})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": int(plan.options["threads"]),
        "INFERENCE_PRECISION_HINT": plan.options["precision"],
        "PERF_COUNT": True,
    }
    call = core.compile_model(model, "CPU", settings).create_infer_request()
    call.infer(dict(feed))
    seconds: collections.Counter[str] = collections.Counter()
    for _ in range(CALLS):
        call.infer(dict(feed))
        for node in call.profiling_info:
            kind = f"{node.node_type} {node.exec_type.rpartition('_')[2]}"
            seconds[kind] += node.real_time.total_seconds() / CALLS
    return seconds


def text(found: Mapping[str, Any]) -> str:
    """For people."""
    total = found["kernels_s"]
    lines = [f"{found['group']} {found['shape']}: {1e3 * total:.3f} ms in kernels"]
    lines += [
        f"  {100 * s / total:5.1f} %  {kind}" for kind, s in list(found["kinds"].items())[:SHOWN]
    ]
    rate, most = found["rate_ops_per_s"], found["ceiling_ops_per_s"]
    share = f", {100 * rate / most:.0f} % of the highest seen here" if most else ""
    lines.append(f"  products: {rate / 1e9:.0f} G {found['dtype']} operations/s{share}")
    lines.append(f"  without all else a call would be {found['at_most']:.2f}x as quick, at most")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
