"""A graph that ONNX Runtime runs on a GPU: fed by device pointers, on a stream of its own.

Each shape has a room: pinned arrays on the host, buffers on the device, an IO binding between them
and, where asked for, a CUDA graph. (ONNX Runtime, "I/O Binding"; "CUDA Execution Provider", on CUDA
graphs: fixed addresses and shapes, one gpu_graph_id each)
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime

from accel import arrays
from accel.engines._cuda_memory import Device
from accel.errors import CandidateBroken
from accel.values import Feed, Options, Port

GRAPH_ID = "gpu_graph_id"
NO_GRAPH = "-1"  # this run is neither captured nor replayed
UNSYNCED = "disable_synchronize_execution_providers"  # the stream is waited for here, once
MOST_ROOMS = 128  # shapes that keep their buffers and their graph
SPENT = re.compile(  # the driver's words, the runtime's, and those of ONNX Runtime's arena
    r"out[ _]?of[ _]?memory|failed to allocate memory|alloc_?failed", re.IGNORECASE
)
CAPTURING_RUNS = 3  # ONNX Runtime captures behind two plain runs, which fill its arena
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Room:
    """What the runs of one shape use: (pinned array, device address) for each port."""

    inputs: Mapping[str, tuple[Any, int]]
    outputs: tuple[tuple[Any, int], ...]  # empty: the runtime finds room at each run
    binding: Any
    words: Any  # onnxruntime.RunOptions
    graph: int | None


class Session:
    """A loaded graph; outputs of a bound call are pinned memory that the next call overwrites.

    One thread runs at a time, the others wait: calls of one shape share its room."""

    def __init__(
        self, inner: Any, device: Device, ports: tuple[Sequence[Port], Sequence[Port]],
        facts: Options, held: ExitStack, graphs: bool = False, where: str = "cuda",
    ) -> None:  # fmt: skip
        """`held` is closed with it, the device among it; `where`: the runtime's name for what
        `device` gives addresses of."""
        self._inner, self._device, self._where = inner, device, where
        self._ports, self._made = ports
        self.facts, self._held, self._graphs = facts, held, graphs
        self._rooms: dict[Shapes, Room] = {}
        self._count = 0
        self._lock = threading.RLock()

    def __call__(self, feed: Feed) -> dict[str, Any]:
        names = [port.name for port in self._made]
        with self._lock:
            found = self.bind(feed)()
            return {name: array.copy() for name, array in zip(names, found, strict=True)}

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """A call on these arrays: into pinned memory, to the device, run, back into pinned memory.

        Both copies are inside what is timed: a caller with arrays on the host pays them."""
        arrays.fit(feed, self._ports)
        given = {name: np.asarray(array, order="C") for name, array in feed.items()}
        key = tuple(given[port.name].shape for port in self._ports)
        with self._lock:
            self._room(key, given)

        def call() -> Any:
            with self._lock:
                return self._run(self._room(key, given), given)

        return call

    def _room(self, key: Shapes, given: Mapping[str, Any]) -> Room:
        found = self._rooms.get(key)
        if found is None:
            if self._inner is None:
                raise CandidateBroken("the engine is closed: load it again")
            if len(self._rooms) >= MOST_ROOMS:
                self._clear(next(iter(self._rooms)))
            found = self._rooms[key] = self._made_room(given)
        return found

    def _made_room(self, given: Mapping[str, Any]) -> Room:
        """A new room; older ones give up theirs where memory ends first."""
        while True:
            try:
                return self._make(given)
            except CandidateBroken as error:
                if not self._rooms or not SPENT.search(str(error)):
                    raise
                self._clear(next(iter(self._rooms)))

    def _run(self, room: Room, given: Mapping[str, Any]) -> Any:
        device = self._device
        for name, (pinned, address) in room.inputs.items():
            np.copyto(pinned, given[name])
            device.send(address, pinned)
        self._start(room)
        if not room.outputs:
            device.wait()
            return tuple(value.numpy() for value in room.binding.get_outputs())
        for pinned, address in room.outputs:
            device.fetch(pinned, address)
        device.wait()
        return tuple(pinned for pinned, _ in room.outputs)

    def _start(self, room: Room) -> None:
        if not room.outputs:  # a run fills in what it found room for, and would hold the next to it
            room.binding.clear_binding_outputs()
            for port in self._made:
                room.binding.bind_output(port.name, self._where)
        try:
            self._inner.run_with_iobinding(room.binding, room.words)
        except Exception as error:  # onnxruntime raises a dozen types of its own
            raise CandidateBroken(f"ONNX Runtime could not run: {first(error)}") from None

    def _make(self, given: Mapping[str, Any]) -> Room:
        """A room; where one piece of it cannot be had, the others are given back."""
        taken: list[int] = []
        try:
            return self._furnished(given, taken)
        except BaseException:
            for address in taken:
                with contextlib.suppress(CandidateBroken):  # the first trouble is told
                    self._device.free(address)
            raise

    def _furnished(self, given: Mapping[str, Any], taken: list[int]) -> Room:
        """Run once to see the outputs' sizes, then with fixed addresses; captured at the end."""

        def pair(array: Any) -> tuple[Any, int]:
            taken.append(self._device.alloc(array.nbytes))
            return self._device.pinned(array.shape, array.dtype), taken[-1]

        binding, inputs = self._inner.io_binding(), {}
        for name, array in given.items():
            inputs[name] = pair(array)
            self._bind(binding.bind_input, name, array, inputs[name][1])
        loose = Room(inputs, (), binding, _words(NO_GRAPH), None)
        found = self._run(loose, given)
        if self._varies():
            return loose
        outputs = []
        binding.clear_binding_outputs()
        for port, array in zip(self._made, found, strict=True):
            outputs.append(pair(array))
            self._bind(binding.bind_output, port.name, array, outputs[-1][1])
        self._count += 1
        graph = self._count if self._graphs else None
        words = _words(NO_GRAPH if graph is None else str(graph))
        room = Room(inputs, tuple(outputs), binding, words, graph)
        for _ in range(CAPTURING_RUNS if self._graphs else 1):
            self._run(room, given)
        return room

    def _bind(self, how: Callable[..., Any], name: str, array: Any, address: int) -> None:
        how(name, self._where, 0, array.dtype.type, list(array.shape), address)

    def _varies(self) -> bool:
        """May outputs of one shape of inputs differ in size? Then no address can be fixed."""
        known = {d for port in self._ports for d in port.shape}
        sizes = {d for port in self._made for d in port.shape if not isinstance(d, int)}
        return not self._graphs and bool(sizes - known or "?" in sizes)

    def _clear(self, key: Shapes) -> None:
        room = self._rooms.pop(key)
        if room.graph is not None and hasattr(self._inner, "release_captured_graph"):
            self._inner.release_captured_graph(room.graph)  # else it stays, never to be replayed
        for _, address in (*room.inputs.values(), *room.outputs):
            self._device.free(address)

    def close(self) -> None:
        """Give the memory back. The runtime goes first: its graphs hold these addresses.

        Outputs of bound calls stay readable."""
        with self._lock:
            self._rooms.clear()
            self._inner = None
            self._held.close()


def _words(graph: str) -> Any:
    words = onnxruntime.RunOptions()
    words.add_run_config_entry(GRAPH_ID, graph)
    words.add_run_config_entry(UNSYNCED, "1")
    return words


def first(error: BaseException) -> str:
    """The first line of what the runtime says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:400]
