"""PyTorch eager: what users run before they optimize. Only ever timed, never chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from accel import store, workload
from accel.measure import machine
from accel.protocols import Probe
from accel.values import (
    Feed,
    Model,
    Options,
    Plan,
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
    return {"fp32": None}


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """The workload's source is added by whoever builds."""
    return ({"threads": target.threads or machine.cores()},)


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """Nothing is compiled: the plan is where the module comes from."""
    path = out / "source.txt"
    store.write(path, str(options["workload"]))
    threads = {"threads": target.threads or machine.cores()}
    versions = {"torch": torch.__version__}
    return Plan("torch_eager", model, path, {**threads, **options}, {}, versions, portable=False)


def load(plan: Plan) -> Session:
    """The workload's module in evaluation mode."""
    torch.set_num_threads(int(plan.options["threads"]))
    problem = workload.load(str(plan.options["workload"]), plan.options.get("data"))
    return Session(workload.guarded("model()", problem.model).eval(), problem)


class Session:
    """The module, called as a user would."""

    def __init__(self, module: Any, problem: Workload) -> None:
        self._module, self._problem = module, problem

    def __call__(self, feed: Feed) -> dict[str, Any]:
        found = workload.named_outputs(self.bind(feed)(), self._problem)
        return {name: value.numpy().copy() for name, value in found.items()}

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """A call in inference mode on tensors made beforehand."""
        tensors = {k: torch.from_numpy(numpy.ascontiguousarray(v)) for k, v in feed.items()}

        def run() -> Any:
            with torch.inference_mode():
                return workload.call(self._module, tensors)

        return run

    def close(self) -> None:
        self._module = None
