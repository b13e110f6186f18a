"""README.md is true: its blocks run, one after another, in one folder, just as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from accel import errors, values

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"sh", "python", "yaml"}
# minutes of installing: their Makefile targets are looked up instead
INSTALL = {"make demo", "make test"}
# a minute or more each: the same line with one engine and one recipe follows the first
LONG = "accel optimize examples/digits.py --max-drop 2pt --out release-digits"
PACK = "accel pack my.onnx --workload my_workload.py --max-drop 2pt --out release-packed"
# gigabytes, and a GPU: tests/test_dockerfile.py holds them against the file, the Makefile and the CLI
DOCKER = {line for line in TEXT.splitlines() if line.startswith("docker ")}
NOT_RUN = INSTALL | DOCKER | {LONG, PACK}


@dataclass(frozen=True)
class Block:
    """A fenced block and where it begins."""

    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines without comments."""
        found = (re.sub(r"(^|\s)#.*", "", line).strip() for line in self.text.splitlines())
        return [line for line in found if line]

    def words(self, folder: Path) -> list[str]:
        """What runs it; a Python block that begins with `# name.py` is that file."""
        if self.language == "sh":
            return ["sh", "-eux", "-c", self.text]
        named = re.match(r"# ([\w-]+\.py)\n", self.text)
        path = folder / (named[1] if named else f"readme_line_{self.line}.py")
        path.write_text(self.text, encoding="utf-8")
        return [sys.executable, path.name]


BLOCKS = [Block(TEXT.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in FENCE.finditer(TEXT)]


@pytest.mark.alone
@pytest.mark.slow
def test_every_block_runs(digits_run: SimpleNamespace) -> None:
    """In order, with examples/ beside them; the later ones use what the earlier ones wrote."""
    folder = digits_run.folder
    for needed in ("torch", "sklearn"):
        pytest.importorskip(needed, reason=f"{needed} is absent; instead: the tests of words below")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    for block in BLOCKS:
        if set(block.commands) <= NOT_RUN or block.language == "yaml":
            continue
        found = subprocess.run(
            block.words(folder), cwd=folder, env=environment, capture_output=True, text=True
        )
        assert found.returncode == 0, f"README.md:{block.line}\n{found.stdout}\n{found.stderr}"


def test_every_block_is_of_a_language_that_is_run() -> None:
    """None is passed over for its fence, and most are run."""
    assert {b.language for b in BLOCKS} == LANGUAGES
    assert TEXT.count("```") == 2 * len(BLOCKS)
    commands = [c for b in BLOCKS for c in b.commands]
    assert [commands.count(c) for c in sorted(NOT_RUN)] == [1] * len(NOT_RUN)
    [block] = [b for b in BLOCKS if b.commands == [LONG]]
    for word in block.commands[0].split():
        assert word in BLOCKS[BLOCKS.index(block) + 1].commands[0].split()


def test_every_ci_file_is_a_whole_document_that_uses_what_is_here() -> None:
    """A workflow's own action, with inputs that it has; a job that extends the file of this folder."""
    github, gitlab = (yaml.safe_load(b.text) for b in BLOCKS if b.language == "yaml")
    [step] = [s for s in github["jobs"]["gate"]["steps"] if s.get("uses", "").startswith("./")]
    action = yaml.safe_load((ROOT / step["uses"] / "action.yml").read_text(encoding="utf-8"))
    assert set(step["with"]) <= set(action["inputs"])
    job = yaml.safe_load((ROOT / gitlab["include"]["local"]).read_text(encoding="utf-8"))
    assert gitlab["gate-digits"]["extends"] in job


def test_every_make_target_that_is_named_exists() -> None:
    """`make demo`, `make test` and the like."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXT, re.MULTILINE))
    assert {"demo", "test", "install"} <= named <= targets


def test_every_path_that_is_named_exists() -> None:
    """Files of the repository in backticks."""
    named = re.findall(r"`((?:examples|benchmarks|\.github)/[\w./]+)`", TEXT)
    assert named
    assert [n for n in named if not (ROOT / n).exists()] == []


def test_the_table_of_exit_codes_is_whole() -> None:
    """Every code that an error carries."""
    table = TEXT.partition("| code | means |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    listed = {int(code) for row in rows for code in row.split(",")}
    known = {e.exit_code for e in vars(errors).values() if isinstance(e, type)}
    assert listed == {0, 130, 141, 143, *known}


def test_every_status_and_grade_is_explained() -> None:
    """As the values spell them."""
    hints = typing.get_type_hints(values.Candidate), typing.get_type_hints(values.Certificate)
    told = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert told == set(typing.get_args(hints[0]["status"]))
    assert set(re.findall(r"^- \*\*(\w+)\*\*", TEXT, re.M)) == set(
        typing.get_args(hints[1]["grade"])
    )


def test_the_options_of_every_long_command_exist() -> None:
    """What is not run is at least a command with those options."""
    from accel.cli import cli

    for command in (LONG, PACK):
        verb, *words = command.split()[1:]
        known = {o for p in cli.commands[verb].params for o in p.opts}
        assert {w for w in words if w.startswith("--")} <= known
