"""The runtime of a fake TensorRT; classes have TensorRT's names.

Addresses are of host memory. Work is put on the stream of the fake libcuda.so.1 where that is loaded
(tests/cuda/fake_driver.c), which runs it when somebody waits; else it runs at once.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import fake_model
import onnx
from fake_build import MAGIC
from fake_objects import new, say
from fake_parser import parser_error


class Runtime:
    DEFAULTS = {"engine_host_code_allowed": False, "DLA_core": 0, "max_threads": 1}

    def __init__(self, logger: Any) -> None:
        self._s["logger"] = logger

    def logger(self) -> Any:
        return self._s["logger"]

    def num_DLA_cores(self) -> int:
        return self._world.dla_cores

    def get_plugin_registry(self) -> Any:
        return new(self._trt.IPluginRegistry, creators=self._world.creators)

    def deserialize_cuda_engine(self, serialized_engine: Any = None, **_: Any) -> Any:
        data = bytes(serialized_engine)
        try:
            assert data.startswith(MAGIC)
            told = json.loads(data[len(MAGIC) :])
        except (AssertionError, ValueError):
            say(self, "ERROR", "Error Code 1: Serialization (magicTag mismatch)")
            return None
        problem = _refused(self, told)
        if problem:
            say(self, "ERROR", problem)
            return None
        model = base64.b64decode(told.pop("model"))
        return new(self._trt.ICudaEngine, logger=self._s["logger"], told=told, model=model)


def _refused(runtime: Any, told: dict[str, Any]) -> str:
    """What TensorRT would log of an engine that it does not take; the wording is made up."""
    world, on = runtime._world, told["flags"]
    portable = "VERSION_COMPATIBLE" in on
    if portable and "EXCLUDE_LEAN_RUNTIME" not in on and not runtime.engine_host_code_allowed:
        return "the engine holds host code, and engine_host_code_allowed is False"
    if told["version"] != world.version and not portable:
        return f"the engine is of TensorRT {told['version']}, this is {world.version}"
    wide = {
        "AMPERE_PLUS": float(world.sm) >= 8 and float(told["sm"]) >= 8,
        "SAME_COMPUTE_CAPABILITY": told["sm"] == world.sm,
    }
    if told["sm"] != world.sm and not wide.get(told["level"], False):
        return f"the engine is for compute capability {told['sm']}, the device has {world.sm}"
    if world.missing_creators:
        return f"IPluginCreator not found for {', '.join(world.missing_creators)}"
    return ""


class ICudaEngine:
    DEFAULTS = {"name": "Unnamed Network 0", "num_aux_streams": 0}

    def num_layers(self) -> int:
        return len(self._s["told"]["names"])

    def num_optimization_profiles(self) -> int:
        return max(1, len(self._s["told"]["profiles"]))

    def num_io_tensors(self) -> int:
        return len(_tensors(self))

    def refittable(self) -> bool:
        return bool({"REFIT", "STRIP_PLAN", "REFIT_IDENTICAL"} & {*self._s["told"]["flags"]})

    def hardware_compatibility_level(self) -> Any:
        return self._trt.HardwareCompatibilityLevel[self._s["told"]["level"]]

    def device_memory_size_v2(self) -> int:
        return self._world.scratch_bytes * self.num_optimization_profiles

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return self._world.scratch_bytes * (profile_index + 1)

    def get_tensor_name(self, index: int) -> str:
        return list(_tensors(self))[index]

    def __getitem__(self, arg0: int) -> str:
        return list(_tensors(self))[arg0]

    def get_tensor_mode(self, name: str) -> Any:
        mode = self._trt.TensorIOMode
        found = _tensors(self).get(name)
        return mode.NONE if found is None else mode.OUTPUT if found[2] else mode.INPUT

    def get_tensor_shape(self, name: str) -> Any:
        return self._trt.Dims(_tensors(self)[name][1])

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[_tensors(self)[name][0]]

    def get_tensor_location(self, name: str) -> Any:
        place = self._trt.TensorLocation
        return place.HOST if self.is_shape_inference_io(name) else place.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        return self._trt.TensorFormat.LINEAR

    def get_tensor_components_per_element(self, name: str, profile_index: int = 0) -> int:
        return -1

    def is_shape_inference_io(self, name: str) -> bool:
        return name in fake_model.shape_inputs(_model(self))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        profiles = self._s["told"]["profiles"]
        fixed = [_tensors(self)[name][1]] * 3
        found = profiles[profile_index].get(name, fixed) if profiles else fixed
        return [self._trt.Dims(sizes) for sizes in found]

    def get_tensor_profile_values(self, name: int, profile_index: str) -> list[list[int]]:
        """The bindings name the two arguments the wrong way round: the first is the profile."""
        values = self._s["told"]["values"]
        return [list(v) for v in values[name].get(profile_index, [])] if values else []

    def create_engine_inspector(self) -> Any:
        return new(self._trt.EngineInspector, engine=self, execution_context=None)

    def create_execution_context(self, strategy: Any = None, runtime_config: Any = None) -> Any:
        kind = "STATIC" if strategy is None else strategy.name
        state = {"shapes": {}, "addresses": {}, "allocators": {}, "memory": (0, 0), "kind": kind}
        state |= {"logger": self._s["logger"], "profile": 0, "pending": True, "name": ""}
        return new(self._trt.IExecutionContext, engine=self, **state)

    def serialize(self) -> Any:
        raise NotImplementedError("the fake engine keeps no bytes of its own")


def _model(engine: Any) -> onnx.ModelProto:
    return fake_model.read(engine._s["model"])


def _tensors(engine: Any) -> dict[str, tuple[str, tuple[int, ...], bool]]:
    """name -> (type, sizes, is it an output); sizes that only the data tell stay -1."""
    model = _model(engine)
    ins = {name: (kind, sizes, False) for name, kind, sizes in fake_model.ports(model)}
    return ins | {n: (kind, sizes, True) for n, kind, sizes in fake_model.ports(model, True)}


class EngineInspector:
    def get_engine_information(self, format: Any) -> str:
        layers = str(self._s["engine"]._s["told"]["layers"])
        return (
            layers if format.name == "JSON" else "\n".join(map(str, json.loads(layers)["Layers"]))
        )

    def get_layer_information(self, layer_index: int, format: Any) -> str:
        return json.dumps(json.loads(self._s["engine"]._s["told"]["layers"])["Layers"][layer_index])


class Refitter:
    DEFAULTS = {"max_threads": 1, "weights_validation": True}

    def __init__(self, engine: Any, logger: Any) -> None:
        self._s.update(engine=engine, logger=logger, model=None)
        assert engine.refittable, "a Refitter of an engine that cannot be refitted"

    def logger(self) -> Any:
        return self._s["logger"]

    def get_missing_weights(self) -> list[str]:
        engine = self._s["engine"]
        if self._s["model"] is not None or "STRIP_PLAN" not in engine._s["told"]["flags"]:
            return []
        return [held.name for held in _model(engine).graph.initializer]

    def refit_cuda_engine(self) -> bool:
        if self._s["model"] is None:
            say(self, "ERROR", f"missing weights: {', '.join(self.get_missing_weights())}")
            return False
        self._s["engine"]._s["model"] = self._s["model"].SerializeToString()
        return True


class OnnxParserRefitter:
    def __init__(self, refitter: Any, logger: Any) -> None:
        self._s.update(refitter=refitter, logger=logger, errors=[])

    def refit_from_file(self, model: str) -> bool:
        told = [*self._world.refit_errors]
        if not Path(model).is_file():
            told.append({"desc": f"Failed to open file: {model}"})
        self._s["errors"] += [parser_error(self._trt, error) for error in told]
        if told:
            return False
        found = onnx.load(model)
        engine = self._s["refitter"]._s["engine"]
        same = [n.op_type for n in found.graph.node] == [
            n.op_type for n in _model(engine).graph.node
        ]
        if same:
            self._s["refitter"]._s["model"] = found
        return same

    def num_errors(self) -> int:
        return len(self._s["errors"])

    def get_error(self, index: int) -> Any:
        return self._s["errors"][index]


class IOutputAllocator:
    """A test's own class overrides `reallocate_output_async` and `notify_shape`."""
