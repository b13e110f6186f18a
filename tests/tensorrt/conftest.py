"""What the tests of TensorRT share: its bindings over stub libraries, and the fake made from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for the files fake_*.py, which import each other

import fake_tensorrt  # noqa: E402
from fake_world import World  # noqa: E402

VERSIONS = ("10.13.3.9", "10.16.1.11", "11.4.0.106")  # the oldest, and the newest of each major
FAKED = VERSIONS[1:]
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
Described = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the libraries that the bindings are linked against, empty inside."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler for the stub libraries; instead: the tests over fake bindings")
    folder = tmp_path_factory.mktemp("stubs")
    words = [compiler, "-shared", "-fPIC", "-o", "stub.so", str(HERE / "stub.c")]
    subprocess.run(words, cwd=folder, check=True)
    for library in LIBRARIES:
        for major in (10, 11):
            (folder / f"lib{library}.so.{major}").symlink_to("stub.so")
    return folder


def bindings(version: str) -> Path:
    """Where `make` puts the wheel of a version: into .venv, which is the running environment."""
    places = (Path(__file__).parents[2] / ".venv", Path(sys.prefix))
    found = [place / f".tensorrt-{version}" / "tensorrt_bindings" for place in places]
    return next((place for place in found if place.is_dir()), found[0])


@pytest.fixture(scope="session")
def package() -> Callable[[str], Path]:
    """Of a version: its package; a test that needs one that is absent is skipped."""

    def find(version: str) -> Path:
        found = bindings(version)
        if not found.is_dir():
            pytest.skip(
                f"no {found}: run `make .venv/.dev`, which asks pip for "
                f"tensorrt-cu13-bindings {version}; instead: the tests over fake bindings"
            )
        return found

    return find


@pytest.fixture(scope="session")
def described(
    stubs: Path, package: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Described:
    """Of a version: a folder that holds its package as `tensorrt`, and what introspect.py found."""
    made: dict[str, tuple[Path, Path]] = {}

    def find(version: str) -> tuple[Path, Path]:
        if version not in made:
            found = package(version)
            site = tmp_path_factory.mktemp(version)
            (site / "tensorrt").symlink_to(found)
            out = site / "api.json"
            paths = {"LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": str(site)}
            words = [sys.executable, str(HERE / "introspect.py"), str(out)]
            subprocess.run(words, env={**os.environ, **paths}, check=True)
            made[version] = site, out
        return made[version]

    return find


@pytest.fixture(params=FAKED)
def fake_trt(request: pytest.FixtureRequest, described: Described) -> Iterator[World]:
    """`import tensorrt` gives the fake, once a version; see fake_tensorrt.py."""
    real = {n: m for n, m in sys.modules.items() if n.partition(".")[0] == "tensorrt"}
    yield fake_tensorrt.install(*described(request.param))
    fake_tensorrt.uninstall()
    sys.modules.update(real)
