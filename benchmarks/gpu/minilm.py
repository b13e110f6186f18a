"""MiniLM with the kernels on and off: where a kernel's gain, or its loss, meets a whole model.

A kernel that wins alone may lose what torch.compile fuses around it. The arms are the module as it
stands and engines/torch_inductor.py, with and without
kernels, by either of its compilers, and with a CUDA graph. A call is what a caller waits for: ids
on the host, the embedding back on the host.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from accel import catalog, workload
from accel import target as targets
from accel.cuda import bench_table, timing
from accel.cuda.timing import Timed
from accel.errors import AccelError
from accel.measure import machine
from accel.steps import build as steps
from accel.values import Model, Options, Port, Request, Target

SOURCE = Path(__file__).with_name("minilm_workload.py")
INPUTS = tuple(
    Port(name, "int64", ("batch", "sequence")) for name in ("input_ids", "attention_mask")
)
OUTPUTS = (Port("sentence_embedding", "float32", ("batch", 384)),)
EAGER = "eager"
ARMS: Mapping[str, Options] = {
    "aot_inductor": {"compiler": "aot_inductor"},
    "aot_inductor, graph": {"compiler": "aot_inductor", "cuda_graph": True},
    "aot_inductor, kernels": {"compiler": "aot_inductor", "kernels": True},
    "torch_compile": {"compiler": "torch_compile"},
    "torch_compile, kernels": {"compiler": "torch_compile", "kernels": True},
}
ROUNDS = 50
BUDGET_S = 150.0  # after which no further arm is built
ALLOWED = 1e-4  # off from eager, of components of a unit vector: fp32 in another order


@dataclass(frozen=True)
class Row:
    """One request, by every arm that could be built."""

    load: str
    arms: Mapping[str, Timed]
    differences: Mapping[str, float]  # from eager, as timing.worst has it


@dataclass(frozen=True)
class Whole:
    """The model's rows, the sites that kernels took, and why an arm is not there."""

    rows: tuple[Row, ...] = ()
    sites: Mapping[str, int] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def wrong(self) -> tuple[str, ...]:
        """Arms whose answers are not eager's."""
        found = ((row.load, arm, off) for row in self.rows for arm, off in row.differences.items())
        return tuple(f"{load}, {arm}: {off:.2g}" for load, arm, off in found if not off <= ALLOWED)


def measured(
    source: Path = SOURCE,
    ports: tuple[Sequence[Port], Sequence[Port]] = (INPUTS, OUTPUTS),
    device: str = "cuda",
    arms: Mapping[str, Options] = ARMS,
    rounds: int = ROUNDS,
    budget_s: float = BUDGET_S,
) -> Whole:
    """Each arm built, its answers compared with eager's, then all of them timed in turns.

    What cannot be built is refused with the reason, eager among them: then there are no rows."""
    if device == "cuda" and not torch.cuda.is_available():
        return Whole(refused={EAGER: "torch sees no GPU here"})
    deadline, refused, sites = time.monotonic() + budget_s, {}, {}
    with ExitStack() as stack:
        try:
            problem = workload.load(str(source))
            requests = workload.requests(problem)
            module = workload.guarded("model()", problem.model).to(device)
            calls = {EAGER: [_eager(problem, module, r, device) for r in requests]}
        except (AccelError, RuntimeError) as error:  # torch's own, out of memory among them
            return Whole(refused={EAGER: _first(error)})
        for name, options in arms.items():
            if time.monotonic() > deadline:
                refused[name] = "the time for building was up"
                continue
            try:
                calls[name], found = _built(stack, source, ports, device, options, requests)
            except (AccelError, RuntimeError) as error:
                refused[name] = _first(error)
                continue
            sites |= found
        rows = tuple(
            _row(r.group, {name: made[i] for name, made in calls.items()}, rounds)
            for i, r in enumerate(requests)
        )
    return Whole(rows, sites, refused)


def _eager(problem: Any, module: Any, request: Request, device: str) -> Callable[[], Any]:
    hosted = {name: torch.from_numpy(array) for name, array in request.inputs.items()}

    def call() -> Any:
        with torch.inference_mode():
            tensors = {name: tensor.to(device) for name, tensor in hosted.items()}
            found = workload.named_outputs(workload.call(module, tensors), problem)
            return tuple(tensor.cpu() for tensor in found.values())

    call()
    return call


def _built(
    stack: ExitStack,
    source: Path,
    ports: tuple[Sequence[Port], Sequence[Port]],
    device: str,
    options: Options,
    requests: Sequence[Request],
) -> tuple[list[Callable[[], Any]], Mapping[str, int]]:
    """A call a request, made once: torch.compile compiles then; and the sites that kernels took.

    Built in a child process: a compiler that crashes costs its arm alone."""
    engine = catalog.load("engines", "torch_inductor")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accel-")))
    model = Model(folder / "none.onnx", "", tuple(ports[0]), tuple(ports[1]))
    asked = {"threads": machine.cores(), "workload": str(source), **options}
    plan = steps.build(model, "torch_inductor", _here(device), asked, requests, folder / "plan")
    session = engine.load(plan)
    stack.callback(session.close)
    calls = [session.bind(r.inputs) for r in requests]
    for call in calls:
        call()
    return calls, plan.facts["kernels"]


def _here(device: str) -> Target:
    """This machine as a target; a GPU's compute capability is what makes it one."""
    here = targets.load("cpu-local")
    if device == "cpu":
        return here
    major, minor = torch.cuda.get_device_capability()
    return dataclasses.replace(here, compute_capability=f"{major}.{minor}")


def _row(load: str, calls: Mapping[str, Callable[[], Any]], rounds: int) -> Row:
    want = [t.clone() for t in calls[EAGER]()]
    others = {name: call for name, call in calls.items() if name != EAGER}
    differences = {name: timing.worst(list(call()), want) for name, call in others.items()}
    return Row(load, timing.interleaved(calls, rounds, cold=False), differences)


def lines(found: Whole) -> list[str]:
    """A line an arm and request: the median call, and eager's time as x it."""
    sites = ", ".join(f"{count} {name}" for name, count in found.sites.items())
    text = ["MiniLM, fp32, random weights; from ids on the host to the embedding on the host"]
    text += [f"kernels at {sites}"] if sites else []
    cells = [_cells(row, name) for row in found.rows for name in row.arms]
    head = ("load", "arm", "us", "spread", "eager", "")
    text += bench_table.columns([head, *cells]) if cells else []
    return text + [f"{name}: not timed: {reason}" for name, reason in found.refused.items()]


def _cells(row: Row, name: str) -> tuple[str, ...]:
    timed, off = row.arms[name], row.differences.get(name, 0.0)
    return (
        row.load,
        name,
        f"{timed.median_s * 1e6:.0f}",
        f"{timed.spread:.1%}",
        f"{row.arms[EAGER].median_s / timed.median_s:.2f}x",
        "" if off <= ALLOWED else f"WRONG: differs from eager by {off:.2g}, allowed is {ALLOWED:g}",
    )


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
