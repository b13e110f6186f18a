"""The evidence: what was measured stays, in its order, and whoever alters it is found out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accel.errors import UsageError
from accel.evidence import Epoch
from accel.gating import chain

HEADER = {"candidate": "aa", "baseline": "bb", "rounds": 8}


def epoch(number: int, log: float = 0.01) -> Epoch:
    return Epoch(
        number, {"candidate": {"p50": log}}, {"candidate": {"p50": 1e-3}}, order=("a", "b")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five epochs."""
    chain.create(tmp_path, HEADER)
    for i in range(5):
        chain.append(tmp_path, epoch(i, i / 100))
    return tmp_path


def lines(folder: Path) -> list[str]:
    return (folder / chain.FILE).read_text().splitlines(keepends=True)


def put(folder: Path, rows: list[str]) -> None:
    (folder / chain.FILE).write_text("".join(rows))


def test_epochs_come_back_as_they_went_in(folder: Path) -> None:
    """Header, every epoch in order, and the hash that the last append gave."""
    header, epochs, head = chain.read(folder)
    assert header == HEADER
    assert epochs == tuple(epoch(i, i / 100) for i in range(5))
    assert chain.append(folder, epoch(5)) != head
    assert len(chain.read(folder)[1]) == 6


def test_the_same_header_goes_on(folder: Path) -> None:
    """Creating a chain where the same comparison lies keeps its epochs."""
    chain.create(folder, dict(reversed(HEADER.items())))
    assert len(chain.read(folder)[1]) == 5


def test_another_header_is_refused_and_named(folder: Path) -> None:
    """Epochs of two comparisons never come together."""
    with pytest.raises(UsageError, match=r"another comparison \(rounds differ\)"):
        chain.create(folder, {**HEADER, "rounds": 9})


def test_epochs_of_the_same_pair_elsewhere_are_told(tmp_path: Path) -> None:
    """With what differs; not those of another pair, of no epoch, or in a file that is broken."""
    mine = {**HEADER, "libraries": {"numpy": "2.1", "onnx": "1"}, "requests": ["x"]}
    others = {
        "older": {**mine, "libraries": {"numpy": "2.0", "onnx": "1"}},
        "drawn": {**mine, "requests": ["y"]},
        "again": {**mine, "requests": ["z"]},
        "foreign": {**mine, "baseline": "cc"},
        "mine": mine,
    }
    for name, header in others.items():
        chain.create(tmp_path / name, header)
        chain.append(tmp_path / name, epoch(0))
    chain.create(tmp_path / "empty", {**mine, "rounds": 9})
    for name, content in (("none", b""), ("list", b"[]\n"), ("odd", b'{"header": 3}\n\xff')):
        (tmp_path / name).mkdir()
        (tmp_path / name / chain.FILE).write_bytes(content)
    (tmp_path / "folder" / chain.FILE).mkdir(parents=True)
    requests, library = chain.beside(tmp_path / "mine", mine)
    assert requests.startswith(f"2 epochs of this pair lie in {tmp_path}: again, drawn.")
    assert requests.endswith("since requests differ; requests() that draws should be seeded")
    assert library.endswith("since libraries.numpy differ")
    assert chain.beside(tmp_path / "nowhere" / "mine", mine) == ()


def drop(rows: list[str]) -> list[str]:
    return rows[:3] + rows[4:]


def swap(rows: list[str]) -> list[str]:
    return [*rows[:2], rows[3], rows[2], *rows[4:]]


def edit(rows: list[str]) -> list[str]:
    return [*rows[:3], rows[3].replace("0.02", "0.01"), *rows[4:]]


def header(rows: list[str]) -> list[str]:
    return [rows[0].replace("aa", "cc"), *rows[1:]]


def last(rows: list[str]) -> list[str]:
    return [*rows[:-1], rows[-1].replace("0.04", "0.01")]


def cut(rows: list[str]) -> list[str]:
    return rows[:-1]


def twice(rows: list[str]) -> list[str]:
    return [*rows, rows[-1]]


def nonsense(rows: list[str]) -> list[str]:
    return [*rows[:2], "nonsense\n", *rows[2:]]


def empty(rows: list[str]) -> list[str]:
    return []


@pytest.mark.parametrize(
    "alter", [drop, swap, edit, header, last, cut, twice, nonsense, empty], ids=lambda f: f.__name__
)
def test_an_altered_chain_is_refused(folder: Path, alter) -> None:
    """A dropped, moved, edited, repeated or foreign line, or a cut end: no verdict stands on it."""
    put(folder, alter(lines(folder)))
    with pytest.raises(UsageError, match=r"altered.*--work"):
        chain.read(folder)


def test_an_earlier_verdict_is_a_witness_against_a_cut_end(folder: Path) -> None:
    """With head and last line gone the chain is whole; the verdict that was given says it is not."""
    _, epochs, head = chain.read(folder)
    chain.read(folder, [(len(epochs), head)])
    put(folder, lines(folder)[:-1])
    (folder / chain.HEAD).unlink()
    assert len(chain.read(folder)[1]) == 4
    with pytest.raises(UsageError, match="ended with 5 epochs"):
        chain.read(folder, [(len(epochs), head)])


@pytest.mark.parametrize("count", [-9, -1, 99])
def test_a_witness_of_no_possible_length_is_refused(folder: Path, count: int) -> None:
    """Whatever a file says, it ends in one message."""
    with pytest.raises(UsageError, match="altered"):
        chain.read(folder, [(count, "x")])


def test_a_half_written_line_is_no_epoch(folder: Path) -> None:
    """What a kill left without an end is written over by the next epoch."""
    with (folder / chain.FILE).open("a") as stream:
        stream.write('{"epoch": {"num')
    assert len(chain.read(folder)[1]) == 5
    chain.append(folder, epoch(5))
    assert [e.number for e in chain.read(folder)[1]] == list(range(6))


def test_killed_between_line_and_head_the_epoch_counts(folder: Path) -> None:
    """The head may lag one epoch behind: it is a witness of what was, no more."""
    before = (folder / chain.HEAD).read_text()
    chain.append(folder, epoch(5))
    (folder / chain.HEAD).write_text(before)
    assert len(chain.read(folder)[1]) == 6


def test_a_second_gate_on_the_same_evidence_is_refused(tmp_path: Path) -> None:
    """Two at once would disturb each other and mix their epochs; a killed holder holds nothing."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom accel.gating import chain\n"
        "with chain.alone(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="Another gate"), chain.alone(tmp_path):
            pass
        os.kill(other.pid, signal.SIGKILL)
    with chain.alone(tmp_path):
        pass


def test_a_kill_at_any_moment_leaves_whole_epochs(tmp_path: Path) -> None:
    """What the killed process was told is on disk is there, and the chain goes on from it."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom accel.evidence import Epoch\n"
        "from accel.gating import chain\nfolder = Path(sys.argv[1])\nchain.create(folder, {'a': 1})\n"
        "for i in range(10**6):\n"
        "    chain.append(folder, Epoch(i, {'candidate': {'p50': 0.01}}))\n    print(i, flush=True)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        told = [int(other.stdout.readline()) for _ in range(20)][-1]
        time.sleep(0.01)
        os.kill(other.pid, signal.SIGKILL)
    _, epochs, _ = chain.read(tmp_path)
    assert len(epochs) > told
    assert [e.number for e in epochs] == list(range(len(epochs)))
    chain.append(tmp_path, epoch(len(epochs)))
    assert json.loads(lines(tmp_path)[-1])["epoch"]["number"] == len(epochs)


def test_a_crash_that_was_half_written_hides_no_other(folder: Path) -> None:
    """A disk that filled up in the middle of one leaves a line that cannot be read."""
    (folder / chain.CRASHES).write_text('{"epoch": 1, "rea')
    chain.note_crash(folder, 4, "gone")
    assert chain.crashes(folder) == ("an earlier run crashed in epoch 5: gone",)
