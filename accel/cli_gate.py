"""`accel gate`: the verdict on a terminal, in files and as an exit code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accel.errors import (
    AccelError,
    CandidateBroken,
    ConstraintError,
    InstrumentUnfit,
    NoBaseline,
    Unmeasured,
)
from accel.plain import shown
from accel.shell import Amount, beside, echo, output_options, say
from accel.words import PLACE, TEXT

if TYPE_CHECKING:
    from accel.evidence import Report

ENDINGS: dict[str, type[AccelError]] = {
    "fail": ConstraintError,
    "cannot tell": Unmeasured,
    "unfit": InstrumentUnfit,
    "no baseline": NoBaseline,
    "broken": CandidateBroken,
}


@click.command()
@click.argument("candidate", type=PLACE)
@click.option(
    "--baseline", type=PLACE, required=True, help="a release, an .onnx, or accel.baselines.json"
)
@click.option("--name", type=TEXT, help="of the workload, in accel.toml and accel.baselines.json")
@click.option(
    "--budget",
    "budgets",
    type=TEXT,
    multiple=True,
    help="p50=3%, p99=10%:watch, drop=0.5pt, copies=0 (repeatable); else those of --config",
)
@click.option(
    "--config", type=PLACE, help="budgets and rules; default: accel.toml, where there is one"
)
@click.option(
    "--workload",
    type=TEXT,
    help="the .py whose samples give the accuracy, and the requests of an .onnx",
)
@click.option(
    "--reference", type=PLACE, help="the last release, for budgets such as p50@reference=5%"
)
@click.option("--engine", type=TEXT, help="that builds an .onnx; default: the baseline's")
@click.option("--data", type=TEXT, help=".npz of feeds, where the baseline is an .onnx")
@click.option("--epochs", type=click.IntRange(1, 1000), help="of this run, at most; default 40")
@click.option("--limit", type=Amount(min=60.0, s=1.0, h=3600.0), help="of this run's epochs: 5min")
@click.option(
    "--shadow-every", type=click.IntRange(0), help="the baseline against itself in every n-th epoch"
)
@click.option("--seed", type=int)
@click.option(
    "--work",
    type=PLACE,
    default=Path(".accel"),
    show_default=True,
    help="where the evidence is kept",
)
@click.option(
    "--out",
    type=PLACE,
    help="a folder for verdict.json, junit.xml, summary.md, metrics.txt, bench.json",
)
@click.option("--history", type=PLACE, help="accel.history.jsonl: lines for accel creep are added")
@click.option(
    "--witness",
    "witnesses",
    multiple=True,
    type=PLACE,
    help="an earlier verdict.json, which this evidence must go on from",
)
@click.option(
    "--on-inconclusive",
    type=click.Choice(["fail", "warn", "pass"]),
    default="fail",
    show_default=True,
    help="what 'cannot tell' ends with: 3, or 0",
)
@output_options
def gate(candidate: Path, baseline: Path, **words: Any) -> None:
    """Is CANDIDATE (a release, or an .onnx) worse than a baseline by more than its budgets?

    Exit 0 pass, 1 worse, 3 cannot tell, 4 the machine is unfit, 5 no baseline, 6 broken. The same
    command goes on from the evidence that is there; what it could not go on from, it tells."""
    from accel import release
    from accel.gating import history, writing
    from accel.report import gate_line, verdict_json
    from accel.steps import gate as step

    past = words["history"] and words["history"].absolute()  # user's code may change the folder
    writing.claim_runners(os.environ)
    if past is not None:
        release.outside(past, history.OPTION)
        history.claim(past)
    report = step.gate(candidate, baseline, **_asked(words))
    commands, troubles = _kept(report, past)
    if words["as_json"]:
        echo(verdict_json.text(report))
    put = beside if words["as_json"] else echo
    for line in (*map(shown, gate_line.lines(report)), *commands):  # those are of clean words
        put(line)
    for trouble in troubles:
        beside(shown(f"accel: {trouble} The verdict stands."))
    lenient = report.outcome == "cannot tell" and words["on_inconclusive"] != "fail"
    if report.outcome != "pass" and not lenient:
        click.get_current_context().exit(ENDINGS[report.outcome].exit_code)


def _kept(report: Report, past: Path | None) -> tuple[list[str], list[AccelError]]:
    """Tell GitHub's runner and the history; lines to print, and what could not be written. A verdict
    that was reached keeps its exit code whatever becomes of these."""
    from accel.gating import history, writing

    commands, troubles = [], []
    try:
        commands = writing.publish(report, os.environ)
    except AccelError as error:
        troubles.append(error)
    try:
        if past is not None:
            history.append(past, history.entries(report))
    except AccelError as error:
        troubles.append(error)
    return commands, troubles


def _asked(words: dict[str, Any]) -> dict[str, Any]:
    """The step's own arguments."""
    from accel.gating import budgets

    quiet = words["quiet"]
    given = {
        "max_epochs": words["epochs"],
        "max_s": words["limit"] and words["limit"][0],
        "shadow_every": words["shadow_every"],
        "seed": words["seed"],
    }
    plain = ("name", "workload", "reference", "engine", "data", "work", "out", "config")
    return {
        **{k: words[k] for k in plain},
        "budgets": tuple(map(budgets.parse, words["budgets"])) or None,
        "rules": {k: v for k, v in given.items() if v is not None},
        "witnesses": words["witnesses"],
        "progress": None if quiet else lambda text: say(text, err=True),
    }
