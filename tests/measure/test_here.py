"""Is this machine a target? On the GPUs of a fake driver; the real one is asked in tests/gpu."""

from __future__ import annotations

import dataclasses
import platform

import pytest

from accel import catalog
from accel import target as targets
from accel.measure import here, machine
from accel.measure.here import Gpu
from accel.values import Target

H200 = Gpu("NVIDIA H200", "9.0", 150109880320, 132, "13.0")  # read on one
A10G = Gpu("NVIDIA A10G", "8.6", 24 * 2**30, 80, "13.0")
ORIN_NX = Gpu("Orin", "8.7", 16136011776, 8, "12.6")  # deviceQuery on one
ORIN_NANO = Gpu("Orin", "8.7", 7987728384, 4, "12.6")  # the same, in a low power mode
ORIN_AGX = Gpu("Orin", "8.7", 65893089280, 16, "12.6")  # the same
RTX_4090_LAPTOP = Gpu("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9", 16 * 2**30, 76, "13.0")
H200_NVL = dataclasses.replace(H200, name="NVIDIA H200 NVL")
FEWER = dataclasses.replace(H200, multiprocessors=80)
RTX_5090 = Gpu("NVIDIA GeForce RTX 5090", "12.0", 32 * 2**30, 170, "13.0")
RTX_5090_D = dataclasses.replace(RTX_5090, name="NVIDIA GeForce RTX 5090 D")
ORIN_NVML = dataclasses.replace(ORIN_NX, name="ORIN (nvgpu)")
SLICE = dataclasses.replace(H200, memory_bytes=18 * 2**30, multiprocessors=16)
GPUS = [n for n in catalog.names("profiles") if targets.load(n).compute_capability]


@pytest.fixture
def shows(monkeypatch: pytest.MonkeyPatch) -> object:
    """shows(gpu, architecture): a fake driver that shows it, on such a processor."""

    def show(gpu: Gpu, architecture: str) -> None:
        monkeypatch.setattr(here, "gpus", lambda: (gpu,))
        monkeypatch.setattr(platform, "machine", lambda: architecture)

    return show


@pytest.mark.parametrize(
    ("gpu", "architecture", "wanted"),
    [
        (H200, "x86_64", ["h200"]),
        (ORIN_NX, "aarch64", ["jetson-orin-nx"]),
        (ORIN_NANO, "aarch64", ["jetson-orin-nano"]),
        (ORIN_AGX, "aarch64", ["jetson-agx-orin"]),
        (ORIN_NVML, "aarch64", ["jetson-orin-nx"]),
        (RTX_5090, "x86_64", ["rtx-5090"]),
        (H200_NVL, "x86_64", []),
        (RTX_5090_D, "x86_64", []),
        (A10G, "x86_64", []),
        (RTX_4090_LAPTOP, "x86_64", []),
        (SLICE, "x86_64", []),
        (H200, "aarch64", []),
    ],
)
def test_a_gpu_is_the_target_that_it_is_and_no_other(
    shows: object, gpu: Gpu, architecture: str, wanted: list[str]
) -> None:
    """By capability and the end of the name; by memory and multiprocessors where those are alike."""
    shows(gpu, architecture)  # type: ignore[operator]
    assert [n for n in GPUS if not here.elsewhere(targets.load(n))] == wanted


@pytest.mark.parametrize(
    ("gpu", "target", "said"),
    [
        (H200, "l4", "its GPU is of 8.9, this machine's NVIDIA H200 of 9.0"),
        (H200, "h100", "its GPU is a H100 80GB HBM3, this machine's is 'NVIDIA H200'"),
        (SLICE, "h200", "its GPU has 150.1 GB of memory, this machine's NVIDIA H200 19.3"),
        (H200_NVL, "h200", "its GPU is a H200, this machine's is 'NVIDIA H200 NVL'"),
        (FEWER, "h200", "its GPU has 132 multiprocessors, this machine's 80"),
    ],
)
def test_what_differs_is_told(shows: object, gpu: Gpu, target: str, said: str) -> None:
    """What the target has and what this machine has."""
    shows(gpu, "x86_64")  # type: ignore[operator]
    assert here.elsewhere(targets.load(target)) == said


def test_a_processor_is_told_by_its_instructions() -> None:
    """This one's own make a target of it; one that it lacks is named."""
    mine = Target(
        "mine",
        "this one",
        ("onnxruntime_cpu",),
        local=False,
        architecture=platform.machine(),
        isa=tuple(machine.isa()),
    )
    assert here.elsewhere(mine) == ""
    more = dataclasses.replace(mine, isa=(*mine.isa, "avx1024"))
    assert here.elsewhere(more) == "this machine's processor lacks avx1024"
