"""Build here, finish on the device: nothing is timed for another machine, nothing is lost on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest

import accel
from accel import (
    artefacts,
    catalog,
    finals,
    finishing,
    graph,
    legality,
    release,
    search,
    store,
    testing,
    trials,
    unfinished,
)
from accel import target as targets
from accel.constraints import Constraints
from accel.errors import (
    AccelError,
    CandidateBroken,
    ConstraintError,
    InstrumentUnfit,
    MissingExtra,
    Unmeasured,
    UsageError,
)
from accel.job import Job, prepare
from accel.measure import machine
from accel.stages import Event
from accel.values import Candidate, Finding, Target, Workload

WORKLOAD = """
import os
import numpy
import torch
dynamic = {"x": {0: "batch"}}
outputs = ("logits",)
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(8, 4).eval()
def inputs():
    return {"x": numpy.ones((2, 8), numpy.float32)}
def samples(split):
    draw = numpy.random.default_rng(len(split))
    scale = float(os.environ.get("DECODER", 1.0)) if split == "certify" else 1.0
    return [({"x": scale * draw.normal(size=(1, 8)).astype("float32")}, i % 4) for i in range(500)]
def row(result, label):
    return result["logits"].argmax() == label
def metric(rows):
    return 100 * rows.mean()
"""
LACKING = sorted(machine.KNOWN_ISA - machine.isa())[0]
OWN = sorted(machine.isa())
OPENVINO = ("openvino",)
ISAS = ("avx512_vnni", "amx_bf16", "avx512_bf16")
TRIES = 3  # a machine that was too busy to time on: what is finished is kept
ASKED = ["--max-drop", "2pt", "--recipe", "int8_dynamic", "--epochs", "2", "--objective", "size"]


def profile(folder: Path, name: str, isa: list[str], more: str = "") -> Path:
    """A target of the user's own: a processor with these instructions."""
    path = folder / f"{name}.toml"
    path.write_text(
        f'description = "made up: {name}"\nengines = ["onnxruntime_cpu"]\nlocal = false\n'
        f"isa = {json.dumps(isa)}\n{more}"
    )
    return path


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line, as on another machine's shell."""
    command = [sys.executable, "-m", "accel", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workload and two targets: one that this machine is not, one that it is."""
    folder = tmp_path_factory.mktemp("finish")
    (folder / "tiny.py").write_text(WORKLOAD)
    profile(folder, "other", ["avx512_vnni", LACKING])
    profile(folder, "own", OWN)
    return folder


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> SimpleNamespace:
    """A run for the target that is another machine: how it ended, and where its release is."""
    words = ["optimize", "tiny.py", "--target", "other.toml", *ASKED, "--out", "away", "--json"]
    return SimpleNamespace(done=run(*words, cwd=folder), path=folder / "away")


@pytest.fixture(scope="module")
def waiting(folder: Path, elsewhere: SimpleNamespace) -> Path:
    """The release of a build server: this machine's target, nothing timed."""
    words = ["optimize", "tiny.py", "--target", "own.toml", *ASKED, "--out", "waiting"]
    done = run(*words, "--unmeasured", cwd=folder)
    assert done.returncode == 3, done.stderr
    return folder / "waiting"


def test_a_target_elsewhere_is_packed_and_ends_with_3(elsewhere: SimpleNamespace) -> None:
    """Every candidate is unmeasured or refused with its reason; the next command is named."""
    assert elsewhere.done.returncode == 3, elsewhere.done.stderr
    assert "accel finish away" in elsewhere.done.stderr
    assert f"lacks {LACKING}" in elsewhere.done.stderr
    data = json.loads(elsewhere.done.stdout)["data"]
    assert (data["certificate"], data["verdict"]["outcome"]) == (None, "cannot tell")
    assert {c["status"] for c in data["table"]} == {"unmeasured", "refused"}
    for row in data["table"]:
        timed = (row["plan"], row["screen_s"], row["score"], row["measurement"])
        assert timed == (None,) * len(timed)
        assert row["reason"]


def test_what_is_in_an_unmeasured_release(elsewhere: SimpleNamespace) -> None:
    """Each graph once, all files digested; it verifies, loads as the fp32 graph, and only so."""
    assert release.differences(elsewhere.path) == ()
    graphs = sorted(
        p.relative_to(elsewhere.path).as_posix() for p in elsewhere.path.rglob("*.onnx")
    )
    digests = [store.digest_file(elsewhere.path / name) for name in graphs]
    assert graphs[-1] == "model.onnx"
    assert len(graphs) > 2
    assert len(set(digests)) == len(digests)
    assert set(release.document(elsewhere.path)["artefacts"]) >= set(graphs)
    with pytest.raises(Unmeasured, match="accel finish"):
        release.load(elsewhere.path)
    with release.load(elsewhere.path, portable=True) as session:
        assert session({"x": np.ones((3, 8), np.float32)})["logits"].shape == (3, 4)


def test_the_advice_says_that_it_is_none_of_the_targets(elsewhere: SimpleNamespace) -> None:
    """Closeness in the reference engine stands in the row, as advice, and is no score."""
    found = release.read(elsewhere.path)
    rows = [c for c in found.table if c.status == "unmeasured"]
    assert all("advisory: top-1 agreement with the reference" in c.reason for c in rows)
    assert {(c.score, c.drop) for c in found.table} == {(None, None)}


def test_finish_on_another_machine_ends_with_3(folder: Path, elsewhere: SimpleNamespace) -> None:
    """The reason is told and nothing is written."""
    done = run("finish", "away", "--work", "unused", cwd=folder)
    assert done.returncode == 3
    assert f"lacks {LACKING}" in done.stderr
    assert "accel finish away" in done.stderr
    assert not (folder / "unused").exists()
    assert not (folder / "away-finished").exists()


@pytest.mark.slow
def test_finish_on_the_device_certifies_what_was_packed(folder: Path, waiting: Path) -> None:
    """No graph is made again: the winner's is the packed one; the same command resumes."""
    for _ in range(TRIES):
        done = run("finish", "waiting", "--work", "device", "--json", cwd=folder)
        if done.returncode != InstrumentUnfit.exit_code:
            break
    assert done.returncode == 0, done.stderr
    finished = folder / "waiting-finished"
    found = release.read(finished)
    assert found.certificate is not None
    assert found.certificate.grade == "certified"
    assert found.winner.recipe == "int8_dynamic"
    assert found.winner.plan is not None
    packed = release.document(waiting)["unfinished"]["graphs"].values()
    assert found.winner.plan.model.digest in {made["model"]["digest"] for made in packed}
    verbs = {p.name.partition("-")[0] for p in (folder / "device" / "store").iterdir()}
    assert not verbs & {"export", "quantize"}
    assert verbs >= {"keep", "build", "screen", "evaluate", "measure"}
    release.load(finished).close()
    assert release.differences(waiting) == ()
    told: list[str] = []
    again = accel.finish(
        waiting,
        workload=folder / "tiny.py",
        work=folder / "device",
        out=folder / "again",
        progress=lambda event: told.append(event.text),
    )
    assert again.winner.name == found.winner.name
    assert told[-1].endswith(", 0 made")
    facts = release.document(finished)["facts"]
    assert facts["differs"] == []
    assert facts["finished"]["constraints"]["max_drop"] == 2.0
    with pytest.raises(UsageError, match="is not an unmeasured release"):
        accel.finish(finished)


@pytest.fixture
def copied(waiting: Path, tmp_path: Path) -> Path:
    """The build server's release, to be harmed."""
    return Path(shutil.copytree(waiting, tmp_path / "waiting"))


def _flip(root: Path) -> None:
    path = next((root / "candidates").rglob("model.onnx"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _loosen(root: Path) -> None:
    path = root / release.MANIFEST
    data = json.loads(path.read_text())
    data["unfinished"]["constraints"]["max_drop"] = 50.0
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("harm", "said"), [(_flip, r"candidates/\S+: sha256"), (_loosen, "edited after packing")]
)
def test_what_was_changed_since_is_refused(
    copied: Path, harm: Callable[[Path], None], said: str
) -> None:
    """A graph, or a constraint: neither is taken for what was packed."""
    harm(copied)
    with pytest.raises(CandidateBroken, match=said):
        accel.finish(copied, work=copied.parent / "work")


def test_a_graph_outside_of_the_release_is_refused(copied: Path) -> None:
    """Though every digest is right: whoever wrote the manifest sealed it again."""
    path = copied / release.MANIFEST
    data = json.loads(path.read_text())
    next(iter(data["unfinished"]["graphs"].values()))["model"]["path"] = "/etc/passwd"
    path.write_text(json.dumps(data | {"digest": release.seal(data)}))
    with pytest.raises(UsageError, match="names /etc/passwd, outside of the release"):
        accel.finish(copied, work=copied.parent / "work")


def test_unmeasured_is_said_before_the_machine_is_looked_at(copied: Path) -> None:
    """On the device, the class of the build server is no reason to rebuild."""
    path = copied / release.MANIFEST
    data = json.loads(path.read_text()) | {"machine_class": "the build server's"}
    path.write_text(json.dumps(data | {"digest": release.seal(data)}))
    with pytest.raises(Unmeasured, match="accel finish"):
        release.load(copied)


@pytest.mark.parametrize("part", ["graphs", "refused", "roots", "constraints", "target", "digests"])
@pytest.mark.parametrize("value", [[], {}, None, 7])
def test_a_part_of_another_kind_is_one_error(copied: Path, part: str, value: Any) -> None:
    """Whatever stands there, sealed again: no exception of Python's own comes out."""
    path = copied / release.MANIFEST
    data = json.loads(path.read_text())
    data["unfinished"][part] = value
    path.write_text(json.dumps(data | {"digest": release.seal(data)}))
    told: list[Event] = []
    with pytest.raises(AccelError):
        accel.finish(copied, workload="gone.py", work=copied.parent / "work", progress=told.append)
    assert told == []


def test_another_workload_is_refused(copied: Path) -> None:
    """Its samples would judge what was made for others; an absent one is asked for."""
    other = copied.parent / "other.py"
    other.write_text(WORKLOAD + "# edited\n")
    with pytest.raises(UsageError, match=r"is not the workload that .*--workload FILE"):
        accel.finish(copied, workload=other, work=copied.parent / "work")
    with pytest.raises(UsageError, match=r"gone\.py is not here.*--workload FILE"):
        accel.finish(copied, workload="gone.py", work=copied.parent / "work")


@pytest.mark.parametrize("option", ["out", "work"])
def test_the_unmeasured_release_is_kept(copied: Path, option: str) -> None:
    """Neither the finished one nor its steps are written into it."""
    places = {"out": copied.parent / "out", "work": copied.parent / "work", option: copied}
    with pytest.raises(UsageError, match=f"Choose another --{option}"):
        accel.finish(copied, **places)
    assert release.differences(copied) == ()


@pytest.mark.slow
def test_a_plain_graph_is_finished_from_its_release_alone(tmp_path: Path) -> None:
    """The .onnx and its feeds lie in the release: the originals may be gone."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    draw = np.random.default_rng(0)
    np.savez(
        tmp_path / "feeds.npz", **{f"{i}/x": draw.random((i + 1, 8), np.float32) for i in (0, 1)}
    )
    waiting = accel.optimize(
        model,
        target=str(profile(tmp_path, "own", OWN)),
        constraints=Constraints(max_drop=2.0, recipes=("fp32",), objective="size"),
        data=str(tmp_path / "feeds.npz"),
        out=tmp_path / "waiting",
        work=tmp_path / "server",
        epochs=2,
        unmeasured=True,
    )
    for gone in ("mlp.onnx", "feeds.npz"):
        (tmp_path / gone).unlink()
    shutil.rmtree(tmp_path / "server")
    moved = waiting.path.rename(tmp_path / "moved")
    found = None
    for left in reversed(range(TRIES)):
        with contextlib.suppress(InstrumentUnfit if left else ()):
            found = found or accel.finish(moved, work=tmp_path / "device")
    assert found is not None
    assert found.path == tmp_path / "moved-finished"
    assert found.winner.status == "measured"
    assert [r.group for r in release.requests(found.path)] == ["data", "data"]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished steps that several runs share."""
    return tmp_path_factory.mktemp("steps")


def _alone(folder: Path, steps: Path, engines: str, **more: Any) -> Any:
    """One recipe of a tiny graph, packed unmeasured."""
    path = profile(folder, "own", OWN, more.pop("toml", ""))
    path.write_text(path.read_text().replace('"onnxruntime_cpu"', engines))
    return accel.optimize(
        more.pop("model", None) or testing.mlp(folder / "mlp.onnx").path,
        target=str(path),
        constraints=Constraints(recipes=("fp32",)),
        out=folder / "waiting",
        work=steps,
        unmeasured=True,
        **more,
    )


def test_an_engine_whose_library_is_absent_is_a_refused_row(
    tmp_path: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are packed; without any, there is no release."""
    load = catalog.load

    def without_openvino(family: str, name: str) -> Any:
        if name == "openvino":
            raise MissingExtra("engine 'openvino' needs openvino. Run: pip install openvino")
        return load(family, name)

    monkeypatch.setattr(catalog, "load", without_openvino)
    found = _alone(tmp_path, steps, '"openvino", "onnxruntime_cpu"')
    lost = next(c for c in found.table if c.engine == "openvino")
    assert (lost.status, "pip install openvino" in lost.reason) == ("refused", True)
    assert {c.status for c in found.table if c.name == "ort fp32 @onnx"} == {"unmeasured"}
    shutil.rmtree(found.path)
    with pytest.raises(
        ConstraintError, match=r"Nothing could be made for 'own'.*\n.*needs openvino"
    ):
        _alone(tmp_path, steps, '"openvino"')
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
def test_kernels_are_candidates_where_the_engine_takes_them(
    tmp_path: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's release holds the swapped graph beside the plain one, and the fitting kernels
    compiled; the swapped graph runs in ONNX Runtime, here told to be an engine with plugins."""
    pytest.importorskip("numba", reason="kernels are compiled with Numba")
    engine = catalog.load("engines", "onnxruntime_cpu")
    monkeypatch.setattr(engine, "KERNELS", True, raising=False)
    found = _alone(
        tmp_path, steps, '"onnxruntime_cpu"', toml=GPU, model=gelu(tmp_path / "gelu.onnx")
    )
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
    compiled = {p.name for p in (found.path / "kernels" / "own").iterdir()}
    assert {"accel_bias_gelu_float32_0.ptx", "accel_bias_gelu_float32_0.cubin"} <= compiled
    assert release.document(found.path)["facts"]["kernels"]["compiled"] == ["bias_gelu"]


def _session(path: Path) -> Any:
    model = graph.describe(path)
    return catalog.load("engines", "reference").load(testing.plan(model, "reference"))


def test_a_trial_puts_the_kernels_in_and_tells_which(
    tmp_path: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is built is the swapped graph; the candidate names those kernels that fit."""
    pytest.importorskip("numba", reason="kernels are compiled with Numba")
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


def test_no_site_of_a_kernel_is_a_reason(
    tmp_path: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that no kernel fits keeps its plain candidate; the other is refused, not lost."""
    engine = catalog.load("engines", "onnxruntime_cpu")
    monkeypatch.setattr(engine, "KERNELS", True, raising=False)
    found = _alone(tmp_path, steps, '"onnxruntime_cpu"')
    rows = {c.name: (c.status, c.reason) for c in found.table}
    assert rows["ort fp32 @onnx"][0] == "unmeasured"
    assert rows["ort fp32 kernels @onnx"] == ("refused", "no kernel fits")


def test_the_run_tells_that_nothing_is_timed(tmp_path: Path, steps: Path) -> None:
    """Before the first candidate, with the reason."""
    events: list[Event] = []
    _alone(tmp_path, steps, '"onnxruntime_cpu"', progress=events.append)
    assert "nothing is timed: as asked" in [e.text for e in events if e.kind == "note"]


def test_what_a_static_check_finds_stands_in_the_row(
    tmp_path: Path, steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each engine's graphs are checked for that engine alone; an error is told, the device decides."""
    asked: list[tuple[str, ...]] = []

    def check(path: Path, target: Target, requests: Any) -> tuple[Finding, ...]:
        assert path.name == "model.onnx"
        asked.append(target.engines)
        return (Finding("made_up", "error", "double is not taken"),) * (target.engines != OPENVINO)

    monkeypatch.setattr(legality, "check", check)
    found = _alone(tmp_path, steps, '"onnxruntime_cpu", "openvino"')
    rows = {c.engine: c for c in found.table if c.status == "unmeasured"}
    assert {*asked} == {("onnxruntime_cpu",), OPENVINO}
    assert [f.rule for f in rows["onnxruntime_cpu"].findings] == ["made_up"]
    assert "1 static errors, the first: double is not taken" in rows["onnxruntime_cpu"].reason
    assert (rows["openvino"].findings, "static" in rows["openvino"].reason) == ((), False)


def test_data_that_the_device_yields_otherwise_is_a_fact(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file, other samples: named, and not passed over."""
    kept, source = unfinished.read(waiting), str(waiting.parent / "tiny.py")
    assert finishing.prepare(kept, waiting, source, tmp_path)[1]["differs"] == []
    monkeypatch.setenv("DECODER", "1.5")
    assert finishing.prepare(kept, waiting, source, tmp_path)[1]["differs"] == ["certify"]


def test_a_device_without_pytorch_is_compared_with_onnx_runtime_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its graphs need none; the run says which baseline is not there, and why."""

    def build(*_: object) -> Any:
        raise MissingExtra("engine 'torch_eager' needs torch")

    monkeypatch.setattr(finals, "build", build)
    model = testing.mlp(tmp_path / "mlp.onnx")
    fp32 = Candidate("ort fp32", "onnx", "fp32", "onnxruntime_cpu", status="built", screen_s=1.0)
    fp32 = dataclasses.replace(fp32, plan=testing.plan(model))
    problem = Workload("w.py", "w", "digest", model=lambda: None)
    job = Job(problem, Target("own", "", ("onnxruntime_cpu",), local=True), (), None, {}, {}, "", tmp_path)  # fmt: skip
    told: list[str] = []
    assert finals.baselines(job, [fp32], testing.plan(model, "reference"), told.append) == (fp32,)
    assert told == ["PyTorch eager is no baseline here: engine 'torch_eager' needs torch"]


def test_openvino_goes_by_the_instructions_that_a_target_lists() -> None:
    """Not by those of the machine that packs for it."""
    engine = catalog.load("engines", "openvino")
    told = {isa: engine.recipes(Target("t", "", OPENVINO, False, isa=(isa,))) for isa in ISAS}
    assert {isa: r["bf16"] is None for isa, r in told.items()} == dict(zip(ISAS, (0, 1, 1), strict=True))  # fmt: skip
    assert {isa: r["int8_static"] is None for isa, r in told.items()} == dict(zip(ISAS, (1, 0, 0), strict=True))  # fmt: skip
