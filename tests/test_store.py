"""The store: steps run once, are whole or absent, and are verified when read back."""

import errno
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import pytest

from accel import disk, itself, store
from accel.errors import CandidateBroken, EnvironmentProblem
from accel.measure import child
from accel.values import Model


def _model(folder: Path) -> Model:
    (folder / "model.onnx").write_bytes(b"weights")
    return Model(folder / "model.onnx", "d", (), ())


def _slow(root: Path, mark: Path) -> None:
    def make(folder: Path) -> Model:
        time.sleep(0.2)
        with mark.open("a") as stream:
            stream.write("x")
        return _model(folder)

    store.run(root, "export", {"k": 1}, Model, make)


def test_a_step_runs_once_and_is_read_back(tmp_path: Path) -> None:
    """The second run of a key returns the stored value and says so."""
    first = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    again = store.run(tmp_path, "export", {"k": 1}, Model, lambda _: pytest.fail("made again"))
    assert (first.reused, again.reused) == (False, True)
    assert again.value == first.value
    assert again.value.path.read_bytes() == b"weights"


def test_every_part_of_the_key_counts(tmp_path: Path) -> None:
    """A changed option, at any depth, is another step."""
    keys = [{"k": 1}, {"k": 2}, {"k": {"deep": [1, 2]}}, {"k": {"deep": [2, 1]}}, {"k": None}]
    folders = {store.run(tmp_path, "export", k, Model, _model).folder for k in keys}
    assert len(folders) == len(keys)


def test_a_damaged_step_is_quarantined_and_made_again(tmp_path: Path) -> None:
    """A file whose bytes changed is never taken for the step's result."""
    step = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    step.value.path.write_bytes(b"weightz")
    again = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    assert not again.reused
    assert again.value.path.read_bytes() == b"weights"
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


@pytest.mark.parametrize("text", ["", "{", '{"value": 1, "value": 2}', '{"files": {}}', "[]"])
def test_a_damaged_record_is_made_again(tmp_path: Path, text: str) -> None:
    """A record that is cut, doubled or empty counts as absent."""
    step = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    (step.folder / "record.json").write_text(text)
    assert not store.run(tmp_path, "export", {"k": 1}, Model, _model).reused


def test_a_failed_step_leaves_nothing(tmp_path: Path) -> None:
    """An exception inside a step leaves no folder that could be taken for its result."""

    def fail(folder: Path) -> Model:
        (folder / "half").write_text("x")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        store.run(tmp_path, "export", {"k": 1}, Model, fail)
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    """A step that was cut off by kill -9 is made afresh, and its half-written files are gone."""
    context = multiprocessing.get_context("fork")
    run = context.Process(target=_slow, args=(tmp_path, tmp_path / "mark"))
    run.start()
    while not list(tmp_path.glob(".tmp-*")):
        time.sleep(0.005)
    run.kill()
    run.join()
    (half,) = tmp_path.glob(".tmp-*")
    (half / "half").write_text("x")
    step = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    assert {p.name for p in step.folder.iterdir()} == {"model.onnx", "record.json"}
    assert not list(tmp_path.glob(".tmp-*"))


def test_two_processes_make_a_step_once(tmp_path: Path) -> None:
    """The second process waits for the first and reads its result."""
    context = multiprocessing.get_context("fork")
    mark = tmp_path / "mark"
    runs = [context.Process(target=_slow, args=(tmp_path / "s", mark)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert mark.read_text() == "x"


def test_a_moved_store_still_reads(tmp_path: Path) -> None:
    """Paths inside a record are relative, those of sibling steps too."""
    first = store.run(tmp_path / "a", "export", {"k": 1}, Model, _model)

    def refer(folder: Path) -> Model:
        return first.value

    store.run(tmp_path / "a", "refer", {"k": 1}, Model, refer)
    (tmp_path / "a").rename(tmp_path / "b")
    moved = store.run(tmp_path / "b", "refer", {"k": 1}, Model, refer)
    assert moved.reused
    assert moved.value.path.read_bytes() == b"weights"


def test_write_is_whole_or_nothing(tmp_path: Path) -> None:
    """A write replaces the old file and leaves no temporary one."""
    disk.write(tmp_path / "f", "one")
    disk.write(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_is_said_plainly() -> None:
    """ENOSPC becomes exit code 7 with the place and what to do."""
    with pytest.raises(EnvironmentProblem, match=r"disk of .* is full"), disk.guarded(Path("/dev")):
        Path("/dev/full").write_text("x" * 10000)


def test_the_record_holds_the_whole_key(tmp_path: Path) -> None:
    """What a result depended on can be read from its folder."""
    step = store.run(tmp_path, "export", {"k": {"a": 1}}, Model, _model)
    record = json.loads((step.folder / "record.json").read_text())
    assert record["key"]["k"] == {"a": 1}
    assert record["key"]["accel"] == itself.digest()


def test_a_damaged_step_is_mentioned(tmp_path: Path) -> None:
    """Who makes it again learns what was wrong with the one that lies in quarantine."""
    step = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    assert step.damaged == ""
    step.value.path.write_bytes(b"weightz")
    again = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    assert again.damaged == "it differs from its digests in model.onnx"


def test_a_key_of_another_is_never_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name holds a part of the digest: were it one digit, as short as it gets, none would be mixed up."""
    monkeypatch.setattr(store, "DIGITS", 1)
    for turn in range(2):
        for k in range(40):

            def make(folder: Path, k: int = k) -> Model:
                return Model(folder / "m", str(k), (), ())

            found = store.run(tmp_path, "export", {"k": k}, Model, make)
            assert found.value.digest == str(k), turn


@pytest.mark.parametrize(
    "value",
    ["[]", "5", '{"path": 3}', '{"path": "./m", "digest": "d", "inputs": [1], "outputs": []}'],
)
def test_a_record_that_lies_about_its_value_is_made_again(tmp_path: Path, value: str) -> None:
    """A record that is sealed as it should be, and whose value is of another kind, is no result."""
    step = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    record = json.loads((step.folder / "record.json").read_text())
    record["value"] = json.loads(value)
    record["seal"] = store.seal(record)
    (step.folder / "record.json").write_text(json.dumps(record))
    again = store.run(tmp_path, "export", {"k": 1}, Model, _model)
    assert (again.reused, bool(again.damaged)) == (False, True)
    assert again.value.path.read_bytes() == b"weights"


def test_no_byte_of_a_record_can_change_unnoticed(tmp_path: Path) -> None:
    """A flipped bit in a key, a number or a digest: the step is made again, or says the very same."""
    step = store.run(tmp_path, "export", {"k": 1.5}, Model, _model)
    path, noticed = step.folder / "record.json", 0
    whole = path.read_bytes()
    tried = range(0, len(whole), 3)
    for i in tried:
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        again = store.run(tmp_path, "export", {"k": 1.5}, Model, _model)
        assert again.value == step.value
        noticed += not again.reused
    print(f"{noticed} of {len(tried)} bits noticed, the others stood between words")
    assert noticed > 0.6 * len(tried)


def test_no_room_for_a_temporary_folder_is_the_disks_fault() -> None:
    """Python's own words for it, whose errno is that of a missing file; a missing file is none of it."""
    words = "No usable temporary directory found in ['/tmp']"
    with pytest.raises(EnvironmentProblem, match=r"found in \['/tmp'\]: their disks are full"):
        disk.blame(FileNotFoundError(errno.ENOENT, words))
    for other in (FileNotFoundError(errno.ENOENT, "No such file"), ValueError("No usable")):
        disk.blame(other)


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS"])
def test_what_a_disk_refuses_is_not_the_writers_fault(tmp_path: Path, name: str) -> None:
    """Whoever was writing: the folder of the file that was written is named."""
    error = OSError(getattr(errno, name), "refused", str(tmp_path / "file"))
    with pytest.raises(EnvironmentProblem, match=str(tmp_path)):
        disk.blame(error)


@pytest.mark.parametrize("name", ["EACCES", "EPERM"])
def test_no_permission_is_the_places_fault_in_the_place_alone(tmp_path: Path, name: str) -> None:
    """A build's folder that takes no file is named; what else may not be done is left to its doer."""
    code = getattr(errno, name)
    with pytest.raises(EnvironmentProblem, match=f"^{tmp_path} cannot be written"):
        disk.blame(OSError(code, "refused", str(tmp_path / "file")), tmp_path)
    for elsewhere in (("/usr/bin/tool",), ()):
        disk.blame(OSError(code, "refused", *elsewhere), tmp_path)
    disk.blame(OSError(code, "refused", str(tmp_path / "file")))


def test_a_file_that_is_there_is_named_and_a_draft_is_not(tmp_path: Path) -> None:
    """Of a draft that never came to be, nobody knows the name: the place stands for it."""
    there = tmp_path / "there"
    there.touch()
    for file, named in (
        (there, there),
        (tmp_path / "out" / "tmp1", tmp_path / "out"),
        (tmp_path / ".out.1234", tmp_path / "out"),
        (Path("/elsewhere/file"), Path("/elsewhere/file")),
    ):
        with pytest.raises(EnvironmentProblem) as told, disk.guarded(tmp_path / "out", "--to"):
            raise OSError(errno.EACCES, "refused", str(file))
        assert str(told.value).startswith(f"{named} cannot be written (refused).")
        assert str(told.value).endswith("choose another place with --to.")


def test_a_tmpdir_that_is_not_there_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary files lie elsewhere then: a candidate that breaks is broken, and no disk is blamed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # as a new process asks
    assert disk.temporary() == Path(tempfile.gettempdir()) != tmp_path / "gone"
    with pytest.raises(CandidateBroken, match="a build failed: no such operator"):
        child.raise_data({"class": "", "message": "no such operator"}, "a build", tmp_path / "log")
    with pytest.raises(EnvironmentProblem) as found:
        disk.blame(OSError(errno.ENOSPC, "full"))
    assert "gone" not in str(found.value)
