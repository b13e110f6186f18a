"""Build here, finish on the device: nothing is timed for another machine, nothing is lost on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import accel
from accel import (
    artefacts,
    catalog,
    finals,
    finishing,
    release,
    stages,
    store,
    testing,
    unfinished,
)
from accel.constraints import Constraints
from accel.errors import (
    AccelError,
    CandidateBroken,
    InstrumentUnfit,
    MissingExtra,
    Unmeasured,
    UsageError,
)
from accel.job import Job
from accel.measure import machine
from accel.stages import Event
from accel.values import Candidate, Target, Workload

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
Profile = Callable[..., Path]
TRIES = 3  # a machine that was too busy to time on: what is finished is kept
ASKED = ["--max-drop", "2pt", "--recipe", "int8_dynamic", "--epochs", "2", "--objective", "size"]


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line, as on another machine's shell."""
    command = [sys.executable, "-m", "accel", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, profile: Profile) -> Path:
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


@pytest.mark.alone
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


def test_a_graph_in_anothers_place_is_refused(copied: Path) -> None:
    """Sealed again, the manifest's digest of a graph still has to be that graph's."""
    path = copied / release.MANIFEST
    data = json.loads(path.read_text())
    next(iter(data["unfinished"]["graphs"].values()))["model"]["digest"] = "0" * 64
    path.write_text(json.dumps(data | {"digest": release.seal(data)}))
    with pytest.raises(CandidateBroken, match=r"is not the graph that .* describes"):
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


@pytest.mark.parametrize("edit", [{"epochs": "many"}, {"seed": None}, {"target": {"peaks": 5}}])
def test_a_number_of_another_kind_is_one_error(copied: Path, edit: dict[str, Any]) -> None:
    """In what is left to do and in its target, sealed again: it is refused before anything runs."""
    path = copied / release.MANIFEST
    data = json.loads(path.read_text())
    left = data["unfinished"]
    left |= {k: left[k] | v if isinstance(v, dict) else v for k, v in edit.items()}
    path.write_text(json.dumps(data | {"digest": release.seal(data)}))
    with pytest.raises(UsageError, match=r"accel\.json"):
        unfinished.read(copied)


def test_another_workload_is_refused(copied: Path) -> None:
    """Its samples would judge what was made for others; an absent one is asked for."""
    other = copied.parent / "other.py"
    other.write_text(WORKLOAD + "# edited\n")
    with pytest.raises(UsageError, match=r"is not the workload that .*--workload FILE"):
        accel.finish(copied, workload=other, work=copied.parent / "work")
    with pytest.raises(UsageError, match=r"gone\.py is not here.*--workload FILE"):
        accel.finish(copied, workload="gone.py", work=copied.parent / "work")


def _reseal(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change what is left to do, and seal the manifest again, as its author could."""
    path = root / release.MANIFEST
    data = json.loads(path.read_text())
    edit(data["unfinished"])
    for name in ("w.py", "w.py:m.onnx"):
        if (root / name).exists():
            data["artefacts"][name] = store.digest_file(root / name)
    path.write_text(json.dumps(data | {"digest": release.seal(data)}))


def _trap(path: Path) -> Path:
    """A workload that leaves a trace when it runs."""
    path.write_text(f"open({str(path.parent.parent / 'EXECUTED')!r}, 'w')\n{WORKLOAD}")
    return path


@pytest.mark.parametrize("how", ["relative", "absolute", "by a link"])
def test_a_python_file_in_the_release_is_not_run(
    copied: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every digest right: its author chose the file, and who finishes it named none."""
    monkeypatch.chdir(copied.parent)
    trap = _trap(copied / "w.py")
    (copied.parent / "link").symlink_to(copied)
    source = {"relative": "waiting/w.py", "absolute": str(trap), "by a link": "link/w.py"}[how]
    own = store.digest_file(trap)
    _reseal(copied, lambda left: left.update(source=source, file=own))
    with pytest.raises(UsageError, match=r"asks to run a Python file, .*--workload FILE"):
        accel.finish(copied, work=copied.parent / "work")
    assert not (copied.parent / "EXECUTED").exists()


def test_a_graph_whose_name_begins_like_a_python_file_is_not_run(copied: Path) -> None:
    """What stands before its colon is not taken for a workload's file."""
    _trap(copied / "w.py")

    def edit(left: dict[str, Any]) -> None:
        first = next(iter(left["roots"].values()))
        shutil.copy(copied / first["path"], copied / "w.py:m.onnx")
        first["path"] = "./w.py:m.onnx"
        left |= {"plain": True, "data": False}

    _reseal(copied, edit)
    with pytest.raises(UsageError, match="is not the workload that"):
        accel.finish(copied, work=copied.parent / "work")
    assert not (copied.parent / "EXECUTED").exists()


def test_a_graph_that_is_named_as_a_python_file_is_not_run(copied: Path) -> None:
    """A graph whose bytes are Python, too, would be run by its name: it is refused by that name."""

    def edit(left: dict[str, Any]) -> None:
        first = next(iter(left["roots"].values()))
        shutil.copy(copied / first["path"], copied / "w.py")
        first["path"] = "./w.py"
        left |= {"plain": True, "data": False}

    _reseal(copied, edit)
    with pytest.raises(UsageError, match="is Python, not an ONNX model"):
        accel.finish(copied, work=copied.parent / "work")


@pytest.mark.parametrize("named", [True, False])
def test_another_workload_is_refused_before_it_runs(copied: Path, named: bool) -> None:
    """Given by hand, or recorded: its bytes are looked at first."""
    (copied.parent / "elsewhere").mkdir()
    other = _trap(copied.parent / "elsewhere" / "other.py")
    if not named:
        _reseal(copied, lambda left: left.update(source=str(other)))
    with pytest.raises(UsageError, match="is not the workload that"):
        accel.finish(copied, workload=other if named else None, work=copied.parent / "work")
    assert not (copied.parent / "EXECUTED").exists()


def test_of_an_older_release_the_workload_is_named(
    copied: Path, waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells no digest of that file alone: the recorded one does not run, the one given does."""
    monkeypatch.chdir(waiting.parent)
    _reseal(copied, lambda left: left.pop("file"))
    with pytest.raises(UsageError, match=r"older accel.*--workload FILE"):
        accel.finish(copied, work=copied.parent / "work")
    kept, source = unfinished.read(copied), str(waiting.parent / "tiny.py")
    assert finishing.prepare(kept, copied, source, copied.parent / "work")[1]["differs"] == []


def test_the_command_that_finishes_again_is_not_refused() -> None:
    """Under the default name, too: it does not say --out release, which is the unmeasured one."""
    words = shlex.split(finishing.command(Path("/a/release"), "my work.py"))
    assert words == ["accel", "finish", "release", "--workload", "my work.py"]


@pytest.mark.parametrize("option", ["out", "work"])
def test_the_unmeasured_release_is_kept(copied: Path, option: str) -> None:
    """Neither the finished one nor its steps are written into it."""
    places = {"out": copied.parent / "out", "work": copied.parent / "work", option: copied}
    with pytest.raises(UsageError, match=f"Choose another --{option}"):
        accel.finish(copied, **places)
    assert release.differences(copied) == ()


@pytest.mark.alone
@pytest.mark.slow
def test_a_plain_graph_is_finished_from_its_release_alone(tmp_path: Path, profile: Profile) -> None:
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


def test_a_plain_graph_takes_no_workload(waiting: Path, tmp_path: Path) -> None:
    """Its samples and metric would not be read: whoever gives one is told so, with what to run."""
    kept = dataclasses.replace(unfinished.read(waiting), plain=True)
    said = (
        r"packed from an \.onnx: .* Leave --workload out, or pack again: accel optimize 'my w\.py'"
    )
    with pytest.raises(UsageError, match=said):
        finishing.prepare(kept, waiting, "my w.py", tmp_path)


def test_data_that_the_device_yields_otherwise_is_a_fact(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file, other samples: named, and not passed over."""
    kept, source = unfinished.read(waiting), str(waiting.parent / "tiny.py")
    assert finishing.prepare(kept, waiting, source, tmp_path)[1]["differs"] == []
    monkeypatch.setenv("DECODER", "1.5")
    assert finishing.prepare(kept, waiting, source, tmp_path)[1]["differs"] == ["certify"]


def test_what_is_built_on_the_device_finds_the_packed_kernels(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first candidate on: its processes are told where the release's own lie."""
    told: list[str | None] = []

    def screen(*_: object) -> None:
        told.append(os.environ.get("ACCEL_PTX"))
        raise Unmeasured("far enough")

    monkeypatch.setattr(stages, "screen", screen)
    with pytest.raises(Unmeasured, match="far enough"):
        accel.finish(
            waiting, workload=waiting.parent / "tiny.py", work=tmp_path / "w", out=tmp_path / "o"
        )
    assert told == [str(waiting / "kernels")]
    assert "ACCEL_PTX" not in os.environ


def test_a_model_that_is_a_graph_from_the_first_has_no_eager_form(tmp_path: Path) -> None:
    """model() gave the path of an .onnx: there is no module to be compared with."""
    model = testing.mlp(tmp_path / "mlp.onnx")
    fp32 = Candidate("ort fp32", "onnx", "fp32", "onnxruntime_cpu", status="built", screen_s=1.0)
    fp32 = dataclasses.replace(fp32, plan=testing.plan(model))
    problem = Workload("w.py", "w", "digest", model=lambda: model.path)
    job = Job(problem, Target("own", "", ("onnxruntime_cpu",), local=True), (), None, {}, {}, "", tmp_path)  # fmt: skip
    given = dataclasses.replace(model, trail=("given as mlp.onnx",))
    assert finals.baselines(job, [fp32], testing.plan(given, "reference")) == (fp32,)


@pytest.mark.parametrize("kind", [MissingExtra, CandidateBroken])
def test_a_device_without_pytorch_is_compared_with_onnx_runtime_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[AccelError]
) -> None:
    """Its graphs need none, and it may need more memory than they; the run says which baseline is
    not there, and why."""

    def build(*_: object) -> Any:
        raise kind("engine 'torch_eager' needs torch")

    monkeypatch.setattr(finals, "build", build)
    model = testing.mlp(tmp_path / "mlp.onnx")
    fp32 = Candidate("ort fp32", "onnx", "fp32", "onnxruntime_cpu", status="built", screen_s=1.0)
    fp32 = dataclasses.replace(fp32, plan=testing.plan(model))
    problem = Workload("w.py", "w", "digest", model=lambda: None)
    job = Job(problem, Target("own", "", ("onnxruntime_cpu",), local=True), (), None, {}, {}, "", tmp_path)  # fmt: skip
    told: list[str] = []
    assert finals.baselines(job, [fp32], testing.plan(model, "reference"), told.append) == (fp32,)
    assert told == ["PyTorch eager is no baseline here: engine 'torch_eager' needs torch"]


def test_a_given_graph_is_no_baseline_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accel pack compares it with the export in fp32, in whichever engine it runs."""

    def build(job: Job, model: Any, engine: str, options: object) -> SimpleNamespace:
        return SimpleNamespace(value=testing.plan(model, engine))

    monkeypatch.setattr(finals, "build", build)
    monkeypatch.setattr(artefacts, "engine", lambda _, name: (catalog.load("engines", name), ""))
    model, own = testing.mlp(tmp_path / "mlp.onnx"), testing.mlp(tmp_path / "g.onnx", layers=2)
    given = Candidate(
        "ort as given @g", "given", "fp32", "onnxruntime_cpu", status="built", screen_s=1.0,
        plan=testing.plan(own),
    )  # fmt: skip
    problem = Workload("w.py", "w", "digest", model=lambda: None)
    job = Job(problem, Target("own", "", ("onnxruntime_cpu",), local=True), (), None, {}, {}, "", tmp_path)  # fmt: skip
    *_, fp32 = finals.baselines(job, [given], testing.plan(model, "reference"))
    assert (fp32.name, fp32.plan) == ("ort fp32", testing.plan(model))
