"""Compiled torch programs, ready to run: an AOTInductor package, or torch.compile's own cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from accel import arrays
from accel.engines import _torch_program as programs
from accel.errors import CandidateBroken, UsageError
from accel.values import Feed, Plan, Port

PACKAGE, PROGRAM, CACHE = "model.pt2", "program.pt2", "cache"


def package(path: Path) -> Callable[..., Any]:
    """An AOTInductor package: machine code and weights, no compiler and no tracing needed.

    Raises CandidateBroken for one that does not load here."""
    _require(path)
    # to compare this machine's instruction set with the package's, torch would compile a test of it
    untested = torch._inductor.config.patch({"cpp.vec_isa_ok": True})
    try:
        with programs.quiet(), programs.scratch(), untested:
            found: Callable[..., Any] = torch._inductor.aoti_load_package(str(path))
            return found
    except Exception as error:  # torch raises RuntimeError and zip errors of its own
        raise CandidateBroken(
            f"AOTInductor cannot load {path.name}: {programs.first(error)}"
        ) from None


def compiled(program: Any) -> Callable[..., Any]:
    """A program behind torch.compile: each kind of shape is compiled, or found, at its first call."""
    module = program.module()
    made: Callable[..., Any] = torch.compile(module, dynamic=True)
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
    """A compiled program. Inputs and outputs cross to a GPU and back where the plan is for one."""

    def __init__(self, run: Callable[..., Any], plan: Plan, device: str, held: ExitStack) -> None:
        self._run: Callable[..., Any] | None = run
        self._ports: Sequence[Port] = plan.model.inputs
        self._names = [port.name for port in plan.model.outputs]
        self._device, self._held = device, held

    def __call__(self, feed: Feed) -> dict[str, Any]:
        found = self.bind(feed)()
        return {n: v.numpy().copy() for n, v in zip(self._names, found, strict=True)}

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """A call on tensors made beforehand, on their device; outputs are brought to the host."""
        arrays.fit(feed, self._ports)
        if self._run is None:
            raise CandidateBroken("the engine is closed: load it again")
        tensors = programs.tensors_of(feed, self._ports, self._device)
        run, home = self._run, self._device == programs.CPU

        def call() -> Any:
            try:
                with torch.inference_mode():
                    found = run(*tensors)
                    return found if home else tuple(t.cpu() for t in found)
            except Exception as error:  # inductor's code raises what it likes
                raise CandidateBroken(f"PyTorch could not run: {programs.first(error)}") from None

        return call

    def close(self) -> None:
        """Give the memory back, and remove the copied cache."""
        self._run = None
        self._held.close()
