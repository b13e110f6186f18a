"""Arms on a device with memory of its own: what is asked, told and named; no device is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accel.engines._tensorrt_memory import Memory
from accel.errors import CandidateBroken, EnvironmentProblem, MissingExtra, NoBaseline
from accel.evidence import BASELINE, CANDIDATE, Subject
from accel.gating import devices, sampler
from accel.gating.readings import Taken
from accel.gating.sampler import _Live
from accel.measure import child
from accel.steps import _circumstances as circumstances
from accel.values import Model, Options, Placed, Placement, Plan

MODEL = Model(Path("m.onnx"), "digest", (), ())
FULL = "CUDA_ERROR_OUT_OF_MEMORY: out of memory"


def plan(device: str = "CPU", facts: Options | None = None) -> Plan:
    placement = Placement((Placed("MatMul", 3, device, "a kernel"),)) if device else None
    return Plan("some_engine", MODEL, MODEL.path, facts=facts or {}, placement=placement)


def subject(made: Plan | None, size_bytes: int = 100) -> Subject:
    return Subject("s", MODEL.path, "d", made, (), size_bytes)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[str]]:
    """asked(answer): a fake driver that tells these bytes to be free, or fails so; its calls."""

    def answers(answer: Any) -> list[str]:
        calls: list[str] = []

        def call(function: str, *_: Any, **__: Any) -> Memory:
            calls.append(function)
            if isinstance(answer, Exception):
                raise answer
            return Memory(answer, False)

        monkeypatch.setattr(child, "call", call)
        return calls

    return answers


@pytest.mark.parametrize(
    ("device", "facts", "wanted"),
    [
        ("CPU", {}, False),
        ("", {}, False),
        ("", {"device": "cpu"}, False),  # torch_inductor's
        ("", {"device": "cuda"}, True),
        ("", {"gpu": "NVIDIA H200"}, True),  # whose placement cannot be read
        ("GPU", {}, True),
        ("DLA", {}, True),
    ],
)
def test_a_plan_on_a_device_is_known_by_what_was_read_back(
    device: str, facts: Options, wanted: bool
) -> None:
    """Where its nodes run, or what the engine says that it uses."""
    assert devices.on_device(plan(device, facts)) is wanted


def test_a_subject_without_a_plan_is_on_no_device() -> None:
    """One that could not be read."""
    assert not devices.on_device(None)


def test_arms_that_fill_a_device_together_do_not_fit(
    asked: Callable[[Any], list[str]], tmp_path: Path
) -> None:
    """Twice their files against four fifths of what is free; those on the host count for nothing."""
    team = [subject(plan("GPU")), subject(plan("GPU")), subject(plan(), 10**12)]
    for free_bytes, wanted in ((501, True), (500, False)):
        asked(free_bytes)
        assert devices.fit(team, tmp_path / "device.log") is wanted


def test_a_driver_that_tells_nothing_decides_nothing(
    asked: Callable[[Any], list[str]], tmp_path: Path
) -> None:
    """The arms are tried; what is the machine's trouble is not passed over."""
    team = [subject(plan("GPU"), 10**12)]
    for error in (MissingExtra("no cuda.bindings"), CandidateBroken("no GPU")):
        asked(error)
        assert devices.fit(team, tmp_path / "device.log")
    asked(EnvironmentProblem("the disk is full"))
    with pytest.raises(EnvironmentProblem):
        devices.fit(team, tmp_path / "device.log")


def test_without_a_device_no_driver_is_asked(
    asked: Callable[[Any], list[str]], tmp_path: Path
) -> None:
    """A gate on a CPU pays nothing."""
    calls = asked(0)
    assert devices.fit([subject(plan(), 10**12)], tmp_path / "device.log")
    assert calls == []


@pytest.mark.parametrize(
    "said",
    [
        FULL,
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "bfc_arena.cc: Failed to allocate memory for requested buffer of size 4096",
    ],
)
def test_a_full_device_is_named(said: str) -> None:
    """With how many arms were on it; what the runtime said stays, on the host it is all there is."""
    told = devices.named(said, [plan("GPU"), plan("GPU"), plan()])
    assert told.startswith(f"out of memory on the device: 2 arms were loaded together. {said}")
    assert "nvidia-smi" in told
    assert "loaded alone" in devices.named(said, [plan("GPU")])
    assert devices.named(said, [plan()]) == said
    assert devices.named("another trouble", [plan("GPU")]) == "another trouble"


@pytest.mark.parametrize(("arm", "kind"), [(BASELINE, NoBaseline), (CANDIDATE, CandidateBroken)])
def test_the_arm_that_found_no_room_says_so(arm: str, kind: type[Exception]) -> None:
    """Whose fault it is stays as it was."""
    nobody: Any = None
    live = [_Live(name, plan("GPU"), nobody, Taken()) for name in (BASELINE, CANDIDATE)]
    with pytest.raises(kind, match="the device: 2 arms were"), sampler._blamed(arm, live):
        raise CandidateBroken(FULL)


def test_a_verdict_on_a_device_tells_whose_memory_was_gated() -> None:
    """The host's alone; on the host there is nothing to add."""
    for device, wanted in (("GPU", True), ("CPU", False)):
        told = circumstances.notes(subject(plan(device)), subject(plan()))
        assert (devices.NOTE in told) is wanted
