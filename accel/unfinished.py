"""An unmeasured release: what another machine made for this target, and what is left to do here.

It is a release whose manifest has "unfinished": the target, the constraints, the root graphs, each
candidate's graph by `naming.graph_key`, and why others have none. Graphs lie in candidates/, a
folder each, named by what they compute: candidates that share a graph share the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from accel import graph, release
from accel import target as targets
from accel.constraints import Constraints
from accel.errors import CandidateBroken, UsageError
from accel.plain import shown
from accel.protocols import Quantized
from accel.values import Model, Options, Refusal, Target

KEY, FOLDER = "unfinished", "candidates"


@dataclass(frozen=True)
class Unfinished:
    """What `accel finish` needs besides the workload; nothing in it may be chosen again."""

    target: Target
    constraints: Constraints
    source: str  # the workload, as it was given
    plain: bool  # the workload is an .onnx: the release holds it
    data: bool  # and it came with feeds, which requests.npz holds
    digests: Options  # of the workload and of all that it yielded
    seed: int
    epochs: int
    roots: Mapping[str, Model]
    graphs: Mapping[str, Quantized]  # by naming.graph_key
    refused: Mapping[str, Refusal] = field(default_factory=dict)  # by graph_key, or by engine
    file: str = ""  # sha256 of the workload's file alone; an older accel told none

    @property
    def given(self) -> Mapping[str, Quantized | Refusal]:
        """What became of every graph, as `job.Job.given` wants it."""
        return {**self.refused, **self.graphs}


def write(folder: Path, found: Unfinished, portable: Model) -> Unfinished:
    """The same, its graphs copied below `folder`; `portable` is there already as model.onnx."""
    places = {portable.digest: folder / "model.onnx"}

    def place(model: Model) -> Model:
        if model.digest not in places:
            copied = graph.copy(model.path, _folder(folder, model) / "model.onnx")
            places[model.digest] = copied
        return dataclasses.replace(model, path=places[model.digest])

    return dataclasses.replace(
        found,
        roots={name: place(model) for name, model in found.roots.items()},
        graphs={
            key: dataclasses.replace(made, model=place(made.model))
            for key, made in found.graphs.items()
        },
    )


def _folder(folder: Path, model: Model) -> Path:
    made = folder / FOLDER / model.digest[:20]
    made.mkdir(parents=True)
    return made


def read(path: str | Path) -> Unfinished:
    """What is left to do of the unmeasured release in a folder, every digest seen to hold.

    Raises UsageError where the folder is no release, one that is finished, or one that names graphs
    outside of itself; CandidateBroken where a file differs from what was packed."""
    root = Path(path).absolute()
    data = release.document(root)
    if data.get(KEY) is None:
        raise UsageError(
            f"{root} is not an unmeasured release: there is nothing to finish. Load it with: "
            f"accel.load({str(root)!r})"
        )
    release.require_intact(root, (release.UNTOLD,))
    with release.complete(root):
        found = release.part(Unfinished, data[KEY], root)
        if not found.roots:
            raise ValueError("without a root graph")
        paths = [model.path for model in _models(found)]
        _ = found.digests.items(), found.refused.items()
        if not type(found.seed) is type(found.epochs) is int:
            raise ValueError(f"seed {found.seed!r} and epochs {found.epochs!r}, not whole numbers")
    targets.sane(root / release.MANIFEST, data[KEY]["target"])
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            raise UsageError(
                f"{root / release.MANIFEST} names {shown(path, keep='')}, outside of the release."
            )
    _require_own(root, found)
    return found


def _require_own(root: Path, found: Unfinished) -> None:
    """Raise CandidateBroken where a graph is another than its digest says: a step of that other graph,
    finished before, would be taken for its own."""
    told = {model.path: model.digest for model in _models(found)}
    for path, digest in told.items():
        if graph.digest(graph.open_model(path)) != digest:
            raise CandidateBroken(
                f"{shown(path, keep='')} is not the graph that {root / release.MANIFEST} describes "
                f"there. Pack it again: accel optimize --unmeasured"
            )


def _models(found: Unfinished) -> Iterator[Model]:
    yield from found.roots.values()
    yield from (made.model for made in found.graphs.values())
