"""Every hostile file gets its answer: refused, reported or accepted, soon, in little memory, unexecuted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.case import Answer, Case, complaints
from tests.hostile.corpus import CORPUS, DEFECTS
from tests.hostile.server import ROOT, Server

LEAST = 80  # distinct defects


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A process that has imported accel, and forks."""
    made = Server()
    yield made
    made.close()


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_the_answer_is_what_it_must_be(case: Case, server: Server, tmp_path: Path) -> None:
    """Its exit code and its words; no traceback, nothing that steers a terminal, nothing run."""
    made = case.make(tmp_path)
    answer = Answer(**server.ask(tmp_path, case.words(made), case.terminal))
    assert complaints(case, tmp_path, answer) == []


@pytest.mark.parametrize(
    "name", ["truncated:0.5", "NaN weights", "If of opset 17", "JSON with NaN"]
)
def test_the_server_answers_as_the_command_does(name: str, server: Server, tmp_path: Path) -> None:
    """`python -m accel` in the same folder: the same exit code, and the same words to the letter."""
    case = next(case for case in CORPUS if case.name == name)
    words = case.words(case.make(tmp_path))
    forked = Answer(**server.ask(tmp_path, words))
    command = [sys.executable, "-m", "accel", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    real = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (forked.code, forked.out, forked.err) == (real.returncode, real.stdout, real.stderr)


def test_the_corpus_is_large_and_its_names_differ() -> None:
    """Eighty defects at least, each in the corpus once."""
    assert len(DEFECTS) >= LEAST
    assert [name for name, times in Counter(c.name for c in CORPUS).items() if times > 1] == []
