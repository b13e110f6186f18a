"""The heat: who goes to the final is decided by rounds that all contenders shared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from accel import heats
from accel.job import Job
from accel.values import Candidate, Measurement, Model, Plan, Refusal


def _contender(name: str, screen_s: float) -> Candidate:
    plan = Plan("openvino", Model(Path("m.onnx"), "d", (), ()), Path(name))
    return Candidate(name, "onnx", "fp32", "openvino", status="built", plan=plan, screen_s=screen_s)


def _measured(folder: Path, name: str, seconds: Any) -> Measurement:
    """A call a round: the machine may change its speed between them."""
    path, rounds = folder / f"{name}.npz", np.arange(len(seconds))
    np.savez(path, request=rounds * 0, epoch=rounds * 0, round=rounds, seconds=seconds)
    return Measurement(name, path, ("all",), (1.0,), 0.1, 0.01, 1, 1, 0)


def test_the_shared_rounds_outweigh_an_unlucky_screening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was screened in a slow minute comes out ahead where its rounds were quicker."""
    speed = np.asarray([1.0, 1.0, 1.5, 1.5, 1.5, 1.0])
    fake = {
        "lucky": _measured(tmp_path, "lucky", 1.1 * speed),
        "unlucky": _measured(tmp_path, "unlucky", 1.0 * speed),
        "dead": Refusal("dead", "it crashed"),
    }
    monkeypatch.setattr(heats, "timed", lambda *_, **__: fake)
    given = [_contender("lucky", 1.0), _contender("unlucky", 1.4), _contender("dead", 1.2)]
    found = heats.heat(cast("Job", None), given, lambda _: None)
    assert found["unlucky"].screen_s == pytest.approx(1.0)
    assert found["lucky"].screen_s == pytest.approx(1.1)
    assert (found["dead"].status, found["dead"].reason) == ("failed", "it crashed")


def test_all_dead_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heat that nobody survives loses all of its candidates, each with its reason."""
    fake = {"a": Refusal("a", "hung"), "b": Refusal("b", "crashed")}
    monkeypatch.setattr(heats, "timed", lambda *_, **__: fake)
    rows = [_contender("a", 1.0), dataclasses.replace(_contender("b", 1.0))]
    found = heats.heat(cast("Job", None), rows, lambda _: None)
    assert {c.status for c in found.values()} == {"failed"}
    assert found["b"].reason == "crashed"
