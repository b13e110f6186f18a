"""Fixtures that several test files share."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import arrays, catalog
from accel.errors import InstrumentUnfit
from accel.steps.pack import pack
from accel.values import (
    Candidate,
    Certificate,
    Feed,
    Measurement,
    Model,
    Plan,
    Port,
    Release,
    Request,
    Target,
    Verdict,
)

ROOT = Path(__file__).parents[1]
QUICK = ["examples/digits.py", "--max-drop", "2pt", "--engine", "onnxruntime_cpu"]
QUICK += ["--recipe", "int8_static", "--epochs", "2"]
HERE = Target("here", "this machine", ("onnxruntime_cpu",), local=True)
UNSIGNED = "model-signing is not installed (pip install -e '.[sign]'); instead: "
UNSIGNED += "test_without_the_extra_the_line_to_type_is_told, and tests/questions/test_verify.py"
CERTIFICATE = Certificate(
    "certified", "accuracy", "pt", 91.0, 90.9, 0.1, 0.3, (-0.2, 0.4), 0.5, 100, "made up", "certify"
)


def tiny_graph(folder: Path, scale: float = 1.0, external: bool = False) -> Model:
    """relu(x @ w), x: [batch, 4], w: [4, 3]; the weights in their own file when `external`."""
    folder.mkdir(parents=True)
    weights = scale * np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["y"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "graph.onnx"
    onnx.save(model, path, save_as_external_data=external, location="w.bin", size_threshold=0)
    ports = (Port("x", "float32", ("batch", 4)),), (Port("y", "float32", ("batch", 3)),)
    return Model(path, f"digest-{scale}", *ports)


def tiny_candidate(folder: Path, name: str, model: Model, portable: bool = True) -> Candidate:
    """A candidate as the search leaves it: built by the real engine, three calls timed."""
    requests = tiny_requests()
    out = folder / name
    out.mkdir(parents=True)
    engine = catalog.load("engines", "onnxruntime_cpu")
    plan: Plan = engine.build(model, HERE, {"threads": 1}, requests, out)
    samples = out / "samples.npz"
    column = np.arange(3)
    seconds = {"seconds": np.linspace(1e-3, 2e-3, 3)}
    arrays.save(samples, [{"request": column * 0, "epoch": column, "round": column, **seconds}])
    measured = Measurement(name, samples, ("only",), (1.0,), 0.1, 0.01, 1000, 1, 0)
    if not portable:  # some engines leave the graph where the recipe wrote it
        plan = dataclasses.replace(plan, portable=False, model=model)
    return Candidate(
        name, "onnx", "fp32", "onnxruntime_cpu", status="measured", plan=plan,
        options={"threads": 1}, measurement=measured, objective_s=1.5e-3,
    )  # fmt: skip


def tiny_requests() -> list[Request]:
    """One request, of two rows."""
    return [Request("only", 1.0, {"x": np.full((2, 4), 0.5, np.float32)})]


def tiny_golden(model: Model) -> tuple[list[Feed], list[Feed]]:
    """Two inputs and what the graph itself answers."""
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds: list[Feed] = [{"x": rng.normal(size=(n, 4)).astype(np.float32)} for n in (1, 3)]
    return feeds, [{"y": session.run(None, dict(feed))[0]} for feed in feeds]


@pytest.fixture(scope="session")
def profile() -> Callable[..., Path]:
    """Writes a target: profile(folder, name, isa, more) -> a .toml, of a processor that has these
    instructions; `more` is TOML too."""

    def write(folder: Path, name: str, isa: list[str], more: str = "") -> Path:
        path = folder / f"{name}.toml"
        path.write_text(
            f'description = "made up: {name}"\nengines = ["onnxruntime_cpu"]\nlocal = false\n'
            f"isa = {json.dumps(isa)}\n{more}"
        )
        return path

    return write


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The main job with one engine and a short final: its folder, its words, and how it ended.

    Its finished steps serve who runs it again in the same folder, which keeps the suite short;
    each takes an --out of its own."""
    folder = tmp_path_factory.mktemp("digits-run")
    (folder / "examples").symlink_to(ROOT / "examples")
    command = [sys.executable, "-m", "accel", "optimize", *QUICK, "--json"]
    for _ in range(3):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != InstrumentUnfit.exit_code:  # unfit: "run again", it says
            break
    return SimpleNamespace(folder=folder, words=QUICK, done=done)


@dataclasses.dataclass(frozen=True)
class _Copy:
    """A folder with a copy of the package, its links followed, for members to be added to."""

    folder: Path

    def run(self, *words: str) -> str:
        """What python prints there, with the copy in front of every other accel."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        found = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> _Copy:
    """A copy of the package that a test file may add members to."""
    folder = tmp_path_factory.mktemp("copy")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "accel", folder / "accel", symlinks=False, ignore=skip)
    return _Copy(folder)


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., Release]:
    """Packs a tiny release: packed(name, external=..., portable=..., spoil=...) -> Release."""
    turn = itertools.count()

    def make(
        name: str = "release", external: bool = False, portable: bool = True, spoil: float = 0.0
    ) -> Release:
        """`spoil` is added to the reference's outputs: NaN makes the pack fail at its last step."""
        work = tmp_path / f"work-{next(turn)}"
        model = tiny_graph(work / "graph", external=external)
        winner = tiny_candidate(work, "fast", model, portable)
        plain = tiny_candidate(work, "plain", tiny_graph(work / "plain-graph"))
        rows = work / "rows.npy"
        np.save(rows, np.ones(5))
        inputs, outputs = tiny_golden(model)
        return pack(
            winner,
            None if portable else plain,
            [plain],
            [winner, plain],
            CERTIFICATE,
            Verdict("pass"),
            (inputs, [{"y": f["y"] + np.float32(spoil)} for f in outputs]),
            tiny_requests(),
            {"fast": rows, "plain": rows},
            "accel optimize tiny.py",
            {"target": "here", "versions": {"onnxruntime": onnxruntime.__version__}},
            tmp_path / name,
        )

    return make


@pytest.fixture
def keys(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes a pair of keys: keys(name, password=..., kind=...) -> private, public."""
    pytest.importorskip("OpenSSL", reason=UNSIGNED)
    pytest.importorskip("model_signing", reason=UNSIGNED)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def make(name: str, password: bytes = b"", kind: str = "secp256r1") -> tuple[Path, Path]:
        curves = {"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1, "secp256k1": ec.SECP256K1}
        key: Any = (
            ec.generate_private_key(curves[kind]())
            if kind in curves
            else rsa.generate_private_key(65537, 2048)
        )
        lock: Any = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock)
        public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        paths = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub.pem"
        for path, text in zip(paths, (private, public), strict=True):
            path.write_bytes(text)
        return paths

    return make


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that keeps books, copies memory, and runs no kernel."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler to build the fake driver with; tests/gpu/ needs a real one")
    folder = tmp_path_factory.mktemp("fake-driver")
    words = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"]
    source = ROOT / "tests" / "cuda" / "fake_driver.c"
    subprocess.run([*words, str(folder / "libcuda.so.1"), str(source), "-ldl"], check=True)
    return folder


@pytest.fixture(scope="session")
def with_fake_driver(
    fake_driver: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, list[str]]]:
    """Runs files of checks in a process of its own, under that driver: check -> a line a failure."""

    def run(*files: Path) -> dict[str, list[str]]:
        report = tmp_path_factory.mktemp("report") / "junit.xml"
        folders = dict.fromkeys(str(file.parent) for file in files)
        places = os.pathsep.join(filter(None, (*folders, os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "LD_LIBRARY_PATH": str(fake_driver), "PYTHONPATH": places}
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)]
        done = subprocess.run(
            [*words, f"--junitxml={report}"], env=environment, capture_output=True, text=True
        )
        assert report.exists(), done.stdout + done.stderr
        found: dict[str, list[str]] = {}
        for case in ET.parse(report).iter("testcase"):
            name = str(case.get("name")).partition("[")[0]
            found.setdefault(name, []).extend(
                f"{case.get('name')}: {word.text or word.get('message')}"
                for word in case
                if word.tag in ("failure", "error", "skipped")
            )
        return found

    return run
