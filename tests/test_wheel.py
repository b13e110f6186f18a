"""The wheel: everything it needs is inside, nothing else, and it works outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, from a copy, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), str(source)], check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_families_and_no_tests(wheel: Path) -> None:
    """Kernels and profiles come along through the links; tests and top-level twins do not."""
    names = zipfile.ZipFile(wheel).namelist()
    source = wheel.parent / "source"  # what is committed
    expected = {
        *(f"accel/{p.relative_to(source / 'accel')}" for p in (source / "accel").rglob("*.py")),
        *(f"accel/profiles/{p.name}" for p in (source / "profiles").glob("*.toml")),
        *(f"accel/kernels/{p.name}" for p in (source / "kernels").glob("*.py")),
        *(f"accel/{p.relative_to(source / 'accel')}" for p in (source / "accel").rglob("*.json")),
        "accel/py.typed",
    }
    assert expected <= set(names)
    assert {n.partition("/")[0] for n in names if ".dist-info" not in n} == {"accel"}


def test_a_release_tells_of_one_source_from_the_wheel_and_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    """Their digest is the same: what is packed with either was made by the same accel."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "from accel import provenance; print(provenance.__file__, provenance.source())"
    told = []
    for place in (tmp_path, wheel.parent / "source"):
        environment = {**os.environ, "PYTHONPATH": str(place)}
        found = subprocess.run(
            [sys.executable, "-c", code],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
        )
        file, digest = found.stdout.split()
        assert Path(file).is_relative_to(place)
        told.append(digest)
    assert told[0] == told[1]


def test_the_installed_wheel_lists_targets_outside_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    """Installed into an empty environment (click is lent by path, so that no index is needed)."""
    venv.create(tmp_path / "env", with_pip=False)
    binaries = tmp_path / "env" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (site / "click").symlink_to(Path(sysconfig.get_path("purelib")) / "click")
    command = [str(binaries / "accel"), "list", "targets"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.stdout.split() == sorted(p.stem for p in (ROOT / "profiles").glob("*.toml"))
