"""accel.history.jsonl: a line a gate and statistic, whole or not at all, never across machines."""

from __future__ import annotations

import dataclasses
import fcntl
import math
import multiprocessing
import resource
import threading
from pathlib import Path

import pytest

from accel.errors import EnvironmentProblem, UsageError
from accel.evidence import (
    BASELINE,
    CANDIDATE,
    REFERENCE,
    SHADOW,
    Budget,
    Cell,
    Epoch,
    Fitness,
    Judgement,
    Report,
    Rules,
    Subject,
)
from accel.gating import history
from accel.gating.history import Entry

ONE = Entry(
    "2026-11-26T08:00:00+00:00", "class-a", "minilm", "p50", 0.01, 0.01, 9, "pass", "c", "b", "b", "e",
)  # fmt: skip


def subject(name: str) -> Subject:
    return Subject(name, Path(name), f"digest-{name}")


def report(*epochs: Epoch, reference: bool = False, outcome: str = "pass") -> Report:
    cell = Cell(Budget("p50", 0.03), "pass")
    judgement = Judgement("pass", (cell,), Fitness(True), True)
    return Report(
        "minilm", outcome, "PASS", judgement, subject(CANDIDATE), subject(BASELINE), Rules(),  # type: ignore[arg-type]
        reference=subject(REFERENCE) if reference else None, epochs=epochs, machine_class="class-a",
        commit="abc", when="2026-11-26T08:00:00+00:00",
    )  # fmt: skip


def epoch(number: int, candidate: float, reference: float | None = None) -> Epoch:
    logs = {CANDIDATE: {"p50": candidate, "p50/short": 2 * candidate}, SHADOW: {"p50": 0.0}}
    if reference is not None:
        logs[REFERENCE] = {"p50": reference}
    return Epoch(number, logs)


def test_a_gate_gives_a_line_for_each_timed_statistic() -> None:
    """The median over epochs, its budget, who was compared; without a last release, the baseline
    is what is fixed."""
    found = history.entries(report(epoch(0, 0.01), epoch(1, 0.02), epoch(2, 0.09)))
    assert [(e.metric, e.log_fixed, e.log_baseline, e.limit) for e in found] == [
        ("p50", 0.02, 0.02, 0.03),
        ("p50/short", 0.04, 0.04, None),
    ]
    assert {(e.candidate, e.baseline, e.fixed, e.epochs) for e in found} == {
        ("digest-candidate", "digest-baseline", "digest-baseline", 3)
    }


def test_against_the_last_release_it_is_paired_within_each_epoch() -> None:
    """ln(candidate / last release) is the difference of the two; what only one arm has is left out."""
    epochs = (epoch(0, 0.05, 0.02), epoch(1, 0.01, -0.02), epoch(2, 0.02, 0.5))
    (found,) = history.entries(report(*epochs, reference=True))
    assert (found.metric, found.log_fixed, found.log_baseline) == ("p50", 0.03, 0.02)
    assert found.fixed == "digest-reference"


def test_what_was_not_timed_gives_no_line() -> None:
    """No epochs; a statistic that one epoch lacks, that is no number, or that is not timed."""
    assert history.entries(report()) == ()
    whole, without = epoch(0, 0.01), Epoch(1, {CANDIDATE: {"p50": 0.01}})
    assert [e.metric for e in history.entries(report(whole, without))] == ["p50"]
    other = Epoch(1, {CANDIDATE: {"p50": math.nan, "p50/short": 0.1, "energy": 0.1}})
    assert [e.metric for e in history.entries(report(other))] == ["p50/short"]


def test_lines_are_read_back_as_they_were_appended(tmp_path: Path) -> None:
    """In order; a file that is not there yet is made."""
    path = tmp_path / "deep" / history.FILE
    two = dataclasses.replace(ONE, name="résumé\n", commit="x", limit=0.03)
    history.append(path, (ONE,))
    history.append(path, ())
    history.append(path, (two, ONE))
    assert history.read(path) == (ONE, two, ONE)
    assert len(path.read_text().splitlines()) == 3


def test_a_line_that_a_killed_run_left_half_written_is_none(tmp_path: Path) -> None:
    """Wherever it was cut: the reader leaves it out, the next append takes its place."""
    path = tmp_path / history.FILE
    history.append(path, (ONE,))
    line = path.read_bytes()
    for cut in range(1, len(line)):
        path.write_bytes(line + line[:cut])
        whole = cut == len(line) - 1  # only its end is missing, as an editor leaves it
        assert history.read(path) == ((ONE, ONE) if whole else (ONE,))
        history.append(path, (ONE,))
        assert path.read_bytes() == line * (3 if whole else 2)


def test_a_file_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    """Whatever it ends with: it is told before a gate measures, and again before a line is added."""
    path = tmp_path / "accel.baselines.json"
    path.write_text("\n{\n}\n")
    with pytest.raises(UsageError, match="line 2: it is not JSON"):
        history.claim(path)
    with pytest.raises(UsageError, match="line 2: it is not JSON"):
        history.append(path, (ONE,))
    assert path.read_text() == "\n{\n}\n"


@pytest.mark.parametrize("text", ["1.2.3", "[1, 2]", '"a text"'])
def test_a_file_of_one_line_without_an_end_is_no_cut_entry(tmp_path: Path, text: str) -> None:
    """An entry that was cut begins as one does; anything else is somebody's."""
    path = tmp_path / "VERSION"
    path.write_text(text)
    with pytest.raises(UsageError, match="line 1"):
        history.claim(path)
    assert path.read_text() == text


def test_a_first_line_that_was_cut_is_replaced(tmp_path: Path) -> None:
    """The file then holds the new lines alone."""
    path = tmp_path / history.FILE
    path.write_text('{"when": "2026')
    assert history.read(path) == ()
    history.append(path, (ONE,))
    assert history.read(path) == (ONE,)


def _append(path: Path, number: int) -> None:
    for i in range(20):
        history.append(path, (dataclasses.replace(ONE, evidence=f"{number}-{i}"),) * 2)


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    """Four of them, twenty times each: every line is there and whole."""
    path = tmp_path / history.FILE
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_append, args=(path, i)) for i in range(4)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    found = history.read(path)
    assert len(found) == 160
    assert {e.evidence for e in found} == {f"{n}-{i}" for n in range(4) for i in range(20)}


def test_an_append_waits_for_who_holds_the_file(tmp_path: Path) -> None:
    """What another left half written is its own affair until it lets go."""
    path = tmp_path / history.FILE
    history.append(path, (ONE,))
    half = path.read_bytes()[:20]
    with path.open("a+b", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(half)
        waiting = threading.Thread(target=history.append, args=(path, (ONE,)))
        waiting.start()
        waiting.join(timeout=0.3)
        assert waiting.is_alive()
        other.write(path.read_bytes()[20 : -len(half)])
    waiting.join()
    assert history.read(path) == (ONE, ONE, ONE)


def _append_in_little_room(path: Path, room: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, resource.RLIM_INFINITY))
    with pytest.raises(EnvironmentProblem, match=r"The disk of .* is full"):
        history.append(path, (ONE,) * 3)


def test_a_full_disk_keeps_the_lines_of_others_and_no_half_of_ours(tmp_path: Path) -> None:
    """A limit on the file's size stands in for the disk; the write stops within a line."""
    path = tmp_path / history.FILE
    history.append(path, (ONE,))
    before = path.read_bytes()
    child = multiprocessing.get_context("spawn").Process(
        target=_append_in_little_room, args=(path, len(before) + 7)
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    assert path.read_bytes() == before


def test_a_place_that_takes_nothing_is_named() -> None:
    """Code 7, with the place."""
    with pytest.raises(EnvironmentProblem, match="/sys"):
        history.append(Path("/sys/kernel") / history.FILE, (ONE,))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 2: it is not JSON"),
        ("<<<<<<< HEAD", "Resolve the merge"),
        ("3", "not an object"),
        ("{}", "cannot be read"),
        ('{"whn": 1}', "unknown fields whn"),
    ],
)
def test_what_is_no_line_is_named_with_its_number(tmp_path: Path, line: str, named: str) -> None:
    """In the middle of the file nothing is skipped over."""
    path = tmp_path / history.FILE
    history.append(path, (ONE,))
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    with pytest.raises(UsageError) as error:
        history.read(path)
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [("log_fixed", math.nan, "within 50 of 0"), ("log_baseline", 800.0, "within 50 of 0"), ("name", 3, "a text was expected")],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused(
    tmp_path: Path, field: str, value: object, named: str
) -> None:
    """No logarithm that is none, and no number for a name."""
    path = tmp_path / history.FILE
    history.append(path, (dataclasses.replace(ONE, **{field: value}),))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=named):
        history.read(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """Not an empty history."""
    with pytest.raises(UsageError, match=r"nothing\.jsonl cannot be read"):
        history.read(tmp_path / "nothing.jsonl")


def test_a_re_run_counts_once_and_an_unfit_gate_not() -> None:
    """The line with the most epochs of one stream; a new stream is a new point, even on the same
    day and commit."""
    again = dataclasses.replace(ONE, epochs=20, log_fixed=0.02)
    later = dataclasses.replace(ONE, evidence="f", when="2026-11-27T08:00:00+00:00")
    unfit = dataclasses.replace(ONE, evidence="g", outcome="unfit")
    (found,) = history.series([later, ONE, again, unfit])
    assert found.entries == (again, later)


def test_machine_classes_names_metrics_and_fixed_artefacts_are_kept_apart() -> None:
    """Each its own series; one name alone where it is asked for."""
    others = [
        dataclasses.replace(ONE, evidence=str(i), **{field: "other"})  # type: ignore[arg-type]
        for i, field in enumerate(history.SERIES)
    ]
    found = history.series([ONE, *others])
    assert len(found) == 5
    assert all(len(one.entries) == 1 for one in found)
    assert [one.name for one in history.series([ONE, *others], "other")] == ["other"]
    named = dataclasses.replace(ONE, name="other")  # of the same epochs
    assert [one.name for one in history.series([ONE, named])] == ["minilm", "other"]


@pytest.mark.parametrize("field", history.SERIES)
def test_what_differs_is_not_compared(field: str) -> None:
    """Whoever joins two machine classes by hand is told, before there is a number."""
    other = dataclasses.replace(ONE, **{field: "other"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"differ in {field}"):
        history.joined([ONE, other])
