"""Make the locks beside this file: what each use of accel installs, every file with its sha256.

    make lock                  take up what changed in pyproject.toml and the constraints
    make lock MORE=--upgrade   and the newest versions that both allow

torch is left out, whatever asks for it: which build of it is right depends on the machine, and
PyPI's brings gigabytes of CUDA. Its plain needs are in. The constraints pin it, the Makefile
installs it after the lock.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
APART = "torch"
CUDA = re.compile(r"(nvidia|cuda|triton)\b")  # what its build for CUDA needs beyond the plain one
USES: Mapping[str, tuple[str, ...]] = {  # extras; the first one's pins hold in all of them
    "dev": ("cpu", "torch", "openvino", "kernels", "examples", "sign", "sbom", "dev"),
    "cpu": ("cpu", "torch", "openvino", "examples"),
    "cuda": ("cuda", "torch", "kernels", "examples"),  # TensorRT: its index is NVIDIA's own
    "kernels": ("kernels",),
    "run": ("cpu",),
    "sign": ("sign", "sbom"),
}
# Pythons and systems that are tested; files for others are locked as well, where a project has some
PLACES = "sys_platform == 'linux' and python_version < '3.13'"
SAID = " ; python_full_version < '3.13' and sys_platform == 'linux'"
TOLD = """
[tool.uv]
environments = ["{places}"]
[[tool.uv.dependency-metadata]]
name = "{apart}"
version = "{version}"
requires-dist = {needs}
"""  # in pyproject.toml itself it would tell every user's uv the same
HEADER = """\
# Made by `make lock`: do not edit. For the extras {extras}.
# pip install --require-hashes --no-deps -r {name}
# {apart} is installed apart, as the constraints pin it.
"""


def pins(*names: str) -> dict[str, str]:
    """Package -> version of files of pins or locks; a later file's pin holds."""
    text = "\n".join((ROOT / name).read_text() for name in names)
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))


def plain_needs() -> list[str]:
    """What torch needs on every machine, as the installed one tells."""
    needs = [need for need in metadata.requires(APART) or [] if "extra ==" not in need]
    return [need for need in needs if not CUDA.match(need)]


def lock(use: str, extras: Iterable[str], held: Mapping[str, str], more: list[str]) -> None:
    """Resolve one use, its pins held to `held`, and write requirements/<use>.txt."""
    out, project = FOLDER / f"{use}.txt", (ROOT / "pyproject.toml").read_text()
    told = TOLD.format(places=PLACES, apart=APART, version=held[APART], needs=plain_needs())
    build = tomllib.loads(project)["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(project + told)
        (folder / "build.in").write_text("\n".join(build))
        (folder / "held.txt").write_text("\n".join(f"{k}=={v}" for k, v in held.items()))
        words = ["uv", "pip", "compile", "pyproject.toml", "build.in", "-c", "held.txt", "-q"]
        words += [word for extra in extras for word in ("--extra", extra)]
        words += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
        words += ["--no-emit-package", APART, "--no-annotate", "-o", str(out), *more]
        subprocess.run(words, cwd=folder, check=True)
    body = out.read_text().replace(SAID, "").partition("\n# The following")[0]
    head = HEADER.format(extras=", ".join(extras), name=out.relative_to(ROOT), apart=APART)
    out.write_text(head + body.rstrip() + "\n")


def main(more: list[str]) -> None:
    """All of them, so that no two hold one package at two versions without a reason."""
    first = next(iter(USES))
    for use, extras in USES.items():
        common = [] if use == first else [f"requirements/{first}.txt"]
        own = ["constraints-cuda.txt"] if "cuda" in extras else []
        lock(use, extras, pins("constraints.txt", *common, *own), more)


if __name__ == "__main__":
    main(sys.argv[1:])
