"""Export a PyTorch module to ONNX, by two roads, checked against eager at several shapes.

The roads differ in what later steps can do with the graph (stock fusions know the tracer's
patterns, the newer exporter has native Attention and Gelu), so both are roots of candidates.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accel import graph, workload
from accel.errors import AccelError, CandidateBroken
from accel.values import Feed, Model, Workload

EXPORTERS = ("torch_export", "torchscript")
OPSETS = {
    "torch_export": 23,  # native Attention and Gelu; the newest that OpenVINO and ONNX Runtime read
    "torchscript": 17,  # the tracer's last with LayerNormalization; it gets no new ones
}
# fp32 rounding of another summation order is of the size of eager's own distance from float64;
# kernels that block differently were seen at up to a few times that.
NOISE_FACTOR = 20.0
NOISE_FLOOR = 1e-6  # of the output's largest value, for modules that are exact by luck


def roots(problem: Workload) -> tuple[str, ...]:
    """The exporters to try; a plain .onnx is its own root."""
    return ("onnx",) if problem.source.endswith(".onnx") else EXPORTERS


def export_source(source: str, data: str | None, exporter: str, out: Path) -> Model:
    """`export` for a child process, which loads the workload itself."""
    return export(workload.load(source, data), exporter, out)


def weights_digest(source: str, data: str | None) -> str:
    """sha256 of the module's state, or of the graph of a plain .onnx."""
    problem = workload.load(source, data)
    made = workload.guarded("model()", problem.model)
    if isinstance(made, (str, Path)):
        return graph.digest(graph.open_model(Path(made)))
    total = hashlib.sha256()
    for name, tensor in sorted(made.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        total.update(f"{name} {array.dtype} {tuple(array.shape)};".encode())
        total.update(array.flatten().view(_bytes_dtype()).numpy().tobytes())
    return total.hexdigest()


def _bytes_dtype() -> Any:
    import torch

    return torch.uint8


def export(problem: Workload, exporter: str, out: Path) -> Model:
    """The module as out/"model.onnx", proven against eager.

    Raises CandidateBroken when the exporter fails, a declared dynamic axis came out constant, or
    outputs are off by more than the noise of eager itself; UsageError for a wrong workload."""
    path = out / "model.onnx"
    made = workload.guarded("model()", problem.model)
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
    worst, allowed = _compare(module, problem, path, names)
    if not worst <= allowed:
        raise CandidateBroken(
            f"{exporter}: outputs are off by {worst:.3g} from eager; {allowed:.3g} is its noise. "
            f"{chatter.getvalue()[-500:]}"
        )
    line = f"{exporter} opset {OPSETS[exporter]}, off by {worst:.1e} (allowed {allowed:.1e})"
    return graph.describe(path, (line,))


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
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        parts.append(f"{type(error).__name__}: {' '.join(lines[:3])[:400]}")
        error = error.__cause__ or error.__context__
    return " <- ".join(parts)


def _export(
    module: Any, feed: Feed, problem: Workload, exporter: str, path: Path
) -> tuple[str, ...]:
    import torch

    tensors = {k: torch.from_numpy(v) for k, v in feed.items()}
    with torch.no_grad():
        names = workload.output_names(workload.call(module, tensors), problem)
        shared = {
            "input_names": list(feed),
            "output_names": list(names),
            "opset_version": OPSETS[exporter],
        }
        arguments = tuple(tensors.values())
        if exporter == "torch_export":
            _torch_export(module, arguments, problem, feed, path, shared)
        else:
            axes = {k: dict(v) for k, v in problem.dynamic.items()}
            first = next(iter(axes.values()), {})
            axes |= {n: {0: first[0]} for n in names if 0 in first}
            torch.onnx.export(
                module, arguments, str(path), dynamo=False, dynamic_axes=axes, **shared
            )
    return names


def _torch_export(
    module: Any,
    arguments: tuple[Any, ...],
    problem: Workload,
    feed: Feed,
    path: Path,
    shared: Mapping[str, Any],
) -> None:
    import torch

    sizes = {a: torch.export.Dim(a) for axes in problem.dynamic.values() for a in axes.values()}
    shapes = tuple(
        {axis: sizes[name] for axis, name in problem.dynamic.get(port, {}).items()} or None
        for port in feed
    )
    torch.onnx.export(
        module,
        arguments,
        str(path),
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


def _compare(
    module: Any, problem: Workload, path: Path, names: tuple[str, ...]
) -> tuple[float, float]:
    """Worst error over outputs and shapes, and the worst that eager's own noise explains."""
    import copy

    import numpy as np
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    exact = copy.deepcopy(module).double()
    worst, noise, scale = 0.0, 0.0, 0.0
    for feed in shapes(problem):
        tensors = {k: torch.from_numpy(v) for k, v in feed.items()}
        doubles = {k: v.double() if v.is_floating_point() else v for k, v in tensors.items()}
        with torch.inference_mode():
            eager = workload.named_outputs(workload.call(module, tensors), problem)
            ideal = workload.named_outputs(workload.call(exact, doubles), problem)
        for name, found in zip(names, session.run(list(names), dict(feed)), strict=True):
            want = eager[name].numpy()
            worst = max(worst, float(np.abs(found - want).max(initial=0.0)))
            noise = max(noise, float(np.abs(ideal[name].numpy() - want).max(initial=0.0)))
            scale = max(scale, float(np.abs(want).max(initial=0.0)))
    return worst, NOISE_FACTOR * noise + NOISE_FLOOR * scale


def shapes(problem: Workload) -> list[Feed]:
    """The example, the example at batch 1, and at another size of every dynamic axis."""
    feed = workload.example(problem)
    sizes = {
        name: feed[port].shape[axis]
        for port, axes in problem.dynamic.items()
        for axis, name in axes.items()
        if port in feed
    }
    first = {n for axes in problem.dynamic.values() for a, n in axes.items() if a == 0}
    ones = {n: 1 if n in first else size for n, size in sizes.items()}
    other = {n: size + 1 + (size % 2) for n, size in sizes.items()}
    wanted = [ones, other] if sizes else []
    return [feed, *(_resize(problem, feed, chosen) for chosen in wanted)]


def _resize(problem: Workload, feed: Feed, sizes: Mapping[str, int]) -> Feed:
    """Every dynamic axis cut or tiled to its size."""
    import numpy as np

    found = {}
    for port, value in feed.items():
        array = value
        for axis, name in problem.dynamic.get(port, {}).items():
            array = np.take(array, np.arange(sizes[name]) % array.shape[axis], axis=axis)
        found[port] = np.ascontiguousarray(array)
    return found
