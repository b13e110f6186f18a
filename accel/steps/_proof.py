"""Is an exported graph what eager computes? Compared output by output, at several shapes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import workload
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.plain import flat
from accel.steps import _shapes
from accel.values import Feed, Workload

# fp32 rounding of another summation order is of the size of eager's own distance from float64;
# kernels that block differently were seen at up to a few times that.
NOISE_FACTOR = 20.0
NOISE_FLOOR = 1e-6  # of the output's largest value, for modules that are exact by luck
NUDGED = "noise is of weights one ulp off"
SILENT = 4  # ONNX Runtime's log severity: what it would print is in the error


@dataclass(frozen=True)
class Distance:
    """How far an output is from eager's, and how far eager's own rounding may take it."""

    output: str
    error: float  # largest absolute difference over all shapes; inf: NaN on one side only
    allowed: float
    sizes: Mapping[str, int]  # of the dynamic axes, where the error is largest
    note: str = ""


def compare(module: Any, problem: Workload, path: Path, names: tuple[str, ...]) -> Distance:
    """The output that is worst off, in units of what it is allowed, over the shapes.

    Each output has its own allowance: one of large values must not excuse the others.
    Raises CandidateBroken where the graph does not run, or answers in another shape, UsageError where
    eager itself runs at the example's sizes alone."""
    session, precise = _session(path), _Precise(module)
    errors: dict[str, list[tuple[float, Feed]]] = {name: [] for name in names}
    allowed = dict.fromkeys(names, 0.0)
    for feed, eager in _answered(module, problem):
        found, ideal = _run(session, names, feed, problem), precise(feed, problem)
        for name, got in zip(names, found, strict=True):
            _same_shape(name, got, eager[name], _shapes.sizes_of(problem, feed))
            errors[name].append((_distance(got, eager[name]), feed))
            allowed[name] = max(allowed[name], _allowance(eager[name], ideal[name]))
    worst = max(_distances(problem, errors, allowed), key=_excess)
    return dataclasses.replace(worst, note=precise.note)


def _excess(distance: Distance) -> float:
    if distance.allowed:
        return distance.error / distance.allowed
    return math.inf if distance.error else 0.0


def _distances(
    problem: Workload,
    errors: Mapping[str, list[tuple[float, Feed]]],
    allowed: Mapping[str, float],
) -> Iterator[Distance]:
    for name, found in errors.items():
        error, feed = max(found, key=lambda pair: pair[0])
        yield Distance(name, error, allowed[name], _shapes.sizes_of(problem, feed))


def _allowance(eager: Any, ideal: Any) -> float:
    """What rounding explains: eager's own distance from the ideal, where both are finite."""
    import numpy as np

    x, y = np.asarray(eager, np.float64), np.asarray(ideal, np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    noise = float(np.abs(x - y)[finite].max(initial=0.0))
    if eager.dtype.kind != "f":  # a class or a truth value is off only where rounding turns it
        return noise
    return NOISE_FACTOR * noise + NOISE_FLOOR * float(np.abs(x[finite]).max(initial=0.0))


class _Precise:
    """The module in float64, or, where it does not run so, with weights that are one ulp off."""

    def __init__(self, module: Any) -> None:
        import copy

        self._module, self.note = module, ""
        try:
            self._exact = copy.deepcopy(module).double()
        except Exception as error:  # it may hold anything: a lock, an open file
            self.note = f"the module cannot be copied ({flat(error)}): {NUDGED}"

    def __call__(self, feed: Feed, problem: Workload) -> dict[str, Any]:
        if not self.note:
            try:
                return _outputs(self._exact, _wide(feed), problem)
            except Exception:  # torch raises anything where a module holds its own dtypes
                self.note = f"the module does not run in float64: {NUDGED}"
        with _nudged(self._module):
            return _outputs(self._module, feed, problem)


@contextlib.contextmanager
def _nudged(module: Any) -> Iterator[None]:
    """Its weights are one ulp off; then they are again what they were."""
    import torch

    draw = torch.Generator().manual_seed(0)
    weights = [w for w in module.parameters() if w.is_floating_point()]
    before = [w.detach().clone() for w in weights]
    try:
        with torch.no_grad():
            for weight in weights:
                sign = torch.randint(0, 2, weight.shape, generator=draw) * 2.0 - 1.0
                weight.mul_(1 + sign.to(weight.dtype) * torch.finfo(weight.dtype).eps)
        yield
    finally:
        with torch.no_grad():
            for weight, whole in zip(weights, before, strict=True):
                weight.copy_(whole)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = SILENT
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen types of its own
        raise CandidateBroken(f"ONNX Runtime refuses the exported graph: {flat(error)}") from None


def _run(session: Any, names: tuple[str, ...], feed: Feed, problem: Workload) -> Any:
    try:
        return session.run(list(names), {p.name: feed[p.name] for p in session.get_inputs()})
    except Exception as error:  # as above
        first = str(error).strip().partition("\n")[0][:400]
        raise CandidateBroken(
            f"the exported graph does not run at {_shapes.sizes_text(_shapes.sizes_of(problem, feed))}: {first}. "
            f"Look for int() or .item() on such a size in the model: it became a constant."
        ) from None


def _outputs(module: Any, feed: Feed, problem: Workload) -> dict[str, Any]:
    import torch

    tensors = {k: torch.from_numpy(v) for k, v in feed.items()}
    with torch.inference_mode():
        found = workload.named_outputs(workload.call(module, tensors), problem)
    return {name: value.numpy() for name, value in found.items()}


def _wide(feed: Feed) -> Feed:
    import numpy as np

    return {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in feed.items()}


def _same_shape(name: str, got: Any, want: Any, sizes: Mapping[str, int]) -> None:
    if got.shape != want.shape:
        raise CandidateBroken(
            f"the exported graph gives {name!r} as {got.shape} at {_shapes.sizes_text(sizes)}; eager "
            f"gives {want.shape}. Look for int() or .item() on such a size in the model."
        )


def _distance(a: Any, b: Any) -> float:
    """Largest |a - b|; equal infinities and NaN on both sides are no distance, on one inf."""
    import numpy as np

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore"):
        gaps = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    return float(np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _answered(module: Any, problem: Workload) -> Iterator[tuple[Feed, dict[str, Any]]]:
    """Each shape, and what eager says at it: a graph need not run where the module itself does not."""
    *certain, other = _shapes.shapes(problem)
    for feed in certain:
        yield _taken(module, problem, [feed])
    yield _taken(module, problem, [other, *_shapes.smaller(problem)])


def _taken(module: Any, problem: Workload, feeds: Sequence[Feed]) -> tuple[Feed, dict[str, Any]]:
    """The first of the feeds that eager takes."""
    why = ""
    for feed in feeds:
        try:
            return feed, _outputs(module, feed, problem)
        except AccelError:
            raise
        except Exception as error:  # the user's code, and torch below it
            why = why or f"{type(error).__name__}: {flat(error)[:400]}"
    tried = dict.fromkeys(_shapes.sizes_text(_shapes.sizes_of(problem, f)) for f in feeds)
    raise UsageError(
        f"The model itself does not run at {' nor at '.join(tried)}: {why}. Every axis in dynamic must take other sizes "
        f"than those of inputs(), and the batch 1: give inputs() sizes that have others beside them, "
        f"or take the axis out of dynamic."
    )
