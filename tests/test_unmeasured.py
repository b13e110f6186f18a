"""All that can be done for a target without it: what is tried, refused and packed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest

import accel
from accel import artefacts, catalog, compiled, graph, legality, release, search, testing, trials
from accel import target as targets
from accel.constraints import Constraints
from accel.cuda import building
from accel.errors import ConstraintError, MissingExtra
from accel.job import prepare
from accel.measure import machine
from accel.stages import Event
from accel.values import Finding, Refusal, Release, Target

OWN = sorted(machine.isa())
Alone = Callable[..., Release]
OPENVINO = ("openvino",)
ISAS = ("avx512_vnni", "amx_bf16", "avx512_bf16")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished steps that several runs share."""
    return tmp_path_factory.mktemp("steps")


@pytest.fixture
def alone(tmp_path: Path, steps: Path, profile: Callable[..., Path]) -> Alone:
    """Packs one recipe of a tiny graph, unmeasured, for a target that has these engines."""

    def run(engines: str, **more: Any) -> Release:
        path = profile(tmp_path, "own", OWN, more.pop("toml", ""))
        path.write_text(path.read_text().replace('"onnxruntime_cpu"', engines))
        return accel.optimize(
            more.pop("model", None) or testing.mlp(tmp_path / "mlp.onnx").path,
            target=str(path),
            constraints=Constraints(recipes=("fp32",)),
            out=tmp_path / "waiting",
            work=steps,
            unmeasured=True,
            **more,
        )

    return run


def test_an_engine_whose_library_is_absent_is_a_refused_row(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are packed; without any, there is no release."""
    load = catalog.load

    def without_openvino(family: str, name: str) -> Any:
        if name == "openvino":
            raise MissingExtra("engine 'openvino' needs openvino. Run: pip install openvino")
        return load(family, name)

    monkeypatch.setattr(catalog, "load", without_openvino)
    found = alone('"openvino", "onnxruntime_cpu"')
    lost = next(c for c in found.table if c.engine == "openvino")
    assert (lost.status, "pip install openvino" in lost.reason) == ("refused", True)
    assert {c.status for c in found.table if c.name == "ort fp32 @onnx"} == {"unmeasured"}
    shutil.rmtree(found.path)
    with pytest.raises(
        ConstraintError, match=r"Nothing could be made for 'own'.*\n.*needs openvino"
    ):
        alone('"openvino"')
    assert not found.path.exists()


GPU = """
compute_capability = "8.7"
ptx_version = "8.5"
[sm]
warps = 48
blocks = 16
registers = 65536
shared_bytes = 167936
reserved_shared_bytes = 1024
"""


def gelu(path: Path) -> Path:
    """y = gelu(x @ w + b), as exporters write it out: one site of bias_gelu."""
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[batch, 8] x) => (float[batch, 8] y)
    <float[8] b = {0.1, -0.2, 0.3, 0.0, 0.5, -0.6, 0.7, 1.0}> {
      s = Add(x, b)
      y = Gelu(s)
    }"""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.mark.slow
def test_engines_that_read_bf16_differently_get_graphs_of_their_own(tmp_path: Path) -> None:
    """No step of one engine's style is taken for another's: each of a GPU's rows has its graph."""
    found = accel.optimize(
        testing.mlp(tmp_path / "mlp.onnx").path,
        target="h200",
        constraints=Constraints(recipes=("bf16",), engines=("tensorrt", "onnxruntime_cuda")),
        out=tmp_path / "waiting",
        work=tmp_path / "steps",
        unmeasured=True,
    )
    rows = [c for c in found.table if c.recipe == "bf16" and not c.kernels]
    assert {(c.engine, c.status) for c in rows} == {
        ("tensorrt", "unmeasured"),
        ("onnxruntime_cuda", "unmeasured"),
    }
    graphs = release.document(found.path)["unfinished"]["graphs"].values()
    assert {"tensorrt", "onnxruntime_cuda"} <= {g["only"] for g in graphs}


@pytest.mark.slow
def test_kernels_are_candidates_where_the_engine_takes_them(
    alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's release holds the swapped graph beside the plain one, and the fitting kernels
    compiled; the swapped graph runs in ONNX Runtime, here told to be an engine with plugins."""
    pytest.importorskip(
        "numba", reason="kernels are compiled with Numba; instead: the tests without kernels"
    )
    engine = catalog.load("engines", "onnxruntime_cpu")
    monkeypatch.setattr(engine, "KERNELS", True, raising=False)
    found = alone('"onnxruntime_cpu"', toml=GPU, model=gelu(tmp_path / "gelu.onnx"))
    plain, swapped = (c for c in found.table if c.status == "unmeasured")
    assert (plain.kernels, swapped.kernels) == ((), ("bias_gelu",))
    assert (plain.name, swapped.name) == ("ort fp32 @onnx", "ort fp32 kernels @onnx")
    assert "bias_gelu 1 of 1" in swapped.reason
    graphs = {p: onnx.load(p) for p in found.path.rglob("model.onnx")}
    [path] = [
        p for p, g in graphs.items() if any(n.domain == "accel.kernels" for n in g.graph.node)
    ]
    inlined = tmp_path / "inlined.onnx"
    onnx.save(onnx.inliner.inline_local_functions(graphs[path]), inlined)
    feed = {"x": np.linspace(-4, 4, 40, dtype=np.float32).reshape(5, 8)}
    outputs = [_session(p)(feed)["y"] for p in (path, inlined)]
    np.testing.assert_array_equal(*outputs)
    names = {p.name for p in (found.path / "kernels" / "own").iterdir()}
    assert {"accel_bias_gelu_float32_0.ptx", "accel_bias_gelu_float32_0.cubin"} <= names
    assert release.document(found.path)["facts"]["kernels"]["compiled"] == ["bias_gelu"]


def test_a_kernel_that_did_not_compile_is_tried_again(
    tmp_path: Path, profile: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that was killed is a reason in this run, and no finished step for the next."""
    path, own = gelu(tmp_path / "gelu.onnx"), profile(tmp_path, "own", OWN, GPU)
    job = prepare(str(path), targets.load(str(own)), None, tmp_path / "steps")
    roots = {"onnx": artefacts.export(job, "onnx").value}
    tried: list[set[str]] = []

    def run(jobs: Any) -> Any:
        tried.append({one.kernel for one in jobs})
        return ((one, Refusal(str(one), "its compiler was killed")) for one in jobs)

    monkeypatch.setattr(building, "run", run)
    for _ in range(2):
        found = compiled.kernels(job, roots)
        assert (found.folder, found.names) == (None, ())
        assert "its compiler was killed" in found.refused[0].reason
    assert tried == [{"bias_gelu"}, {"bias_gelu"}]


def _session(path: Path) -> Any:
    model = graph.describe(path)
    return catalog.load("engines", "reference").load(testing.plan(model, "reference"))


def test_a_trial_puts_the_kernels_in_and_tells_which(
    tmp_path: Path,
    steps: Path,
    profile: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is built is the swapped graph; the candidate names those kernels that fit."""
    pytest.importorskip(
        "numba", reason="kernels are compiled with Numba; instead: the tests without kernels"
    )
    engine = catalog.load("engines", "onnxruntime_cpu")
    monkeypatch.setattr(engine, "KERNELS", True, raising=False)
    path, here = gelu(tmp_path / "gelu.onnx"), targets.load(str(profile(tmp_path, "own", OWN)))
    job = prepare(str(path), here, None, steps)
    roots = {"onnx": artefacts.export(job, "onnx").value}
    rows = search.plan({"onnxruntime_cpu": engine}, ("onnx",), here, job.requests, {}, ("fp32",))
    yardstick = artefacts.yardstick(job, roots["onnx"])
    wanted = next(r for r in rows if r.kernels and not r.recipe_options.get("fuse"))
    found = trials.trial(job, roots, wanted, engine, yardstick)
    assert (found.status, found.kernels) == ("built", ("bias_gelu",)), found.reason
    assert found.plan is not None
    nodes = onnx.load(found.plan.path).graph.node
    assert [(n.domain, n.op_type) for n in nodes] == [("accel.kernels", "BiasGelu")]


def test_no_site_of_a_kernel_is_a_reason(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that no kernel fits keeps its plain candidate; the other is refused, not lost."""
    engine = catalog.load("engines", "onnxruntime_cpu")
    monkeypatch.setattr(engine, "KERNELS", True, raising=False)
    found = alone('"onnxruntime_cpu"')
    rows = {c.name: (c.status, c.reason) for c in found.table}
    assert rows["ort fp32 @onnx"][0] == "unmeasured"
    assert rows["ort fp32 kernels @onnx"] == ("refused", "no kernel fits")


def test_the_run_tells_that_nothing_is_timed(alone: Alone) -> None:
    """Before the first candidate, with the reason."""
    events: list[Event] = []
    alone('"onnxruntime_cpu"', progress=events.append)
    assert "nothing is timed: as asked" in [e.text for e in events if e.kind == "note"]


def test_what_a_static_check_finds_stands_in_the_row(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each engine's graphs are checked for that engine alone; an error is told, the device decides."""
    asked: list[tuple[str, ...]] = []

    def check(path: Path, target: Target, requests: Any) -> tuple[Finding, ...]:
        assert path.name == "model.onnx"
        asked.append(target.engines)
        return (Finding("made_up", "error", "double is not taken"),) * (target.engines != OPENVINO)

    monkeypatch.setattr(legality, "check", check)
    found = alone('"onnxruntime_cpu", "openvino"')
    rows = {c.engine: c for c in found.table if c.status == "unmeasured"}
    assert {*asked} == {("onnxruntime_cpu",), OPENVINO}
    assert [f.rule for f in rows["onnxruntime_cpu"].findings] == ["made_up"]
    assert "1 static errors, the first: double is not taken" in rows["onnxruntime_cpu"].reason
    assert (rows["openvino"].findings, "static" in rows["openvino"].reason) == ((), False)


def test_openvino_goes_by_the_instructions_that_a_target_lists() -> None:
    """Not by those of the machine that packs for it."""
    engine = catalog.load("engines", "openvino")
    told = {isa: engine.recipes(Target("t", "", OPENVINO, False, isa=(isa,))) for isa in ISAS}
    assert {isa: r["bf16"] is None for isa, r in told.items()} == dict(zip(ISAS, (0, 1, 1), strict=True))  # fmt: skip
    assert {isa: r["int8_static"] is None for isa, r in told.items()} == dict(zip(ISAS, (1, 0, 0), strict=True))  # fmt: skip
