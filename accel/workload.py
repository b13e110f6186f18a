"""Workloads: the user's Python file (or .onnx) as a value, and what it yields, checked."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from accel import declared, feeds, graph, sources, store
from accel.errors import UsageError
from accel.guard import guarded
from accel.plain import seen
from accel.values import Feed, Request, Split, Workload

T = TypeVar("T")
MOST_FEEDS, MOST_SAMPLES = 32_768, 500_000  # what is larger was never meant
FUNCTIONS = ("model", "inputs", "calibration", "samples", "row", "metric", "clusters", "requests")


def load(source: str | Path, data: str | Path | None = None) -> Workload:
    """The workload in "file.py", "file.py:object" or "file.onnx" (with --data x.npz or without).

    Raises UsageError for a file that is missing, broken, or lacks `model`."""
    name, attribute = sources.parted(source)
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"{name} is not a file. Give a workload .py, file.py:object for one in it, or an .onnx."
        )
    if path.suffix == ".onnx":
        return plain(path, data)
    if path.suffix != ".py":
        raise UsageError(f"{name}: a workload is a .py or an .onnx, not {_suffix(path)}.")
    if data is not None:
        raise UsageError("--data goes with an .onnx; a workload file yields its own data.")
    home = path.absolute()  # before the user's code runs: it may change the folder
    module = _import(path)
    found = module if not attribute else _attribute(module, attribute, name)
    return _from(found, attribute, path, home)


def _suffix(path: Path) -> str:
    return path.suffix or "a file without a suffix"


def _attribute(module: Any, attribute: str, name: str) -> Any:
    if not guarded(attribute, lambda: hasattr(module, attribute)):
        raise UsageError(f"{name} has no {attribute!r}.")
    found = getattr(module, attribute)
    return guarded(attribute, found) if isinstance(found, type) else found


def _import(path: Path) -> Any:
    name = f"accel_workload_{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    guarded(path.name, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _from(found: Any, attribute: str, path: Path, home: Path) -> Workload:
    given = guarded(path.name, lambda: _members(found))
    guarded(path.name, lambda: declared.spelt(found, FUNCTIONS, path))
    if "model" not in given:
        raise UsageError(f"{path} defines no model(). It is the one thing a workload needs.")
    for name in FUNCTIONS:
        if name in given and not callable(given[name]):
            raise UsageError(
                f"{path}: {name} must be a function, not {type(given[name]).__name__}."
            )
    guarded(path.name, lambda: declared.checked(given, path))
    absolute = f"{home}:{attribute}" if attribute else str(home)
    digest, alone = sources.digest(home, attribute), store.digest_file(home)
    return Workload(absolute, path.stem, digest, file_digest=alone, **given)


def _members(found: Any) -> dict[str, Any]:
    return {n: getattr(found, n) for n in (*FUNCTIONS, *declared.KINDS) if hasattr(found, n)}


def plain(path: Path, data: str | Path | None = None) -> Workload:
    """The workload in a graph alone, with the feeds of an .npz or without; no code of anyone's runs.

    Raises UsageError for another kind of file, BadModel for a graph that is broken."""
    if path.suffix != ".onnx":
        raise UsageError(f"{path}: a graph is an .onnx, not {_suffix(path)}.")
    described = graph.describe(path)
    feeds.numeric(path, described.inputs)
    ports = described.inputs
    given = [feeds.random(ports)] if data is None else feeds.given(str(data), ports)
    dynamic = {
        p.name: {i: d for i, d in enumerate(p.shape) if isinstance(d, str)}
        for p in described.inputs
    }
    return Workload(
        source=str(path.absolute()),
        name=path.stem,
        digest=described.digest,
        model=lambda: path,
        inputs=lambda: given[0],
        dynamic=dynamic,
        calibration=None if data is None else (lambda: given),
        requests=lambda: [("random" if data is None else "data", 1.0, feed) for feed in given],
        data=None if data is None else str(data),
    )


def example(workload: Workload) -> Feed:
    """One feed: what inputs() gives, else the first request.

    Raises UsageError where dynamic, padding or noise name another input than it has."""
    if workload.inputs is None and workload.requests is None:
        raise UsageError(f"{workload.source} needs inputs() or requests().")
    if workload.inputs is None:
        feed = requests(workload)[0].inputs
    else:
        feed = _feed(guarded("inputs()", workload.inputs), "inputs()")
    declared.fitting(workload, feed)
    return feed


def _feed(found: Any, what: str) -> Feed:
    """What a function of the user's gave, as a feed; whatever it is asked may raise."""
    return guarded(what, lambda: feeds.checked(found, what))


def requests(workload: Workload) -> tuple[Request, ...]:
    """Requests with weights that sum to 1; the example alone where there are none."""
    if workload.requests is None:
        return (Request("example", 1.0, example(workload)),)
    given = workload.requests
    found = guarded("requests()", lambda: list(_ending(given(), "requests()", MOST_FEEDS)))
    if not found:
        raise UsageError(f"{workload.source}: requests() yields nothing; 1 is the least.")
    named = [_request(item, i) for i, item in enumerate(found)]
    heaviest = max(weight for _, weight, _ in named)  # a sum of the largest floats is infinite
    total = sum(weight / heaviest for _, weight, _ in named)
    return tuple(Request(group, weight / heaviest / total, feed) for group, weight, feed in named)


def _request(item: Any, i: int) -> tuple[str, float, Feed]:
    wanted = "requests() must yield (group, weight above 0, inputs)"
    if not isinstance(item, (tuple, list)) or len(item) != 3:
        raise UsageError(f"{wanted}; item {i} is {type(item).__name__}.")
    group, weight, feed = item
    number = _number(weight)
    if not 0 < number < math.inf:
        raise UsageError(f"{wanted}; the weight of item {i} is {seen(weight)}.")
    return guarded("requests()", lambda: str(group)), number, _feed(feed, "requests()")


def _number(value: Any) -> float:
    """NaN for what is none, infinity for what no float holds."""
    try:
        return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.inf


def calibration(workload: Workload) -> Iterator[Feed] | None:
    """Calibration feeds, one at a time, or None where the workload has none; never invented."""
    return None if workload.calibration is None else _calibration(workload, workload.calibration)


def _calibration(workload: Workload, given: Callable[[], Iterable[Feed]]) -> Iterator[Feed]:
    found = guarded("calibration()", lambda: iter(given()))
    done = 0
    end = object()
    found = _ending(found, "calibration()", MOST_FEEDS)
    while (feed := guarded("calibration()", lambda: next(found, end))) is not end:
        done += 1
        kept = _feed(feed, "calibration()")
        for name, array in kept.items():
            feeds.no_nan("calibration()", name, array)
        yield kept
    if not done:
        raise UsageError(f"{workload.source}: calibration() yields nothing; 1 is the least.")


def samples(workload: Workload, split: Split) -> list[tuple[tuple[Feed, ...], Any]] | None:
    """Samples as (calls, label), or None; a sample may take several calls (a pair of texts)."""
    if workload.samples is None:
        return None
    given = workload.samples
    found = guarded("samples()", lambda: list(_ending(given(split), "samples()", MOST_SAMPLES)))
    return [_sample(item, i) for i, item in enumerate(found)]


def _ending(given: Iterable[T], what: str, most: int) -> Iterator[T]:
    """The same, or a UsageError: an iterator without an end would fill the memory, or the disk."""
    for i, item in enumerate(given):
        if i == most:
            raise UsageError(
                f"{what} has given {most:,} items and goes on. Is it endless? End it: "
                f"itertools.islice(items, 1000)"
            )
        yield item


def _sample(item: Any, i: int) -> tuple[tuple[Feed, ...], Any]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise UsageError(
            f"samples() must yield (inputs, label); item {i} is {type(item).__name__}."
        )
    inputs, label = item
    calls = inputs if isinstance(inputs, (tuple, list)) else [inputs]
    if not calls:
        raise UsageError(f"samples() must yield (inputs, label); item {i} has no inputs.")
    return tuple(_feed(call, "samples()") for call in calls), label


def rows(workload: Workload, outputs: Sequence[Sequence[Feed]], labels: Sequence[Any]) -> Any:
    """One row a sample, [N] or [N, K], float64; `row` gets a list where a sample has many calls."""
    import numpy as np

    row = workload.row
    if row is None:
        raise UsageError(f"{workload.source} has samples() but no row(outputs, label). Add it.")
    found = guarded(
        "row()",
        lambda: np.asarray(
            [
                row(o[0] if len(o) == 1 else list(o), label)
                for o, label in zip(outputs, labels, strict=True)
            ],
            np.float64,
        ),
    )
    if found.ndim not in (1, 2):
        shape = list(found.shape[1:])
        raise UsageError(f"row() must give a number or a list of numbers, not an array {shape}.")
    return found


def clusters(workload: Workload, split: Split, count: int) -> list[int] | None:
    """An id for each of `count` samples, the same for those that belong together; None: all apart."""
    import numpy as np

    named = workload.clusters
    if named is None:
        return None
    ids = guarded("clusters()", lambda: list(itertools.islice(named(split), count + 1)))
    if len(ids) != count:
        seen = f"more than {count}" if len(ids) > count else len(ids)
        raise UsageError(
            f"{workload.source}: clusters({split!r}) gives {seen} ids for {count} samples."
        )
    array = guarded("clusters()", lambda: np.asarray(ids))
    if array.ndim != 1 or array.dtype.kind not in "iubfU":
        raise UsageError(f"{workload.source}: clusters({split!r}) must give numbers or texts.")
    return ids


def call(module: Any, feed: Mapping[str, Any]) -> Any:
    """module(**feed) where its forward has those parameters, else by position."""
    names = inspect.signature(module.forward).parameters
    return module(**feed) if set(feed) <= set(names) else module(*feed.values())


def output_names(result: Any, workload: Workload) -> tuple[str, ...]:
    """A name for each output of the module: the workload's, a dict's own, or "output_0", ...

    Raises UsageError for an output that is no tensor (an exporter would flatten it, or drop it), and for
    names that are not the dict's."""
    parts = _parts(result)
    declared.answered(workload.outputs, result, parts)
    if isinstance(result, Mapping):
        return tuple(result)
    return workload.outputs or tuple(f"output_{i}" for i in range(len(parts)))


def _parts(result: Any) -> list[Any]:
    """The module's outputs, one level down."""
    if isinstance(result, Mapping):
        return list(result.values())
    return list(result) if isinstance(result, (tuple, list)) else [result]


def named_outputs(result: Any, workload: Workload) -> dict[str, Any]:
    """The module's outputs (a tensor, a tuple or a dict) by name."""
    names = output_names(result, workload)
    if isinstance(result, Mapping):
        return dict(result)
    return dict(zip(names, _parts(result), strict=True))
