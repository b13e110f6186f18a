"""The bench's arithmetic and its table; and the whole of it on a CPU, with a fake clock and launch."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from accel import catalog, manifest
from accel.cuda import bench, bench_table, launch, loads, machine, timing
from accel.cuda.bench import OWN, Bench, Overhead, Row
from accel.cuda.timing import Timed
from accel.errors import UsageError
from accel.values import Refusal

NAMES = catalog.names("kernels")


def timed(*samples_us: float, host_us: float = 1.0, hidden_us: float = 80.0) -> Timed:
    """Samples in microseconds."""
    return Timed(tuple(s * 1e-6 for s in samples_us), host_us * 1e-6, hidden_us * 1e-6)


ARMS = {OWN: timed(190, 200, 210), "eager": timed(400, 500, 600), "compiled": timed(200, 210, 220)}
ROW = Row("bias_gelu", "float16", "[65536, 4096]", True, 8 * 10**8, 1.8e-4, ARMS, 1e-3)
FOUND = Bench(
    {"gpu": "made up"},
    (4.4e12, 4.3e12),
    3.2e-6,
    (ROW, dataclasses.replace(ROW, large=False, load="MiniLM", arms={OWN: ARMS[OWN]})),
    (Overhead("bias_gelu", 7.1e-6, 2.6e-6, 1.9e-6),),
    (Refusal("nms", "out of memory"),),
)


def test_a_row_says_how_near_the_copy_it_is_and_how_far_the_peers() -> None:
    """Floor over the median; a peer's median over the kernel's."""
    assert ROW.of_copy == pytest.approx(0.9)
    assert ROW.ratio("eager") == pytest.approx(2.5)
    assert ARMS["eager"].median_s == pytest.approx(500e-6)
    assert timed(*range(100, 201)).spread == pytest.approx((190 - 110) / 150)


def test_an_arm_that_the_gpu_waited_for_is_told() -> None:
    """Its start took longer than what ran before it, so that the time is not the GPU's."""
    assert not timed(5, host_us=70, hidden_us=80).launch_bound
    assert timed(5, host_us=90, hidden_us=80).launch_bound
    assert not timed(200, host_us=90, hidden_us=0).launch_bound


NVIDIA_SMI = """#!/bin/sh
[ "$2" = GPU-ffc79498-8ff3-c2dc-3b0d-fafd804516ae ] || exit 6
case "$3" in
*driver_version*) echo "580.95.05, 81559 MiB, 1980 MHz, 2619 MHz, 700.00 W" ;;
*) echo "345 MHz, 2619 MHz, 31" ;;
esac
"""


def test_the_card_that_is_told_of_is_the_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake nvidia-smi that knows a card by its own number alone; the name is the device's."""
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    device = SimpleNamespace(
        name="NVIDIA H100", major=9, minor=0, multi_processor_count=132, L2_cache_size=1 << 20,
        uuid="ffc79498-8ff3-c2dc-3b0d-fafd804516ae",
    )  # fmt: skip
    monkeypatch.setattr(machine, "require", lambda: None)
    monkeypatch.setattr(machine.toolchain, "versions", dict)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    found = machine.facts()
    assert (found["gpu"], found["driver"], found["celsius"]) == ("NVIDIA H100", "580.95.05", "31")
    assert machine.clocks()["sm_clock"] == "345 MHz"
    del device.uuid
    assert machine.clocks() == {}


def test_the_table_keeps_large_loads_and_models_apart() -> None:
    """Columns stand under each other; what is missing is a dash; what failed is named."""
    text = bench_table.lines(FOUND)
    assert text[1] == "copy: 4400 GB/s read and written, 4300 GB/s after the rows"
    large, models = (i for i, line in enumerate(text) if line.startswith(("large:", "models'")))
    assert text[large + 2].split() == [
        "bias_gelu", "float16", "[65536,", "4096]", "800.00", "200.0", "8.0%", "90%", "2.50x", "1.05x"
    ]  # fmt: skip
    assert text[models + 2].split()[-2:] == ["-", "-"]
    assert text[large + 1].index("of copy") + len("of copy") == text[large + 2].index("90%") + 3
    assert "torch.add(out=) costs the host 3.2 us" in text[models + 4]
    assert text[models + 6].split() == ["bias_gelu", "7.10", "2.60", "1.90"]
    assert text[-1] == "nms: not timed: out of memory"


def test_the_json_holds_every_sample_and_the_figures() -> None:
    """Both can be read without this package."""
    document = {"figures": bench_table.figures(FOUND), "bench": FOUND}
    read = json.loads(manifest.document("kernels-bench", document))["data"]
    assert read["bench"]["rows"][0]["arms"]["eager"]["samples_s"] == pytest.approx(
        [4e-4, 5e-4, 6e-4]
    )
    assert read["figures"][0]["ratios"]["compiled"] == pytest.approx(1.05)
    assert read["figures"][0]["median_s"][OWN] == pytest.approx(2e-4)


def test_answers_are_compared_before_they_are_timed() -> None:
    """Floats by their relative error, integers by the share that differs; NaN has to stand alike."""
    one = torch.tensor([1.0, 3.0])
    assert timing.worst([one], [one + torch.tensor([0.0, 0.4])]) == pytest.approx(0.4 / 4.4)
    assert timing.worst([torch.tensor([1, 2])], [torch.tensor([1, 3])]) == 0.5
    assert timing.worst([one], [torch.tensor([1.0, torch.nan])]) == float("inf")
    assert timing.worst([torch.full((2,), torch.nan)], [one]) == float("inf")  # never written


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_has_loads_and_the_large_ones_are_large(name: str) -> None:
    """512 MB moved or more, by the kernel's own count; made on torch's meta device, which holds
    sizes and no data."""
    member = catalog.load("kernels", name)
    for dtype in member.DTYPES:
        for load in loads.of(name, dtype):
            baked = load.baked or member.VARIANTS[0]
            made = _sizes(load)
            signature = member.signature(dtype, baked)
            assert {n: str(t.dtype).removeprefix("torch.") for n, t in made.items()} == dict(
                signature.inputs
            )
            shapes = {n: tuple(t.shape) for n, t in made.items()}
            launched = member.launch(shapes, dtype, baked)
            assert all(0 < int(blocks) < 2**31 for blocks in launched.grid)
            moved = member.moved_bytes(shapes, dtype, baked)
            assert (moved >= loads.LARGE_BYTES) == load.large, (load.name, moved)


def _sizes(load: loads.Load) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loads, "_draw", lambda _: None)
        return load.make("meta")


def test_a_kernel_without_loads_is_refused() -> None:
    """Named, with the place where one is added."""
    with pytest.raises(UsageError, match=r"No kernel named 'made_up'"):
        loads.of("made_up", "float32")


class FakeEvent:
    """A CUDA event's time, taken from the host's clock."""

    def record(self) -> None:
        """Now."""
        self.at = time.perf_counter()

    def elapsed_time(self, later: FakeEvent) -> float:
        """Milliseconds."""
        return (later.at - self.at) * 1e3


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU: a fake clock, and kernels whose reference stands in for their launch."""

    def fake_bind(
        kernel: str, inputs: Any, outputs: Any, baked: Any, dtype: str | None = None
    ) -> Any:
        def go() -> Any:
            arrays = {n: t.numpy() for n, t in inputs.items()}
            for name, array in catalog.load("kernels", kernel).reference(arrays, baked).items():
                outputs[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))

        return go

    for module in (bench, timing):
        monkeypatch.setattr(module, "DEVICE", "cpu")
    monkeypatch.setattr(timing, "_event", FakeEvent)
    monkeypatch.setattr(timing, "FLUSH_BYTES", 1024)
    monkeypatch.setattr(timing, "COPY_BYTES", 2**20)
    monkeypatch.setattr(timing, "CALLS", 2)
    monkeypatch.setattr(timing, "graph_launch_s", lambda _: 1e-6)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(bench, "ROUNDS", {True: 2, False: 2})
    monkeypatch.setattr(launch, "bind", fake_bind)
    monkeypatch.setattr(launch, "run", lambda *given, **_: fake_bind(*given)())
    monkeypatch.setattr(bench, "_warm", lambda _: None)
    few = [load for load in loads.of("bias_gelu", "float32") if "[1, 128" in load.name]
    monkeypatch.setattr(bench, "_loads", lambda _: [("float32", load) for load in few])


@pytest.mark.usefixtures("on_the_cpu")
def test_the_whole_bench_runs() -> None:
    """A row, its peer, the launches; a peer that differs is marked, one that fails is refused."""
    right = {"bias_gelu": lambda i, _: {"y": torch.nn.functional.gelu(i["x"] + i["bias"])}}
    reasons = {"bias_gelu": "this test has no minute"}
    found = bench.bench(["bias_gelu"], {"gpu": "none"}, right, reasons)
    (row,) = found.rows
    assert set(row.arms) == {OWN, "eager"}
    assert row.notes == ("not compiled: this test has no minute",)
    assert row.difference is not None
    assert row.difference < 1e-6
    assert bench_table.lines(found)
    wrong = {"bias_gelu": lambda i, _: {"y": torch.nn.functional.relu(i["x"] + i["bias"])}}
    (row,) = bench.bench(["bias_gelu"], {}, wrong, reasons).rows
    assert row.notes[-1].startswith("WRONG: differs from eager by 0.1")

    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate\nmuch")

    found = bench.bench(["bias_gelu"], {}, {"bias_gelu": broken}, reasons)
    assert found.refused == (Refusal("bias_gelu", "CUDA out of memory. Tried to allocate"),)


@pytest.mark.usefixtures("on_the_cpu")
def test_past_its_time_the_bench_compiles_nothing_more() -> None:
    """And says so; the kernel's own rows are timed all the same."""
    peers = {"bias_gelu": lambda i, _: {"y": torch.nn.functional.gelu(i["x"] + i["bias"])}}
    (row,) = bench.bench(["bias_gelu"], {}, peers, budget_s=-1.0).rows
    assert row.notes == ("not compiled: the bench's time was up",)
