"""Slow creep: Otava is asked in its own words, and what it answers is told to people."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from accel.cli import cli
from accel.errors import EnvironmentProblem, MissingExtra
from accel.gating import creep, history
from accel.gating.history import Entry, Series

# Recorded of apache-otava 0.8.0, `analyze a b --output json`: a line a series.
POINT = {
    "time": 978308400, "attributes": {}, "changes": [{
        "metric": "ratio", "index": 20, "time": 978308400, "forward_change_percent": "2",
        "magnitude": "0.021677", "mean_before": "1.000090", "stddev_before": "0.007647",
        "mean_after": "1.021769", "stddev_after": "0.005283", "pvalue": "0.000000",
    }],
}  # fmt: skip
FAKE = """#!{python}
# A fake of Otava: it keeps what it was asked, and answers what stands in answer.txt beside it.
import json, os, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
config = pathlib.Path(sys.argv[sys.argv.index("--config-file") + 1])
tests = json.loads(config.read_text())["tests"]
asked = here / f"asked-{{len(list(here.glob('asked-*')))}}.json"
files = {{name: pathlib.Path(test["file"]).read_text() for name, test in tests.items()}}
asked.write_text(json.dumps({{"words": sys.argv[1:], "tests": tests, "files": files,
                              "environ": dict(os.environ)}}))
sys.stdout.write((here / "answer.txt").read_text())
sys.stderr.write("ERROR: as Otava says it\\n")
"""


def made(name: str, logs: list[float], limit: float | None = None, metric: str = "p50") -> Series:
    """A series with an entry a day."""
    entries = tuple(
        Entry(
            f"2026-{1 + i // 28:02d}-{1 + i % 28:02d}T08:00:00+00:00", "class-a", name, metric, log,
            log, 9, "pass", f"c{i}", "b", "b", f"{name}-{metric}-{i}", f"commit-{i}", limit,
        )
        for i, log in enumerate(logs)
    )  # fmt: skip
    return history.joined(entries)


def noise(count: int, seed: int, sigma: float = 0.005) -> list[float]:
    draw = random.Random(seed)
    return [draw.gauss(0, sigma) for _ in range(count)]


def stepped(count: int, at: int, step: float, seed: int = 0) -> list[float]:
    return [log + (step if i >= at else 0) for i, log in enumerate(noise(count, seed))]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """Puts a fake Otava in place: fake(answer) -> its folder, where it keeps what it was asked."""

    def put(answer: Any) -> Path:
        folder = tmp_path / "fake-otava"
        folder.mkdir(exist_ok=True)
        program = folder / "otava"
        program.write_text(FAKE.format(python=sys.executable))
        program.chmod(0o755)
        text = answer if isinstance(answer, str) else "".join(json.dumps({k: v}) + "\n" for k, v in answer.items())  # fmt: skip
        (folder / "answer.txt").write_text(text)
        monkeypatch.setenv("ACCEL_OTAVA", str(program))
        return folder

    return put


def real() -> None:
    """Skip where Apache Otava itself is not installed."""
    try:
        command = creep.program(os.environ)
    except MissingExtra as error:
        command = []
        why = str(error)
    else:
        why = "only uvx could fetch it, and tests fetch nothing"
    if len(command) != 1:
        pytest.skip(f"no Apache Otava ({why}); the fake beside answers in its recorded words")


def test_otava_finds_a_step_and_nothing_in_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real program: three steps of 2 %, told with gate and commit, and four quiet series."""
    real()
    monkeypatch.setenv("BRANCH", "main")  # as CI systems set it: Otava reads it
    steps = [made(f"step-{i}", stepped(40, 25, 0.02, seed=i)) for i in range(3)]
    quiet = [made(f"quiet-{i}", noise(40, seed=10 + i), limit=0.03) for i in range(4)]
    found = creep.find([*steps, *quiet])
    assert found.looked_at == 7
    assert {s.name for s in found.shifts} == {"step-0", "step-1", "step-2"}
    for shift in found.shifts:
        assert shift.change == pytest.approx(0.02, abs=0.005)
        assert shift.commit in {f"commit-{i}" for i in range(23, 28)}


def test_otava_tells_no_step_of_which_too_little_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three points after a change are not four; a step below the smallest is not told either."""
    real()
    big, late = stepped(40, 20, 0.10), stepped(40, 37, 0.10)
    assert [s.gates for s in creep.find([made("big", big)]).shifts] == [20]
    assert creep.find([made("late", late)]).shifts == ()
    small = stepped(60, 30, 0.012)
    assert creep.find([made("small", small, limit=0.01)]).shifts != ()
    assert creep.find([made("small", small, limit=0.05)]).shifts == ()


def test_it_is_asked_in_its_own_words(fake: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Window, p and size; ratios a minute apart; nothing of our interpreter, or of a CI's BRANCH."""
    folder = fake({"series-0": []})
    for name in creep.KEPT_FROM_IT:
        monkeypatch.setenv(name, "x")
    assert creep.find([made("minilm", [0.0, 0.01] * 4, limit=0.05)]).shifts == ()
    asked = json.loads((folder / "asked-0.json").read_text())
    words = asked["words"]
    assert words[:2] == ["analyze", "series-0"]
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    del pairs["--config-file"]
    assert pairs == {
        "--output": "json", "--since": "2000-01-01", "--window": "50", "-P": "0.001", "-M": "0.025",
    }  # fmt: skip
    rows = [row.split(",") for row in asked["files"]["series-0"].splitlines()]
    assert rows[0] == ["time", "ratio"]
    assert [float(r[1]) for r in rows[1:3]] == pytest.approx([1.0, 1.01005], abs=1e-5)
    assert [r[0] for r in rows[1:3]] == ["2001-01-01T00:00:00+00:00", "2001-01-01T00:01:00+00:00"]
    assert asked["tests"]["series-0"]["metrics"] == {"ratio": {"column": "ratio", "direction": -1}}
    assert not set(creep.KEPT_FROM_IT) & asked["environ"].keys()


def test_each_smallest_size_is_asked_for_apart(fake: Callable[[Any], Path]) -> None:
    """Half the budget, 1 % at least; series of one size are asked for together."""
    folder = fake({"series-0": [], "series-1": []})
    limits = {"a": 0.05, "b": None, "c": 0.01, "d": 0.05}
    creep.find([made(name, [0.0] * 8, limit) for name, limit in limits.items()])
    asked = [json.loads(p.read_text()) for p in sorted(folder.glob("asked-*"))]
    sizes = {a["words"][a["words"].index("-M") + 1]: len(a["tests"]) for a in asked}
    assert sizes == {"0.025": 2, "0.01": 2}


def test_a_change_is_told_with_its_gate(fake: Callable[[Any], Path]) -> None:
    """Where it began, how large it is, where the series stands now; the rounded share is not used."""
    fake({"series-0": [POINT]})
    (shift,) = creep.find([made("minilm", [0.0] * 40)]).shifts
    assert (shift.name, shift.metric, shift.commit, shift.gates) == ("minilm", "p50", "commit-20", 20)  # fmt: skip
    assert shift.change == pytest.approx(1.021769 / 1.00009 - 1)
    assert creep.line(dataclasses.replace(shift, change=0.018)) == (
        "p50 of minilm crept +1.8 % since 2026-01-21 (commit commit-20), in 20 gates; now +2.2 % "
        "against the last release"
    )
    better = creep.line(dataclasses.replace(shift, change=-0.018, commit=""))
    assert "improved -1.8 % since 2026-01-21, in" in better


@pytest.mark.parametrize(("count", "told"), [(24, 1), (23, 0)])
def test_four_gates_after_a_change_are_needed(
    fake: Callable[[Any], Path], count: int, told: int
) -> None:
    """The change is at index 20."""
    fake({"series-0": [POINT]})
    assert len(creep.find([made("minilm", [0.0] * count)]).shifts) == told


def test_a_series_that_is_too_short_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where none is long enough, Otava is not needed at all."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("ACCEL_OTAVA", raising=False)
    found = creep.find([made("minilm", [0.0] * 7)])
    assert (found.shifts, found.looked_at) == ((), 0)
    assert found.short == ("p50 of minilm (class-a): 7 of 8 gates",)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "did not answer for 1 of 1 series; it said: ERROR: as Otava says it"),
        ("no json", "cannot be run"),
        ("[]\n", "cannot be run"),
        ({"series-0": [{"chnges": []}]}, "words that are not known: KeyError 'changes'"),
        ({"series-0": [{"changes": [{**POINT["changes"][0], "index": -1}]}]}, "IndexError"),  # type: ignore[index]
        ({"series-0": [{"changes": [{**POINT["changes"][0], "mean_before": "0"}]}]}, "ZeroDivision"),  # type: ignore[index]
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_said_plainly(
    fake: Callable[[Any], Path], answer: Any, said: str
) -> None:
    """Otava ends with 0 even where it read nothing: silence is not "no creep"."""
    fake(answer)
    with pytest.raises(EnvironmentProblem) as error:
        creep.find([made("minilm", [0.0] * 40)])
    assert said in str(error.value)


def test_where_otava_is_looked_for(tmp_path: Path) -> None:
    """ACCEL_OTAVA, then the PATH, then uvx; else the lines that install it apart from us."""
    for name in ("otava", "uvx", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": str(tmp_path)}
    mine = str(tmp_path / "mine")
    assert creep.program({**path, "ACCEL_OTAVA": mine}) == [mine]
    assert creep.program(path) == [str(tmp_path / "otava")]
    (tmp_path / "otava").unlink()
    assert creep.program(path) == [str(tmp_path / "uvx"), "--from", creep.PACKAGE, "otava"]
    (tmp_path / "uvx").unlink()
    for environ in (path, {}, {**path, "ACCEL_OTAVA": str(tmp_path / "gone")}):
        with pytest.raises(MissingExtra, match=r"pip install 'apache-otava>=0\.8,<0\.9'"):
            creep.program(environ)


def test_the_command_tells_and_never_fails_a_build(
    fake: Callable[[Any], Path], tmp_path: Path
) -> None:
    """Creep, none, or too little to tell: exit 0, a line each, and one document with --json."""
    fake({"series-0": [POINT]})
    path = tmp_path / history.FILE
    history.append(path, made("minilm", [0.0] * 40).entries)
    history.append(path, made("resnet", [0.0] * 3).entries)
    found = CliRunner().invoke(cli, ["creep", "--history", str(path)])
    assert found.exit_code == 0
    assert "p50 of minilm crept +2.2 % since 2026-01-21" in found.stdout
    assert "note: too short to tell: p50 of resnet (class-a): 3 of 8 gates" in found.stdout
    found = CliRunner().invoke(cli, ["creep", "resnet", "--history", str(path), "--json"])
    assert found.exit_code == 0
    data = json.loads(found.stdout)
    assert data["schema"] == "accel/creep"
    assert (data["data"]["shifts"], data["data"]["looked_at"]) == ([], 0)
    assert "no creep found in 0 series" in found.stderr
