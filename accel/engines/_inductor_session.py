"""Compiled torch programs, ready to run: an AOTInductor package, or torch.compile's own cache."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from accel import arrays
from accel.engines import _torch_program as programs
from accel.engines._inductor_gpu import Rooms
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.values import Feed, Plan, Port

_turn = threading.RLock()  # of the whole process: TF32 is one setting for all
PACKAGE, PROGRAM, CACHE = "model.pt2", "program.pt2", "cache"


def package(path: Path, captured: bool = False) -> Callable[..., Any]:
    """An AOTInductor package: machine code and weights, no compiler and no tracing needed.

    `captured`: a CUDA graph will be made of it, which its thread synchronization would break.
    Raises CandidateBroken for one that does not load here."""
    _require(path)
    # to compare this machine's instruction set with the package's, torch would compile a test of it
    untested = torch._inductor.config.patch({"cpp.vec_isa_ok": True})
    try:
        with programs.quiet(), programs.scratch(), untested:
            found: Callable[..., Any] = torch._inductor.aoti_load_package(
                str(path), run_single_threaded=captured
            )
            return found
    except Exception as error:  # torch raises RuntimeError and zip errors of its own
        raise CandidateBroken(
            f"AOTInductor cannot load {path.name}: {programs.first(error)}"
        ) from None


def compiled(program: Any) -> Callable[..., Any]:
    """A program behind torch.compile: each kind of shape is compiled, or found, at its first call.

    A part that dynamo cannot trace would run in Python, uncompiled: it is an error instead."""
    module = program.module()
    made: Callable[..., Any] = torch.compile(module, dynamic=True, fullgraph=True)
    return made


def cached(folder: Path, stack: ExitStack) -> Callable[..., Any]:
    """The saved program with a copy of its cache, so that the plan is never written to.

    Raises CandidateBroken for one that does not load here, MissingExtra without a compiler."""
    programs.require_compiler()  # the cache's keys hold its version
    _require(folder / PROGRAM)
    home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accel-")))
    shutil.copytree(folder / CACHE, home, dirs_exist_ok=True)
    stack.enter_context(programs.environment(programs.caches(home)))
    try:
        with programs.quiet():
            return compiled(torch.export.load(folder / PROGRAM))
    except Exception as error:  # as above
        raise CandidateBroken(
            f"torch.export cannot load {PROGRAM}: {programs.first(error)}"
        ) from None


def _require(path: Path) -> None:
    if not path.is_file():
        raise UsageError(
            f"{path} is not a file: the plan of torch_inductor is not whole. Build it again."
        )


class Session:
    """A compiled program. Inputs and outputs cross to a GPU and back where the plan is for one.

    On a GPU one thread runs at a time, of all programs, the others wait: calls of one shape share
    their buffers, and whether TF32 is used is the process's setting."""

    def __init__(self, run: Callable[..., Any], plan: Plan, device: str, held: ExitStack) -> None:
        self._ports: Sequence[Port] = plan.model.inputs
        self._names = [port.name for port in plan.model.outputs]
        self._tf32, self._held = bool(plan.options.get("tf32")), held
        graphs = bool(plan.options.get("cuda_graph"))
        gpu = device == programs.GPU
        self._call: Callable[..., Any] | None = Rooms(run, graphs).call if gpu else _at_home(run)
        self._turn: Any = _turn if gpu else contextlib.nullcontext()

    def __call__(self, feed: Feed) -> dict[str, Any]:
        with self._turn:
            found = self.bind(feed)()
            return {n: v.numpy().copy() for n, v in zip(self._names, found, strict=True)}

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """A call on these arrays; on a GPU, with the copies there and back."""
        arrays.fit(feed, self._ports)
        self._open()
        tensors = programs.tensors_of(feed, self._ports, programs.CPU)

        def call() -> Any:
            try:
                with self._turn, torch.inference_mode():
                    programs.set_precision(self._tf32)  # another plan may have set it otherwise
                    return self._open()(tensors)
            except AccelError:
                raise
            except Exception as error:  # inductor's code raises what it likes
                raise CandidateBroken(f"PyTorch could not run: {programs.first(error)}") from None

        return call

    def _open(self) -> Callable[..., Any]:
        if self._call is None:
            raise CandidateBroken("the engine is closed: load it again")
        return self._call

    def close(self) -> None:
        """Give the memory back, and remove the copied cache."""
        with self._turn:
            self._call = None
            self._held.close()


def _at_home(run: Callable[..., Any]) -> Callable[..., Any]:
    return lambda tensors: run(*tensors)
