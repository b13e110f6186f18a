"""How much memory a child may take, and what it says of one that takes more."""

from __future__ import annotations

import dataclasses
import os
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from accel.errors import CandidateBroken
from accel.evidence import Subject
from accel.gating import copies
from accel.measure import cgroups, instrument, limits
from accel.measure.worker import Worker
from accel.values import Model, Plan, Target

HERE = Target("box", "a small box", ("onnxruntime_cpu",), local=True)
GPU = dataclasses.replace(HERE, compute_capability="8.7", memory_bytes=1000)
TOTAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


NONE, V1_NONE = "max\n", f"{(1 << 63) - 4096}\n"
# what the kernel says of this process's groups, the limits of these, the least
TREES: Mapping[str, tuple[str, Mapping[str, str], int]] = {
    "v2, its own": ("0::/a/b\n", {"a/b/memory.max": "1000\n", "a/memory.max": "2000\n"}, 1000),
    "v2, around it": ("0::/a/b\n", {"a/b/memory.max": NONE, "a/memory.max": "2000\n"}, 2000),
    "v2, not a neighbour's": ("0::/a/b\n", {"a/c/memory.max": "1000\n"}, TOTAL),
    "v2, the top": ("0::/\n", {"memory.max": "1000\n"}, 1000),
    "v2, the host's path": ("0::/system.slice/run-1\n", {"memory.max": "1000\n"}, 1000),
    "v2, outside": ("0::/../../elsewhere\n", {"memory.max": "1000\n"}, 1000),
    "v1": (
        "5:cpu,cpuacct:/a\n4:memory:/job/step\n1:name=systemd:/x:y\n0::/\n",
        {
            "memory/job/step/memory.limit_in_bytes": V1_NONE,
            "memory/job/memory.limit_in_bytes": "3000\n",
            "memory/memory.limit_in_bytes": V1_NONE,
        },
        3000,
    ),
    "v1, the host's path": ("4:memory:/docker/1\n", {"memory/memory.limit_in_bytes": "1000"}, 1000),
    "v1, unlimited": ("4:memory:/\n", {"memory/memory.limit_in_bytes": V1_NONE}, TOTAL),
    "v2, unlimited": ("0::/a\n", {"memory.max": NONE, "a/memory.max": NONE}, TOTAL),
    "a broken file": ("0::/\n", {"memory.max": ""}, TOTAL),
    "a kernel without them": ("", {}, TOTAL),
}
Lay = Callable[[str, Mapping[str, str]], None]


@pytest.fixture
def lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lay:
    """Groups as the kernel tells of them: lay(/proc/self/cgroup, {file below /sys/fs/cgroup: text})."""

    def written(told: str, files: Mapping[str, str]) -> None:
        for name, text in {"groups": told, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    monkeypatch.setattr(cgroups, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cgroups, "TOP", tmp_path)
    return written


@pytest.mark.parametrize("what", TREES)
def test_a_containers_limit_is_the_machines(lay: Lay, what: str) -> None:
    """The smallest of all groups around this process; a share of it is left for the run itself."""
    told, files, least = TREES[what]
    lay(told, files)
    assert limits.machine_bytes() == int(limits.SHARE * least)


@pytest.fixture
def vast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a terabyte free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 40))


@pytest.mark.usefixtures("vast")
def test_what_is_free_in_a_container_counts_no_cached_files(lay: Lay) -> None:
    """The kernel takes those back; and a group around it may have less left than its own."""
    inner = {"memory.max": "9000", "memory.current": "5000", "memory.stat": "inactive_file 1000\nactive_file 500\nfile 1700\n"}  # fmt: skip
    lay("0::/a\n", {f"a/{name}": text for name, text in inner.items()})
    assert limits.free_bytes() == 5500
    lay("0::/a\n", {"memory.max": "10000", "memory.current": "6000"})
    assert limits.free_bytes() == 4000
    stat = "inactive_file 1\ntotal_inactive_file 200\ntotal_active_file 100\n"
    files = {"memory.limit_in_bytes": "2000", "memory.usage_in_bytes": "1000", "memory.stat": stat}
    lay("4:memory:/\n", {f"memory/{name}": text for name, text in files.items()})
    (Path(cgroups.TOP) / "memory.max").unlink()
    assert limits.free_bytes() == 1300


@pytest.mark.usefixtures("vast")
@pytest.mark.parametrize(("limit", "fit"), [("400000000", False), ("2000000000", True), (NONE, True)])  # fmt: skip
def test_arms_are_loaded_at_once_where_the_container_has_room(
    lay: Lay, limit: str, fit: bool
) -> None:
    """In a final and in a gate; what the host has free is another matter."""
    lay("0::/a\n", {"a/memory.max": limit, "a/memory.current": "1000"})
    plan = Plan("e", Model(Path("m.onnx"), "d", (), ()), Path("m.onnx"))
    assert instrument._fit_together([instrument.Arm(n, plan) for n in "ab"], None) == fit
    assert copies.fit_together([Subject(n, Path(), "d") for n in "ab"]) == fit


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
