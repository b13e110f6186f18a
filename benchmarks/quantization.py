"""Quantization that keeps its promise, beside others': five models, one table each, of one interleaved run.

    python benchmarks/quantization.py --models depthwise transformer --out .benchmarks/quantization

Rows: fp32 and dynamic and static int8 in ONNX Runtime, NNCF's int8 and its accuracy control (15 minutes at
most) in OpenVINO, and what `accel optimize --max-drop 0.5pt` picks. Columns: the score on the certify split,
which nothing was chosen on, but that accel refuses whoever loses more than the budget there; the one-sided 95 % bound of its drop against fp32; top-1 agreement or mean cosine
with fp32; time over fp32's, from rounds that were interleaved; size; minutes to make it; memory. ResNet-50 has
random weights: its score is empty. Needs ACCEL_DATA; the two Fashion-MNIST networks train on the first run.
Everything is kept in OUT; run again it goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the workers are spawned with the same path

from peer_arms import artefacts, interleave, table, workload  # noqa: E402
from peer_arms.arms import ACCEL, QUANTIZED, Arm  # noqa: E402
from peer_arms.interleave import Protocol  # noqa: E402

MODELS = {
    "minilm": HERE.parent / "examples" / "minilm.py",
    "resnet20": HERE.parent / "examples" / "resnet20.py",
    "depthwise": HERE / "workloads" / "depthwise.py",
    "transformer": HERE / "workloads" / "transformer.py",
    "resnet50": HERE / "workloads" / "resnet50.py",
}
BUDGET = 0.5  # points
LIMIT_S = 900.0  # of NNCF's accuracy control
PROTOCOL = {"budget_s": 0.25, "max_foreign": 0.12, "retakes": 3, "seed": 0}


def main() -> None:
    """A table a model."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=tuple(MODELS), choices=tuple(MODELS))
    parser.add_argument("--out", type=Path, default=Path(".benchmarks/quantization"))
    parser.add_argument("--epochs", type=int, default=5, help="fresh processes, in the timing")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results = {name: compared(name, asked) for name in asked.models}
    print(json.dumps(results, indent=1) if asked.json else "\n\n".join(map(text, results.values())))


def compared(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One model: make, score and time every arm."""
    source, out = MODELS[name], asked.out.absolute() / name
    problem = workload.load(source)
    arms, trouble = prepared(source, out, problem)
    protocol = Protocol(epochs=asked.epochs, rounds=asked.rounds, **PROTOCOL)
    traces = out / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    interleave.measure(arms, source, protocol, traces)
    told = {arm.name: answers(arm, source, out) for arm in arms}
    read = table.read(traces, list(problem.requests()))
    rows = [row(arm, problem, told, read, out) for arm in arms]
    return {"model": name, "rows": rows, "trouble": trouble, "budget": BUDGET}


def prepared(source: Path, out: Path, problem: Any) -> tuple[list[Arm], dict[str, str]]:
    """The arms whose artefacts could be made, and why others could not."""
    arms, trouble = [], {}
    for arm in QUANTIZED:
        if arm.artefact == "nncf_control" and problem.samples is None:
            trouble[arm.name] = "no labels to control by"
            continue
        limit = LIMIT_S if arm.artefact == "nncf_control" else None
        try:
            path = artefacts.prepare(source, arm.artefact, out / "artefacts", limit)
        except subprocess.TimeoutExpired:
            trouble[arm.name] = f"did not finish in {LIMIT_S / 60:.0f} minutes"
        except subprocess.CalledProcessError:
            log = (out / "artefacts" / f"{arm.artefact}.log").read_text().strip().splitlines()
            trouble[arm.name] = (log or ["failed"])[-1][:200]
        else:
            arms.append(dataclasses.replace(arm, path=path))
    return [*arms, accel(source, out)], trouble


def accel(source: Path, out: Path) -> Arm:
    """accel's pick, made now unless an earlier run did."""
    release, note = out / "release", out / "artefacts" / "accel.json"
    if not note.exists():
        started = time.monotonic()
        command = [sys.executable, "-m", "accel", "optimize", str(source), "--out", str(release),
                   "--work", str(out / "work"), "--max-drop", f"{BUDGET}pt"]  # fmt: skip
        with (out / "accel.log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=log, check=True)
        note.write_text(json.dumps({"seconds": time.monotonic() - started}))
    return Arm(ACCEL, "accel", path=release)


def answers(arm: Arm, source: Path, out: Path) -> Mapping[str, Any]:
    """Rows and outputs on data that nothing was chosen on; asked for once."""
    path = out / "answers" / f"{arm.name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = interleave.answers(arm, source)
        np.savez(path, **{k: v for k, v in found.items() if v is not None})
    with np.load(path) as kept:
        return {k: kept[k] for k in kept.files}


def row(
    arm: Arm, problem: Any, told: Mapping[str, Mapping[str, Any]], read: Any, out: Path
) -> dict[str, Any]:
    """One line of the table."""
    assert arm.path is not None
    exact, own = told["fp32"], told[arm.name]
    name = ACCEL if arm.name == ACCEL else arm.artefact
    seconds = json.loads((out / "artefacts" / f"{name}.json").read_text())["seconds"]
    time_over = table.ratio(read, arm.name, "fp32", table.OBJECTIVE)
    return {
        "arm": arm.name,
        **scored(problem, exact, own),
        "agreement": agreement(problem, exact["outputs"], own["outputs"]),
        "time_over_fp32": dataclasses.asdict(time_over),
        "size_mb": size_mb(arm),
        "minutes": seconds / 60,
        "peak_mb": table.peak_bytes(read, arm.name) / 1e6,
    }


def scored(problem: Any, exact: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The score, and the one-sided 95 % bound of its drop, paired by sample."""
    from accel import intervals

    if "rows" not in own:
        return {"score": None, "drop": None, "bound": None}
    _, drop = intervals.paired(problem.metric, exact["rows"], own["rows"])
    return {"score": float(problem.metric(own["rows"])), "drop": drop.drop, "bound": drop.upper}


def agreement(problem: Any, want: Any, got: Any) -> float:
    """Percent of equal first classes, or the mean cosine x 100 of what is no classes."""
    if problem.outputs == ("logits",):
        return 100 * float((want.argmax(1) == got.argmax(1)).mean())
    norms = np.linalg.norm(want, axis=1) * np.linalg.norm(got, axis=1)
    return 100 * float(((want * got).sum(axis=1) / norms).mean())


def size_mb(arm: Arm) -> float:
    """On disk; of a release, what its winner loads."""
    assert arm.path is not None
    if arm.name != ACCEL:
        return artefacts.size(arm.path) / 1e6
    from accel import release

    return release.read(arm.path).winner.size_bytes / 1e6


def text(result: Mapping[str, Any]) -> str:
    """One model's table."""
    lines = [f"{result['model']} (budget {result['budget']:g} pt)",
             "| | score | drop | bound | agreement | time / fp32's | MB | minutes | peak MB |",
             "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in result["rows"]:
        lines.append(f"| {' | '.join(_words(r))} |")
    lines += [f"{arm}: {why}" for arm, why in result["trouble"].items()]
    return "\n".join(lines)


def _words(r: Mapping[str, Any]) -> Sequence[str]:
    ratio = r["time_over_fp32"]
    scores = ["", "", ""]
    if r["score"] is not None:
        scores = [f"{r['score']:.2f}", f"{r['drop']:+.2f}", f"{r['bound']:+.2f}"]
    return (
        r["arm"],
        *scores,
        f"{r['agreement']:.2f}",
        f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]",
        f"{r['size_mb']:.1f}",
        f"{r['minutes']:.1f}",
        f"{r['peak_mb']:.0f}",
    )


if __name__ == "__main__":
    main()
