"""Export a PyTorch module to ONNX, by two roads, checked against eager at several shapes.

The roads differ in what later steps can do with the graph (stock fusions know the tracer's
patterns, the newer exporter has native Attention and Gelu), so both are roots of candidates.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accel import graph, workload
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.guard import guarded
from accel.steps import _proof, _shapes, _state
from accel.values import Feed, Model, Workload

EXPORTERS = ("torch_export", "torchscript")
OPSETS = {
    "torch_export": 23,  # native Attention and Gelu; the newest that OpenVINO and ONNX Runtime read
    "torchscript": 17,  # the tracer's last with LayerNormalization; it gets no new ones
}
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # torch colours its messages


def roots(problem: Workload) -> tuple[str, ...]:
    """The exporters to try; a plain .onnx is its own root."""
    return ("onnx",) if problem.source.endswith(".onnx") else EXPORTERS


def export_source(source: str, data: str | None, exporter: str, out: Path) -> Model:
    """`export` for a child process, which loads the workload itself."""
    return export(workload.load(source, data), exporter, out)


def weights_digest(source: str, data: str | None) -> str:
    """sha256 of the module's state and settings, or of the graph of a plain .onnx."""
    problem = workload.load(source, data)
    made = _made(problem)
    if isinstance(made, (str, Path)):
        return graph.digest(graph.open_model(Path(made)))
    return _state.digest(made)


def _made(problem: Workload) -> Any:
    """What model() gives: a module, or the path of an .onnx."""
    made = guarded("model()", problem.model)
    if isinstance(made, (str, Path)) or all(hasattr(made, n) for n in ("state_dict", "forward")):
        return made
    seen = type(made).__name__
    raise UsageError(f"model() must give a torch.nn.Module or the path of an .onnx, not {seen}.")


def export(problem: Workload, exporter: str, out: str | Path) -> Model:
    """The module as out/"model.onnx", proven against eager.

    Raises CandidateBroken when the exporter fails, a declared dynamic axis came out constant, or
    outputs are off by more than the noise of eager itself; UsageError for a wrong workload."""
    if exporter not in (*EXPORTERS, *roots(problem)):
        raise UsageError(f"No exporter named {exporter!r}. Known: {', '.join(EXPORTERS)}.")
    path = Path(out) / "model.onnx"
    made = _made(problem)
    if isinstance(made, (str, Path)):
        return _copy(Path(made), path)
    module, feed = made.eval(), workload.example(problem)
    with _quiet() as chatter:
        try:
            names = _export(module, feed, problem, exporter, path)
        except AccelError:
            raise
        except Exception as error:  # exporters raise anything; all of it belongs in the message
            raise CandidateBroken(f"{exporter} failed: {_chain(error)}") from None
    model = graph.describe(path)
    _still_dynamic(problem, model, exporter)
    with _quiet():  # a tracer's check warns of what the comparison measures
        found = _proof.compare(module, problem, path, names)
    if not found.error <= found.allowed:
        raise CandidateBroken(
            f"{exporter}: {found.output!r} is off by {found.error:.3g} from eager at "
            f"{_shapes.sizes_text(found.sizes)}; {found.allowed:.3g} is its noise. "
            f"{chatter.getvalue()[-500:]}"
        )
    line = (
        f"{exporter} opset {OPSETS[exporter]}, "
        f"off by {found.error:.1e} (allowed {found.allowed:.1e})"
    )
    return graph.describe(path, (line, *([found.note] if found.note else [])))


def _copy(source: Path, path: Path) -> Model:
    graph.open_model(source)
    graph.copy(source, path)
    return graph.describe(path, (f"given as {source.name}",))


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Exporters print and warn at length; it is kept for the error, not shown."""
    chatter = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(chatter),
        contextlib.redirect_stderr(chatter),
    ):
        warnings.simplefilter("ignore")  # deprecation of the tracer, among others
        yield chatter


def _chain(error: BaseException | None) -> str:
    parts = []
    while error is not None:
        plain = TERMINAL_COLOURS.sub("", str(error))
        lines = [line.strip() for line in plain.splitlines() if line.strip()]
        parts.append(f"{type(error).__name__}: {' '.join(lines[:3])[:400]}")
        error = error.__cause__ or error.__context__
    return " <- ".join(parts)


def _export(
    module: Any, feed: Feed, problem: Workload, exporter: str, path: Path
) -> tuple[str, ...]:
    import torch

    feed, by_name = _ordered(module, feed)
    tensors = {k: torch.from_numpy(v) for k, v in feed.items()}
    with torch.no_grad():
        names = workload.output_names(workload.call(module, tensors), problem)
        shared = {
            "args": () if by_name else tuple(tensors.values()),
            "kwargs": tensors if by_name else None,
            "input_names": list(feed),
            "output_names": list(names),
            "opset_version": OPSETS[exporter],
        }
        if exporter == "torch_export":
            _torch_export(module, problem, feed, path, shared)
        else:
            axes = {k: dict(v) for k, v in problem.dynamic.items()}
            first = next(iter(axes.values()), {})
            axes |= {n: {0: first[0]} for n in names if 0 in first}
            torch.onnx.export(module, f=str(path), dynamo=False, dynamic_axes=axes, **shared)
    return names


def _ordered(module: Any, feed: Feed) -> tuple[Feed, bool]:
    """The feed in the order of forward's parameters, which eager is called by the names of (as
    `workload.call` does) and an exporter by position; and whether one with a default lies between."""
    there = list(inspect.signature(module.forward).parameters)
    if not set(feed) <= set(there):
        return feed, False
    found = {name: feed[name] for name in there if name in feed}
    return found, list(found) != there[: len(found)]


def _torch_export(
    module: Any, problem: Workload, feed: Feed, path: Path, shared: Mapping[str, Any]
) -> None:
    import torch

    sizes = {a: torch.export.Dim(a) for axes in problem.dynamic.values() for a in axes.values()}
    shapes = tuple(
        {axis: sizes[name] for axis, name in problem.dynamic.get(port, {}).items()} or None
        for port in feed
    )
    torch.onnx.export(
        module,
        f=str(path),
        dynamo=True,
        dynamic_shapes=shapes,
        external_data=False,
        verbose=False,
        **shared,
    )


def _still_dynamic(problem: Workload, model: Model, exporter: str) -> None:
    for port in model.inputs:
        for axis, name in problem.dynamic.get(port.name, {}).items():
            if isinstance(port.shape[axis], int):
                raise CandidateBroken(
                    f"{exporter} made axis {axis} ({name}) of {port.name} constant: "
                    f"{port.shape[axis]}. torch.export specialises size 1: let inputs() give 2 or "
                    f"more, and look for int() or .item() on that size in the model."
                )
