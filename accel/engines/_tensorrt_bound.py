"""An engine's run for inputs of certain shapes: a context's settings, buffers, and perhaps a CUDA graph.

A run is: the feed into pinned memory, to the GPU, the engine, back into pinned memory, and the wait for
all that. Contexts that share a graph's memory are never run at once: a session has one stream and a lock.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accel.cuda import device, driver
from accel.engines import _tensorrt_errors as troubles
from accel.engines import _tensorrt_names as names
from accel.engines._tensorrt_allocator import allocator
from accel.engines._tensorrt_engine import Opened, Slot
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.values import Feed, Refusal

OPEN = -1  # a size that TensorRT knows after the run only


@dataclass(frozen=True)
class Key:
    """What a run's settings depend on: anything else may change from call to call."""

    profile: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]  # of all inputs
    values: tuple[tuple[str, bytes], ...]  # of inputs that are read as shapes
    places: tuple[tuple[str, int], ...]  # addresses of inputs that lie on the GPU already


@dataclass
class Seat:
    """An execution context, and whose settings it has at the moment."""

    context: Any
    profile: int
    holder: Any = field(default=None, repr=False)


def seat(opened: Opened, profile: int, scratch: int, stream: int) -> Seat:
    """A new context on one profile, its working memory the session's.

    (Python API, ExecutionContextAllocationStrategy.USER_MANAGED, set_optimization_profile_async)"""
    strategy = names.member(opened.trt.ExecutionContextAllocationStrategy, "USER_MANAGED")
    with telling(opened, f"TensorRT makes no execution context for profile {profile}"):
        context = opened.engine.create_execution_context(strategy=strategy)
        context.set_optimization_profile_async(profile_index=profile, stream_handle=stream)
        device.wait(stream)
        context.set_device_memory(memory=scratch, size=opened.scratch_bytes)
    return Seat(context, profile)


@contextlib.contextmanager
def telling(opened: Opened, what: str) -> Iterator[None]:
    """What the bindings raise, as our error with TensorRT's words: RuntimeError where a call of theirs
    fails, ValueError for a shape that is not known, AttributeError where they gave None.
    (NVIDIA/TensorRT 11.1, python/src/infer/pyCore.cpp)"""
    start = len(opened.log.messages)
    try:
        yield
    except AccelError:
        raise
    except Exception as error:
        raise failed(opened, f"{what} ({error})", start) from None


def failed(opened: Opened, what: str, start: int) -> CandidateBroken:
    """An error with what the logger was told since."""
    said = names.errors(opened.log.messages[start:])
    return CandidateBroken(f"{what}. {troubles.told(said)}")


class Bound:
    """Buffers and settings for one key. `run` is what production pays for."""

    def __init__(self, opened: Opened, key: Key, sat: Seat, stream: int) -> None:
        self.opened, self.key, self.seat, self.stream = opened, key, sat, stream
        self.graph: int | None = None
        self._token = object()  # in place of itself, which would be a cycle that outlives its use
        self.reason = "not asked for"  # why there is no graph
        self._shapes, self._places = dict(key.shapes), dict(key.places)
        self._device: dict[str, int] = {}
        self._graphs: list[int] = []
        self._free = weakref.finalize(self, _give_back, self._device, self._graphs)
        self._free.atexit = False  # the driver may have gone before
        self._host: dict[str, Any] = {}
        self._allocators: dict[str, Any] = {}
        self._inputs = [s for s in opened.slots if not s.output and s.name not in self._places]
        self._outputs = [s for s in opened.slots if s.output]
        for slot in self._inputs:
            self._buffer(slot, self._shapes[slot.name])
        for name, content in key.values:
            self._host[name].reshape(-1)[:] = np.frombuffer(content, self._host[name].dtype)
        self._sit()
        self.seat.holder = None  # outputs have no addresses yet
        with telling(opened, "TensorRT does not tell the shapes of its outputs"):
            for slot in self._outputs:
                self._make_room(slot)

    def _buffer(self, slot: Slot, shape: tuple[int, ...]) -> None:
        self._host[slot.name] = device.pinned(shape, slot.dtype)
        if not slot.on_host:
            self._device[slot.name] = device.allocate(self._host[slot.name].nbytes)

    def _make_room(self, slot: Slot) -> None:
        """Memory for an output, or somebody to ask where its size comes with the data."""
        shape = tuple(self.seat.context.get_tensor_shape(name=slot.name))
        if OPEN in shape:
            self._allocators[slot.name] = allocator(self.opened.trt, self._device)
        else:
            self._buffer(slot, shape)

    def _sit(self) -> None:
        """Give the context these shapes and addresses; it keeps them until another bound sits."""
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.key.shapes)
        with telling(self.opened, f"TensorRT cannot be set to {shapes}"):
            refused = self._set()
        if refused:
            start = len(self.opened.log.messages)
            raise failed(self.opened, f"TensorRT takes no {', '.join(refused)} for {shapes}", start)
        self.seat.holder = self._token

    def _set(self) -> list[str]:
        """What TensorRT does not take."""
        context = self.seat.context
        refused = [
            f"shape of {name}"
            for name, shape in self._shapes.items()
            if not context.set_input_shape(name=name, shape=shape)
        ]
        refused += [
            f"address of {name}"
            for name, address in self._addresses()
            if not context.set_tensor_address(name=name, memory=address)
        ]
        for name, asked in self._allocators.items():
            context.set_output_allocator(name=name, output_allocator=asked)
        return refused or [f"size of {name}" for name in context.infer_shapes()]

    def _addresses(self) -> list[tuple[str, int]]:
        on_host = {s.name for s in self.opened.slots if s.on_host}
        host = {n: int(a.ctypes.data) for n, a in self._host.items() if n in on_host}
        fixed = {n: a for n, a in self._device.items() if n not in self._allocators}
        return list({**host, **fixed, **self._places}.items())

    def warm(self, graph: bool) -> None:
        """Run once; then, where asked, capture the same work as a graph, else say why not."""
        self._sit()
        self._start()
        device.wait(self.stream)
        if not graph:
            return
        if self._allocators:
            names_of = ", ".join(self._allocators)
            self.reason = f"the size of {names_of} comes with the data"
            return
        found = device.capture(self.stream, self._attempt)
        if isinstance(found, Refusal):
            self.reason, self.seat.holder = found.reason, None
        else:
            self.graph, self.reason = found, ""
            self._graphs.append(found)

    def _attempt(self) -> str:
        """The work, as a capture wants it: "" or what went wrong."""
        try:
            self._start()
        except CandidateBroken as error:
            return str(error)
        return ""

    def run(self, feed: Feed) -> dict[str, Any]:
        """Outputs in memory that the next run overwrites."""
        self.fill(feed)
        if self.graph is not None:
            device.launch(self.graph, self.stream)
        else:
            if self.seat.holder is not self._token:
                self._sit()
            self._start()
        device.wait(self.stream)
        return {s.name: self._output(s) for s in self._outputs}

    def fill(self, feed: Feed) -> None:
        """Copy a feed into the pinned buffers.

        Raises UsageError where an input that is read as a shape has other values than when bound."""
        for slot in self._inputs:
            if slot.name in feed and not slot.on_host:
                np.copyto(self._host[slot.name], feed[slot.name], casting="same_kind")
            elif slot.name in feed and not np.array_equal(self._host[slot.name], feed[slot.name]):
                raise UsageError(
                    f"{slot.name!r} is read as a shape, and was {self._host[slot.name].tolist()} when "
                    f"this feed was bound; now it is {feed[slot.name].tolist()}. Bind the feed again."
                )

    def _start(self) -> None:
        """Everything that goes onto the stream."""
        for slot in self._inputs:
            if not slot.on_host:
                device.copy_in(self._device[slot.name], self._host[slot.name], self.stream)
        start = len(self.opened.log.messages)
        if not self.seat.context.execute_async_v3(stream_handle=self.stream):
            raise failed(self.opened, "TensorRT could not run", start)
        for slot in self._outputs:
            if slot.name in self._host and not slot.on_host:
                device.copy_out(self._host[slot.name], self._device[slot.name], self.stream)

    def _output(self, slot: Slot) -> Any:
        asked = self._allocators.get(slot.name)
        if asked is None:
            return self._host[slot.name]
        found = device.pinned(asked.shape, slot.dtype)
        device.copy_out(found, self._device[slot.name], self.stream)
        device.wait(self.stream)
        return found

    def close(self) -> None:
        """Give back graph and memory."""
        self.graph, self.seat.holder = None, None
        self._free()


def _give_back(addresses: dict[str, int], graphs: list[int]) -> None:
    with driver.on(device.DEVICE):
        while graphs:
            device.forget(graphs.pop())
        while addresses:
            device.free(addresses.popitem()[1])
