"""A network as an engine: configured, built, and built again with less where memory did not suffice.

One process builds one plan. Each attempt has a configuration of its own; the network is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accel.engines import _tensorrt_cache as cache
from accel.engines import _tensorrt_errors as troubles
from accel.engines import _tensorrt_ladder as ladder
from accel.engines import _tensorrt_memory as memory
from accel.engines import _tensorrt_names as names
from accel.engines import _tensorrt_network as networks
from accel.engines._tensorrt_names import member
from accel.engines._tensorrt_options import Choices
from accel.errors import CandidateBroken
from accel.values import Options

LOCKED = (
    "each was given the timings of the first build, whose tactics TensorRT then takes again; equal "
    "bytes are not promised all the same (NVIDIA/TensorRT #3316, #4798)"
)


@dataclass(frozen=True)
class Work:
    """What every attempt has in common."""

    trt: Any
    log: Any  # _tensorrt_names.collector
    parsed: networks.Parsed
    choices: Choices
    profiles: Sequence[Mapping[str, Any]]  # as in the plan's facts, up to the requested shapes
    roomy: Sequence[Mapping[str, Any]]  # up to larger ones
    timings: bytes  # of earlier builds


@dataclass(frozen=True)
class Made:
    """An engine, and how it came about."""

    content: bytes
    layers: str  # the engine inspector's JSON
    config: Any  # the attempt that succeeded; it holds the timings
    timings: bytes
    facts: Options = field(default_factory=dict)


def builder(trt: Any, log: Any, threads: int) -> Any:
    """TensorRT's builder. Raises CandidateBroken where it does not start."""
    start = len(log.messages)
    try:
        made = trt.Builder(logger=log)
    except Exception as error:  # pybind11's TypeError where CUDA does not start
        told = log.messages[start:]
        said = names.errors(told) + names.warnings(told) or [str(error)]
        raise CandidateBroken(f"TensorRT's builder does not start. {troubles.told(said)}") from None
    made.max_threads = threads
    return made


def climb(work: Work) -> Made:
    """Down the ladder until an attempt succeeds.

    Raises CandidateBroken with each attempt where none does, or where the failure is known not to be
    one of memory. One that is not known may come of the room above the requested shapes, which a graph
    need not have a meaning for: it is tried without."""
    tried: list[dict[str, Any]] = []
    messages: list[str] = []
    for rung in ladder.rungs(work.choices.level, work.roomy != work.profiles):
        made, line, messages = _step(work, rung)
        tried.append(line)
        if made is not None:
            return dataclasses.replace(made, facts={**made.facts, "rungs": tried})
        known = troubles.trouble(messages)
        if not (known.memory if known else rung.room):
            break
    steps = "; ".join(f"{t['rung']}: {t['outcome']}" for t in tried)
    raise CandidateBroken(
        f"TensorRT could not build the engine, after {len(tried)} "
        f"attempt{'s' if len(tried) > 1 else ''} ({steps}). {troubles.told(messages)}"
    )


def _step(work: Work, rung: ladder.Rung) -> tuple[Made | None, dict[str, Any], list[str]]:
    """One attempt, with what is free at this moment: the engine, a line on it, and TensorRT's words."""
    found, asked = memory.free(), work.choices.workspace_bytes
    size = ladder.workspace(found.free_bytes, found.shared, asked, rung.divisor)
    config, accepted = configured(work, rung, size)
    content, messages = attempt(work, config)
    line = {"rung": rung.name, "workspace_bytes": size, "level": rung.level}
    if content is None:
        known = troubles.trouble(messages)
        cause = known.cause if known else " ".join(messages[:1])[: troubles.SHOWN]
        return None, {**line, "outcome": cause or "it failed and said nothing"}, messages
    facts = {
        "workspace_bytes": size,
        "free_bytes": found.free_bytes,
        "memory_shared": found.shared,
        "level": rung.level,
        "profiles": list(work.roomy if rung.room else work.profiles),
        "timings_found": accepted and rung.cache and bool(work.timings),
    }
    made = Made(content, inspected(work, content), config, cache.taken(config), facts)
    return made, {**line, "outcome": "built"}, messages


def attempt(work: Work, config: Any) -> tuple[bytes | None, list[str]]:
    """The engine's bytes, or None and the errors, the warnings after them."""
    start = len(work.log.messages)
    thrown: list[str] = []
    made = None
    try:
        made = work.parsed.builder.build_serialized_network(
            network=work.parsed.network, config=config
        )
    except Exception as error:  # the bindings raise whatever C++ throws, and MemoryError
        thrown = [f"{type(error).__name__}: {error}"]
    if made is not None:
        return bytes(made), []
    said = work.log.messages[start:]
    return None, [*names.errors(said), *thrown, *names.warnings(said)]


def configured(work: Work, rung: ladder.Rung, workspace_bytes: int) -> tuple[Any, bool]:
    """A configuration, and whether the timings were accepted.

    No precision flag is ever set: TensorRT 11 has none. TF32 is on unless it is cleared (Python API,
    BuilderFlag)."""
    trt, choices = work.trt, work.choices
    config = work.parsed.builder.create_builder_config()
    pool = member(trt.MemoryPoolType, "WORKSPACE")
    config.set_memory_pool_limit(pool=pool, pool_size=workspace_bytes)
    config.builder_optimization_level = rung.level
    config.profiling_verbosity = member(trt.ProfilingVerbosity, "DETAILED")
    if not choices.tf32:
        config.clear_flag(flag=member(trt.BuilderFlag, "TF32"))
    if choices.version_compatible:
        config.set_flag(flag=member(trt.BuilderFlag, "VERSION_COMPATIBLE"))
        config.plugins_to_serialize = work.parsed.parser.get_used_vc_plugin_libraries()
    if choices.hardware_compatibility != "NONE":
        level = member(trt.HardwareCompatibilityLevel, choices.hardware_compatibility)
        config.hardware_compatibility_level = level
    if choices.strip_plan:  # REFIT itself may drop a bias: TensorRT 11.3, Refitting an Engine
        config.set_flag(flag=member(trt.BuilderFlag, "STRIP_PLAN"))
        config.set_flag(flag=member(trt.BuilderFlag, "REFIT_IDENTICAL"))
    if choices.dla is not None:
        config.default_device_type = member(trt.DeviceType, "DLA")
        config.DLA_core = choices.dla
        config.set_flag(flag=member(trt.BuilderFlag, "GPU_FALLBACK"))
    for profile in work.roomy if rung.room else work.profiles:
        _add_profile(work, config, profile)
    return config, cache.attach(config, work.timings if rung.cache else b"")


def _add_profile(work: Work, config: Any, profile: Mapping[str, Any]) -> None:
    made = work.parsed.builder.create_optimization_profile()
    try:
        for name, bounds in profile.items():
            low, best, high = (tuple(bounds[b]) for b in ("min", "opt", "max"))
            values = bounds.get("values")
            if values:
                made.set_shape_input(
                    input=name, min=values["min"], opt=values["opt"], max=values["max"]
                )
            else:
                made.set_shape(input=name, min=low, opt=best, max=high)
        accepted = config.add_optimization_profile(profile=made) >= 0
    except RuntimeError:  # of the bindings, for ranges that contradict each other
        accepted = False
    if not accepted:
        raise CandidateBroken(
            f"TensorRT refuses an optimization profile: {dict(profile)}. Give other ranges, or "
            "requests() of other shapes."
        )


def require_dla(work: Work) -> None:
    """Raise CandidateBroken where this TensorRT sees no such core.

    10.8 to 11.4.0 have no DLA; 11.4.1 has it again on a Jetson AGX Orin (TensorRT 11.3.0, 11.4.0 and
    11.4.1 documentation, DLA Runtime Configuration)."""
    there = work.parsed.builder.num_DLA_cores
    if work.choices.dla is not None and work.choices.dla >= there:
        raise CandidateBroken(
            f"DLA core {work.choices.dla} was asked for; TensorRT {work.trt.__version__} sees {there} "
            "here. TensorRT 10.8 to 11.4.0 support none. Leave dla out, or use JetPack's own TensorRT."
        )


def dla(work: Work, made: Made) -> Options | None:
    """Which layers of the network a DLA core can take; the others run on the GPU, and are named."""
    if work.choices.dla is None:
        return None
    layers = networks.layers(work.parsed.network)
    fell = [str(x.name) for x in layers if not made.config.can_run_on_DLA(layer=x)]
    return {
        "core": work.choices.dla,
        "layers": len(layers),
        "coverage": (len(layers) - len(fell)) / max(1, len(layers)),
        "fell_to_gpu": fell[: names.WARNINGS_KEPT],
    }


def inspected(work: Work, content: bytes) -> str:
    """The engine inspector's JSON of every layer, which also shows that the engine loads.

    Raises CandidateBroken where it does not."""
    trt, start = work.trt, len(work.log.messages)
    runtime = trt.Runtime(logger=work.log)
    runtime.engine_host_code_allowed = work.choices.version_compatible  # made here, this moment
    if work.choices.dla is not None:
        runtime.DLA_core = work.choices.dla
    engine = runtime.deserialize_cuda_engine(serialized_engine=content)
    if engine is None:
        said = names.errors(work.log.messages[start:])
        raise CandidateBroken(f"What TensorRT built does not load. {troubles.told(said)}")
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(format=member(trt.LayerInformationFormat, "JSON")))


def repeated(work: Work, made: Made) -> Options | None:
    """Built again as often as asked, with the timings of the first: is it the same engine?

    None where it was not asked for. Raises CandidateBroken where a repetition fails."""
    if not work.choices.rebuilds:
        return None
    rung = ladder.Rung("again", 1, int(made.facts["level"]))
    built = made.facts["profiles"]
    again = dataclasses.replace(work, timings=made.timings, profiles=built)
    engines, layers = [cache.digest(made.content)], [cache.digest(made.layers.encode())]
    for _ in range(work.choices.rebuilds):
        config, _ = configured(again, rung, int(made.facts["workspace_bytes"]))
        content, messages = attempt(again, config)
        if content is None:
            raise CandidateBroken(f"The build failed when repeated. {troubles.told(messages)}")
        engines.append(cache.digest(content))
        layers.append(cache.digest(inspected(again, content).encode()))
    return {
        "count": work.choices.rebuilds,
        "engines_equal": len(set(engines)) == 1,
        "layers_equal": len(set(layers)) == 1,
        "engine_digests": engines,
        "note": LOCKED,
    }
