"""How much memory a child may take, and what it says of one that takes more."""

from __future__ import annotations

import dataclasses
import os
import resource
from pathlib import Path

import pytest

from accel.errors import CandidateBroken
from accel.measure import limits
from accel.measure.worker import Worker
from accel.values import Target

HERE = Target("box", "a small box", ("onnxruntime_cpu",), local=True)
GPU = dataclasses.replace(HERE, compute_capability="8.7", memory_bytes=1000)
TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("text", "bound"), [("max\n", TOTAL), ("1000000\n", 1_000_000), ("", TOTAL), (None, TOTAL)]
)
def test_a_containers_limit_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, bound: int
) -> None:
    """Where the kernel tells of one; a share of it is left for the run itself."""
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(limits, "CGROUP", tmp_path / "memory.max")
    assert limits.machine_bytes() == int(limits.SHARE * bound)


def test_a_target_has_its_own_and_never_more_than_there_is() -> None:
    """A GPU's memory says nothing of what a process may take."""
    small = dataclasses.replace(HERE, memory_bytes=1000)
    large = dataclasses.replace(HERE, memory_bytes=1 << 60)
    assert limits.target_bytes(small) == 1000
    for target in (HERE, large, GPU):
        assert limits.target_bytes(target) == limits.machine_bytes()


@pytest.mark.alone
def test_a_worker_that_took_too_much_is_told_with_its_log(tmp_path: Path) -> None:
    """What it used, what was allowed, whose memory that is; what the target has passes."""
    with Worker("arm", tmp_path / "log") as worker:
        limits.hold(worker, HERE)
        limits.require(worker, HERE)
        held = resource.prlimit(worker.pid, resource.RLIMIT_DATA)
        assert held == (limits.machine_bytes(), limits.machine_bytes())
        with pytest.raises(CandidateBroken, match=r"arm used \d+ MB; at most 1 MB .* 'box'") as one:
            limits.require(worker, dataclasses.replace(HERE, memory_bytes=1_000_000))
        assert str(tmp_path / "log") in str(one.value)


@pytest.mark.alone
def test_addresses_of_a_gpus_driver_are_not_held(tmp_path: Path) -> None:
    """It reserves far more of them than there is memory."""
    with Worker("arm", tmp_path / "log") as worker:
        limits.hold(worker, GPU)
        held = resource.prlimit(worker.pid, resource.RLIMIT_DATA)
        assert held == resource.getrlimit(resource.RLIMIT_DATA)
    limits.hold(worker, HERE)  # it is gone: nothing to hold
