"""accel calibrate and accel explain on the command line: answers, JSON, and every wrong way to ask."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from accel import arrays, sketch, testing
from accel.cli import cli
from accel.errors import UsageError
from accel.questions import explain as question
from accel.values import Model

DRAW = np.random.default_rng(4)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return testing.convnet(tmp_path / "m.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    ramp = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    feeds = [
        {"x": (DRAW.normal(size=(2, 3, 1, 1)) * ramp + 0.1).astype(np.float32)} for _ in range(40)
    ]
    arrays.save(tmp_path / "x.npz", feeds)
    return tmp_path / "x.npz"


def accel(*words: Any) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words], standalone_mode=False)


def test_calibrate_tells_ranges_and_keeps_sketches(
    model: Model, data: Path, tmp_path: Path
) -> None:
    """Each value with the range of each method; the file is read again."""
    done = accel("calibrate", model.path, "--data", data, "--out", tmp_path / "s.npz", "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)["data"]
    assert found["offered"] == 40
    assert found["feeds"] <= 40
    assert set(found["ranges"]["r0"]) == {"minmax", "percentile", "entropy", "mse"}
    assert set(sketch.read(tmp_path / "s.npz")) == set(found["ranges"])


def test_calibrate_says_how_much_was_needed(model: Model, data: Path, tmp_path: Path) -> None:
    """In words, and where the method matters most."""
    done = accel("calibrate", model.path, "--data", data, "--all", "--out", tmp_path / "s.npz")
    assert "40 of 40 feeds were run, then the data ended" in done.stdout
    assert "where the method matters most" in done.stdout


def test_calibrate_refuses_noise_and_zeros(model: Model, tmp_path: Path) -> None:
    """With what is wrong, and what to do."""
    noise = [{"x": DRAW.normal(size=(4, 3, 8, 8)).astype(np.float32)} for _ in range(10)]
    for feeds, word in (
        (noise, "random numbers"),
        ([{"x": np.zeros((1, 3, 8, 8), np.float32)}], "zeros"),
    ):
        arrays.save(tmp_path / "x.npz", feeds)
        done = accel(
            "calibrate", model.path, "--data", tmp_path / "x.npz", "--out", tmp_path / "s.npz"
        )
        assert word in str(done.exception)
        assert "calibration()" in str(done.exception)
    assert not (tmp_path / "s.npz").exists()


@pytest.mark.parametrize("words", [(), ("--data", "x.npz", "--workload", "w.py")])
def test_calibrate_wants_one_source(model: Model, words: tuple[str, ...]) -> None:
    """Neither none nor two."""
    assert "either as --data x.npz or as --workload" in str(
        accel("calibrate", model.path, *words).exception
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calibrate", "--all", "--most", 2), "leave one of them out"),
        (("calibrate", "--noise", "y"), "--noise y: no input has that name"),
        (("quantize", "--recipe", "int8_static", "--noise", "xx"), "Did you mean 'x'?"),
    ],
)
def test_words_that_would_do_nothing_are_refused(
    model: Model, data: Path, tmp_path: Path, words: tuple[Any, ...], said: str
) -> None:
    """A mistyped input would be audited as any other; two words contradict each other."""
    verb, *rest = words
    out = tmp_path / "out"
    done = accel(verb, model.path, "--data", data, "--out", out, *rest)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
    assert not out.exists()


def test_calibrate_leaves_its_sources_alone(model: Model, data: Path) -> None:
    """--out may not be what is read."""
    assert "is what is read" in str(
        accel("calibrate", model.path, "--data", data, "--out", model.path).exception
    )


def test_explain_names_a_planted_fault(model: Model, data: Path, tmp_path: Path) -> None:
    """Quantize, spoil one scale, ask."""
    made = tmp_path / "q.onnx"
    done = accel("quantize", model.path, "--recipe", "int8_mixed", "--data", data, "--out", made)
    assert done.exit_code == 0, done.exception
    proto = onnx.load(made)
    scale = next(t for t in proto.graph.initializer if t.name == "r0__scale")
    scale.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(scale) / np.float32(9), scale.name)
    )
    onnx.save(proto, made)
    told = accel("explain", made, "--against", model.path, "--data", data)
    assert told.exit_code == 0, told.exception
    assert "1. activation r0:" in told.stdout
    assert "clipped range" in told.stdout
    document = accel("explain", made, "--against", model.path, "--data", data, "--json")
    assert json.loads(document.stdout)["data"]["suspects"][0]["value"] == "r0"


def test_explain_wants_a_reference_and_feeds(model: Model, data: Path) -> None:
    """Told with the option that is missing."""
    assert "--against model.onnx" in str(accel("explain", model.path, "--data", data).exception)
    assert "--workload file.py, or --data" in str(
        accel("explain", model.path, "--against", model.path).exception
    )


def test_explain_of_an_unchanged_graph_says_so(model: Model, data: Path) -> None:
    """There is no part to take back."""
    told = accel("explain", model.path, "--against", model.path, "--data", data)
    assert "no part that differs" in str(told.exception)


@pytest.mark.parametrize("sampled", [True, False], ids=["samples", "calibration alone"])
def test_explain_holds_no_more_calibration_feeds_than_it_runs(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampled: bool
) -> None:
    """All of them go by, one at a time; without samples some of them, spread out, are run."""
    source = tmp_path / "w.py"
    source.write_text(
        "import numpy as np\ndef model():\n    pass\n"
        "def calibration():\n    return ({'x': np.float32([i])} for i in range(40))\n"
        + ("def samples(split):\n    return [({'x': np.float32([-1])}, 0)]\n" if sampled else "")
    )
    given: list[float] = []
    seen: list[Any] = []
    alive: list[int] = []

    def asked(_: Any, __: Any, feeds: Any, calibration: Any, ___: Any) -> Any:
        given.extend(float(feed["x"][0]) for feed in feeds)
        del feeds
        for feed in calibration:
            seen.append((float(feed["x"][0]), weakref.ref(feed["x"])))
            alive.append(sum(array() is not None for _, array in seen))
        raise UsageError("enough")

    monkeypatch.setattr(question, "explain", asked)
    accel("explain", model.path, "--against", model.path, "--workload", source, "--feeds", 4)
    assert given == ([-1] if sampled else [0, 10, 20, 30])
    assert [i for i, _ in seen] == [*range(40)]
    assert max(alive) < 4
