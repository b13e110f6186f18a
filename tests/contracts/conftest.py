"""What the contracts are tried on: every engine that runs here, and three tiny graphs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import catalog, testing
from accel import target as targets
from accel.errors import MissingExtra
from accel.measure import child
from accel.protocols import Probe
from accel.values import Feed, Model, Options, Plan, Request, Target

EAGER = """
import onnx, torch
from onnx import numpy_helper
from torch.nn import functional as F

W = {{t.name: torch.from_numpy(numpy_helper.to_array(t).copy())
     for t in onnx.load({path!r}).graph.initializer}}
outputs = {outputs!r}

class Net(torch.nn.Module):
    def forward(self, {inputs}):
{body}

def model():
    return Net()
"""
OTHERS = "the other engines, by the same tests"
INSTEAD = {  # of an engine that wants hardware
    "tensorrt": "tests/tensorrt, over fakes made from the real bindings",
    "onnxruntime_cuda": "tests/engines/test_onnxruntime_cuda.py, over a fake driver",
}
BODIES = {  # the graphs of accel.testing, once more in PyTorch
    "mlp": 'return (x @ W["w0"]).relu() @ W["w1"]',
    "convnet": """
x = F.conv2d(x, W["k0"], W["c0"], padding=1).relu()
x = F.conv2d(x, W["k1"], stride=2, padding=1).relu()
return x.mean((2, 3)) @ W["w"] + W["b"]""",
    "attention": """
x, seen = W["table"][ids], mask.float()
scores = x @ W["w_query"] @ (x @ W["w_key"]).transpose(1, 2)
x = (scores + ((1 - seen) * -1e9)[:, None]).softmax(-1) @ (x @ W["w_value"])
return x, (x * seen[..., None]).sum(1) / seen.sum(1, keepdim=True)""",
}


@dataclass(frozen=True)
class Case:
    """A graph, its requests, more feeds than those, and a workload file with the same module."""

    model: Model
    workload: Path
    requests: tuple[Request, ...]
    feeds: tuple[Feed, ...]  # sizes that were requested, and sizes that were not
    padding: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """An engine that was seen to run here, and the target that this machine is."""

    name: str
    module: Any
    target: Target

    @property
    def takes_graphs(self) -> bool:
        """False: it runs a workload's own module, which no recipe's graph reaches."""
        return not self.name.startswith("torch")

    def options(self, case: Case, recipe: str = "fp32") -> list[Options]:
        """Every setting that it offers for the case."""
        offered = self.module.options(recipe, self.target, case.requests, case.padding)
        source = {} if self.takes_graphs else {"workload": str(case.workload)}
        return [{**o, **source} for o in offered]

    def build(self, case: Case, options: Options, out: Path, model: Model | None = None) -> Plan:
        """In the folder `out`, made for it."""
        out.mkdir(parents=True)
        built: Plan = self.module.build(
            model or case.model, self.target, options, case.requests, out
        )
        return built


@pytest.fixture(params=catalog.names("engines"), scope="session")
def probed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Probe]:
    """Each engine's name, and what its probe answered in a child process."""
    log = tmp_path_factory.mktemp("probe") / "log"
    try:
        answer = child.call(
            "accel.questions.doctor:ask", {"engine": request.param}, Probe, log=log, timeout_s=120
        )
    except MissingExtra as error:
        pytest.skip(f"{error}; instead: {INSTEAD.get(request.param, OTHERS)}")
    return request.param, answer


@pytest.fixture(scope="session")
def engine(probed: tuple[str, Probe]) -> Member:
    """Each engine that runs here; the others are skipped with what would mend them."""
    name, answer = probed
    if not answer.usable:
        pytest.skip(f"{name}: {answer.reason} {answer.fix}; instead: {INSTEAD.get(name, OTHERS)}")
    known = [targets.load(t) for t in catalog.names("profiles")]
    able = [t for t in known if name in t.engines and t.local]  # another's would want its hardware
    target = able[0] if able else targets.load("cpu-local")
    return Member(name, catalog.load("engines", name), dataclasses.replace(target, threads=1))


@pytest.fixture(scope="session")
def built(
    engine: Member, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Case, Options], Plan]:
    """The plan of a case and a setting, made once: a compiler may take seconds for each."""
    plans: dict[str, Plan] = {}

    def build(case: Case, options: Options) -> Plan:
        key = f"{case.model.path.stem} {json.dumps(options)}"
        if key not in plans:
            plans[key] = engine.build(case, options, tmp_path_factory.mktemp("built") / "plan")
        return plans[key]

    return build


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Case]:
    """mlp, convnet and attention."""
    folder = tmp_path_factory.mktemp("cases")
    attention = testing.attention(folder / "attention.onnx")
    tokens = [testing.tokens(length=n, batch=b) for b, n in ((1, 3), (1, 11), (1, 20), (2, 9))]
    longer = [testing.tokens(length=n, batch=b) for b, n in ((1, 6), (1, 30), (2, 4), (3, 5))]
    pad = {"ids": 7.0, "mask": 0.0}
    return {
        "mlp": _dense(testing.mlp(folder / "mlp.onnx")),
        "convnet": _dense(testing.convnet(folder / "convnet.onnx")),
        "attention": _case(attention, tokens, longer, pad),
    }


@pytest.fixture(params=["mlp", "convnet", "attention"])
def case(request: pytest.FixtureRequest, cases: Mapping[str, Case]) -> Case:
    """Each of the graphs."""
    return cases[request.param]


@pytest.fixture(scope="session")
def reference() -> Callable[[Model, Sequence[Feed], Path], list[Feed]]:
    """What the yardstick answers: reference(model, feeds, folder)."""
    module = catalog.load("engines", "reference")

    def run(model: Model, feeds: Sequence[Feed], folder: Path) -> list[Feed]:
        folder.mkdir(parents=True)
        session = module.load(module.build(model, targets.load("cpu-local"), {}, [], folder))
        return [session(feed) for feed in feeds]

    return run


def _dense(model: Model) -> Case:
    asked = [_normal(model, batch) for batch in (1, 4)]
    return _case(model, asked, [_normal(model, batch) for batch in (2, 5)], {})


def _normal(model: Model, batch: int) -> Request:
    return testing.request(model, batch=batch)


def _case(
    model: Model, asked: Sequence[Request], more: Sequence[Request], padding: Mapping[str, float]
) -> Case:
    name = model.path.stem
    body = "\n".join(f"        {line}" for line in BODIES[name].strip().splitlines())
    inputs, outputs = [p.name for p in model.inputs], tuple(p.name for p in model.outputs)
    text = EAGER.format(path=str(model.path), outputs=outputs, inputs=", ".join(inputs), body=body)
    workload = model.path.with_suffix(".py")
    workload.write_text(text)
    feeds = tuple({k: np.array(v) for k, v in r.inputs.items()} for r in (*asked, *more))
    return Case(model, workload, tuple(asked), feeds, padding)
