"""Where results go: refused before any work, never over what is not accel's own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from accel import Constraints, arrays, disk, optimize, release, testing
from accel.cli import cli
from accel.constraints import validate
from accel.errors import BadModel, CandidateBroken, EnvironmentProblem, UsageError
from accel.replacing import replacing
from accel.target import load
from accel.values import Release


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """One command in a fresh process."""
    line = [sys.executable, "-m", "accel", *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("there", ["a file", "a folder of the user's", "the finished steps"])
def test_a_wrong_out_is_refused_before_any_work(tmp_path: Path, there: str) -> None:
    """Nothing is exported, nothing is written, and what stood there still does."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    out, work = tmp_path / "out", tmp_path / "work"
    if there == "a file":
        out.write_text("mine")
    elif there == "a folder of the user's":
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    else:
        work = out / "steps"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="hoose another folder with --out"):
        optimize(model, out=out, work=work)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_takes_no_folder_is_the_environments_problem(tmp_path: Path) -> None:
    """/proc refuses folders with an error of its own kind: it is told, for work and for out."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    with pytest.raises(EnvironmentProblem, match="/proc"):
        optimize(model, out="/proc/nothing/release", work=tmp_path / "work")
    with pytest.raises(EnvironmentProblem, match="/proc"):
        optimize(model, out=tmp_path / "release", work="/proc/nothing")


def test_a_mount_point_is_refused_before_any_work(tmp_path: Path) -> None:
    """Its name cannot be given to another folder, which would be told after hours; /proc is one."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"/proc is a mount point.*--out /proc/release"):
        optimize(model, out="/proc", work=tmp_path / "work")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", [errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG])
def test_whatever_the_disk_refuses_is_one_error(tmp_path: Path, code: int) -> None:
    """No OSError leaves, whichever its number."""
    with pytest.raises(EnvironmentProblem, match=str(tmp_path)), disk.guarded(tmp_path):
        raise OSError(code, os.strerror(code), str(tmp_path))


def test_an_infinite_demand_is_refused() -> None:
    """No candidate can be infinitely fast: it is a slip, told before the search."""
    with pytest.raises(UsageError, match="min_speedup"):
        validate(Constraints(min_speedup=float("inf")), load("cpu-local"))


def test_two_that_replace_one_folder_at_a_time_leave_one_whole(tmp_path: Path) -> None:
    """Every writer ends well, the folder is one writer's own, and nothing lies beside it."""
    script = (
        "import sys; from pathlib import Path; from accel.replacing import replacing\n"
        "for i in range(60):\n"
        "    with replacing(Path(sys.argv[1]), lambda _: None) as f:\n"
        "        [(f / n).write_text(sys.argv[2]) for n in 'abc']\n"
    )
    out = tmp_path / "out"
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(out), who]) for who in ("1", "2", "3")
    ]
    assert [w.wait() for w in writers] == [0, 0, 0]
    assert len({(out / name).read_text() for name in "abc"}) == 1
    assert list(tmp_path.iterdir()) == [out]


def test_what_came_while_writing_is_kept(tmp_path: Path) -> None:
    """A file that the user put there in between is never replaced."""
    out = tmp_path / "out"

    def may_replace(place: Path) -> None:
        if place.exists():
            raise UsageError("not mine")

    with pytest.raises(UsageError), replacing(out, may_replace):  # noqa: PT012 two steps of one story
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    assert list(tmp_path.iterdir()) == [out]


def test_threads_may_wait_for_one_folder(tmp_path: Path) -> None:
    """The lock is the folder's: threads of one process take turns too."""
    out, errors = tmp_path / "out", []

    def write(i: int) -> None:
        try:
            with replacing(out / str(i), lambda _: None) as folder:
                (folder / "a").write_text(str(i))
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(p.name for p in out.iterdir()) == ["0", "1", "2", "3"]


def test_a_command_never_writes_over_what_it_reads(tmp_path: Path) -> None:
    """--out that is the source, a folder, or another model's weights is refused, all left alone."""
    graph = testing.mlp(tmp_path / "mlp.onnx").path
    proto = onnx.load(graph)
    onnx.save(proto, graph, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "copy.onnx.data").write_bytes(b"another model's")
    feeds = tmp_path / "feeds.npz"
    arrays.save(feeds, [{"x": np.ones((1, 64), np.float32)}])
    before = graph.read_bytes(), feeds.read_bytes()
    for words in (
        ("export", graph, "--out", graph),
        ("quantize", graph, "--recipe", "int8_dynamic", "--out", graph),
        ("export", graph, "--out", tmp_path / "other"),
        ("export", graph, "--out", tmp_path / "other" / "copy.onnx"),
        ("quantize", graph, "--recipe", "int8_static", "--data", feeds, "--out", feeds),
        ("build", graph, "--out", graph),
        ("build", graph, "--out", tmp_path),
        ("build", graph, "--out", tmp_path / "other"),
    ):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "Choose another" in done.stderr or "--out names a file" in done.stderr
    assert (graph.read_bytes(), feeds.read_bytes()) == before
    assert (tmp_path / "other" / "copy.onnx.data").read_bytes() == b"another model's"
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["copy.onnx.data"]


def test_a_command_run_again_replaces_its_own_results(tmp_path: Path) -> None:
    """A graph with the weights beside it, which belong to none but it, and the folder of a plan."""
    graph = testing.mlp(tmp_path / "mlp.onnx").path
    proto = onnx.load(graph)
    onnx.save(proto, graph, save_as_external_data=True, location="w.bin", size_threshold=0)
    out = tmp_path / "out"
    for name in ("a.onnx", "b.onnx"):
        assert run("export", graph, "--out", out / name, cwd=tmp_path).returncode == 0
    (tmp_path / "w.bin").write_bytes(bytes((tmp_path / "w.bin").stat().st_size))
    again = run("export", graph, "--out", out / "b.onnx", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        "a.onnx",
        "a.onnx.data",
        "b.onnx",
        "b.onnx.data",
    ]
    sums = [
        sum(abs(onnx.numpy_helper.to_array(t)).sum() for t in onnx.load(out / n).graph.initializer)
        for n in ("a.onnx", "b.onnx")
    ]
    assert sums[0] > sums[1] == 0
    for _ in range(2):
        done = run("build", graph, "--out", tmp_path / "plan", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_nothing_is_written_into_a_release(packed: Callable[..., Release], tmp_path: Path) -> None:
    """It would not be intact any more: a graph, a plan, or a bill of materials over its own files."""
    root = packed().path
    graph = testing.mlp(tmp_path / "mlp.onnx").path
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    (tmp_path / "link").symlink_to(root)
    for words in (
        ("export", graph, "--out", tmp_path / "link" / "new.onnx"),
        ("export", graph, "--out", root / "model.onnx"),
        ("quantize", graph, "--recipe", "int8_dynamic", "--out", root / "engine" / "q.onnx"),
        ("build", graph, "--out", root),
        ("build", graph, "--out", root / "plan"),
        ("sbom", root, "--out", root / "accel.json"),
    ):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "release" in done.stderr
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("bench {root} --out {root}/b", "--out"),
        ("gate {root} --baseline {other} --history {root}/b.jsonl", "--history"),
        ("optimize {model} --out {new} --work {root}/b", "--work"),
        ("optimize {model} --out {root}/b --work {new}", "--out"),
        ("bless tiny --release {root} --reason x --init --file {root}/b.json", "--file"),
        ("sbom {other} --out {root}/b.json", "--out"),
        ("kernels build --out {root}/b", "--out"),
        ("kernels build --ledger {root}/b.json", "--ledger"),
    ],
)
def test_no_place_of_a_commands_own_lies_in_a_release(
    packed: Callable[..., Release], tmp_path: Path, words: str, option: str
) -> None:
    """Samples, steps, another release, a history: refused before any work, with the option."""
    root, other = packed().path, packed("other").path
    model = testing.mlp(tmp_path / "mlp.onnx").path
    line = words.format(root=root, other=other, model=model, new=tmp_path / "new")
    found = CliRunner().invoke(cli, line.split())
    assert isinstance(found.exception, UsageError), found.output
    assert f"lies in the release {root}, which" in str(found.exception)
    assert str(found.exception).endswith(f"Choose another folder with {option}.")
    assert release.differences(root) == ()


def test_swapped_and_misspelt_words_are_told(tmp_path: Path) -> None:
    """A workload where a graph is due, an exporter that does not exist, a folder for a file."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    (tmp_path / "w.py").write_text("def model(): pass\n")
    for words, said in (
        (("build", "w.py"), "accel export w.py"),
        (("export", model, "--exporter", "torch_exprot"), "Known: torch_export, torchscript"),
        (("frobnicate",), "accel --help"),
        (("optimize", model, "--max-drop", "0.5"), "accel optimize --help"),
        (("export", "w.py", "--exporter", "torch_exprot"), "Known: torch_export, torchscript"),
    ):
        done = run(*words, cwd=tmp_path)
        assert done.returncode == BadModel.exit_code, done.stderr
        assert said in done.stderr


def test_only_an_intact_release_is_timed(packed: Callable[..., Release]) -> None:
    """bench takes the plan of a release whose digests hold, and no other."""
    root = packed().path
    assert release.intact(root).path == root / "model.onnx"
    with (root / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CandidateBroken, match="accel verify"):
        release.intact(root)


def test_quantize_takes_the_first_variant_that_applies(tmp_path: Path) -> None:
    """A model without attention is quantized with no more words, and the skipped way is told."""
    model = testing.mlp(tmp_path / "mlp.onnx").path
    done = run("quantize", model, "--recipe", "int8_dynamic", "--out", "q.onnx", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing to fuse" in done.stderr
    assert (tmp_path / "q.onnx").is_file()
    asked = run("quantize", model, "--recipe", "int8_dynamic", "--variant", 0, cwd=tmp_path)
    assert asked.returncode == CandidateBroken.exit_code
