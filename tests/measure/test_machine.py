"""The machine: which cores count, what is remembered of it, and who else is on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accel.measure import cgroups, child, here, load, machine, process


def test_every_process_sees_the_same_machine(tmp_path: Path) -> None:
    """Fingerprint and class are the same in another process, and hold no host's name."""
    found = machine.fingerprint()
    words = {"log": tmp_path / "log", "timeout_s": 60.0}
    there = child.call("accel.measure.machine:fingerprint", {}, dict, **words)
    assert there == found
    assert machine.machine_class(there) == machine.machine_class(found)
    assert os.uname().nodename not in found.values()


def test_a_fingerprint_holds_what_a_latency_depends_on() -> None:
    """Processor, instruction set, cores, memory, frequency policy, kernel and Python."""
    found = machine.fingerprint()
    assert found.keys() >= {
        "architecture", "cpu", "cpu_name", "isa", "cores", "smt", "hypervisor", "governor",
        "no_turbo", "memory_bytes", "kernel", "python", "gpus", "gpu_driver",
    }  # fmt: skip
    assert found["cores"] == machine.cores() >= 1
    assert found["memory_bytes"] > 1 << 28
    assert found["isa"] == sorted(set(found["isa"]))


@pytest.mark.parametrize("key", machine.CLASS_KEYS)
def test_another_machine_is_another_class(key: str) -> None:
    """Each part of the class changes it."""
    found = machine.fingerprint()
    assert machine.machine_class({**found, key: "other"}) != machine.machine_class(found)


def test_a_gpu_is_part_of_the_class_and_its_absence_is_not() -> None:
    """Another GPU is another class; without one, the class is what it was before GPUs counted."""
    bare = {**machine.fingerprint(), "gpus": []}
    before = {key: value for key, value in bare.items() if key != "gpus"}
    one, other = ({**bare, "gpus": [name]} for name in ("NVIDIA H200 9.0", "Tesla T4 7.5"))
    assert machine.machine_class(bare) == machine.machine_class(before)
    assert len({machine.machine_class(seen) for seen in (bare, one, other)}) == 3


def test_the_gpus_are_those_that_the_driver_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its compute capability, and the newest CUDA that the driver runs."""
    seen = here.Gpu("NVIDIA H200", "9.0", 150109880320, 132, "13.0")
    monkeypatch.setattr(here, "gpus", lambda: (seen, seen))
    found = machine.fingerprint()
    assert (found["gpus"], found["gpu_driver"]) == (["NVIDIA H200 9.0"] * 2, "13.0")


X86 = {"vendor_id": "GenuineIntel", "cpu family": "6", "model": "143", "stepping": "8"}
ORIN = {"CPU implementer": "0x41", "CPU variant": "0x0", "CPU part": "0xd42", "CPU revision": "1"}


@pytest.mark.parametrize("key", ORIN)
def test_another_arm_processor_is_another_class(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """/proc/cpuinfo of aarch64 has no vendor and no model: its own four numbers tell them apart."""
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    classes = set()
    for info in (ORIN, ORIN | {key: "0x7"}):
        monkeypatch.setattr(machine, "_cpuinfo", lambda info=info: info)
        classes.add(machine.machine_class(machine.fingerprint()))
    assert len(classes) == 2


def test_jetsons_of_one_name_are_told_by_their_multiprocessors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An Orin Nano and an Orin AGX are both "Orin", of one compute capability."""
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    classes = set()
    for count in (8, 16):
        seen = (here.Gpu("Orin", "8.7", 1 << 33, count, "12.6"),)
        monkeypatch.setattr(here, "gpus", lambda seen=seen: seen)
        classes.add(machine.machine_class(machine.fingerprint()))
    assert len(classes) == 2


def test_the_class_of_an_x86_machine_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are stored under it stay comparable."""
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_cpuinfo", lambda: X86 | {"flags": "avx2 hypervisor"})
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "_read", lambda _: "0")
    seen = (here.Gpu("Tesla T4", "7.5", 1 << 34, 40, "12.6"),)
    monkeypatch.setattr(here, "gpus", lambda: seen)
    found = machine.fingerprint()
    assert (found["cpu"], found["gpus"]) == ("GenuineIntel 6 143 8", ["Tesla T4 7.5"])
    assert machine.machine_class(found) == "52af3ba6d5a6"


@pytest.mark.parametrize("key", ["kernel", "python", "memory_bytes", "governor", "gpu_driver"])
def test_what_an_upgrade_changes_is_not_of_the_class(key: str) -> None:
    """A new kernel or Python leaves old times comparable in name; versions are kept apart."""
    found = machine.fingerprint()
    assert machine.machine_class({**found, key: "other"}) == machine.machine_class(found)


@pytest.mark.parametrize("name", ["tensorrt_cu12", "tensorrt_cu13"])
def test_tensorrt_is_found_by_each_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Without the package that is called tensorrt, too."""
    before = machine.versions()
    info = tmp_path / f"{name}-11.4.0.1.dist-info"
    info.mkdir()
    told = f"Metadata-Version: 2.1\nName: {name}\nVersion: 11.4.0.1\n"
    (info / "METADATA").write_text(told, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = machine.versions()
    assert "11.4.0.1" in found["tensorrt"].split(", ")
    assert {**found, "tensorrt": before["tensorrt"]} == before


def test_threads_follow_the_allowed_cores() -> None:
    """A process held to one core counts one, and gives its children one thread."""
    code = (
        "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n"
        "from accel.measure import child, machine\n"
        "print(machine.cores(), *(child.environment()[n] for n in child.THREADS))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1"] * (1 + len(child.THREADS))


QUOTAS = {  # what the kernel says of this process's groups, the quotas of these, cores of eight
    "none": ("0::/\n", {"cpu.max": "max 100000"}, 8),
    "whole": ("0::/\n", {"cpu.max": "400000 100000"}, 4),
    "rounded down": ("0::/\n", {"cpu.max": "250000 100000"}, 2),
    "one at least": ("0::/\n", {"cpu.max": "50000 100000"}, 1),
    "beyond the affinity": ("0::/\n", {"cpu.max": "6400000 100000"}, 8),
    "nonsense": ("0::/\n", {"cpu.max": "nonsense"}, 8),
    "no period": ("0::/\n", {"cpu.max": "100000 0"}, 8),
    "empty": ("0::/\n", {"cpu.max": ""}, 8),
    "its own": ("0::/job/step\n", {"job/step/cpu.max": "300000 100000"}, 3),
    "around it": ("0::/job/step\n", {"job/step/cpu.max": "max 100000", "job/cpu.max": "200000 100000"}, 2),
    "v1, none": ("", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    "v1": ("", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    "v1, its own": (
        "3:cpu,cpuacct:/job\n",
        {"cpu/job/cpu.cfs_quota_us": "500000", "cpu/job/cpu.cfs_period_us": "100000"},
        5,
    ),
    "a kernel without them": ("", {}, 8),
}  # fmt: skip


@pytest.mark.parametrize("what", QUOTAS)
def test_a_quota_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """That of a container, a batch job or a unit, and of any around it; unreadable means none."""
    told, files, expected = QUOTAS[what]
    for name, text in {"groups": told, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cgroups, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cgroups, "TOP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert machine.cores() == expected


def test_foreign_load_is_what_our_processes_did_not_use() -> None:
    """Of 1.5 busy core-seconds in 1 s, 0.9 were ours: others held 0.6 cores; never below none."""
    before, after = load.Moment(0.0, 10.0), load.Moment(1.0, 11.5)
    assert load.foreign_cores(before, after, 0.9) == pytest.approx(0.6)
    assert load.foreign_cores(before, after, 5.0) == 0.0


def test_others_may_fill_what_a_quota_leaves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores of eight: six that others keep busy cost us nothing, and the seventh does."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "_quotas", lambda: iter([2.0]))
    assert load.foreign_cores(load.Moment(0.0, 0.0), load.Moment(1.0, 8.0), 2.0) == 0.0
    assert load.foreign_cores(load.Moment(0.0, 0.0), load.Moment(1.0, 8.0), 1.0) == 1.0


def test_under_a_quota_no_plan_is_held_on_the_last_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every container of the host would be held on the same ones; without a quota it is."""
    held: list[list[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: held.append(list(cores)))
    monkeypatch.setattr(machine, "_quotas", lambda: iter([2.0]))
    process._pin(2)
    assert held == []
    monkeypatch.setattr(machine, "_quotas", lambda: iter([]))
    process._pin(2)
    assert held == [[6, 7]]


def test_short_blocks_are_allowed_the_ticks_own_error() -> None:
    """0.3 foreign cores disturb a second, and are within the error of 10 ticks on two cores."""
    assert load.disturbed(0.3, 1.0, 2)
    assert not load.disturbed(0.3, 10 * load.TICK_S, 2)
    assert not load.disturbed(load.LIMIT_CORES, 1.0, 2)


def test_only_the_cores_we_may_use_are_watched(tmp_path: Path) -> None:
    """Idle and waiting time do not count, steal does; other cores do not; no file, nobody seen."""
    stat = tmp_path / "stat"
    stat.write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 900 900 4 5 6 0 0\ncpu1 100 0 0 0 0 0 0 0 0 0\nintr 1\n"
    )
    assert load._busy_s(stat, {0}) == pytest.approx(21 * load.TICK_S)
    assert load._busy_s(stat, {0, 1}) == pytest.approx(121 * load.TICK_S)
    assert load._busy_s(tmp_path / "absent", {0}) == 0.0


@pytest.mark.alone
def test_a_burning_process_is_seen() -> None:
    """A loop beside us is foreign load; our own processor time is not."""
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before, used = load.now(), time.process_time()
        while (after := load.now()).wall_s - before.wall_s < 1.0:
            pass
        own_s = time.process_time() - used
        assert load.foreign_cores(before, after, own_s) > load.LIMIT_CORES
    finally:
        burner.kill()
        burner.wait()
