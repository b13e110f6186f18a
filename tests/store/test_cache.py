"""accel cache: what earlier runs kept is listed, read against its digests, and pruned."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from accel import cache, store, using
from accel.cli import cli
from accel.errors import UsageError
from accel.using import Using
from accel.values import Model

NOW_S = 1_000_000_000.0  # long ago: a test sets when each step was asked for


def made(work: Path, number: int, size: int = 1000, by: Using | None = None) -> store.Step[Model]:
    """A step of `size` bytes, last asked for `number` hours before NOW_S."""

    def make(folder: Path) -> Model:
        (folder / "model.onnx").write_bytes(bytes([number]) * size)
        return Model(folder / "model.onnx", "d", (), ())

    step = store.run(work / "store", "export", {"k": number}, Model, make, by)
    at = NOW_S - 3600 * number
    os.utime(store.lock(step.folder), (at, at))
    return step


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Three steps; the third was not asked for the longest."""
    for number in (1, 3, 2):
        made(tmp_path, number)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *words])


def total(work: Path) -> int:
    return sum(e.size_bytes for e in cache.entries(work, NOW_S))


def keys(work: Path) -> list[Any]:
    """The numbers of the steps that are left, the one that was not asked for the longest first."""
    found = cache.entries(work, NOW_S)
    return [json.loads((e.path / store.RECORD).read_text())["key"]["k"] for e in found]


def test_the_one_not_asked_for_the_longest_comes_first(work: Path) -> None:
    """A step has its verb, the start of its key's digest, its size and its age."""
    assert keys(work) == [3, 2, 1]
    oldest = cache.entries(work, NOW_S)[0]
    assert (oldest.verb, oldest.age_s) == ("export", pytest.approx(3 * 3600))
    assert oldest.path.name == f"export-{oldest.key}"
    assert oldest.size_bytes == sum(p.stat().st_size for p in oldest.path.iterdir())


def test_a_step_that_is_asked_for_again_is_young_again(work: Path) -> None:
    """Reading a finished step counts as its use."""
    made(work, 3)
    step = made(work, 3)
    assert step.reused
    os.utime(store.lock(step.folder), (NOW_S, NOW_S))
    assert keys(work) == [2, 1, 3]


def test_a_clock_that_jumped_back_makes_no_age_negative(work: Path) -> None:
    """A step from the future is as young as can be."""
    assert {e.age_s for e in cache.entries(work, 0.0)} == {0.0}


def test_without_its_lock_a_step_is_as_old_as_its_folder(work: Path) -> None:
    """A store that was copied without them is listed all the same."""
    for lock in (work / "store").glob("*.lock"):
        lock.unlink()
    assert len(cache.entries(work, time.time())) == 3


def test_list_is_a_table_and_a_document(work: Path) -> None:
    """A line a step and a sum; as JSON the same."""
    told = run("list", "--work", str(work))
    assert told.exit_code == 0, told.output
    head, *rows, last = told.output.splitlines()
    assert head.split() == ["verb", "key", "size", "last", "asked", "for"]
    assert [row.split()[0] for row in rows] == ["export"] * 3
    assert all(row.endswith(" ago") for row in rows)
    assert last == f"3 kept, {total(work) / 1e6:.2f} MB"
    data = json.loads(run("list", "--work", str(work), "--json").stdout)
    assert data["schema"] == "accel/cache-list"
    assert data["data"]["size_bytes"] == total(work)
    assert [e["verb"] for e in data["data"]["entries"]] == ["export"] * 3


@pytest.mark.parametrize("words", [["list"], ["verify"], ["prune", "--max-size", "1MB"]])
def test_a_folder_in_which_nothing_was_kept_is_refused(tmp_path: Path, words: list[str]) -> None:
    """A wrong --work is never an empty answer; nothing is created there."""
    found = run(*words, "--work", str(tmp_path / "nowhere"))
    assert isinstance(found.exception, UsageError)
    assert "is no work folder" in str(found.exception)
    assert list(tmp_path.iterdir()) == []


def flip(step: Path) -> None:
    (step / "model.onnx").write_bytes(b"other")


def cut(step: Path) -> None:
    record = step / store.RECORD
    record.write_text(record.read_text()[:-20])


def lose(step: Path) -> None:
    (step / "model.onnx").unlink()


def add(step: Path) -> None:
    (step / "more").touch()


def change_key(step: Path) -> None:
    record = json.loads((step / store.RECORD).read_text())
    record["key"]["k"] = 9
    (step / store.RECORD).write_text(json.dumps(record))


def take_another_place(step: Path) -> None:
    record = json.loads((step / store.RECORD).read_text())
    record["key"]["k"] = 9
    record["seal"] = store.seal(record)
    (step / store.RECORD).write_text(json.dumps(record))


def no_record(step: Path) -> None:
    (step / store.RECORD).unlink()


DAMAGES = [
    (flip, "differs from its digests in model.onnx"),
    (cut, "is not readable JSON"),
    (lose, "differs from its digests in model.onnx"),
    (add, "differs from its digests in more"),
    (change_key, "its record differs from its seal"),
    (take_another_place, "its record is another step's"),
    (no_record, "is not readable JSON"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[d.__name__ for d, _ in DAMAGES])
def test_verify_moves_what_is_damaged_to_quarantine(
    work: Path, damage: Callable[[Path], None], said: str
) -> None:
    """It is named with what is wrong, exit 1; the others are intact, and a second look finds them so."""
    oldest = cache.entries(work, NOW_S)[0].path
    damage(oldest)
    told = run("verify", "--work", str(work))
    assert told.exit_code == 1, told.output
    assert f"{oldest.name}: " in told.output
    assert said in told.output
    assert "2 intact, 1 damaged, 0 busy" in told.output
    assert not oldest.exists()
    assert len(list((work / "store" / store.QUARANTINE).iterdir())) == 1
    again = run("verify", "--work", str(work), "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["data"] == {"intact": 2, "damaged": {}, "busy": []}


def test_verify_does_not_count_as_use(work: Path) -> None:
    """Who looks at everything keeps the order in which things were asked for."""
    cache.verify(work)
    assert keys(work) == [3, 2, 1]


def test_prune_removes_the_oldest_until_the_rest_fits(work: Path) -> None:
    """Nothing of a removed step is left, and it is made again when it is asked for."""
    told = run("prune", "--work", str(work), "--max-size", f"{total(work) * 0.7e-6}MB")
    assert told.exit_code == 0, told.output
    assert keys(work) == [2, 1]
    assert told.output.count("removed export-") == 1
    assert len(list((work / "store").glob("*.lock"))) == 2
    assert not made(work, 3).reused


@pytest.mark.parametrize("size", ["0MB", "0GB"])
def test_prune_to_nothing_leaves_nothing(work: Path, size: str) -> None:
    """Steps, their locks, half-made ones and the quarantine are all gone."""
    half = store.aside(work / "store" / f"export-{20 * '0'}")
    half.mkdir()
    (half / "half").write_bytes(bytes(500))
    flip(cache.entries(work, NOW_S)[0].path)
    cache.verify(work)
    told = run("prune", "--work", str(work), "--max-size", size, "--json")
    assert told.exit_code == 0, told.output
    data = json.loads(told.stdout)["data"]
    assert len(data["removed"]) == 2
    assert data["left_bytes"] == 0
    assert data["scrap_bytes"] > 500
    assert [p for p in (work / "store").rglob("*") if not p.is_dir()] == []


def test_prune_of_what_fits_removes_nothing(work: Path) -> None:
    """A limit that is kept already changes nothing but the scrap."""
    assert cache.prune(work, total(work), NOW_S) == cache.Pruned((), (), 0, total(work))
    assert keys(work) == [3, 2, 1]


@pytest.mark.parametrize("size", ["5", "5kB", "-1MB", "MB"])
def test_a_size_needs_its_unit(work: Path, size: str) -> None:
    """A bare number is refused, as for other amounts."""
    assert run("prune", "--work", str(work), f"--max-size={size}").exit_code == 2
    assert keys(work) == [3, 2, 1]


def test_what_a_running_process_has_asked_for_stays(work: Path) -> None:
    """Until the run that uses them is gone, its steps are not removed, and the answer says so."""
    by = Using()
    made(work, 3, by=by)
    made(work, 4, by=by)
    told = run("prune", "--work", str(work), "--max-size", "0MB")
    assert told.exit_code == 1, told.output
    assert keys(work) == [4, 3]
    assert told.output.count("a running process uses it") == 2
    del by
    assert run("prune", "--work", str(work), "--max-size", "0MB").exit_code == 0
    assert keys(work) == []


def _use(work: Path, seen: Any, stop: Any) -> None:
    by = Using()
    made(work, 3, by=by)
    seen.set()
    stop.wait(60)


def test_a_killed_process_uses_nothing(work: Path) -> None:
    """kill -9 lets go of its steps: the kernel drops the lock of the file that names them."""
    context = multiprocessing.get_context("fork")
    seen, stop = context.Event(), context.Event()
    run = context.Process(target=_use, args=(work, seen, stop))
    run.start()
    assert seen.wait(60)
    assert len(cache.prune(work, 0, NOW_S).in_use) == 1
    run.kill()
    run.join()
    assert len(cache.prune(work, 0, NOW_S).removed) == 1
    assert list((work / "store" / using.FOLDER).iterdir()) == []


def test_a_step_that_is_being_made_is_left_alone(work: Path) -> None:
    """Its half-written files are no scrap, and neither verify nor prune waits for it."""
    found: list[Any] = []

    def make(folder: Path) -> Model:
        (folder / "model.onnx").write_bytes(b"half")
        found.append(cache.prune(work, 0, NOW_S))
        found.append(cache.verify(work))
        return Model(folder / "model.onnx", "d", (), ())

    step = store.run(work / "store", "export", {"k": 7}, Model, make)
    assert step.value.path.read_bytes() == b"half"
    assert len(found[0].removed) == 3
    assert found[1].intact == 0


def test_feeds_of_earlier_calibrations_are_kept_things_too(work: Path) -> None:
    """A file of feeds is listed and pruned like a step; verify passes it over."""
    (work / "data").mkdir()
    feeds = work / "data" / f"calibration-{20 * 'a'}.npz"
    feeds.write_bytes(bytes(10_000))
    at = NOW_S - 10 * 3600
    os.utime(feeds, (at, at))
    assert cache.entries(work, NOW_S)[0].path == feeds
    assert cache.verify(work).intact == 3
    assert [e.path for e in cache.prune(work, total(work) - 1, NOW_S).removed] == [feeds]


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path: Path) -> None:
    """Who waited for a file that is gone takes the next one: two never hold the same."""
    path = tmp_path / "x.lock"
    with using.locked(path):
        path.unlink()
        with using.locked(path, wait=False) as other:
            assert other is not None
        with using.locked(path, wait=False) as held:
            assert held is not None


def test_prune_while_others_make_and_read_loses_nothing(tmp_path: Path) -> None:
    """Three processes ask for the same few steps, over and over, under a pruner: each answer is right."""
    context = multiprocessing.get_context("fork")
    wrong = context.Value("i", 0)

    def ask(seed: int) -> None:
        by = Using()
        for i in range(60):
            number = (i * (seed + 2)) % 5
            step = made(tmp_path, number, by=by)
            if step.value.path.read_bytes() != bytes([number]) * 1000:
                wrong.value += 1

    (tmp_path / "store").mkdir()
    askers = [context.Process(target=ask, args=(n,)) for n in range(3)]
    for one in askers:
        one.start()
    while any(one.is_alive() for one in askers):
        cache.prune(tmp_path, 0, NOW_S)
    for one in askers:
        one.join()
    assert [one.exitcode for one in askers] == [0, 0, 0]
    assert wrong.value == 0


def test_what_is_not_ours_stays(work: Path) -> None:
    """A user's folder in the store is neither listed nor removed."""
    mine = work / "store" / "mine"
    mine.mkdir()
    (mine / "file").touch()
    cache.prune(work, 0, NOW_S)
    assert (mine / "file").exists()


MINE = (
    "data/dvc.lock",
    "data/poetry.lock",
    "data/calibration-0123.lock",
    "data/.tmp-notes-ab-2024",
    "data/quarantine/photo.jpg",
    f"data/export-{20 * '0'}/photo.jpg",
    "store/uv.lock",
    f"store/{20 * '0'}.lock",
    "store/.tmp-notes-ab-2024",
    "store/quarantine/photo.jpg",
    f"store/quarantine/export-{20 * '0'}/photo.jpg",
    f"store/export-{20 * '0'}.npz",
)


def test_whatever_accel_does_not_name_so_is_the_users_own(work: Path) -> None:
    """Locks of other tools, folders of the same names: all of it is left, and what is accel's goes."""
    for name in MINE:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(b"mine")
    flip(cache.entries(work, NOW_S)[0].path)
    cache.verify(work)
    assert run("prune", "--work", str(work), "--max-size", "0MB").exit_code == 0
    left = {p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file()}
    assert left == set(MINE)


@pytest.mark.parametrize("words", [["list"], ["verify"], ["prune", "--max-size", "0MB"]])
def test_a_folder_called_data_is_no_work_folder(tmp_path: Path, words: list[str]) -> None:
    """A project has one, too; with feeds that a first run left there it is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dvc.lock").touch()
    found = run(*words, "--work", str(tmp_path))
    assert isinstance(found.exception, UsageError)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["dvc.lock"]
    (tmp_path / "data" / f".tmp-calibration-{32 * 'a'}.npz").touch()
    assert run(*words, "--work", str(tmp_path)).exit_code == 0


def test_prune_clears_feeds_that_a_killed_run_was_writing(work: Path) -> None:
    """Half a file, a whole one that has no name yet, and one whose removal was cut off; not what is being written."""
    data = work / "data"
    data.mkdir()
    dead, alive = (f".tmp-calibration-{digit * 32}.npz" for digit in "ab")
    gone = [f".{dead}.0123abcd", dead, f".tmp-calibration-{'c' * 20}.npz-77-012abc"]
    for name in (*gone, alive, f".{alive}.0123abcd"):
        (data / name).write_bytes(bytes(500))
    with using.locked(store.lock(data / alive)):
        assert run("prune", "--work", str(work), "--max-size", "1GB").exit_code == 0
    assert sorted(p.name for p in data.glob(".*npz*")) == sorted((alive, f".{alive}.0123abcd"))
    assert run("prune", "--work", str(work), "--max-size", "1GB").exit_code == 0
    assert list(data.iterdir()) == []


def test_a_step_without_a_seal_is_told_as_one(work: Path) -> None:
    """An older accel sealed none."""
    oldest = cache.entries(work, NOW_S)[0].path
    told = json.loads((oldest / store.RECORD).read_text())
    del told["seal"]
    (oldest / store.RECORD).write_text(json.dumps(told))
    assert "an older accel made it" in run("verify", "--work", str(work)).output
