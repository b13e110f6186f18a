"""Calls of a compiled program on a GPU, from arrays on the host to arrays on the host.

With CUDA graphs, each shape is captured once, behind plain runs that take the memory and load the
kernels. (PyTorch, "CUDA semantics", section "CUDA Graphs")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from accel.errors import CandidateBroken

WARMING_RUNS = 3  # torch's own number, in the section named above
MOST_ROOMS = 128  # shapes that keep their buffers and their graph
TOLERANCE = 1e-3  # of a replay against a plain run: another algorithm, never another answer
Tensors = tuple[Any, ...]


@dataclass(frozen=True)
class Room:
    """What the calls of one shape use."""

    staged: Tensors  # in page-locked host memory
    inputs: Tensors  # on the device
    outputs: Tensors  # what the graph writes, on the device; empty without a graph
    landed: Tensors  # where those come to on the host, page-locked
    graph: Any  # torch.cuda.CUDAGraph, or None


class Rooms:
    """A room a shape, the oldest given up when there are too many."""

    def __init__(self, run: Callable[..., Tensors], graphs: bool) -> None:
        self._run, self._graphs = run, graphs
        self._rooms: dict[tuple[Any, ...], Room] = {}

    def call(self, given: Sequence[Any]) -> Tensors:
        """Tensors on the host in, tensors on the host out, which the next call may overwrite.

        Both copies are inside: a caller with arrays on the host pays them."""
        room = self._room(given)
        for staged, device, tensor in zip(room.staged, room.inputs, given, strict=True):
            staged.copy_(tensor)
            device.copy_(staged, non_blocking=True)
        if room.graph is None:
            return tuple(t.cpu() for t in self._run(*room.inputs))
        room.graph.replay()
        for landed, output in zip(room.landed, room.outputs, strict=True):
            landed.copy_(output, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return room.landed

    def _room(self, given: Sequence[Any]) -> Room:
        key = tuple(tensor.shape for tensor in given)
        if key not in self._rooms:
            if len(self._rooms) >= MOST_ROOMS:
                del self._rooms[next(iter(self._rooms))]
            self._rooms[key] = self._made_room(given)
        return self._rooms[key]

    def _made_room(self, given: Sequence[Any]) -> Room:
        """A new room; older ones give up theirs where memory ends first."""
        while True:
            try:
                return self._made(given)
            except RuntimeError as error:
                if not self._rooms or not _spent(error):
                    raise
                del self._rooms[next(iter(self._rooms))]

    def _made(self, given: Sequence[Any]) -> Room:
        staged = tuple(tensor.clone().pin_memory() for tensor in given)
        inputs = tuple(tensor.cuda() for tensor in staged)
        on_the_device(self._run(*inputs))
        if not self._graphs:
            return Room(staged, inputs, (), (), None)
        wanted, graph, outputs = captured(self._run, inputs)
        landed = tuple(torch.empty_like(t, device="cpu").pin_memory() for t in outputs)
        graph.replay()
        torch.cuda.synchronize()
        same(outputs, wanted)
        return Room(staged, inputs, outputs, landed, graph)


def _spent(error: RuntimeError) -> bool:
    """May memory have ended? A package says only that a call failed. (torch, shim_utils.h)"""
    return isinstance(error, torch.OutOfMemoryError) or "API call failed" in str(error)


def captured(run: Callable[..., Tensors], inputs: Tensors) -> tuple[Tensors, Any, Tensors]:
    """What a plain run gives, the graph, and the tensors that it writes at each replay."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMING_RUNS):
            wanted = run(*inputs)
        wanted = tuple(tensor.clone() for tensor in wanted)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # another thread's engine may allocate meanwhile (CUDA Runtime API, cudaStreamCaptureMode)
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = tuple(run(*inputs))
    return wanted, graph, outputs


def on_the_device(outputs: Sequence[Any]) -> None:
    """Raise CandidateBroken where an output was made elsewhere: nothing falls back."""
    elsewhere = [str(t.device) for t in outputs if t.device.type != "cuda"]
    if elsewhere:
        raise CandidateBroken(
            f"the program is for a GPU and made outputs on {', '.join(elsewhere)}: a part of the "
            "module runs on the processor. Move its tensors to the inputs' device"
        )


def same(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Raise CandidateBroken where a replayed graph answers otherwise than a plain run did."""
    for i, (got, want) in enumerate(zip(found, wanted, strict=True)):
        close = torch.allclose(got.double(), want.double(), TOLERANCE, TOLERANCE, equal_nan=True)
        if got.shape != want.shape or not close:
            raise CandidateBroken(
                f"a replayed CUDA graph gives another output {i} than a plain run"
            )
