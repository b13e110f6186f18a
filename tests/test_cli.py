"""The command line: every ending has its code, one clear message, and at most one JSON document."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from accel import testing
from accel.cli import both, cli
from accel.values import Release

ROOT = Path(__file__).parents[1]
LEAVES = {  # "kernels list" is one of them, "kernels" is a group
    " ".join(words): command
    for name, entry in cli.commands.items()
    for words, command in (
        [((name, under), leaf) for under, leaf in entry.commands.items()]
        if isinstance(entry, click.Group)
        else [((name,), entry)]
    )
}
COMMANDS = sorted(LEAVES)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
PAGE = "<!DOCTYPE html><html><body>404</body></html>"
TINY = """
import torch
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3).eval()
def inputs():
    return {"input": torch.ones(2, 4).numpy()}
def samples(split):
    draw = __import__("numpy").random.default_rng(len(split))
    return [({"input": draw.normal(size=(1, 4)).astype("float32")}, i % 3) for i in range(40)]
def row(result, label):
    return next(iter(result.values())).argmax() == label
def metric(rows):
    return 100 * rows.mean()
"""

SCORED = """
import numpy
def model(): return "good.onnx"
def samples(split): return [({"x": numpy.ones((1, 8), "float32")}, 0)] * 4
def row(outputs, label): return outputs["y"].shape == (1, 4)
def metric(rows): return 100 * rows.mean()
"""


def invoke(*words: str) -> Result:
    """A command without a process of its own; an AccelError is left in `exception`."""
    return CliRunner().invoke(cli, list(words))


def accel(
    *words: str, cwd: Path, path: Path | None = None, module: str = "accel"
) -> subprocess.CompletedProcess[str]:
    """The real thing; `path` goes before everything that can be imported."""
    python_path = [str(path)] if path else []
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*python_path, str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def document(text: str, kind: str) -> Any:
    """The data of the one document that stdout holds."""
    found = json.loads(text)  # refuses a second one
    assert (found["schema"], found["schema_version"]) == (f"accel/{kind}", 1)
    assert found.keys() == {"schema", "schema_version", "data"}
    return found["data"]


def ended(found: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    """One clear message on stderr, its code, no traceback; with --json an error document."""
    assert found.returncode == code, found.stdout + found.stderr
    assert said in found.stderr
    assert "Traceback" not in found.stderr + found.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good graph, and everything that is not one."""
    folder = tmp_path_factory.mktemp("files")
    testing.mlp(folder / "good.onnx")
    testing.mlp(folder / "other.onnx", seed=1)
    (folder / "empty.onnx").touch()
    (folder / "empty.py").touch()
    (folder / "empty.npz").touch()
    (folder / "folder.onnx").mkdir()
    (folder / "lfs.onnx").write_text(LFS)
    (folder / "page.onnx").write_text(PAGE)
    (folder / "cut.onnx").write_bytes((folder / "good.onnx").read_bytes()[:300])
    (folder / "tiny.py").write_text(TINY)
    (folder / "raises.py").write_text("raise ValueError('no weights here')\n")
    feed = np.ones((2, 8), np.float32)
    np.savez(folder / "feeds.npz", x=feed)
    np.savez(folder / "wrong.npz", z=feed)
    return folder


@pytest.mark.parametrize("name", [*COMMANDS, ""])
def test_every_command_has_help(name: str) -> None:
    """--help ends well, says what the command does, and explains each of its options."""
    found = invoke(*name.split(), "--help")
    assert found.exit_code == 0
    assert "Usage:" in found.output
    command = LEAVES[name] if name else cli
    assert (command.help or "").strip()
    undocumented = [
        p.name
        for p in command.params
        if isinstance(p, click.Option) and not p.help and p.name in ("as_json", "quiet", "debug")
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_shared_options(name: str) -> None:
    """--json, --quiet and --debug stand on each of them."""
    flags = {opt for p in LEAVES[name].params for opt in p.opts}
    assert flags >= {"--json", "--quiet", "--debug"}


def test_the_version_is_told() -> None:
    """What is installed says so."""
    from importlib import metadata

    assert metadata.version("accel-inference") in invoke("--version").output


BAD_MODELS = [
    ("nothing.onnx", "is not a file"),
    ("folder.onnx", "is not a file"),
    ("empty.onnx", "is empty"),
    ("lfs.onnx", "git-LFS pointer"),
    ("page.onnx", "an HTML page"),
    ("cut.onnx", "is not a whole ONNX model"),
]
TAKES_A_MODEL = {
    "inspect": [],
    "build": [],
    "bench": [],
    "export": [],
    "optimize": [],
    "quantize": ["--recipe", "fp32"],
    "check": ["--against", "good.onnx"],
    "evaluate": ["--workload", "tiny.py"],
    "pack": ["--workload", "tiny.py"],
}


def test_data_is_said_to_go_with_what_it_goes_with() -> None:
    """optimize's SOURCE may be an .onnx; what pack's GRAPH is, does not matter: the workload does."""
    said = {
        verb: option.help
        for verb in ("optimize", "pack")
        for option in cli.commands[verb].params
        if isinstance(option, click.Option) and option.name == "data"
    }
    assert said == {
        "optimize": ".npz of feeds for a plain .onnx",
        "pack": ".npz of feeds, where --workload is an .onnx",
    }


@pytest.mark.parametrize("verb", TAKES_A_MODEL)
@pytest.mark.parametrize(("name", "said"), BAD_MODELS)
def test_what_is_not_a_model_is_named(
    files: Path, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, said: str
) -> None:
    """Whichever verb it is given to: the same clear error of code 2, and nothing on stdout."""
    monkeypatch.chdir(files)
    found = invoke(verb, name, *TAKES_A_MODEL[verb])
    assert getattr(found.exception, "exit_code", None) == 2, found.exception
    assert name in str(found.exception)
    if (verb, name) == ("bench", "folder.onnx"):
        said = "is not a release"  # which it may be given too
    assert said in str(found.exception)
    assert found.stdout == ""
    assert not (files / "release").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimize", "empty.py"], "defines no model()"),
        (["optimize", "raises.py"], "no weights here"),
        (["optimize", "feeds.npz"], "a workload is a .py or an .onnx"),
        (["optimize", "good.onnx", "--data", "empty.npz"], "is not an .npz"),
        (["optimize", "good.onnx", "--data", "nope.npz"], "nope.npz is not a file"),
        (["bench", "good.onnx", "--data", "wrong.npz"], "and the model differ in"),
        (["optimize", "tiny.py", "--data", "feeds.npz"], "--data goes with an .onnx"),
        (["optimize", "tiny.py", "--max-latency", "5"], "needs one of the units ms, s"),
        (["optimize", "tiny.py", "--max-drop", "1.2.3pt"], "is not a number"),
        (["optimize", "tiny.py", "--max-drop", "-1pt"], "0 or more"),
        (["optimize", "tiny.py", "--max-memory", "9" * 320 + "MB"], "more than any number"),
        (["inspect", "good.onnx", "--roofline", "--size", "b=" + "9" * 5000], "a whole number"),
        (["optimize", "tiny.py", "--engine", "openvin"], "Did you mean 'openvino'?"),
        (["quantize", "good.onnx", "--recipe", "int8"], "int8_dynamic"),
        (["quantize", "good.onnx", "--recipe", "fp32", "--variant", "9"], "--variant 9"),
        (
            ["quantize", "good.onnx", "--recipe", "weight_only", "--data", "typo.npz"],
            "takes no calibration data",
        ),
        (
            ["quantize", "good.onnx", "--recipe", "fp32", "--noise", "x"],
            "--noise: fp32 audits no data",
        ),
        (["bench", "good.onnx", "--epochs", "0"], "0 is not in the range"),
        (["bench"], "Missing argument"),
        (["bench", "."], "is not a release"),
        (["verify", "nothing"], "is not a release"),
        (["list", "weights"], "is not one of"),
        (["inspect", "good.onnx", "--jsn"], "--json"),
        (["inspect", "good.onnx", "--for", ""], "'--for': '' is empty"),
        (["check", "good.onnx", "--against", "good.onnx", "--data", ""], "'--data': '' is empty"),
    ],
)
def test_wrong_words_end_with_2(files: Path, words: list[str], said: str) -> None:
    """The message says what was wrong; with --json the same is the one document on stdout."""
    found = accel(*words, "--json", cwd=files)
    ended(found, 2, said)
    error = document(found.stdout, "error")
    assert error["exit_code"] == 2
    assert said in error["message"]


def test_a_name_that_the_terminal_cannot_show_is_spelled_out(files: Path) -> None:
    """The file is there, and that is said in the letters that there are."""
    words = ("-m", "accel", "export", "good.onnx", "--out", "\u0436.onnx")
    found = subprocess.run(
        [sys.executable, *words], cwd=files, capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert (files / "\u0436.onnx").is_file()
    assert rb"\u0436.onnx" in found.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_an_empty_text_is_refused_by_every_word(name: str) -> None:
    """What an unset variable of a script leaves is no name, no path, and not as if nothing was said."""
    said = [p for p in LEAVES[name].params if not getattr(p, "is_flag", False)]
    for word in said:
        if word.name == "reason":  # an empty one is refused in words of its own
            continue
        with pytest.raises(click.BadParameter):
            word.type.convert("", word, None)


def test_a_path_with_a_colon_is_a_path(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph, and a workload, in a folder with a colon in its name are built and scored."""
    monkeypatch.chdir(tmp_path)
    Path("c:d").mkdir()
    testing.mlp(Path("c:d/good.onnx"))
    Path("c:d/w.py").write_text(SCORED)
    built = invoke("build", "c:d/good.onnx", "--out", "plan")
    assert built.exit_code == 0, built.exception
    scored = invoke("evaluate", "c:d/good.onnx", "--workload", "c:d/w.py", "--json")
    assert scored.exit_code == 0, scored.exception
    told = document(scored.stdout, "score")
    assert (told["value"], told["rows"]) == (100.0, None)  # they lay in a folder that is gone


def test_debug_shows_the_traceback(files: Path) -> None:
    """With --debug the place of the error is on stderr, before the message."""
    found = accel("inspect", "empty.onnx", "--debug", cwd=files)
    assert found.returncode == 2
    assert found.stderr.index("Traceback") < found.stderr.index("accel: empty.onnx is empty")
    assert found.stdout == ""


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["list", "engines"], "list"),
        (["list", "targets"], "list"),
        (["list", "kernels"], "list"),
        (["inspect", "good.onnx"], "inspect"),
        (["build", "good.onnx", "--out", "plan"], "plan"),
        (["check", "good.onnx", "--against", "good.onnx"], "check"),
        (["quantize", "good.onnx", "--recipe", "bf16", "--out", "q.onnx"], "model"),
        (["bench", "good.onnx", "--epochs", "1"], "bench"),
    ],
    ids=lambda x: x if isinstance(x, str) else x[0],
)
def test_json_is_one_document_and_text_goes_to_stderr(
    files: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], kind: str
) -> None:
    """With --json stdout is data alone; without it the same text is on stdout."""
    monkeypatch.chdir(files)
    found = invoke(*words, "--json")
    assert found.exit_code == 0, found.exception
    document(found.stdout, kind)
    if words[0] in ("list", "inspect"):
        assert invoke(*words).stdout == found.stderr
        assert found.stderr or words[1] == "kernels"


def test_an_intact_release_and_a_changed_one(packed: Callable[..., Release]) -> None:
    """0 and 1; the answer is one document in both cases, and the message is on stderr."""
    release = packed().path
    good = accel("verify", str(release), "--json", cwd=release.parent)
    assert (good.returncode, document(good.stdout, "verify")["intact"]) == (0, True)
    (release / "model.onnx").write_bytes(b"x")
    bad = accel("verify", str(release), "--json", cwd=release.parent)
    ended(bad, 1, "differs from what was packed")
    data = document(bad.stdout, "verify")
    assert data["intact"] is False
    assert any("model.onnx" in line for line in data["differences"])


def test_outputs_that_are_grossly_wrong_end_with_6(files: Path) -> None:
    """Another model's outputs fail the check, and are told in one document."""
    found = accel("check", "good.onnx", "--against", "other.onnx", "--json", cwd=files)
    assert document(found.stdout, "check")["gross"] is True
    ended(found, 6, "accel: ")


@pytest.mark.alone
def test_an_arm_that_breaks_ends_a_bench_with_6(files: Path) -> None:
    """The arm that runs has its times, the other its reason; a script sees that one broke."""
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 8]) for n in "xy"]
    shaped = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "broken",
        shapes[:1],
        shapes[1:],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [7, 3])],
    )
    made = helper.make_model(shaped, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, files / "broken.onnx")
    words = ["bench", "good.onnx", "broken.onnx", "--epochs", "1", "--json"]
    found = accel(*words, cwd=files)
    ended(found, 6, "broken.onnx")
    (files / "broken.onnx").unlink()
    good, broken = document(found.stdout, "bench")
    assert (good["reason"], good["groups"].keys()) == ("", {"random"})
    assert "reshape" in broken["reason"].lower()


@pytest.mark.alone
def test_bench_tells_tails_ratios_and_keeps_samples_when_asked(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model beside itself: two arms, p99 from 1000 calls on, ratio 1 of the first to itself."""
    monkeypatch.chdir(files)
    words = ["bench", "good.onnx", "good.onnx", "--epochs", "1", "--out", str(tmp_path / "kept")]
    found = invoke(*words, "--json", "--quiet")
    first, second = document(found.stdout, "bench")
    assert (first["arm"], second["arm"]) == ("good.onnx", "good.onnx (2)")
    group = first["groups"]["random"]
    assert (group["ratio"]["point"], first["ratio"]["point"]) == (1.0, 1.0)
    with np.load(second["samples"]) as columns:
        calls = columns["seconds"]
    own = second["groups"]["random"]
    assert own["p50_s"] == pytest.approx(float(np.median(calls)))
    assert (own["p99_s"] is not None) == (len(calls) >= 1000)
    assert len(found.stderr.splitlines()) == 3  # a head and a line an arm


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_a_missing_library_ends_with_7_and_the_line_that_installs_it(
    files: Path, tmp_path: Path, library: str
) -> None:
    """The extra is named as pip wants it."""
    (tmp_path / f"{library}.py").write_text(
        f"raise ModuleNotFoundError('absent', name={library!r})\n"
    )
    engine = {"onnxruntime": "onnxruntime_cpu", "openvino": "openvino"}[library]
    extra = {"onnxruntime": "cpu", "openvino": "openvino"}[library]
    words = ["build", "good.onnx", "--engine", engine, "--json"]
    found = accel(*words, cwd=files, path=tmp_path)
    ended(found, 7, f"pip install 'accel-inference[{extra}]'")
    assert document(found.stdout, "error")["exit_code"] == 7


@pytest.mark.parametrize("where", ["file", "sys"])
@pytest.mark.parametrize(
    "words",
    [
        ["quantize", "good.onnx", "--recipe", "fp32", "--out"],
        ["build", "good.onnx", "--out"],
        ["bench", "good.onnx", "--epochs", "1", "--out"],
    ],
    ids=lambda words: words[0],
)
def test_a_place_that_cannot_be_written_is_named(files: Path, words: list[str], where: str) -> None:
    """A folder below a file is a wrong word (2); where nobody may write is the machine's (7)."""
    place, code = {"file": (files / "good.onnx", 2), "sys": (Path("/sys/nothing"), 7)}[where]
    found = accel(*words, str(place / "plan"), cwd=files)
    ended(found, code, str(place))


def test_a_plan_may_lie_where_one_stands(files: Path, tmp_path: Path) -> None:
    """--out . is a folder as any, its log beside it, and again; the topmost has no such place."""
    folder = tmp_path / "deep"
    folder.mkdir()
    for _ in range(2):
        made = accel("build", str(files / "good.onnx"), "--out", ".", cwd=folder)
        assert made.returncode == 0, made.stderr
        assert (folder / "model.onnx").is_file()
        assert (tmp_path / "deep.log").is_file()
    ended(accel("build", str(files / "good.onnx"), "--out", "..", cwd=folder), 2, "is not empty")
    ended(accel("build", "good.onnx", "--out", "/", cwd=files), 2, "a folder of its own, not /")


def test_our_own_bug_ends_with_70(tmp_path: Path) -> None:
    """An exception of no class of ours says that it is a bug, in one line and one document."""
    code = (
        "import click\nfrom accel.shell import run\n"
        "@click.command()\n@click.option('--json', is_flag=True)\n"
        "def broken(json): raise KeyError('lost')\nrun(broken)\n"
    )
    (tmp_path / "broken_tool.py").write_text(code)
    found = accel("--json", cwd=tmp_path, path=tmp_path, module="broken_tool")
    ended(found, 70, "This is a bug in accel: KeyError: 'lost'. See it with --debug.")
    assert document(found.stdout, "error")["exit_code"] == 70


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, how: signal.Signals, code: int, said: str
) -> None:
    """Ctrl-C and SIGTERM end with their code, one document, and what is kept."""
    (tmp_path / "sleeper.py").write_text(
        "import pathlib, time\ndef model(): pass\npathlib.Path('started').touch()\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-m", "accel", "optimize", "sleeper.py", "--json"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    running = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(1000):
        if (tmp_path / "started").exists() or running.poll() is not None:
            break
        time.sleep(0.02)
    running.send_signal(how)
    stdout, stderr = running.communicate(timeout=30)
    ended(subprocess.CompletedProcess(command, running.returncode, stdout, stderr), code, said)
    assert document(stdout, "error")["exit_code"] == code


def test_both_take_the_words_of_optimize() -> None:
    """The second console script has help, and the options of the first verb."""
    found = CliRunner().invoke(both, ["--help"])
    assert found.exit_code == 0
    assert {p.name for p in both.params} == {p.name for p in cli.commands["optimize"].params}


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("as_json", [True, False])
def test_optimize_and_benchmark_is_one_answer(
    digits_run: SimpleNamespace, tmp_path: Path, as_json: bool
) -> None:
    """One document with the release and its times beside fp32, or one table of the same."""
    (tmp_path / "accel_both.py").write_text(
        "from accel.cli import optimize_and_benchmark\noptimize_and_benchmark()\n"
    )
    words = [*digits_run.words, "--out", str(tmp_path / "release"), "--quiet"]
    words += ["--json"] if as_json else []
    found = accel(*words, cwd=digits_run.folder, path=tmp_path, module="accel_both")
    assert found.returncode == 0, found.stderr
    table = (found.stderr if as_json else found.stdout).splitlines()
    assert sum(line.startswith("arm ") for line in table) == 1
    assert len([line for line in table if line.startswith("release  ")]) == 2
    if not as_json:
        assert found.stderr == ""
        return
    data = document(found.stdout, "optimize-and-benchmark")
    assert data["release"]["certificate"]["grade"] in ("certified", "consistent")
    base, release = data["bench"]
    assert base["arm"] == data["release"]["baselines"][-1]["name"]
    assert release["arm"] == "release"
    for arm in (base, release):
        assert arm["groups"].keys() == {"single", "batch 16"}
        for group in arm["groups"].values():
            assert group["p50_s"] > 0
            assert group["p99_s"] is None or group["p99_s"] >= group["p50_s"]
            assert group["ratio"].keys() == {"point", "low", "high"}
    assert base["ratio"]["point"] == 1.0


@pytest.mark.alone
@pytest.mark.slow
def test_quiet_says_nothing_but_the_answer(tmp_path: Path, files: Path) -> None:
    """Progress goes to stderr, and --quiet leaves it out."""
    words = ["optimize", str(files / "good.onnx"), "--engine", "onnxruntime_cpu"]
    words += ["--recipe", "fp32", "--objective", "size", "--out", "plain"]
    told = accel(*words, cwd=tmp_path)
    quiet = accel(*words, "--quiet", cwd=tmp_path)
    assert (told.returncode, quiet.returncode) == (0, 0), told.stderr + quiet.stderr
    assert "phase: " in told.stderr
    assert quiet.stderr == ""
    assert "winner: " in quiet.stdout


@pytest.mark.parametrize(
    "words", [("list", "targets"), ("list", "targets", "--json"), ("inspect", "none.onnx")]
)
def test_a_reader_that_has_gone_is_no_failed_gate(words: tuple[str, ...], tmp_path: Path) -> None:
    """141, as SIGPIPE ends other commands, and not a word more."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "accel", *words]
    gone = {"stdout": write, "stderr": subprocess.PIPE} if words[0] == "list" else {"stderr": write}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, **gone
    )
    os.close(write)
    assert done.returncode == 141
    assert not (done.stderr or b"").strip()


@pytest.mark.parametrize("full", [("stdout",), ("stderr",), ("stdout", "stderr")], ids="+".join)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("list", "engines", "--json"), 7),
        (("inspect", "none.onnx", "--json"), 2),
        (("inspect", "none.onnx", "--debug"), 2),
        (("--help",), 7),
    ],
    ids=lambda one: one[0] if isinstance(one, tuple) else "",
)
def test_an_answer_that_finds_no_room_is_no_failed_gate(
    words: tuple[str, ...], code: int, full: tuple[str, ...], tmp_path: Path
) -> None:
    """/dev/full refuses every byte: what was found out still has its own code, and no traceback
    stands where the other words can be read."""
    with Path("/dev/full").open("w") as device:
        places: dict[str, Any] = {
            **dict.fromkeys(("stdout", "stderr"), subprocess.PIPE),
            **dict.fromkeys(full, device),
        }
        done = subprocess.run(
            [sys.executable, "-m", "accel", *words], cwd=tmp_path, text=True, **places,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    answered = code == 7 and "stdout" not in full  # what goes to stderr beside it is not the answer
    assert done.returncode == (0 if answered else code)
    if "stderr" not in full and "--debug" not in words:
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("line", [["finish", "a\0b"], ["inspect", "x", "--for", "\0"]])
def test_a_nul_is_refused_whatever_command_it_is_given_to(line: list[str]) -> None:
    """No shell can give one, a caller in Python can: 2, not a bug's 70."""
    found = CliRunner().invoke(cli, line)
    assert found.exit_code == 2
    assert "holds a NUL" in found.output
