"""accel's pick beside each library as its documents advise, all timed in one interleaved run.

    python benchmarks/peers.py --workload minilm --release release/ --out .benchmarks/minilm

Raw calls of each library on the requests of examples/<workload>.py; only accel's pick goes through
`accel.load`. Peers take open axes as they are: who pads to static shapes by hand can have what accel's
buckets gain. Finalists of accel's that lost too much on the split that is scored here were refused. Needs the extras [cpu,torch,openvino,examples]; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the workers are spawned with the same path

from peer_arms import artefacts, interleave, table, workload  # noqa: E402
from peer_arms.arms import ACCEL, ARMS, Arm, has_bf16  # noqa: E402
from peer_arms.interleave import Protocol  # noqa: E402

LIBRARIES = ("torch", "onnxruntime", "openvino", "nncf", "transformers", "numpy")


def main() -> None:
    """Prepare, time, score, print."""
    asked = arguments()
    source = asked.workload_file or HERE.parent / "examples" / f"{asked.workload}.py"
    requests = list(workload.load(source).requests())
    arms, refused = chosen(asked)
    arms = [prepared(arm, source, asked) for arm in arms]
    protocol = protocol_of(asked)
    traces = same_run(asked.out, {**protocol, "arms": [a.name for a in arms]})
    interleave.measure(arms, source, Protocol(**protocol), traces)
    scored = {} if asked.no_scores else interleave.scores(arms, source, asked.out / "scores")
    rows = figures(table.read(traces, requests), arms, scored)
    result = {"rows": rows, "refused": refused, "machine": machine(), "protocol": protocol}
    result["best_peer"] = best_peer(rows, asked.max_drop)
    (asked.out / "result.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1) if asked.json else text(result))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--workload", choices=ARMS, required=True)
    add("--workload-file", type=Path, help="another file than examples/WORKLOAD.py")
    add("--release", type=Path, help="accel's pick; without it only the peers are timed")
    add("--out", type=Path, required=True, help="artefacts, traces and scores; a rerun goes on")
    add("--only", default="", help="arms whose name contains one of these, separated by commas")
    add("--epochs", type=int, default=5, help="fresh processes (default 5)")
    add("--rounds", type=int, default=10, help="blocks an arm and epoch (default 10)")
    add("--budget-s", type=float, default=0.4, help="seconds of calls a group and block")
    add("--max-foreign", type=float, default=0.12, help="cores that others may use meanwhile")
    add("--retakes", type=int, default=6, help="of a disturbed block; the quietest is kept")
    add("--max-drop", type=float, default=0.5, help="points that the best peer may have lost")
    add("--seed", type=int, default=0)
    add("--no-scores", action="store_true", help="leave the accuracy column empty")
    add("--json", action="store_true", help="one JSON document instead of the table")
    return parser.parse_args()


def chosen(asked: argparse.Namespace) -> tuple[list[Arm], dict[str, str]]:
    """The arms to run, and why others are not."""
    wanted = [word.strip() for word in asked.only.split(",")]
    first, *others = ARMS[asked.workload]  # what drops are counted from
    arms = [first, *(a for a in others if any(word in a.name for word in wanted))]
    reason = "this CPU has no bf16 instructions"
    refused = {a.name: reason for a in arms if a.bf16 and not has_bf16()}
    return [a for a in arms if a.name not in refused] + accel_arm(asked.release), refused


def accel_arm(release: Path | None) -> list[Arm]:
    """accel's own arm, when there is a release."""
    return [Arm(ACCEL, "accel", path=release.resolve())] if release else []


def prepared(arm: Arm, source: Path, asked: argparse.Namespace) -> Arm:
    """The arm with its artefact made."""
    if not arm.artefact:
        return arm
    path = artefacts.prepare(source.resolve(), arm.artefact, (asked.out / "artefacts").resolve())
    return dataclasses.replace(arm, path=path)


def protocol_of(asked: argparse.Namespace) -> dict[str, Any]:
    """The fields of Protocol, from the command line."""
    return {f.name: getattr(asked, f.name) for f in dataclasses.fields(Protocol)}


def same_run(out: Path, asked: Mapping[str, Any]) -> Path:
    """The traces' folder; refused when it holds another run's, which must not be mixed in."""
    traces, note = out / "traces", out / "run.json"
    traces.mkdir(parents=True, exist_ok=True)
    told = {k: v for k, v in asked.items() if k != "epochs"}  # more epochs may be added
    if note.exists() and json.loads(note.read_text()) != told and any(traces.glob("epoch-*")):
        sys.exit(f"{out} holds traces of other arms or settings: take another --out.")
    note.write_text(json.dumps(told, indent=1))
    return traces


def figures(
    traces: table.Traces, arms: Sequence[Arm], scored: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One row an arm, fastest first; ratios are arm / accel."""
    names = [a.name for a in arms]
    rows = [
        {
            "arm": arm.name,
            "p50_ms": {k: 1e3 * v for k, v in table.p50_s(traces, arm.name).items()},
            "score": scored.get(arm.name),
            "drop": scored[names[0]] - scored[arm.name] if scored else None,
            "size_mb": size_mb(arm),
            "peak_mb": table.peak_bytes(traces, arm.name) / 1e6,
            "foreign_cores": table.foreign(traces, arm.name),
            "over_accel": over_accel(traces, arm.name) if ACCEL in names else {},
        }
        for arm in arms
    ]
    return sorted(rows, key=lambda row: float(row["p50_ms"][table.OBJECTIVE]))


def over_accel(traces: table.Traces, arm: str) -> dict[str, Any]:
    """Column -> ratio with its interval."""
    found = {c: table.ratio(traces, arm, ACCEL, c) for c in table.columns(traces)}
    return {c: dataclasses.asdict(r) for c, r in found.items()}


def size_mb(arm: Arm) -> float:
    """On disk; of a release, what its winner loads."""
    assert arm.path is not None
    if arm.name != ACCEL:
        return artefacts.size(arm.path) / 1e6
    from accel import release

    return release.read(arm.path).winner.size_bytes / 1e6


def best_peer(rows: Sequence[Mapping[str, Any]], max_drop: float) -> dict[str, str]:
    """Per column, the fastest arm but accel that kept its accuracy (all, where none is scored)."""
    fit = [r for r in rows if r["arm"] != ACCEL and (r["drop"] is None or r["drop"] <= max_drop)]
    columns = rows[0]["p50_ms"]
    return {c: min(fit, key=lambda r: float(r["p50_ms"][c]))["arm"] for c in columns} if fit else {}


def machine() -> dict[str, Any]:
    """Where this was measured."""
    info = Path("/proc/cpuinfo").read_text()
    model = next(x.partition(":")[2].strip() for x in info.splitlines() if "model name" in x)
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"cpu": model, "bf16": has_bf16(), "python": platform.python_version(), **versions}


def text(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    columns = list(result["rows"][0]["p50_ms"])
    heads = [f"{c} ms" for c in columns]
    lines = [f"| arm | {' | '.join(heads)} | score | drop | disk MB | peak MB | foreign cores |"]
    lines.append("|---" * (len(heads) + 6) + "|")
    for row in result["rows"]:
        times = " | ".join(f"{row['p50_ms'][c]:.3f}" for c in columns)
        score = "- | -" if row["score"] is None else f"{row['score']:.2f} | {row['drop']:+.2f}"
        rest = f"{row['size_mb']:.1f} | {row['peak_mb']:.0f} | {row['foreign_cores']:.2f}"
        lines.append(f"| {row['arm']} | {times} | {score} | {rest} |")
    by_name = {row["arm"]: row for row in result["rows"]}
    for column, arm in result["best_peer"].items():
        ratio = by_name[arm]["over_accel"].get(column)
        told = (
            "" if ratio is None else ": {value:.2f}x accel [{low:.2f}, {high:.2f}]".format(**ratio)
        )
        lines.append(f"best peer, {column}: {arm}{told}")
    lines += [f"not run: {arm}: {reason}" for arm, reason in result["refused"].items()]
    return "\n".join([*lines, "", json.dumps(result["machine"])])


if __name__ == "__main__":
    main()
