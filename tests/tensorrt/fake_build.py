"""The builder of a fake TensorRT, its configuration and timing cache; classes have TensorRT's names."""

from __future__ import annotations

import base64
import json
from typing import Any

import fake_model
import onnx
from fake_objects import memory, new, say

MAGIC = b"FAKE TENSORRT ENGINE\n"
CACHE = b"FAKE TIMING CACHE\n"


class Builder:
    DEFAULTS = {"max_threads": 1, "error_recorder": None}

    def __init__(self, logger: Any) -> None:
        self._s["logger"] = logger

    def logger(self) -> Any:
        return self._s["logger"]

    def num_DLA_cores(self) -> int:
        return self._world.dla_cores

    def platform_has_tf32(self) -> bool:
        return float(self._world.sm) >= 8

    def create_network(self, flags: int = 0) -> Any:
        known = sum(1 << int(f) for f in self._trt.NetworkDefinitionCreationFlag)
        assert int(flags) & ~known == 0, f"{flags} has bits that this TensorRT has no flag for"
        return new(
            self._trt.INetworkDefinition, logger=self._s["logger"], flags=flags, builder=self
        )

    def create_optimization_profile(self) -> Any:
        return new(self._trt.IOptimizationProfile, shapes={}, values={})

    def create_builder_config(self) -> Any:
        state = {
            "pools": {},
            "on": {self._trt.BuilderFlag.TF32},
            "profiles": [],
            "cache": None,
            "devices": {},
        }
        return new(self._trt.IBuilderConfig, logger=self._s["logger"], **state)

    def build_serialized_network(self, network: Any, config: Any, kernel_text: Any = None) -> Any:
        world = self._world
        world.builds += 1
        for severity, text in world.build_messages:
            say(self, severity, text)
        problem = _problem(self, network, config)
        if problem:
            say(self, "ERROR", problem)
            return None
        return memory(self._trt, _engine(self, network, config))

    def is_network_supported(self, network: Any, config: Any) -> bool:
        return True


def _problem(builder: Any, network: Any, config: Any) -> str:
    """Why the build fails."""
    world, model, profiles = builder._world, network._s.get("model"), config._s["profiles"]
    if model is None:
        return "Network must have at least one output"
    pools = config._s["pools"]
    large = pools.get("WORKSPACE", 1 << 40) > world.out_of_memory_above_bytes
    if large and world.out_of_memory_builds > 0:
        world.out_of_memory_builds -= 1
        return str(world.out_of_memory_says)
    if config._s.get("default_device_type") == builder._trt.DeviceType.DLA and not world.dla_cores:
        return "Error Code 3: API Usage Error (no DLA on this GPU)"
    dynamic = {name for name, _, sizes in fake_model.ports(model) if -1 in sizes}
    if (dynamic or fake_model.shape_inputs(model)) and not profiles:
        return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    for profile in profiles:
        left = dynamic - profile._s["shapes"].keys()
        left |= fake_model.shape_inputs(model) - profile._s["values"].keys()
        if left:
            return f"the optimization profile says nothing of {sorted(left)}"
    return ""


def _engine(builder: Any, network: Any, config: Any) -> bytes:
    world, model = builder._world, network._s["model"]
    flags = builder._trt.BuilderFlag.__members__  # some have two names
    on = [name for name, flag in flags.items() if flag in config._s["on"]]
    strips = "STRIP_PLAN" in on
    kept = fake_model.stripped(model) if strips else model
    level = config._s.get("hardware_compatibility_level")
    names = [node.name or node.op_type for node in model.graph.node]
    content = {
        "version": world.version,
        "sm": world.sm,
        "flags": sorted(on),
        "level": level.name if level is not None else "NONE",
        "profiles": [p._s["shapes"] for p in config._s["profiles"]],
        "values": [p._s["values"] for p in config._s["profiles"]],
        "layers": world.layers or _layers(model, config),
        "names": names,
        "model": base64.b64encode(kept.SerializeToString()).decode(),
        "build": world.builds if world.nondeterministic else 0,
    }
    if config._s["cache"] is not None:
        config._s["cache"]._s["entries"].update(dict.fromkeys(names, "tactic"))
    return MAGIC + json.dumps(content, sort_keys=True).encode()


def _layers(model: onnx.ModelProto, config: Any) -> str:
    verbosity = config._s.get("profiling_verbosity")
    nodes = [node.name or node.op_type for node in model.graph.node]
    if verbosity is None or verbosity.name != "DETAILED":
        return json.dumps({"Layers": nodes})
    layers = [
        {
            "Name": name,
            "LayerType": n.op_type,
            "Inputs": _tensors(n.input),
            "Outputs": _tensors(n.output),
            "Metadata": f"[ONNX Layer: {name}]",
        }
        for name, n in zip(nodes, model.graph.node, strict=True)
    ]
    return json.dumps({"Layers": layers, "Bindings": [p[0] for p in fake_model.ports(model)]})


def _tensors(names: Any) -> list[dict[str, Any]]:
    """As the TensorRT documentation has them ("Engine Inspector"), all of one type."""
    told = {"Location": "Device", "Dimensions": [1], "Format/Datatype": "Row major linear FP32"}
    return [{"Name": name, **told} for name in names]


class IBuilderConfig:
    DEFAULTS = {
        "builder_optimization_level": 3,
        "DLA_core": 0,
        "avg_timing_iterations": 1,
        "max_aux_streams": 0,
        "max_num_tactics": -1,
        "progress_monitor": None,
        "plugins_to_serialize": [],
        "flags": 0,
    }

    def flags(self) -> int:
        return sum(1 << int(flag) for flag in self._s["on"])

    def profiling_verbosity(self) -> Any:
        return self._s.get("profiling_verbosity", self._trt.ProfilingVerbosity.LAYER_NAMES_ONLY)

    def hardware_compatibility_level(self) -> Any:
        found = self._trt.HardwareCompatibilityLevel.NONE
        return self._s.get("hardware_compatibility_level", found)

    def default_device_type(self) -> Any:
        return self._s.get("default_device_type", self._trt.DeviceType.GPU)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._s["pools"][pool.name] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        return int(self._s["pools"].get(pool.name, 1 << 40))

    def set_flag(self, flag: Any) -> None:
        self._s["on"].add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._s["on"].discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._s["on"]

    def num_optimization_profiles(self) -> int:
        return len(self._s["profiles"])

    def add_optimization_profile(self, profile: Any) -> int:
        self._s["profiles"].append(profile)
        return len(self._s["profiles"]) - 1

    def set_device_type(self, layer: Any, device_type: Any) -> None:
        self._s["devices"][layer.name] = device_type

    def get_device_type(self, layer: Any) -> Any:
        return self._s["devices"].get(layer.name, self.default_device_type)

    def can_run_on_DLA(self, layer: Any) -> bool:
        return bool(self._world.dla_cores) and layer.type.name in ("CONVOLUTION", "ACTIVATION")

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        return True

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        pass

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        data = bytes(serialized_timing_cache)
        if data and not data.startswith(CACHE):
            say(self, "ERROR", "the timing cache cannot be read")
            return None
        content = json.loads(data[len(CACHE) :]) if data else {**_here(self), "entries": {}}
        return new(self._trt.ITimingCache, **content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if not ignore_mismatch and any(cache._s[k] != v for k, v in _here(self).items()):
            say(self, "WARNING", "the timing cache is of another device or version")
            return False
        self._s["cache"] = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._s["cache"]


def _here(of: Any) -> dict[str, str]:
    return {"version": of._world.version, "sm": of._world.sm}


class ITimingCache:
    def serialize(self) -> Any:
        content = json.dumps(self._s, sort_keys=True)
        return memory(self._trt, CACHE + content.encode())

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        keys = ("version", "sm")
        if not ignore_mismatch and any(self._s[k] != input_cache._s[k] for k in keys):
            return False
        self._s["entries"].update(input_cache._s["entries"])
        return True

    def reset(self) -> bool:
        self._s["entries"].clear()
        return True
