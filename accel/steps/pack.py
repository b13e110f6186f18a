"""Write the release: a folder that can be read, verified, loaded and gated without anything else.

It is written under a temporary name beside its place, loaded once from there, and only then given
its name: what stands at `out` is a whole release, or what stood there before.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from accel import arrays, catalog, disk, manifest, provenance, release, starting, store
from accel import golden as smoke
from accel import graph as graph_files
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.protocols import Session
from accel.replacing import replacing
from accel.values import (
    Candidate,
    Certificate,
    Feed,
    Options,
    Plan,
    Release,
    Request,
    Verdict,
)

PORTABLE, ENGINE = "model.onnx", "engine"
MEASURED = ("samples.npz", "summary.md")  # differ from run to run: digested apart
RESERVED: Options = {"serving": None, "monitoring": None, "signatures": [], "attached": {}}


def pack(
    winner: Candidate,
    portable: Candidate | None,
    baselines: Sequence[Candidate],
    table: Sequence[Candidate],
    certificate: Certificate | None,
    verdict: Verdict,
    golden: tuple[Sequence[Feed], Sequence[Feed]],
    requests: Sequence[Request],
    rows: Mapping[str, Path],
    reproduce: str,
    facts: Options,
    out: Path,
    more: Callable[[Path], Mapping[str, Any]] = lambda _: {},
) -> Release:
    """Write the release at `out`, in place of a release that stands there.

    `more` writes further files into the folder, and gives what the manifest tells of them. `golden`: inputs and the reference's outputs; `rows`: arm -> .npy; `facts`: "target",
    "versions", "machine" where it is not this one, and whatever else the reader should know.
    Raises UsageError when something else stands at `out`, CandidateBroken when what was packed
    does not load from there or gives NaN."""
    out = out.resolve()
    with disk.guarded(out), replacing(out, _refuse_strangers) as folder:
        chosen, graph = _graphs(winner, portable, folder)
        arms = (chosen, *baselines, *table)
        _write_data(folder, golden, requests, rows, arms, reproduce)
        told = {c.name: _told(c, rows, folder) for c in (*arms, graph, chosen)}
        data = {
            "winner": told[chosen.name],
            "baselines": [told[c.name] for c in baselines],
            "table": [told[c.name] for c in table],
            "certificate": certificate,
            "verdict": verdict,
            "portable": _told(graph, rows, folder),
            "requests": [{"group": r.group, "weight": r.weight} for r in requests],
            "tolerance": _tolerances(chosen, graph, requests, folder),
            **_circumstances(facts),
            **RESERVED,
            **more(folder),
        }
        _finish(folder, data)
        if chosen.plan is not None:
            release.load(folder).close()  # as its user will, before it takes its place
    return release.read(out)


def claim(out: Path, work: Path) -> None:
    """Raise what `pack` would raise for this place at its end, before hours are spent.

    Raises UsageError where something else stands at `out`, `work` lies in it, or either lies in
    another release; EnvironmentProblem where nothing can be written beside it."""
    out, work = out.resolve(), work.resolve()
    if work.is_relative_to(out):
        raise UsageError(
            f"The finished steps ({work}) would lie in the release ({out}), which is replaced as a "
            f"whole. Choose another folder with --out or --work."
        )
    release.outside(out.parent, "--out")  # a release that stands at `out` itself is replaced
    release.outside(work, "--work")
    with disk.guarded(out):
        _refuse_strangers(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".accel-", dir=out.parent).cleanup()


def _graphs(
    winner: Candidate, portable: Candidate | None, folder: Path
) -> tuple[Candidate, Candidate]:
    """Copy the portable graph and the winner's plan; both candidates, pointing at the copies."""
    source = winner if winner.plan is not None and winner.plan.portable else portable
    if source is None or source.plan is None:
        raise AccelError(f"{winner.name} is not portable and no portable graph was given to pack.")
    copied = graph_files.copy(source.plan.model.path, folder / PORTABLE)
    model = dataclasses.replace(source.plan.model, path=copied)
    graph = dataclasses.replace(
        source, plan=dataclasses.replace(source.plan, model=model, path=copied)
    )
    if winner.plan is None:
        return winner, graph
    return dataclasses.replace(winner, plan=_copy_plan(winner.plan, copied, folder)), graph


def _copy_plan(plan: Plan, graph: Path, folder: Path) -> Plan:
    """The plan's files under engine/, unless they are the portable graph itself."""
    if plan.portable and plan.path == plan.model.path:
        path = graph
    elif plan.path.is_dir():
        path = Path(shutil.copytree(plan.path, folder / ENGINE))
    else:
        path = graph_files.copy(plan.path, folder / ENGINE / plan.path.name)
    if plan.portable:
        source = graph
    elif plan.path.is_dir() and plan.model.path.is_relative_to(plan.path):
        source = path / plan.model.path.relative_to(plan.path)
    else:
        source = path  # the graph that it was made of is not packed: the plan stands for it
    return dataclasses.replace(plan, path=path, model=dataclasses.replace(plan.model, path=source))


def _write_data(
    folder: Path,
    golden: tuple[Sequence[Feed], Sequence[Feed]],
    requests: Sequence[Request],
    rows: Mapping[str, Path],
    arms: Iterable[Candidate],
    reproduce: str,
) -> None:
    import numpy as np

    pairs = [
        {f"in/{k}": v for k, v in given.items()} | {f"out/{k}": v for k, v in wanted.items()}
        for given, wanted in zip(*golden, strict=True)
    ]
    arrays.save(folder / "golden.npz", pairs)
    arrays.save(folder / "requests.npz", [r.inputs for r in requests])
    if rows:  # an unmeasured release has neither
        arrays.save(folder / "rows.npz", [{arm: np.load(path) for arm, path in rows.items()}])
        arrays.save(folder / "samples.npz", [_samples(arms)])
    script = folder / "reproduce.sh"
    disk.write(script, f"#!/bin/sh\nset -eu\n{reproduce.rstrip()}\n")
    script.chmod(0o755)


def _samples(arms: Iterable[Candidate]) -> dict[str, Any]:
    """ "<arm>/<column>" -> column, for every arm that was measured."""
    return {
        f"{arm.name}/{column}": values
        for arm in arms
        if arm.measurement is not None
        for column, values in arrays.load(arm.measurement.samples)[0].items()
    }


def _told(candidate: Candidate, rows: Mapping[str, Path], folder: Path) -> Candidate:
    """A candidate as the manifest tells it: its files point into the release or to no place."""
    plan, score, measurement = candidate.plan, candidate.score, candidate.measurement
    if plan is not None:
        model = dataclasses.replace(plan.model, path=_packed(plan.model.path, folder))
        plan = dataclasses.replace(plan, path=_packed(plan.path, folder), model=model)
    if score is not None:
        packed = folder / "rows.npz" if score.rows in rows.values() else _story(score.rows)
        clusters = None if score.clusters is None else _story(score.clusters)
        score = dataclasses.replace(score, rows=packed, clusters=clusters)
    if measurement is not None:
        measurement = dataclasses.replace(measurement, samples=folder / "samples.npz")
    return dataclasses.replace(candidate, plan=plan, score=score, measurement=measurement)


def _packed(path: Path, folder: Path) -> Path:
    return path if path.is_relative_to(folder) else _story(path)


def _story(path: Path) -> Path:
    """What is not packed keeps the name of the step that made it, not its place on this machine."""
    return Path(path.parent.name, path.name)


def _tolerances(
    chosen: Candidate, graph: Candidate, requests: Sequence[Request], folder: Path
) -> dict[str, Options]:
    """Load what was copied, as a user will, and see how far it is from the reference."""
    found = {"portable": _tolerance(starting.portable(graph, requests), graph, folder)}
    if chosen.plan is not None:
        found["winner"] = _tolerance(starting.start(chosen), chosen, folder)
    return found


def _tolerance(session: Session, candidate: Candidate, folder: Path) -> Options:
    with closing(session):
        found = smoke.tolerance(smoke.errors(session, folder))
    if not found or any(v != v for v in found.values()):  # NaN is not equal to itself
        raise CandidateBroken(f"{candidate.name} does not give the reference's outputs: {found}")
    return found


def _circumstances(facts: Options) -> dict[str, Any]:
    from accel.measure import machine

    seen = facts.get("machine") or machine.fingerprint()
    named = ("target", "versions", "machine")
    return {
        "target": facts.get("target", ""),
        "versions": facts.get("versions", {}),
        "machine": seen,
        "machine_class": machine.machine_class(seen),
        "provenance": provenance.here(),
        "facts": {k: v for k, v in facts.items() if k not in named},
    }


def _finish(folder: Path, data: Mapping[str, Any]) -> None:
    """Summary, digests, manifest, and all of it on disk."""
    told: dict[str, Any] = manifest.dump(data, folder)
    told |= {"schema": release.KIND, "schema_version": manifest.SCHEMA}
    told |= {"artefacts": {}, "measurements": {}}
    disk.write(folder / "summary.md", _summary(folder, told))
    for name, digest in store.digest_files(folder).items():
        told["measurements" if name in MEASURED else "artefacts"][name] = digest
    release.rewrite(folder, told)
    disk.sync(folder)


def _summary(folder: Path, told: Mapping[str, Any]) -> str:
    fields = ("winner", "baselines", "table", "certificate", "verdict")
    drawn = manifest.load(Release, {"path": "./.", **{k: told[k] for k in fields}}, folder)
    text: str = catalog.load("report", "summary").text(drawn)
    return text.replace(str(folder), ".")


def _refuse_strangers(out: Path) -> None:
    """Only a release, and nothing that someone put into it since, may be replaced."""
    if os.path.ismount(out):
        raise UsageError(
            f"{out} is a mount point: a release takes the place of a whole folder, and that of this one "
            f"cannot be taken. Name a folder in it: --out {out / 'release'}"
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    left = f"It is left as it is; choose another folder with --out, or move {out.name} away."
    if not release.is_release(out):
        raise UsageError(f"{out} exists and is not a release. {left}")
    added = [line for line in release.differences(out) if line.endswith(release.STRANGE)]
    if added:
        raise UsageError(f"{out} holds what accel did not pack: {added[0]}. {left}")
