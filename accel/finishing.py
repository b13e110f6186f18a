"""accel finish, before the first candidate: is it this machine, this workload, this release?"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accel import artefacts, sources, store
from accel import job as jobs
from accel.compiled import FOLDER
from accel.constraints import validate
from accel.errors import Unmeasured, UsageError
from accel.measure import here
from accel.plain import seen, shown
from accel.protocols import Quantized
from accel.unfinished import Unfinished
from accel.values import Model

YIELDED = ("example", "requests", "calibration", "search", "certify")  # of a workload's digests


def require(kept: Unfinished, root: Path) -> None:
    """Raise Unmeasured unless this machine is what the release was packed for, UsageError where the
    release demands what its target cannot have."""
    validate(kept.constraints, kept.target)
    if why := here.elsewhere(kept.target):
        raise Unmeasured(
            f"{root} was packed for {kept.target.name!r} ({shown(kept.target.description, keep='')}), and this "
            f"machine is another: {shown(why, keep='')}. What is timed here would say nothing about it. Copy the "
            f"release and its workload to that device, and run there: accel finish {root.name}"
        )


def apart(root: Path, out: Path, work: Path) -> None:
    """Raise UsageError where results would be written over, or into, the unmeasured release."""
    for what, place in (("--out", out), ("--work", work)):
        if place.resolve().is_relative_to(root):
            raise UsageError(
                f"{place} lies in the unmeasured release {root}, which is kept as it is: the same "
                f"command goes on from it after any interruption. Choose another {what}."
            )


def prepare(
    kept: Unfinished, root: Path, workload: str | None, work: Path
) -> tuple[jobs.Job, Mapping[str, Any]]:
    """The job as the other machine had it, with its graphs; and facts for the finished release.

    Raises UsageError without the very workload that the release was packed with."""
    source, data = _source(kept, root, workload)
    known = kept.digests
    weights = known.get("weights")  # of the graphs that came along; the model is not made here
    job = jobs.prepare(source, kept.target, data, work, kept.seed, kept.epochs, weights, kept.given)
    if job.digests["source"] != known.get("source"):  # with all that it imports, once it has
        raise _another(source, root, str(job.digests["source"]), str(known.get("source")))
    differs = [n for n in YIELDED if job.digests[n] != known.get(n)]
    told = {"constraints": kept.constraints, "packed_with": known}
    return job, {"finished": told, "differs": differs}


def _another(source: str, root: Path, found: str, packed: str) -> UsageError:
    return UsageError(
        f"{shown(source, keep='')} is not the workload that {root} was packed with (digest "
        f"{found[:12]}, packed with {shown(packed[:12], keep='')}). Give that one: accel finish "
        f"{root} --workload FILE; or pack again: accel optimize"
    )


def _source(kept: Unfinished, root: Path, workload: str | None) -> tuple[str, str | None]:
    """What to load, and its feeds: a plain graph lies in the release, a workload file never does.

    Nothing of it has run yet: the release may be anyone's."""
    if kept.plain and workload is not None:
        raise UsageError(
            f"{root} was packed from an .onnx: graph and feeds lie in it, and no workload is read. "
            f"Leave --workload out, or pack again: accel optimize {shlex.quote(workload)}"
        )
    if kept.plain:
        feeds = str(root / "requests.npz") if kept.data else None
        return str(next(iter(kept.roots.values())).path), feeds  # read before: no .py
    source = kept.source if workload is None else workload
    file = Path(sources.parted(source)[0])
    if not file.is_file():
        raise UsageError(
            f"{shown(source, keep='') or 'No workload'} is not here. The samples and the metric of {root} are its "
            f"workload's: copy it too, with its data, and run: accel finish {root} --workload FILE"
        )
    if workload is None and file.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            f"The manifest asks to run a Python file, {seen(source)}, that came in {root}. A release "
            f"never holds one: accel did not write this one. Your own workload is run by: accel "
            f"finish {root} --workload FILE"
        )
    _require_packed(kept, root, source, file, workload)
    return source, None


def _require_packed(
    kept: Unfinished, root: Path, source: str, file: Path, workload: str | None
) -> None:
    """Raise UsageError for another file than the one that was packed with. What it imports can only
    be told once it has run: it may change where modules are looked for."""
    if kept.file and (found := store.digest_file(file)) != kept.file:
        raise _another(source, root, found, kept.file)
    if not kept.file and workload is None:
        raise UsageError(
            f"{root} was packed by an older accel, which told no digest of the workload's file: it "
            f"runs where you name it. Was it {seen(source)}? Run: accel finish {root} --workload FILE"
        )


def roots(job: jobs.Job, kept: Unfinished) -> dict[str, Model]:
    """The root graphs, among the finished steps."""
    return {n: artefacts.keep(job, Quantized(m, {})).model for n, m in kept.roots.items()}


@contextlib.contextmanager
def compiled(root: Path) -> Iterator[None]:
    """Children find the kernels that the other machine compiled for this GPU; ACCEL_PTX, where it
    is set, names others."""
    from accel.cuda import packed

    if packed.VARIABLE in os.environ:
        yield
        return
    os.environ[packed.VARIABLE] = str(root / FOLDER)
    try:
        yield
    finally:
        del os.environ[packed.VARIABLE]


def command(root: Path, workload: str | Path | None) -> str:
    """The shell line that finishes it again. Without --out, which "release" may not be: that is what the
    unmeasured one is called, where nobody chose otherwise."""
    words = ["accel", "finish", root.name]
    words += ["--workload", str(workload)] if workload is not None else []
    return shlex.join(words)
