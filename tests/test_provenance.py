"""What a release says that it was made with: accel's source, Python, every installed library."""

from __future__ import annotations

import base64
import hashlib
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from accel import provenance, release
from accel.values import Release
from accel.version import VERSION


def _wheel(folder: Path, body: str) -> Path:
    """A distribution `made-up` of one module and one command."""
    folder.mkdir()
    path = folder / "made_up-1.0-py3-none-any.whl"
    info = "made_up-1.0.dist-info"
    files = {
        "made_up.py": body,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: Made_Up\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nmade-up = made_up:main\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},\n" for name, text in files.items())
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            wheel.writestr(name, text)
    return path


def _digest(text: str) -> str:
    """As a wheel's RECORD has it."""
    found = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()


def _installed(wheel: Path, place: Path, *more: str) -> metadata.Distribution:
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", *more]
    subprocess.run([*words, "--target", str(place), str(wheel)], check=True)
    [found] = metadata.distributions(path=[str(place)])
    return found


def test_a_release_tells_what_made_it(packed: Callable[..., Release]) -> None:
    """accel's version and source, Python's version, and a digest of every library that has files."""
    made = release.document(packed().path)["provenance"]
    assert made["accel"] == {"version": VERSION, "source": provenance.source()}
    assert made["python"]["version"] == platform.python_version()
    for name in ("numpy", "onnx", "onnxruntime", "click"):
        assert made["distributions"][name]["version"] == metadata.version(name)
        assert len(made["distributions"][name]["digest"]) == 64
    assert provenance.OWN not in made["distributions"]  # its source is digested itself


def test_names_are_told_as_indexes_spell_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In small letters with hyphens; of two of one name the one that is imported."""
    first, second = tmp_path / "first", tmp_path / "second"
    wheel = _wheel(tmp_path / "wheel", "x = 1\n")
    for place in (first, second):
        _installed(wheel, place)
    meta = next(second.glob("*.dist-info")) / "METADATA"
    meta.write_text(meta.read_text().replace("1.0", "0.9"))
    monkeypatch.setattr(sys, "path", [str(first), str(second)])
    found = provenance.distributions.__wrapped__()
    assert {name: one["version"] for name, one in found.items()} == {"made-up": "1.0"}


def test_one_wheel_has_one_digest_wherever_it_is_installed(tmp_path: Path) -> None:
    """Compiled files, scripts and the installer's notes do not count; the files of the wheel do."""
    wheel = _wheel(tmp_path / "one", "def main(): ...\n")
    here = _installed(wheel, tmp_path / "here")
    there = _installed(wheel, tmp_path / "there", "--no-compile")
    assert here.read_text("RECORD") != there.read_text("RECORD")
    assert provenance.installed(here) == provenance.installed(there) != ""
    other = _installed(_wheel(tmp_path / "two", "def main(): pass\n"), tmp_path / "elsewhere")
    assert provenance.installed(other) != provenance.installed(here)


def test_no_record_is_no_digest(tmp_path: Path) -> None:
    """What was put there by hand, or by Debian, has none, and it is not made up."""
    found = _installed(_wheel(tmp_path / "one", ""), tmp_path / "here")
    (next((tmp_path / "here").glob("*.dist-info")) / "RECORD").unlink()
    assert provenance.installed(found) == ""


def test_the_source_digest_sees_kernels_and_profiles(copy: Any) -> None:
    """A changed byte in code, in a kernel or in a profile is another accel; a cache file is not."""
    code = "from accel import provenance; print(provenance.source())"
    before = copy.run("-c", code)
    (copy.folder / "accel" / "notes.txt").write_text("not source")
    assert copy.run("-c", code) == before
    seen = {before}
    for name in ("version.py", "kernels/nms.py", "profiles/h200.toml"):
        with (copy.folder / "accel" / name).open("a") as stream:
            stream.write("# a comment\n")
        seen.add(copy.run("-c", code))
    assert len(seen) == 4
