"""requirements/*.txt: whole, hashed, inside pyproject.toml's ranges, and the constraints' own pins."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
PINNED = re.compile(r"([a-z0-9-]+)==(\S+)( ; .+?)?((?: --hash=sha256:[0-9a-f]{64})+)")


def _script() -> ModuleType:
    """requirements/lock.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "requirements" / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK = _script()
USES: list[str] = sorted(LOCK.USES)


def _pins(use: str) -> dict[str, str]:
    """Package -> version. Each line but comments is one with hashes, and perhaps a marker."""
    text = (ROOT / "requirements" / f"{use}.txt").read_text(encoding="utf-8")
    lines = re.sub(r" \\\n\s+", " ", text).splitlines()
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        whole = PINNED.fullmatch(line)
        assert whole, f"{use}: {line[:80]}"
        assert whole[1] not in found, f"{use} pins {whole[1]} twice"
        found[whole[1]] = whole[2]
    return found


LOCKS = {use: _pins(use) for use in USES}


def _wanted(use: str) -> list[Requirement]:
    """What pyproject.toml asks for in that use, and for building accel."""
    listed = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    listed += [line for extra in LOCK.USES[use] for line in EXTRAS[extra]]
    return [Requirement(line) for line in listed]


def test_there_is_a_lock_for_each_use_and_no_other() -> None:
    """The script's uses are the files; each is of extras that exist."""
    assert sorted(p.stem for p in (ROOT / "requirements").glob("*.txt")) == USES
    assert {extra for extras in LOCK.USES.values() for extra in extras} <= set(EXTRAS)


@pytest.mark.parametrize("use", USES)
def test_it_agrees_with_the_ranges(use: str) -> None:
    """Everything that is asked for is there, inside its range; torch is not, nor its CUDA."""
    for wanted in _wanted(use):
        if wanted.name == LOCK.APART:
            continue
        pinned = LOCKS[use].get(canonicalize_name(wanted.name), "")
        assert pinned, f"{use}.txt has no {wanted.name}: run make lock"
        assert pinned in wanted.specifier, f"{use}.txt has {pinned}, not {wanted}: run make lock"
    brought = {r.name for r in _wanted(use)}
    nvidia = {name for name in LOCKS[use] if name.startswith("nvidia-")} - brought
    assert nvidia <= {"nvidia-cuda-crt", "nvidia-cuda-runtime"}  # of nvcc: headers, half a megabyte
    assert not {LOCK.APART, "triton", "cuda-toolkit"} & set(LOCKS[use])


@pytest.mark.parametrize("use", USES)
def test_it_agrees_with_the_constraints(use: str) -> None:
    """What they pin has that version in every lock, and what they do not has one in all."""
    own = LOCK.pins("constraints.txt", *(["constraints-cuda.txt"] if use == "cuda" else []))
    held = LOCK.pins("requirements/dev.txt") | own
    stale = {n: v for n, v in LOCKS[use].items() if held.get(n, v) != v}
    assert stale == {}, "run make lock"


@pytest.mark.parametrize("use", USES)
def test_it_is_closed(use: str) -> None:
    """What a locked package needs, as the installed one of that version tells, is locked too."""
    installed = {canonicalize_name(d.metadata["Name"]): d for d in metadata.distributions()}
    same = {n for n, v in LOCKS[use].items() if n in installed and installed[n].version == v}
    assert len(same) > len(LOCKS[use]) / 3  # many are installed where the tests run
    for name in same:
        for need in map(Requirement, installed[name].requires or ()):
            other = canonicalize_name(need.name)
            if other == LOCK.APART or (need.marker and not need.marker.evaluate({"extra": ""})):
                continue
            assert other in LOCKS[use], f"{name} needs {need}"
            assert LOCKS[use][other] in need.specifier, f"{name} needs {need}"


def test_torch_brings_nothing_but_itself() -> None:
    """What its plain build needs is in each lock that it is installed after."""
    assert metadata.version("torch").partition("+")[0] == LOCK.pins("constraints.txt")["torch"]
    needs = [Requirement(need) for need in LOCK.plain_needs()]
    assert needs
    for use, extras in LOCK.USES.items():
        for need in needs if "torch" in extras else ():
            assert LOCKS[use][canonicalize_name(need.name)] in need.specifier, need


def test_no_address_is_in_them() -> None:
    """Where a lock was made says nothing of where it is installed from."""
    for use in USES:
        text = (ROOT / "requirements" / f"{use}.txt").read_text(encoding="utf-8")
        assert not re.search(r"://|--index|--find-links|--trusted|file:", text)


def test_the_makefile_installs_from_them() -> None:
    """By hash, without a resolver; torch after them, at the constraints' pin."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes --no-deps --only-binary :all:" in text
    assert re.findall(r"\$\(LOCKED\) requirements/(\w+)\.txt", text) == ["cpu", "dev"]
    assert "pip install -q -c constraints.txt torch==" in text


def test_merely_installing_is_a_target_and_cleaning_leaves_releases() -> None:
    """`make install` is what the demo needs and no more; a release may be a blessed baseline."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\ninstall: .venv/.demo\n\n" in text
    [removed] = re.findall(r"^clean:\n\trm -rf (.+)$", text, re.MULTILINE)
    assert "release" not in removed.split()


def test_another_file_under_a_locked_name_is_refused(tmp_path: Path) -> None:
    """pip, given the real lock and a wheel of that name and version that is another, says so."""
    name, pin = "mdurl", LOCKS["run"]["mdurl"]
    with zipfile.ZipFile(tmp_path / f"{name}-{pin}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{pin}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {pin}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    text = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
    [line] = re.findall(rf"^{name}==(?:.+\\\n)*.+$", text, re.MULTILINE)
    (tmp_path / "lock.txt").write_text(line)
    words = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--dry-run"]
    words += ["--ignore-installed", "--find-links", str(tmp_path), "--require-hashes"]
    found = subprocess.run(
        [*words, "-r", str(tmp_path / "lock.txt")], capture_output=True, text=True
    )
    assert found.returncode == 1
    assert "DO NOT MATCH THE HASHES" in found.stderr
