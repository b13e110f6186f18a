"""Execution contexts of a fake TensorRT: a state machine that says no where TensorRT says no."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import fake_model
import numpy as np
from fake_objects import say


class IExecutionContext:
    DEFAULTS = {"persistent_cache_limit": 0, "enqueue_emits_profile": True}

    def engine(self) -> Any:
        return self._s["engine"]

    def active_optimization_profile(self) -> int:
        return int(self._s["profile"])

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """As the bindings do it: an error, never False."""
        why = ""
        if _capturing(stream_handle):
            why = "a profile cannot change while a graph is captured"
        elif not 0 <= profile_index < self._s["engine"].num_optimization_profiles:
            why = f"there is no profile {profile_index}"
        why = why or self._world.no_context
        if why:
            _refuse(self, why, stream_handle)
            raise RuntimeError("Error in set optimization profile async.")
        self._s.update(profile=profile_index, shapes={}, pending=True)
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        self._s.update(memory=(int(memory), int(size)), pending=True)

    def set_input_shape(self, name: str, shape: Any) -> bool:
        engine, sizes = self._s["engine"], tuple(int(n) for n in shape)
        low, _, high = engine.get_tensor_profile_shape(name, self._s["profile"])
        inside = len(sizes) == len(low) and all(
            a <= n <= b for a, n, b in zip(low, sizes, high, strict=True)
        )
        if not inside:
            return _refuse(self, f"{name}: {sizes} is not within {tuple(low)} .. {tuple(high)}")
        self._s["pending"] |= self._s["shapes"].get(name) != sizes
        self._s["shapes"][name] = sizes
        return True

    def get_tensor_shape(self, name: str) -> Any:
        return self._trt.Dims(_sizes(self, name))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if int(memory) % 256:
            return _refuse(self, f"the address of {name} is not aligned to 256 bytes")
        self._s["addresses"][name] = int(memory)
        return True

    def get_tensor_address(self, name: str) -> int:
        return int(self._s["addresses"].get(name, 0))

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._s["allocators"][name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self._s["allocators"].get(name)

    def infer_shapes(self) -> list[str]:
        if self._world.shapes_fail:
            _refuse(self, self._world.shapes_fail)
            raise RuntimeError("infer_shapes error code: -1")
        return _unsaid(self)

    def all_binding_shapes_specified(self) -> bool:
        return not _unsaid(self)

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = int(stream_handle)
        problem = _not_ready(self) or self._world.execution_fails
        if _capturing(stream):
            if self._s["pending"]:
                problem = problem or "a run outside of a capture must come before the capture"
            problem = problem or self._world.uncapturable
        if problem:
            return _refuse(self, problem, stream)
        self._s["pending"] = False
        if _unknown(self):
            _drain(stream)
            _allocated(self, stream)
        else:
            _enqueue(stream, _work(self))
        return True


def _refuse(context: Any, why: str, stream: int = 0) -> bool:
    say(context, "ERROR", why)
    if _capturing(stream):
        _driver().fake_spoil(ctypes.c_void_p(int(stream)))
    return False


def _inputs(engine: Any) -> list[str]:
    return [name for name, _, _ in fake_model.ports(fake_model.read(engine._s["model"]))]


def _outputs(engine: Any) -> list[str]:
    return [name for name, _, _ in fake_model.ports(fake_model.read(engine._s["model"]), True)]


def _unknown(context: Any) -> set[str]:
    model = fake_model.read(context._s["engine"]._s["model"])
    return fake_model.data_dependent(model) | set(context._world.data_dependent)


def _unsaid(context: Any) -> list[str]:
    """Inputs without a size, and shape inputs without values."""
    engine, names = context._s["engine"], _inputs(context._s["engine"])
    dynamic = {n for n in names if -1 in engine.get_tensor_shape(n)} - context._s["shapes"].keys()
    read = {n for n in names if engine.is_shape_inference_io(n)} - context._s["addresses"].keys()
    return [name for name in names if name in dynamic | read]


def _not_ready(context: Any) -> str:
    unsaid, engine = _unsaid(context), context._s["engine"]
    if unsaid:
        return f"not all shapes are specified: {', '.join(unsaid)}"
    allocated = {n for n, a in context._s["allocators"].items() if a is not None}
    held = {n for n, a in context._s["addresses"].items() if a} | allocated
    missing = [n for n in (*_inputs(engine), *_outputs(engine)) if n not in held]
    if missing:
        return f"no address is set for {', '.join(missing)}"
    needed = engine.get_device_memory_size_for_profile_v2(context._s["profile"])
    memory, size = context._s["memory"]
    if context._s["kind"] == "USER_MANAGED" and (not memory or size < needed):
        return f"device memory of {size} bytes is set, {needed} are needed"
    if memory % 256:
        return "device memory is not aligned to 256 bytes"
    return ""


def _input_sizes(context: Any) -> dict[str, tuple[int, ...]]:
    engine = context._s["engine"]
    return {
        name: tuple(context._s["shapes"].get(name, engine.get_tensor_shape(name)))
        for name in _inputs(engine)
    }


def _values(context: Any) -> dict[str, Any]:
    engine, sizes = context._s["engine"], _input_sizes(context)
    return {
        name: _array(engine, name, context._s["addresses"][name], sizes[name]).copy()
        for name in _inputs(engine)
        if engine.is_shape_inference_io(name)
    }


def _sizes(context: Any, name: str) -> tuple[int, ...]:
    engine = context._s["engine"]
    if name in _inputs(engine):
        return _input_sizes(context)[name]
    if _unsaid(context) or name in _unknown(context):
        return tuple(engine.get_tensor_shape(name))
    model = engine._s["model"]
    return fake_model.shapes(model, _input_sizes(context), _values(context))[name]


def _array(engine: Any, name: str, address: int, sizes: Any) -> Any:
    """The memory at an address as an array."""
    kind = np.dtype(fake_model.NUMPY[engine.get_tensor_dtype(name).name])
    if 0 in sizes:
        return np.zeros(sizes, kind)
    raw = (ctypes.c_char * (math.prod(sizes) * kind.itemsize)).from_address(address)
    return np.frombuffer(raw, kind).reshape(sizes)


def _work(context: Any) -> Callable[[], None]:
    """What a run does with the addresses and sizes of now: what a graph captures."""
    engine, sizes = context._s["engine"], _input_sizes(context)
    addresses, world = dict(context._s["addresses"]), context._world

    def run() -> None:
        world.runs += 1
        found = _computed(engine, addresses, sizes)
        for name in _outputs(engine):
            there = _array(engine, name, addresses[name], found[name].shape)
            np.copyto(there, found[name], casting="same_kind")

    return run


def _computed(engine: Any, addresses: Any, sizes: Any) -> dict[str, Any]:
    feed = {n: _array(engine, n, addresses[n], sizes[n]).copy() for n in _inputs(engine)}
    return fake_model.run(engine._s["model"], feed)


def _allocated(context: Any, stream: int) -> None:
    """Outputs whose sizes come with the data: the allocator is asked, then told."""
    context._world.runs += 1
    engine, addresses = context._s["engine"], context._s["addresses"]
    found = _computed(engine, addresses, _input_sizes(context))
    for name in _outputs(engine):
        array, allocator = found[name], context._s["allocators"].get(name)
        address = addresses.get(name, 0)
        if allocator is not None:
            given = name, address, max(array.nbytes, 1), 256, stream
            address = allocator.reallocate_output_async(*given)
            allocator.notify_shape(name, context._trt.Dims(array.shape))
        np.copyto(_array(engine, name, address, array.shape), array, casting="same_kind")


# ---- the streams of tests/cuda/fake_driver.c, where it is the driver

CALLBACK = ctypes.CFUNCTYPE(None)
_KEPT: list[Any] = []  # a captured graph may call it as long as it lives


def _driver() -> Any:
    try:
        found = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return found if hasattr(found, "fake_enqueue") else None


def _capturing(stream: int) -> bool:
    driver = _driver() if stream else None
    return bool(driver and driver.fake_capturing(ctypes.c_void_p(int(stream))))


def _drain(stream: int) -> None:
    driver = _driver()
    if driver:
        driver.fake_drain(ctypes.c_void_p(stream))


def _enqueue(stream: int, work: Callable[[], None]) -> None:
    driver = _driver()
    if driver is None:
        work()
        return
    called = CALLBACK(work)
    _KEPT.append(called)
    driver.fake_enqueue(ctypes.c_void_p(stream), called)
