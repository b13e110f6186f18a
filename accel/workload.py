"""Workloads: the user's Python file (or .onnx) as a value, and what it yields, checked."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from accel import arrays, graph
from accel.errors import AccelError, UsageError
from accel.values import Feed, Request, Split, Workload

T = TypeVar("T")
FUNCTIONS = ("model", "inputs", "calibration", "samples", "row", "metric", "clusters", "requests")
PLAIN = ("dynamic", "padding", "outputs", "metric_name", "metric_unit", "higher_is_better")
SEED = 20_261  # of the random feeds for an .onnx that came without data; any fixed number


def load(source: str, data: str | None = None) -> Workload:
    """The workload in "file.py", "file.py:object" or "file.onnx" (with --data x.npz or without).

    Raises UsageError for a file that is missing, broken, or lacks `model`."""
    name, _, attribute = source.partition(":")
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{name} is not a file. Give a workload .py, or an .onnx.")
    if path.suffix == ".onnx":
        return _plain(path, data)
    if path.suffix != ".py":
        raise UsageError(f"{name}: a workload is a .py or an .onnx, not {path.suffix or 'this'!r}.")
    if data:
        raise UsageError("--data goes with an .onnx; a workload file yields its own data.")
    module = _import(path)
    return _from(module if not attribute else _attribute(module, attribute, name), source, path)


def _attribute(module: Any, attribute: str, name: str) -> Any:
    if not hasattr(module, attribute):
        raise UsageError(f"{name} has no {attribute!r}.")
    found = getattr(module, attribute)
    return found() if isinstance(found, type) else found


def _import(path: Path) -> Any:
    name = f"accel_workload_{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    guarded(path.name, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    return module


def _from(found: Any, source: str, path: Path) -> Workload:
    given = {n: getattr(found, n) for n in (*FUNCTIONS, *PLAIN) if hasattr(found, n)}
    _near_misses(found, path)
    if "model" not in given:
        raise UsageError(f"{path} defines no model(). It is the one thing a workload needs.")
    for name in FUNCTIONS:
        if name in given and not callable(given[name]):
            raise UsageError(
                f"{path}: {name} must be a function, not {type(given[name]).__name__}."
            )
    absolute = str(path.absolute()) + source[len(str(path)) :]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Workload(source=absolute, name=path.stem, digest=digest, **given)


def _near_misses(found: Any, path: Path) -> None:
    known = (*FUNCTIONS, *PLAIN)
    for name, value in vars(found).items():
        if (
            name.startswith("_")
            or name in known
            or getattr(value, "__module__", "") != getattr(found, "__name__", None)
        ):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if callable(value) and near and not hasattr(found, near[0]):
            raise UsageError(f"{path}: {name}() is not read. Did you mean {near[0]}()?")


def _plain(path: Path, data: str | None) -> Workload:
    proto = graph.open_model(path)
    described = graph.describe(path)
    feeds = arrays.load(Path(data)) if data else [_random_feed(described.inputs)]
    if not feeds:
        raise UsageError(f"{data} holds no arrays.")
    dynamic = {
        p.name: {i: d for i, d in enumerate(p.shape) if isinstance(d, str)}
        for p in described.inputs
    }
    return Workload(
        source=str(path.absolute()),
        name=path.stem,
        digest=graph.digest(proto),
        model=lambda: path,
        inputs=lambda: feeds[0],
        dynamic=dynamic,
        calibration=(lambda: feeds) if data else None,
        requests=lambda: [("data" if data else "random", 1.0, feed) for feed in feeds],
        data=data,
    )


def _random_feed(ports: Sequence[Any]) -> Feed:
    import numpy as np

    draw = np.random.default_rng(SEED)
    feed = {}
    for port in ports:
        shape = [d if isinstance(d, int) else 1 for d in port.shape]
        kind = np.dtype(port.dtype)
        values = draw.standard_normal(shape) if kind.kind == "f" else np.ones(shape)
        feed[port.name] = values.astype(kind)
    return feed


def guarded(what: str, call: Callable[[], T]) -> T:
    """Run the user's code; whatever it raises is one UsageError with its file and line."""
    try:
        return call()
    except AccelError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{what}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(at.filename).name}:{at.lineno} in {at.name}"
        raise UsageError(f"{what} failed at {place}: {type(error).__name__}: {error}") from None


def example(workload: Workload) -> Feed:
    """One feed: what inputs() gives, else the first request."""
    if workload.inputs is None and workload.requests is None:
        raise UsageError(f"{workload.source} needs inputs() or requests().")
    if workload.inputs is None:
        return requests(workload)[0].inputs
    return _feed(guarded("inputs()", workload.inputs), "inputs()")


def _feed(found: Any, what: str) -> Feed:
    import numpy as np

    if not isinstance(found, Mapping) or not found:
        raise UsageError(f"{what} must give a dict of name -> array, not {type(found).__name__}.")
    feed = {str(k): np.asarray(v) for k, v in found.items()}
    for name, array in feed.items():
        if array.dtype.kind not in "fiub":
            raise UsageError(f"{what}: {name!r} is {array.dtype}; numbers or booleans are needed.")
    return feed


def requests(workload: Workload) -> tuple[Request, ...]:
    """Requests with weights that sum to 1; the example alone where there are none."""
    if workload.requests is None:
        return (Request("example", 1.0, example(workload)),)
    found = guarded("requests()", lambda: list(workload.requests()))  # type: ignore[misc]
    if not found:
        raise UsageError(f"{workload.source}: requests() yields nothing; 1 is the least.")
    for row in found:
        if len(row) != 3 or not float(row[1]) > 0 or float(row[1]) == float("inf"):
            raise UsageError("requests() must yield (group, weight above 0, inputs).")
    total = sum(float(weight) for _, weight, _ in found)
    return tuple(Request(str(g), float(w) / total, _feed(f, "requests()")) for g, w, f in found)


def calibration(workload: Workload) -> list[Feed] | None:
    """Calibration feeds, or None where the workload has none; never invented."""
    if workload.calibration is None:
        return None
    found = guarded("calibration()", lambda: list(workload.calibration()))  # type: ignore[misc]
    if not found:
        raise UsageError(f"{workload.source}: calibration() yields nothing; 1 is the least.")
    return [_feed(f, "calibration()") for f in found]


def samples(workload: Workload, split: Split) -> list[tuple[tuple[Feed, ...], Any]] | None:
    """Samples as (calls, label), or None; a sample may take several calls (a pair of texts)."""
    if workload.samples is None:
        return None
    found = guarded("samples()", lambda: list(workload.samples(split)))  # type: ignore[misc]
    return [
        (tuple(_feed(f, "samples()") for f in ([x] if isinstance(x, Mapping) else x)), label)
        for x, label in found
    ]


def rows(workload: Workload, outputs: Sequence[Sequence[Feed]], labels: Sequence[Any]) -> Any:
    """One row a sample, [N] or [N, K], float64; `row` gets a list where a sample has many calls."""
    import numpy as np

    row = workload.row
    if row is None:
        raise UsageError(f"{workload.source} has samples() but no row(outputs, label). Add it.")
    return guarded(
        "row()",
        lambda: np.asarray(
            [
                row(o[0] if len(o) == 1 else list(o), label)
                for o, label in zip(outputs, labels, strict=True)
            ],
            np.float64,
        ),
    )


def call(module: Any, feed: Mapping[str, Any]) -> Any:
    """module(**feed) where its forward has those parameters, else by position."""
    import inspect

    names = inspect.signature(module.forward).parameters
    return module(**feed) if set(feed) <= set(names) else module(*feed.values())


def output_names(result: Any, workload: Workload) -> tuple[str, ...]:
    """A name for each output of the module: the workload's, a dict's own, or "output_0", ..."""
    if isinstance(result, Mapping):
        return tuple(result)
    count = len(result) if isinstance(result, (tuple, list)) else 1
    if workload.outputs and len(workload.outputs) != count:
        raise UsageError(f"outputs names {len(workload.outputs)}; the model gives {count}.")
    return workload.outputs or tuple(f"output_{i}" for i in range(count))


def named_outputs(result: Any, workload: Workload) -> dict[str, Any]:
    """The module's outputs (a tensor, a tuple or a dict) by name."""
    names = output_names(result, workload)
    if isinstance(result, Mapping):
        return dict(result)
    return dict(zip(names, result if isinstance(result, (tuple, list)) else [result], strict=True))
