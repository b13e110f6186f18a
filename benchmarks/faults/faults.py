"""Does `accel explain` find a planted fault? Beside a plain sort by error, as qdq_loss_debug offers it.

    python benchmarks/faults/faults.py --per 2 --seed 1234      # needs ACCEL_DATA/fashion-mnist

For each kind of fault and each of six networks, sites and severities are drawn until the fault costs 1 to
20 points of the test images; a net that has no such site, or where no severity does, is said so. hit@k: one
of the first k that are named is the site. The plain sort is by the error of each value between the two
graphs (qdq_loss_debug's xmodel_err), and by that of a pair or a weight alone (its qdq_err, weight_err), the
larger of them first. Every trial is kept in OUT; run again it goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import plain
import plant
from case import Case, Fault

from accel.questions.explain import explain

LEAST, MOST = 1.0, 20.0  # points
TRIES = 40  # draws of a site and a severity, for one trial
EVALUATED, EXPLAINED, BATCH = 1_000, 128, 16
NETS = ("cnn", "depthwise", "encoder", "lstm", "mlp", "detector")


def main() -> None:
    """Draw, plant, explain, tell."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--per", type=int, default=1, help="trials of a kind and a net")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nets", nargs="+", default=NETS, choices=NETS)
    parser.add_argument(
        "--kinds", nargs="+", default=tuple(plant.KINDS), choices=tuple(plant.KINDS)
    )
    parser.add_argument("--out", type=Path, default=Path(".benchmarks/faults"))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    script = Path(__file__).with_name("nets.py")
    subprocess.run([sys.executable, str(script), str(asked.out)], check=True)
    kept = asked.out / f"trials-{asked.seed}.jsonl"
    done = {tuple(t["id"]): t for t in _lines(kept)}
    for trial in trials(asked, done):
        done[tuple(trial["id"])] = trial
        with kept.open("a") as stream:
            stream.write(json.dumps(trial) + "\n")
        print(_told(trial), file=sys.stderr, flush=True)
    wanted = [t for t in done.values() if t["id"][0] in asked.kinds and t["id"][1] in asked.nets]
    print(json.dumps(wanted, indent=1) if asked.json else table(wanted))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def trials(asked: argparse.Namespace, done: Any) -> Iterator[dict[str, Any]]:
    """One of each kind, net and number that is not done yet."""
    for net in asked.nets:
        case, test = load(asked.out, net)
        exact = accuracy(net, case.reference, test)
        for kind in asked.kinds:
            for number in range(asked.per):
                name = (kind, net, number)
                if name not in done:
                    draw = np.random.default_rng([asked.seed, number, *map(ord, kind + net)])
                    yield {"id": name, **trial(case, kind, draw, test, exact)}


def load(folder: Path, net: str) -> tuple[Case, Any]:
    """A trained net, its int8 form, and its test data."""
    reference = onnx.load(folder / f"{net}.onnx")
    with np.load(folder / f"{net}.npz") as found:
        x, y, calibration = found["x"], found["y"], found["calibration"]
    base = quantized(reference, calibration)
    return Case(net, reference, base, quantized, calibration), (x, y)


def quantized(proto: Any, images: Any) -> Any:
    """ONNX Runtime's static int8, per channel, MinMax."""
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def __init__(self) -> None:
            self._left = iter(np.split(images, len(images) // BATCH))

        def get_next(self) -> Any:
            part = next(self._left, None)
            return None if part is None else {"x": part}

    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "a.onnx"), Path(folder, "b.onnx")
        onnx.save(onnx.shape_inference.infer_shapes(proto), source)
        q.quantize_static(
            str(source), str(made), Reader(), per_channel=True, activation_type=q.QuantType.QUInt8
        )
        return onnx.load(made)


def trial(case: Case, kind: str, draw: Any, test: Any, exact: float) -> dict[str, Any]:
    """One planted fault that costs as much as asked, of what the same graph scores without it."""
    base = accuracy(case.name, case.base, test)
    for _ in range(TRIES):
        fault = plant.KINDS[kind](case, draw, float(draw.random()))
        if fault is None:
            return {"none": "no site of this kind"}
        planted_in_float = fault.reference is not case.reference
        sound = exact if planted_in_float else base
        cost = sound - accuracy(case.name, fault.candidate, test)
        if LEAST <= cost <= MOST:
            return {"cost": round(cost, 2), "sites": fault.sites, **found(case, fault)}
    return {"none": f"no drawn severity cost {LEAST:g} to {MOST:g} points"}


def accuracy(net: str, proto: Any, test: Any) -> float:
    """Percent of the test images."""
    from nets import right

    session = onnxruntime.InferenceSession(proto.SerializeToString(), plain.quiet())
    x, y = test[0][:EVALUATED], test[1][:EVALUATED]
    out = np.concatenate([session.run(None, {"x": part})[0] for part in np.split(x, 10)])
    return 100 * float(right(net, np.nan_to_num(out), y).mean())


def found(case: Case, fault: Fault) -> dict[str, Any]:
    """The ranks at which accel and the plain sort name the site; 0: not at all."""
    images = case.calibration[:EXPLAINED]
    feeds = [{"x": part} for part in np.split(images, EXPLAINED // BATCH)]
    spoilt = fault.calibration
    calibration = (
        None if spoilt is None else [{"x": p} for p in np.split(spoilt, len(spoilt) // BATCH)]
    )
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "reference.onnx"), Path(folder, "candidate.onnx")
        onnx.save(fault.reference, one)
        onnx.save(fault.candidate, two)
        started = time.perf_counter()
        told = explain(two, one, feeds, calibration)
        seconds = time.perf_counter() - started
    by_error = plain.by_error(fault, feeds)
    return {
        "rank": _rank([s.value for s in told.suspects], fault.sites),
        "plain": _rank(by_error, fault.sites),
        "kind": told.suspects[0].kind if told.suspects else "",
        "parts": told.parts,
        "seconds": round(seconds, 2),
    }


def _rank(named: Sequence[str], sites: Sequence[str]) -> int:
    return next((i for i, name in enumerate(dict.fromkeys(named), 1) if name in sites), 0)


def _told(trial: dict[str, Any]) -> str:
    kind, net, number = trial["id"]
    if "none" in trial:
        return f"{kind} {net} {number}: {trial['none']}"
    return (
        f"{kind} {net} {number}: cost {trial['cost']}, accel {trial['rank'] or 'not'}, "
        f"plain {trial['plain'] or 'not'}, {trial['kind'] or '?'}, {trial['seconds']} s"
    )


def table(found: Sequence[dict[str, Any]]) -> str:
    """Hits by kind, by net and in all."""
    rows = [("", "trials", "no site", "hit@1", "hit@3", "plain hit@1", "plain hit@3")]
    groups = [
        (k, [t for t in found if t["id"][0] == k]) for k in dict.fromkeys(t["id"][0] for t in found)
    ]
    groups += [
        (n, [t for t in found if t["id"][1] == n]) for n in dict.fromkeys(t["id"][1] for t in found)
    ]
    for name, some in (*groups, ("all", list(found))):
        judged = [t for t in some if "rank" in t]
        if not judged:
            rows.append((name, "0", str(len(some)), "", "", "", ""))
            continue
        shares = [
            f"{100 * np.mean([0 < t[who] <= k for t in judged]):.0f} %"
            for who in ("rank", "plain") for k in (1, 3)
        ]  # fmt: skip
        rows.append((name, str(len(judged)), str(len(some) - len(judged)), *shares))
    widths = [max(len(r[i]) for r in rows) for i in range(7)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows
    )


if __name__ == "__main__":
    main()
