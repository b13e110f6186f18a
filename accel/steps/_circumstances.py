"""Where and when a gate runs, and what must be the same for epochs to be added together."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accel import arrays
from accel.errors import UsageError
from accel.evidence import Budget, Report, Rules, Subject
from accel.gating import budgets as limits
from accel.gating import chain, devices, sampler
from accel.gating.verdicts import Judged
from accel.measure import machine
from accel.version import VERSION

COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA")  # GitHub's and GitLab's predefined variables
GIT_S = 10.0
WORK = Path(".accel")
OPTIONS = {  # rule -> its option, and the unit behind its value
    "max_epochs": ("--epochs", ""),
    "max_s": ("--limit", "s"),
    "shadow_every": ("--shadow-every", ""),
    "seed": ("--seed", ""),
}


def seen(*sides: Subject, folder: Path | None = None) -> dict[str, Any]:
    """The fields of a Report that tell of the machine, the libraries, the commit and the time. `folder`:
    whose repository the commit is of, else where this process is."""
    found = machine.fingerprint()
    return {
        "machine": found,
        "machine_class": machine.machine_class(found),
        "versions": _versions(*sides),
        "commit": _commit(folder),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def header(draft: Report) -> dict[str, Any]:
    """What must be the same for epochs to be added together."""
    return {
        "candidate": draft.candidate.artefact,
        "baseline": draft.baseline.artefact,
        "reference": draft.reference.artefact if draft.reference else None,
        "requests": [
            [r.group, r.weight, arrays.digest([r.inputs])] for r in draft.baseline.requests
        ],
        "rounds": draft.rules.rounds,
        "block_s": draft.rules.block_s,
        "warmup_calls": draft.rules.warmup_calls,
        "timed_s": draft.rules.timed_s,
        "machine_class": draft.machine_class,
        "gpu_driver": draft.machine.get("gpu_driver"),
        "libraries": machine.versions(),
        "harness": sampler.harness(),
    }


def heads(witnesses: Sequence[Judged], draft: Report) -> list[tuple[int, str]]:
    """(epochs, hash) of earlier verdicts; one that was given without epochs bears witness to nothing.

    The same artefacts packed again have the same evidence. Raises UsageError for the verdict of another
    comparison."""
    pair, stream = (draft.candidate.digest, draft.baseline.digest), chain.key(header(draft))
    for one in witnesses:
        if one.stream == stream:
            continue
        if (one.candidate, one.baseline) != pair:
            raise UsageError(
                f"--witness: that verdict ({one.line}) is of another candidate or baseline. Name one "
                f"that was given on these two."
            )
        if one.evidence[1]:
            raise UsageError(
                f"--witness: that verdict ({one.line}) stands on epochs of another class of machine, "
                f"other libraries or other rounds, which are no part of this evidence. Leave it out."
            )
    return [one.evidence for one in witnesses if one.evidence[1]]


def notes(ours: Subject, base: Subject) -> tuple[str, ...]:
    """What a reader should know of the pair."""
    told = []
    if ours.artefact == base.artefact:
        told.append("candidate and baseline are the same artefact: this is an A/A run")
    if any(devices.on_device(side.plan) for side in (ours, base)):
        told.append(devices.NOTE)
    same = [arrays.digest([r.inputs for r in side.requests]) for side in (ours, base)]
    if ours.requests and same[0] != same[1]:
        told.append("the two were packed with different requests: the baseline's are used")
    return tuple(told)


def _versions(*sides: Subject) -> Mapping[str, str]:
    """What runs now stands above what a release was built with."""
    built = {k: v for side in sides if side.plan for k, v in side.plan.versions.items()}
    installed = {k: v for k, v in machine.versions().items() if v}
    return {"accel": VERSION, **built, **installed}


def command(
    candidate: str | Path,
    baseline: str | Path,
    options: Mapping[str, Any],
    budgets: Sequence[Budget] | None,
    rules: Rules | Mapping[str, Any] | None,
) -> str:
    """The line that runs this gate again, and goes on from its evidence.

    `options` by their names on the command line; those that are None, and a work folder that is the
    usual one, are left out. Empty where Python gave a rule that has no option there: the line would
    begin evidence of its own."""
    given = dataclasses.asdict(rules) if isinstance(rules, Rules) else rules or {}
    if set(given) - set(OPTIONS):
        return ""
    words = ["accel", "gate", str(candidate), "--baseline", str(baseline)]
    for name, value in options.items():
        if value is not None and (name, value) != ("work", WORK.absolute()):
            words += [f"--{name}", str(value)]
    for budget in budgets or ():
        words += ["--budget", limits.text(budget)]
    for rule, (option, unit) in OPTIONS.items():
        words += [option, f"{given[rule]}{unit}"] if rule in given else []
    return shlex.join(words)


def _commit(folder: Path | None) -> str:
    """What CI says is being built, else the repository's head; empty where there is none."""
    for variable in COMMITS:
        if os.environ.get(variable):
            return os.environ[variable]
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
            cwd=folder,
        )
        return told.stdout.strip()
    return ""
