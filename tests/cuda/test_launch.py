"""Launching: launch_checks.py and refusal_checks.py in a process of its own, where libcuda.so.1 is a fake; and no driver."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from accel.cli import cli
from accel.errors import MissingExtra

HERE = Path(__file__).parent
CHECKS = (HERE / "launch_checks.py", HERE / "refusal_checks.py")
NAMES = [
    node.name
    for path in CHECKS
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 that keeps books and runs nothing."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler to build the fake driver with; tests/gpu/ needs a real one")
    folder = tmp_path_factory.mktemp("fake-driver")
    words = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"]
    words += [str(folder / "libcuda.so.1"), str(HERE / "fake_driver.c"), "-ldl"]
    subprocess.run(words, check=True)
    return folder


@pytest.fixture(scope="module")
def outcomes(fake_driver: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What became of each check: a line a failure."""
    report = tmp_path_factory.mktemp("report") / "junit.xml"
    places = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(fake_driver), "PYTHONPATH": places}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, CHECKS)]
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


@pytest.mark.parametrize("name", NAMES)
def test_with_a_fake_driver(name: str, outcomes: dict[str, list[str]]) -> None:
    """The check of this name held, in all its cases."""
    assert outcomes[name] == [], "\n".join(outcomes[name])


def test_without_a_driver_the_error_says_what_can_be_done() -> None:
    """In our words, with the next command."""
    from accel.cuda import driver, launch

    try:
        driver.api()
    except MissingExtra:
        pass
    else:
        pytest.skip("this machine has a driver")
    with pytest.raises(MissingExtra, match=r"No CUDA driver can be used here: .*kernels check"):
        launch.prepare("residual_layernorm", "float32")
    found = CliRunner().invoke(cli, ["kernels", "bench", "--kernel", "residual_layernorm"])
    assert isinstance(found.exception, MissingExtra)
