"""Dockerfile.cuda, read and not built: stages, pins, user, what it copies, and README's commands."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from accel import catalog
from accel import target as targets

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile.cuda").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
SECRET = re.compile(r"token|passw|secret|credential|_key\b|api.?key", re.IGNORECASE)


@dataclass(frozen=True)
class Step:
    """An instruction and what follows it, on one line."""

    word: str
    rest: str


def _steps(text: str) -> list[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [Step(*line.split(maxsplit=1)) for line in whole]


def _stages(steps: list[Step]) -> list[list[Step]]:
    """What stands before the first FROM, then each stage from its FROM on."""
    found: list[list[Step]] = [[]]
    for step in steps:
        if step.word == "FROM":
            found.append([])
        found[-1].append(step)
    return found


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), name
    return dict(pairs)


STEPS = _steps(TEXT)
HEAD, *STAGES = _stages(STEPS)
FINAL = STAGES[-1]
ARGS = {s.rest.partition("=")[0]: s.rest.partition("=")[2] for s in STEPS if s.word == "ARG"}
RUNS = [s.rest for s in STEPS if s.word == "RUN"]
CUDA_PINS, PINS = _pins("constraints-cuda.txt"), _pins("constraints.txt")


def _allowed(package: str) -> SpecifierSet:
    """What pyproject.toml takes of a package, in any extra or without one."""
    listed = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
    found = [r.specifier for r in map(Requirement, listed) if r.name == package]
    assert found, f"{package} is not in pyproject.toml"
    return found[0]


def test_it_has_two_stages_on_bases_that_take_a_digest() -> None:
    """The compiler's image builds, the runtime's runs; each is an argument whole, with a tag."""
    assert len(STAGES) == 2
    bases = [stage[0].rest for stage in STAGES]
    assert bases == ["${BASE_DEV} AS build", "${BASE_RUN}"]
    for name, kind in (("BASE_DEV", "devel"), ("BASE_RUN", "runtime")):
        assert re.fullmatch(rf"nvidia/cuda:\d+\.\d+\.\d+-{kind}-ubuntu24\.04", ARGS[name])
    assert [s.word for s in HEAD] == ["ARG", "ARG"]
    assert "latest" not in TEXT


def test_the_last_stage_keeps_the_builds_results_and_no_build() -> None:
    """It copies from the first stage alone, and installs no Python package."""
    copies = [s.rest for s in FINAL if s.word == "COPY"]
    assert copies
    assert all(rest.startswith("--from=build ") for rest in copies)
    assert not any("pip install" in s.rest for s in FINAL)


def test_it_does_not_run_as_root() -> None:
    """By number, the one that was made; nothing later takes it back."""
    [user] = [s.rest for s in FINAL if s.word == "USER"]
    assert int(user) > 0
    assert any(f"useradd --create-home --uid {user} " in s.rest for s in FINAL)
    after = FINAL[[s.word for s in FINAL].index("USER") + 1 :]
    assert {s.word for s in after} == {"WORKDIR", "ENTRYPOINT", "CMD"}


def test_pins_are_inside_what_the_project_takes() -> None:
    """The CUDA image's own, torch's, and those of the shared file that it does not replace."""
    for package, version in CUDA_PINS.items():
        assert version in _allowed(package), package
    torch = re.findall(r"torch==(\S+)", TEXT)
    assert len(torch) == 1
    assert torch[0] in _allowed("torch")
    assert torch[0] == PINS["torch"]
    assert f"torch=={torch[0]}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    replaced = set(CUDA_PINS) & set(PINS)
    dropped = set(re.findall(r"grep -v '\^(\w+)==' constraints.txt", TEXT))
    assert replaced == dropped  # pip refuses two pins of one package


def test_tensorrt_10_comes_with_a_numpy_that_it_can_read() -> None:
    """10.16 fails on plugin attributes with numpy 2.4; 11 does not."""
    if CUDA_PINS["tensorrt"].startswith("10."):
        assert CUDA_PINS["numpy"] in SpecifierSet("<2.4")


def test_the_profiles_tell_the_software_that_it_installs() -> None:
    """CUDA of its base and TensorRT of its pins, on every server and desktop card."""
    cuda = re.findall(r"cuda:(\d+\.\d+)", ARGS["BASE_RUN"])
    tensorrt = ".".join(CUDA_PINS["tensorrt"].split(".")[:2])
    for name in catalog.names("profiles"):
        found = targets.load(name)
        if found.compute_capability and found.architecture == "x86_64":
            assert [found.software["cuda"]] == cuda, name
            assert found.software["tensorrt"] == tensorrt, name


def test_every_install_is_held_by_the_constraints() -> None:
    """No package comes in a version that nobody chose; the extras exist, and no two runtimes meet."""
    installs = [part for run in RUNS for part in run.split("&&") if "pip install" in part]
    assert len(installs) == 3
    given = [part for part in installs if "${MORE}" in part]  # the user's own wheels, as they are
    assert ["--no-deps" in part for part in given] == [True]
    assert all(" -c /opt/constraints.txt " in part for part in installs if part not in given)
    for package in ("pytest", "pytest-benchmark", "hypothesis"):
        assert package in PINS
    jetson = re.findall(r"--build-arg EXTRAS=(\S+)", TEXT)
    for extras in (ARGS["EXTRAS"], *jetson):
        assert set(extras.split(",")) <= set(EXTRAS)
        assert not {"cpu", "cuda"} <= set(extras.split(","))  # both are imported as onnxruntime
    assert {"cuda", "torch", "tensorrt", "kernels"} <= set(ARGS["EXTRAS"].split(","))
    assert jetson


def test_a_package_for_a_gpu_can_be_compiled_in_it() -> None:
    """The last stage has CUDA's headers at its base's version; a base that brings its own gets none."""
    [installed] = [s.rest for s in FINAL if s.word == "RUN"]
    assert " g++ make ${HEADERS} " in installed
    version = "-".join(re.findall(r"cuda:(\d+)\.(\d+)", ARGS["BASE_RUN"])[0])
    parts = ("cudart-dev", "crt", "cccl", "driver-dev")  # what engines/_torch_program.py asks for
    assert ARGS["HEADERS"].strip('"').split() == [f"cuda-{part}-{version}" for part in parts]
    [jetson] = [line for line in _commands(TEXT) if "BASE_RUN=IMAGE" in line]
    assert " --build-arg HEADERS= " in jetson


def test_what_it_copies_is_in_the_repository_and_reaches_the_builder() -> None:
    """Each source is there and let through by .dockerignore, which lets nothing else through."""
    copies = [s.rest.split()[:-1] for s in STAGES[0] if s.word == "COPY"]
    sources = {Path(name).name for names in copies for name in names}
    assert [name for name in sorted(sources) if not (ROOT / name).exists()] == []
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == sources
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "Makefile"}
    assert needed <= sources
    assert {
        link.readlink().name for link in (ROOT / "accel").iterdir() if link.is_symlink()
    } <= sources


def test_it_leaves_no_lists_and_holds_no_secret() -> None:
    """Package lists go in the layer that fetched them; nothing is added from an address."""
    for run in RUNS:
        if "apt-get update" in run:
            assert "rm -rf /var/lib/apt/lists/*" in run
            assert "--no-install-recommends" in run
    assert "ADD" not in {s.word for s in STEPS}
    assert not any(SECRET.search(s.rest) for s in STEPS if s.word in ("ARG", "ENV"))
    assert not re.search(r"\b(curl|wget)\b", " ".join(RUNS))


def _commands(text: str) -> list[str]:
    """docker's, each on one line, without the comment signs of the file that shows them."""
    plain = re.sub(r"^#\s*", "", text, flags=re.MULTILINE)
    return re.findall(r"^docker .+$", re.sub(r"\\\n\s*", " ", plain), re.MULTILINE)


@pytest.mark.parametrize("command", [*_commands(README), *_commands(TEXT)])
def test_every_command_that_is_shown_can_be_typed(command: str) -> None:
    """Build arguments that the file has, the file itself, GPUs asked for, verbs and targets that exist."""
    from accel.cli import cli

    words = shlex.split(command)
    if words[1] == "build":
        assert words[words.index("-f") + 1] == "Dockerfile.cuda"
        given = [words[i + 1].partition("=")[0] for i, w in enumerate(words) if w == "--build-arg"]
        assert set(given) <= set(ARGS)
        return
    assert words[1] == "run"
    assert "--gpus all" in command or "--runtime nvidia" in command
    verb, *rest = words[words.index("accel") + 1 :]
    if "make" in words:
        assert (verb, rest[0], rest[-1]) == ("-C", "/opt/accel", "BIN=/opt/venv/bin")
        assert f"\n{rest[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        return
    known = {option for parameter in cli.commands[verb].params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known
    for word, value in itertools.pairwise(rest):
        if word == "--target":
            catalog.require("profiles", value)


def test_three_commands_lead_to_a_release() -> None:
    """Build, prove, optimize: what README's section promises."""
    section = README.partition("in three commands")[2].partition("\n## ")[0]
    built, proved, made = _commands(section)
    assert built.startswith("docker build ")
    assert " gpu-test " in proved
    assert " accel optimize " in made


def test_hadolint_has_nothing_to_say() -> None:
    """The linter of the `dev` extra; without it, the tests above are what reads the file."""
    tool = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which(
        "hadolint"
    )
    if tool is None:
        pytest.skip("hadolint is not installed; instead: the other tests of this file parse it")
    found = subprocess.run([tool, "Dockerfile.cuda"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
