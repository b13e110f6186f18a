"""Where a command's results go: never over what it reads, nor into a release; a graph's weights beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accel.errors import BadModel, UsageError

OTHER = "Choose another --out."


@contextlib.contextmanager
def working_folder(out: Path, *sources: Path | str | None) -> Iterator[Path]:
    """A folder beside the file `out` to work in; `sources` are what is read.

    Raises UsageError where `out` is one of them, or weights of one, or a folder, or in a release."""
    from accel import disk

    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out names a file: {out / 'model.onnx'}")
    whole = out.parent.resolve()
    _require_no_release((whole, *whole.parents))
    if out.exists() and any(one.exists() and out.samefile(one) for one in _read(sources)):
        raise UsageError(f"{out} is what is read; it is left as it is. {OTHER}")
    with disk.guarded(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".accel-", dir=out.parent) as folder:
            yield Path(folder)


def plan_folder(out: Path, *sources: Path | str | None) -> Path:
    """The folder `out` for a plan: not there yet, empty, or an earlier build's, whose log stands beside it.

    Raises UsageError for any other one; build itself says of a file that it is one."""
    whole = out.resolve()
    _require_no_release((whole, *whole.parents))
    if whole.name and whole.is_dir() and any(whole.iterdir()):
        inside = [one for one in _read(sources) if whole in one.resolve().parents]
        if inside:
            raise UsageError(f"{out} holds what is read, {inside[0].name}. {OTHER}")
        if not whole.with_name(f"{whole.name}.log").is_file():
            raise UsageError(f"{out} is not empty, and no plan of an earlier accel build. {OTHER}")
    return out


def _read(sources: tuple[Path | str | None, ...]) -> Iterator[Path]:
    """The files that are read: those given, and the weights beside them."""
    from accel import graph

    for source in (Path(one) for one in sources if one is not None):
        yield source
        if source.is_file():
            yield from (source.parent / name for name in graph.external_data(source))


def _require_no_release(folders: Any) -> None:
    from accel import release

    for folder in folders:
        if release.is_release(folder):
            raise UsageError(f"{folder} is a release, which stays as it was packed. {OTHER}")


def keep(model: Any, out: Path) -> Any:
    """A made model from its working folder to `out`, with its weights beside it as OUT.data.

    Raises UsageError where such a file is there and `out` is not the graph that it belongs to."""
    from accel import disk, graph

    with disk.guarded(out):
        held = graph.external_data(model.path)
        names = [f"{out.name}.data" if not i else f"{out.name}.{i}.data" for i in range(len(held))]
        for taken in (name for name in names if (out.parent / name).exists()):
            if taken not in _beside(out):
                raise UsageError(f"{out.parent / taken} is there, and no weights of {out}. {OTHER}")
        graph.rename_data(model.path, dict(zip(held, names, strict=True)))
        for name in names:
            (model.path.parent / name).replace(out.parent / name)
        model.path.replace(out)
    return dataclasses.replace(model, path=out)


def _beside(out: Path) -> tuple[str, ...]:
    from accel import graph

    try:
        return graph.external_data(out) if out.exists() else ()
    except BadModel:
        return ()
