"""The hand-written kernels that fit a model, compiled for a GPU that is not here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from accel import artefacts, catalog, graph
from accel.errors import AccelError, CandidateBroken, concerns_all
from accel.job import Job, step
from accel.values import Model, Refusal

FOLDER = "kernels"  # in the step and in the release
SAID = 3  # reasons in a message


@dataclass(frozen=True)
class Compiled:
    """Kernels compiled for the target, and those that could not be."""

    folder: Path | None  # .ptx, .cubin and their manifest; None: there are none
    names: tuple[str, ...]
    refused: tuple[Refusal, ...]


def kernels(
    job: Job, roots: Mapping[str, Model], progress: Callable[[str], None] = lambda _: None
) -> Compiled:
    """Those that have a site in a root graph, for the target's GPU; none where it has no GPU."""
    if job.target.compute_capability is None:
        return Compiled(None, (), ())
    try:
        return _kernels(job, roots, progress)
    except AccelError as error:
        if concerns_all(error):
            raise
        return Compiled(None, (), (Refusal("kernels", str(error)),))


def _kernels(job: Job, roots: Mapping[str, Model], progress: Callable[[str], None]) -> Compiled:
    from accel.cuda import building, constants, ledger, toolchain

    every = catalog.names("kernels")
    progress("look for sites of kernels")
    swapped = [artefacts.swap(job, root, every).value for root in roots.values()]
    names = tuple(name for name in every if any(found.sites[name] for found in swapped))
    if not names:
        return Compiled(None, (), (Refusal("kernels", "none has a site in this model"),))
    own = constants.beyond(names, [graph.skeleton(found.model.path) for found in swapped])
    versions, sources = toolchain.versions(), {name: ledger.source_digest(name) for name in names}

    def build(folder: Path) -> Compiled:
        out = folder / FOLDER
        jobs = tuple(building.jobs(names, [job.target], own))
        refused = building.pack(
            jobs, out, versions, sources, lambda line: progress(f"compile {line}")
        )
        if refused:  # nothing of it could be used, and what is stored would never be tried again
            raise CandidateBroken("; ".join(f"{r.what}: {r.reason}" for r in refused[:SAID]))
        return Compiled(out, names, ())

    key = {
        "sources": sources,
        "constants": own,
        "gpu": [job.target.name, ledger.label(job.target)],
        "toolchain": versions,
    }
    return step(job, FOLDER, key, Compiled, build).value
