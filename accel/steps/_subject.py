"""What is gated: a release, or an .onnx that is built as the baseline was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accel import catalog, graph, release, store, target, workload
from accel.errors import AccelError, EnvironmentProblem, UsageError, concerns_all
from accel.evidence import Subject
from accel.steps import build
from accel.values import Options, Plan, Request


def subject(
    path: str | Path,
    scratch: Path,
    *,
    engine: str | None = None,
    like: Subject | None = None,
    data: str | None = None,
    source: str | None = None,
) -> Subject:
    """A release folder, or an .onnx built into `scratch`: by `engine`, else by the engine and with
    the options of `like`, else by ONNX Runtime. An .onnx is timed at the requests of `like`, else
    of the workload `source`, else of `data`.

    What is wrong with it stands in `trouble`: whose fault it is, the caller knows. Raises
    UsageError for a path that is neither."""
    place = Path(path)
    if place.is_dir():
        return _release(place)
    if place.suffix != ".onnx" or not place.is_file():
        raise UsageError(
            f"{place} is neither a release nor an .onnx. Make one with: accel optimize"
        )
    return _graph(place, scratch, engine, like, data, source)


def _release(place: Path) -> Subject:
    data = release.document(place)
    digest = str(data.get("digest", ""))
    try:
        plan, asked = release.intact(place), release.requests(place)
    except AccelError as error:
        if concerns_all(error):
            raise
        return Subject(place.name, place, digest, trouble=str(error))
    told = store.digest_json({"files": _files(plan.path), **_how(plan), "built": plan.versions})
    return Subject(place.name, place, digest, plan, asked, size(plan), artefact=told)


def _how(plan: Plan) -> dict[str, Any]:
    return {"engine": plan.engine, "options": dict(plan.options)}


def _files(place: Path) -> list[str]:
    """Digests of what a plan loads: of every file of a folder, of an .onnx and what lies beside."""
    if place.is_dir():
        return [f"{name} {digest}" for name, digest in store.digest_files(place).items()]
    beside = graph.external_data(place)
    return [store.digest_file(file) for file in (place, *(place.parent / n for n in beside))]


def _graph(
    place: Path,
    scratch: Path,
    engine: str | None,
    like: Subject | None,
    data: str | None,
    source: str | None,
) -> Subject:
    scratch.mkdir(parents=True, exist_ok=True)
    digest = _digest(place)
    try:
        asked = like.requests if like else _requests(place, data, source)
        plan = _built(place, scratch, engine, like, asked)
    except (UsageError, EnvironmentProblem):  # a library that is absent is nobody's fault, either
        raise
    except AccelError as error:
        return Subject(place.stem, place, digest, trouble=str(error))
    told = store.digest_json({"graph": digest, **_how(plan)})
    return Subject(place.stem, place, told, plan, asked, size(plan), artefact=told)


def _requests(place: Path, data: str | None, source: str | None) -> tuple[Request, ...]:
    """`data` was named for this very graph, so it stands above the workload's own."""
    if source is not None and data is None:
        return workload.requests(workload.load(source))
    return workload.requests(workload.plain(place, data))


def _built(
    place: Path, scratch: Path, engine: str | None, like: Subject | None, asked: Sequence[Request]
) -> Plan:
    device = target.load("cpu-local")
    plan = like.plan if like else None
    name = engine or (plan.engine if plan else "onnxruntime_cpu")
    module = catalog.load("engines", name)
    options: Options
    if plan is not None and plan.engine == name:
        options = plan.options
    else:
        options = module.options("fp32", device, asked, {})[-1]
    described = graph.describe(place)
    return build.build(described, name, device, options, asked, scratch)


def _digest(place: Path) -> str:
    return store.digest_json(_files(place))


def size(plan: Plan) -> int:
    """Bytes of what the engine loads."""
    if plan.path.is_dir():
        return sum(p.stat().st_size for p in plan.path.rglob("*") if p.is_file())
    beside = graph.external_data(plan.path) if plan.path.suffix == ".onnx" else ()
    return sum(p.stat().st_size for p in (plan.path, *(plan.path.parent / n for n in beside)))
