"""accel doctor: engines are probed for real, in processes of their own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from accel import catalog
from accel import target as targets
from accel.cuda import toolchain
from accel.measure.here import elsewhere
from accel.questions.doctor import Diagnosis, doctor

ROOT = Path(__file__).parents[2]


def ask(folder: Path, *stubs: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """`accel doctor --json` where these modules hide the real ones."""
    for name, code in stubs:
        (folder / f"{name}.py").write_text(code)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "accel", "doctor", "--json"],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def absent(name: str) -> tuple[str, str]:
    return name, f"raise ModuleNotFoundError('absent', name={name!r})\n"


@pytest.fixture(scope="module")
def here() -> Diagnosis:
    return doctor()


def test_every_engine_is_probed(here: Diagnosis) -> None:
    """The answer has them all, each with a version, or with a reason and the line that mends it."""
    assert tuple(here.engines) == catalog.names("engines")
    for probe in here.engines.values():
        assert probe.version if probe.usable else probe.reason


def test_the_portable_engine_runs_here(here: Diagnosis) -> None:
    """With ONNX Runtime installed the machine is healthy, and its fingerprint is told."""
    assert here.engines["onnxruntime_cpu"].usable
    assert here.healthy
    assert here.machine["cores"] >= 1


def test_it_says_which_targets_this_machine_is(here: Diagnosis) -> None:
    """Each profile: nothing, or why this machine is another one; the local ones are this machine."""
    assert tuple(here.targets) == catalog.names("profiles")
    for name, why in here.targets.items():
        assert why == elsewhere(targets.load(name))
    assert here.targets["cpu-local"] == ""


def test_its_text_names_those_targets(tmp_path: Path) -> None:
    """One line, of the ones that it is."""
    found = ask(tmp_path)
    told = json.loads(found.stdout)["data"]["targets"]
    mine = ", ".join(name for name, why in told.items() if not why)
    assert f"targets: {mine}\n" in found.stderr


def test_what_compiles_kernels_is_probed(here: Diagnosis) -> None:
    """Numba and ptxas work here, with no GPU; their versions are told."""
    assert here.kernels.usable, here.kernels
    assert here.kernels.facts is not None
    assert {"numba", "numba-cuda", "nvvm", "ptxas"} <= set(here.kernels.facts)
    assert f"ptxas {here.kernels.facts['ptxas']}" in here.kernels.version


@pytest.mark.parametrize(
    ("stub", "said"),
    [
        (absent("numba"), "Numba cannot compile for a GPU: absent."),
        (("numba", "raise OSError('libLLVM.so: bad')\n"), "compile for a GPU: libLLVM.so: bad."),
    ],
)
def test_without_numba_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: tuple[str, str], said: str
) -> None:
    """A reason and a line to type; the machine is no less healthy for it."""
    name, code = stub
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    found = toolchain.probe()
    assert not found.usable
    assert found.reason.endswith(said)
    assert found.fix == "pip install 'accel-inference[kernels]'"


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one, for which Python, and the line that installs it."""

    def gone(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", gone)
    found = toolchain.probe()
    assert found.reason == f"kernels need numba, which is not installed for {sys.executable}."
    assert found.fix == "pip install 'accel-inference[kernels]'"


def test_nothing_usable_ends_with_7_and_says_how_to_mend_it(tmp_path: Path) -> None:
    """Without a runtime: one document, code 7, and the line to type for each engine; a library
    that crashes or does not load when it is imported is an answer too."""
    unlinked = ("torch", "raise OSError('libgomp.so.1: cannot open shared object file')\n")
    crash = ("openvino", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    found = ask(tmp_path, absent("onnxruntime"), crash, unlinked)
    assert found.returncode == 7, found.stderr
    assert "Traceback" not in found.stderr
    assert "accel: No engine can run here." in found.stderr
    data = json.loads(found.stdout)["data"]
    assert data["healthy"] is False
    missing = data["engines"]["onnxruntime_cpu"]
    assert missing["fix"] == "pip install 'accel-inference[cpu]'"
    assert "torch_eager': one of its libraries" in data["engines"]["torch_eager"]["reason"]
    assert "libgomp.so.1: cannot open" in data["engines"]["torch_eager"]["reason"]
    assert "SIGSEGV" in data["engines"]["openvino"]["reason"]
