"""A TensorRT plan, running: the profile by the request's shapes, buffers kept, launches as a CUDA graph.

A feed in ordinary memory is copied to pinned memory and to the GPU at each call, and outputs come back the
same way, since production pays for that: it is inside of what is timed. An input that lies on the GPU (a
torch tensor, `__cuda_array_interface__`, DLPack) is read where it is; the caller has finished writing it.

With the option `cuda_graph` each set of shapes has a context of its own, whose launches are captured after
a first run; all contexts work in the same scratch memory. One context a graph is NVIDIA's advice, since a
graph holds addresses and sizes (TensorRT-RTX documentation, Best Practices, Limitations of CUDA Graphs).
Without, one context a profile serves all, and is set anew when shapes change.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from accel import arrays
from accel.cuda import device, driver, views
from accel.engines import _tensorrt_bound as bounds
from accel.engines._tensorrt_bound import Bound, Key, Seat
from accel.engines._tensorrt_choice import choose
from accel.engines._tensorrt_engine import Opened, opened
from accel.errors import CandidateBroken, UsageError
from accel.values import Feed, Options, Plan, Request

MOST_BOUND = 16  # sets of shapes that calls keep buffers for; the one used longest ago goes first
ON_HOST = 1  # kDLCPU (DLPack, DLDeviceType)
ALIGNMENT_BYTES = 256  # of every address (NvInferRuntime.h 11.1, setTensorAddress)


def load(plan: Plan) -> Session:
    """Ready to run. Whether the plan is for this machine was asked before (_tensorrt_identity).

    Raises MissingExtra without a driver, CandidateBroken where the plan does not load."""
    driver.api()
    with driver.on(device.DEVICE):
        return Session(opened(plan), plan)


def tried(plan: Plan, requests: Sequence[Request]) -> Options:
    """Run each shape of the requests once; what was obtained, for the plan's facts.

    Raises as `load` does, and CandidateBroken where a run fails."""
    session = load(plan)
    try:
        for request in requests:
            session(request.inputs)
        return session.facts
    finally:
        session.close()


class Session:
    """A loaded engine; outputs belong to the caller. One thread runs at a time, the others wait."""

    def __init__(self, ready: Opened, plan: Plan) -> None:
        self._opened: Opened | None = ready
        self._ports = plan.model.inputs
        self._types = {port.name: port.dtype for port in plan.model.outputs}
        self._graphs = bool(plan.facts.get("cuda_graph"))
        self._scratch = device.allocate(ready.scratch_bytes)
        self._stream = device.stream()
        self._seats: dict[int, Seat] = {}
        self._kept: OrderedDict[Key, Bound] = OrderedDict()
        self._all: weakref.WeakSet[Bound] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._seen: dict[str, str] = {}

    @property
    def facts(self) -> Options:
        """What was obtained: scratch memory, and by shapes "captured", or why there is no graph."""
        return {
            "scratch_bytes": self._ready().scratch_bytes,
            "cuda_graph": dict(self._seen),
        }

    def __call__(self, feed: Feed) -> dict[str, Any]:
        with self._lock, driver.on(device.DEVICE):
            key, given = self._key(feed)
            bound = self._kept.get(key)
            if bound is None:
                bound = self._kept[key] = self._bound(key, given)
                if len(self._kept) > MOST_BOUND:
                    self._kept.popitem(last=False)[1].close()
            self._kept.move_to_end(key)
            return {n: np.array(a) for n, a in self._typed(bound.run(given)).items()}

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """Each call copies the arrays of the feed as they are then; their sizes stay.

        Outputs lie in memory that the next call overwrites."""
        with self._lock, driver.on(device.DEVICE):
            key, given = self._key(feed)
            return functools.partial(self._again, self._bound(key, given), given, dict(feed))

    def _again(self, bound: Bound, given: Feed, kept: Feed) -> dict[str, Any]:  # noqa: ARG002
        """`kept` are arrays whose memory is read where it is."""
        with self._lock, driver.on(device.DEVICE):
            self._ready()
            return self._typed(bound.run(given))

    def _ready(self) -> Opened:
        if self._opened is None:
            raise CandidateBroken("the engine is closed: load it again")
        return self._opened

    def _key(self, feed: Feed) -> tuple[Key, dict[str, Any]]:
        """What the feed asks for, and those of its arrays that are copied."""
        ready = self._ready()
        on_gpu = {n: views.of(a, self._stream) for n, a in feed.items() if _elsewhere(a)}
        arrays.fit({**feed, **{n: _described(v) for n, v in on_gpu.items()}}, self._ports)
        slots = {s.name: s for s in ready.slots if not s.output}
        _require_readable(on_gpu, slots)
        given = {n: a for n, a in feed.items() if n in slots and n not in on_gpu}
        shapes = {n: tuple(_shape(feed[n], on_gpu.get(n))) for n in slots}
        read = {
            n: np.asarray(given[n], slots[n].dtype, order="C") for n in given if slots[n].on_host
        }
        profile = choose(ready.profiles, shapes, {n: a.ravel().tolist() for n, a in read.items()})
        values = tuple((n, a.tobytes()) for n, a in sorted(read.items()))
        places = tuple((n, int(v[0])) for n, v in sorted(on_gpu.items()) if n in slots)
        return Key(profile, tuple(sorted(shapes.items())), values, places), given

    def _bound(self, key: Key, given: Mapping[str, Any]) -> Bound:
        """Buffers for these shapes, run once, and captured where asked."""
        bound = Bound(self._ready(), key, self._seat(key.profile), self._stream)
        self._all.add(bound)
        bound.fill(given)
        bound.warm(self._graphs)
        if self._graphs:
            shapes = ", ".join(f"{n} {list(sizes)}" for n, sizes in key.shapes)
            self._seen[shapes] = bound.reason or "captured"
        return bound

    def _seat(self, profile: int) -> Seat:
        made = None if self._graphs else self._seats.get(profile)
        if made is None:
            made = bounds.seat(self._ready(), profile, self._scratch, self._stream)
            self._seats[profile] = made
        return made

    def _typed(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """As the model's ports have it: TensorRT narrows float64 to float32."""
        return {n: np.asarray(a, self._types.get(n, a.dtype)) for n, a in found.items()}

    def close(self) -> None:
        """Give everything back; outputs of bound calls stay readable."""
        with self._lock, driver.on(device.DEVICE):
            if self._opened is None:
                return
            device.wait(self._stream)
            for bound in list(self._all):
                bound.close()
            self._kept.clear()
            self._seats.clear()
            self._opened = None
            device.free(self._scratch)
            device.end(self._stream)


def _elsewhere(array: Any) -> bool:
    """Is it no array of numpy's, but one that tells where it lies?"""
    if isinstance(array, np.ndarray):
        return False
    if views.is_torch(array) or hasattr(array, "__cuda_array_interface__"):
        return True
    told = getattr(array, "__dlpack_device__", None)
    return told is not None and told()[0] != ON_HOST


def _described(view: views.View) -> Any:
    shape, dtype = view[1][:2]
    return SimpleNamespace(shape=tuple(shape), dtype=views.dtype_name(dtype))


def _shape(array: Any, view: views.View | None) -> Sequence[int]:
    return tuple(array.shape if view is None else view[1][0])


def _require_readable(on_gpu: Mapping[str, views.View], slots: Mapping[str, Any]) -> None:
    """Raise UsageError for an array that cannot be read where it is."""
    for name, (address, facts) in on_gpu.items():
        slot = slots.get(name)
        if slot is None:
            continue
        why = views.refusal(facts)
        if slot.on_host:
            why = "is read as a shape, in the host's memory; give it as a numpy array"
        elif not why and views.dtype_name(facts[1]) != slot.dtype.name:
            why = f"is {views.dtype_name(facts[1])}, and the engine reads {slot.dtype.name}"
        elif not why and facts[2] != device.DEVICE:
            why = f"lies on GPU {facts[2]}, and the engine on GPU {device.DEVICE}"
        elif not why and address % ALIGNMENT_BYTES:
            why = f"begins at no multiple of {ALIGNMENT_BYTES} bytes; give a copy, as x.clone() is"
        if why:
            raise UsageError(f"{name!r} {why}.")
