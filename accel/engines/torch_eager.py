"""PyTorch eager: what users run before they optimize. Only ever timed, never chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from accel import arrays, catalog, disk, workload
from accel.errors import AccelError, CandidateBroken, UsageError
from accel.guard import guarded
from accel.measure import machine
from accel.protocols import Probe
from accel.values import (
    Feed,
    Model,
    Options,
    Plan,
    Port,
    QuantStyle,
    Refusal,
    Request,
    Target,
    Workload,
)

BASELINE = True


def probe() -> Probe:
    """Usable where torch imports."""
    return Probe(True, torch.__version__)


def style(target: Target) -> QuantStyle:
    """Never quantized for."""
    return QuantStyle(True, False, True, False, True)


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """fp32 only."""
    others = (name for name in catalog.names("recipes") if name != "fp32")
    module = "the user's module runs as it is: a recipe's graph never reaches it"
    return {"fp32": None, **{name: Refusal(name, module) for name in others}}


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """The workload's source is added by whoever builds."""
    return ({"threads": target.threads or machine.cores()},)


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """Nothing is compiled: the plan is where the module comes from.

    Raises UsageError without the workload's source in the options."""
    if "workload" not in options:
        raise UsageError("torch_eager runs a workload's own module; it cannot run a bare .onnx.")
    path = out / "source.txt"
    disk.write(path, str(options["workload"]))
    asked = {"threads": target.threads or machine.cores(), **options}
    facts = {"threads": _set_threads(int(asked["threads"])), "precision": "as in the module"}
    versions = {"torch": torch.__version__}
    return Plan("torch_eager", model, path, asked, facts, versions, portable=False)


def _set_threads(count: int) -> int:
    """The number read back. Raises CandidateBroken where it is another."""
    torch.set_num_threads(count)
    obtained: int = torch.get_num_threads()
    if obtained != count:
        raise CandidateBroken(f"asked PyTorch for {count} threads, obtained {obtained}")
    return obtained


def load(plan: Plan) -> Session:
    """The workload's module in evaluation mode."""
    problem = workload.load(str(plan.options["workload"]), plan.options.get("data"))
    module = guarded("model()", problem.model)
    _set_threads(int(plan.options["threads"]))  # behind the user's code, which may have set another
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"torch_eager runs a torch.nn.Module; model() gives a {type(module).__name__}."
        )
    return Session(module.eval(), problem, plan.model.inputs)


class Session:
    """The module, called as a user would."""

    def __init__(self, module: Any, problem: Workload, ports: Sequence[Port]) -> None:
        self._module, self._problem, self._ports = module, problem, ports

    def __call__(self, feed: Feed) -> dict[str, Any]:
        run = self.bind(feed)
        try:
            found = workload.named_outputs(run(), self._problem)
            return {name: value.numpy().copy() for name, value in found.items()}
        except AccelError:
            raise
        except Exception as error:  # the user's module raises what it likes
            raise CandidateBroken(f"the module failed: {type(error).__name__}: {error}") from None

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """A call in inference mode on tensors made beforehand."""
        arrays.fit(feed, self._ports)
        if self._module is None:
            raise CandidateBroken("the engine is closed: load it again")
        names = [p.name for p in self._ports]  # the order counts where forward's names are others
        tensors = {k: torch.from_numpy(numpy.asarray(feed[k], order="C")) for k in names}

        def run() -> Any:
            with torch.inference_mode():
                return workload.call(self._module, tensors)

        return run

    def close(self) -> None:
        self._module = None
