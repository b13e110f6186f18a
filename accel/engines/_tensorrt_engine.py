"""A plan's engine, read from its file: checked, deserialised, its weights put in, its tensors listed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accel.engines import _tensorrt_errors as troubles
from accel.engines import _tensorrt_names as names
from accel.engines._tensorrt_choice import Ranges
from accel.engines._tensorrt_names import member
from accel.errors import CandidateBroken
from accel.values import Plan

BOUNDS = ("min", "opt", "max")


@dataclass(frozen=True)
class Slot:
    """A tensor that crosses the engine's border."""

    name: str
    dtype: Any  # numpy's
    output: bool
    on_host: bool  # TensorRT reads or writes it in host memory: shapes are computed there


@dataclass(frozen=True)
class Opened:
    """An engine that is ready for contexts. The runtime must outlive it."""

    trt: Any
    log: Any  # _tensorrt_names.collector
    runtime: Any
    engine: Any
    slots: tuple[Slot, ...]
    profiles: tuple[Ranges, ...]  # read back from the engine
    scratch_bytes: int  # that a context needs, whatever its profile


def opened(plan: Plan) -> Opened:
    """The engine of a plan. A driver must have started: TensorRT's runtime crashes without one.

    Raises CandidateBroken where the file was changed, does not load, or is not what the plan tells."""
    path = Path(plan.path) / str(plan.facts["engine_file"])
    content, ours = _content(path, plan.facts)
    trt = names.library()
    log = names.collector(trt)
    runtime = trt.Runtime(logger=log)
    runtime.engine_host_code_allowed = ours and _has_host_code(plan.facts)
    if plan.facts.get("dla"):
        runtime.DLA_core = int(plan.facts["dla"]["core"])
    start = len(log.messages)
    engine = runtime.deserialize_cuda_engine(serialized_engine=content)
    if engine is None:
        said = names.errors(log.messages[start:])
        raise CandidateBroken(_refused(path, plan.facts, ours, said))
    if plan.facts.get("stripped"):
        _refit(trt, log, engine, Path(plan.path) / str(plan.facts["onnx"]))
    profiles = _profiles(trt, engine)
    _require_profiles(plan.facts, profiles)
    memory = int(engine.device_memory_size_v2)
    return Opened(trt, log, runtime, engine, _slots(trt, engine), profiles, memory)


def _content(path: Path, facts: Mapping[str, Any]) -> tuple[bytes, bool]:
    """The file, and whether it is ours: its sha256 is the one that the build wrote into the plan."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CandidateBroken(
            f"The plan's engine cannot be read: {error}. Build it again: accel build"
        ) from None
    recorded = facts.get("digests", {}).get("engine", "")
    found = hashlib.sha256(content).hexdigest()
    if recorded and recorded != found:
        raise CandidateBroken(
            f"{path.name} is not the file that was built: its sha256 is {found[:12]}..., the plan "
            f"says {recorded[:12]}.... An engine is code; it is not run. Build it again: accel build"
        )
    return content, bool(recorded)


def _has_host_code(facts: Mapping[str, Any]) -> bool:
    """Plans for several versions bring a runtime of their own, which the processor executes.
    (TensorRT documentation, Version Compatibility)"""
    return bool(facts.get("compatible", {}).get("version"))


def _refused(path: Path, facts: Mapping[str, Any], ours: bool, said: Sequence[str]) -> str:
    parts = [f"TensorRT does not load {path.name}. {troubles.told(said)}"]
    if "sm" in facts:
        told = f"{facts['gpu']}, compute capability {facts['sm']}, TensorRT {facts['tensorrt']}"
        parts.append(f"It was built for: {told}.")
    if facts.get("plugins"):
        parts.append(f"It holds the plugins {', '.join(facts['plugins'])}.")
    if _has_host_code(facts) and not ours:
        parts.append(
            "It holds code for the processor, which is run only where the plan records the file's "
            "sha256, and this one does not. Build it here: accel build"
        )
    return " ".join(parts)


def _refit(trt: Any, log: Any, engine: Any, path: Path) -> None:
    """Put the weights in, from the graph beside the engine.

    (TensorRT documentation, Weight Stripping; Python API, OnnxParserRefitter)"""
    start = len(log.messages)
    refitter = trt.Refitter(engine=engine, logger=log)
    parser_refitter = trt.OnnxParserRefitter(refitter=refitter, logger=log)
    read = parser_refitter.refit_from_file(model=str(path))
    if read and refitter.refit_cuda_engine():
        return
    errors = [parser_refitter.get_error(index=i) for i in range(parser_refitter.num_errors)]
    said = [error.desc() for error in errors]
    said += names.errors(log.messages[start:])
    missing = refitter.get_missing_weights()
    lacks = f" It lacks {len(missing)} weights, {missing[0]} among them." if missing else ""
    raise CandidateBroken(
        f"The plan holds no weights, and those of {path.name} do not fit.{lacks} "
        f"{troubles.told(said)}"
    )


def _slots(trt: Any, engine: Any) -> tuple[Slot, ...]:
    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index=index)
        mode = engine.get_tensor_mode(name=name)
        place = engine.get_tensor_location(name=name)
        found.append(
            Slot(
                name,
                _numpy(name, engine.get_tensor_dtype(name=name)),
                mode == member(trt.TensorIOMode, "OUTPUT"),
                place == member(trt.TensorLocation, "HOST"),
            )
        )
    return tuple(found)


def _numpy(name: str, kind: Any) -> Any:
    told = names.dtype(kind)
    if told not in names.NUMPY.values():  # int4 and fp4 share bytes, which arrays cannot
        raise CandidateBroken(
            f"{name!r} is of TensorRT's type {told}, which no array here can hold. Cast it in the "
            "graph, and build again: accel build"
        )
    if told == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(told)


def _profiles(trt: Any, engine: Any) -> tuple[Ranges, ...]:
    """The ranges of each profile, by input."""
    inputs = [s.name for s in _slots(trt, engine) if not s.output]
    return tuple(
        {name: _ranges(engine, name, i) for name in inputs}
        for i in range(engine.num_optimization_profiles)
    )


def _ranges(engine: Any, name: str, profile: int) -> dict[str, Any]:
    shapes = engine.get_tensor_profile_shape(name=name, profile_index=profile)
    found: dict[str, Any] = {
        bound: [int(n) for n in sizes] for bound, sizes in zip(BOUNDS, shapes, strict=True)
    }
    if engine.is_shape_inference_io(name=name):
        # by place: the bindings' names of the two arguments stand the wrong way round
        values = engine.get_tensor_profile_values(profile, name)
        pairs = zip(BOUNDS, values, strict=False)
        found["values"] = {bound: [int(n) for n in v] for bound, v in pairs}
    return found if found.get("values") != {} else {b: found[b] for b in BOUNDS}


def _require_profiles(facts: Mapping[str, Any], found: Sequence[Ranges]) -> None:
    """Raise CandidateBroken where the engine has other profiles than the plan tells of."""
    told = facts.get("profiles")
    if told is None:
        return
    for i, (asked, obtained) in enumerate(zip(told, found, strict=False)):
        for name, bounds in asked.items():
            for key in BOUNDS:
                seen = obtained.get(name, {}).get(key)
                if "values" not in bounds and seen != list(bounds[key]):
                    raise CandidateBroken(
                        f"The plan's profile {i} has {key} {list(bounds[key])} for {name!r}, the "
                        f"engine {seen}. Build it again: accel build"
                    )
    if told and len(told) != len(found):
        raise CandidateBroken(
            f"The plan tells of {len(told)} optimization profiles, the engine has {len(found)}. "
            "Build it again: accel build"
        )
