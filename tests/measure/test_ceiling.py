"""Measured ceilings: what is measured, and which of the rates a model gets."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import pytest

from accel.measure import ceiling
from accel.measure.ceiling import Ceilings
from accel.values import Target

CPU = Target("here", "this machine", ("onnxruntime_cpu",), local=True)
FOUND = Ceilings({"float32": 1e11}, ((1 << 20, 9e10), (64 << 20, 2e10)))


@pytest.mark.parametrize(
    ("size_bytes", "rate"), [(1, 9e10), (1 << 20, 9e10), (63 << 20, 9e10), (1 << 30, 2e10)]
)
def test_a_small_model_reads_from_a_cache(size_bytes: int, rate: float) -> None:
    """The rate of the largest working set that is not above the model's: never too slow for it."""
    assert FOUND.peaks(size_bytes) == {"float32_ops_per_s": 1e11, "bytes_per_s": rate}


def test_what_was_not_measured_has_no_rate() -> None:
    """Nothing measured, nothing told."""
    assert Ceilings({}, ()).peaks(1 << 20) == {}


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (CPU, True),
        (dataclasses.replace(CPU, peaks={"bytes_per_s": 1e10}), True),
        (dataclasses.replace(CPU, peaks={"float32_ops_per_s": 1e11}), False),
        (dataclasses.replace(CPU, local=False, compute_capability="9.0"), False),
        (dataclasses.replace(CPU, local=False, architecture="pdp-11"), False),
    ],
    ids=["no rates", "only bandwidth", "told", "a GPU", "elsewhere"],
)
def test_only_this_machines_processor_is_measured(target: Target, wanted: bool) -> None:
    """Told rates stand; nothing is measured here for another machine."""
    assert ceiling.wanted(target) is wanted


def test_the_best_of_several_libraries_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread of two at 3 a second is 6 in all, more than the 5 that both had together."""
    seconds = {"quick": 1 / 3, "slow": 1 / 2, "both": 1 / 5}
    monkeypatch.setattr(ceiling, "SIDES", (1,))
    monkeypatch.setattr(ceiling, "_bandwidths", lambda _: ())
    monkeypatch.setattr(ceiling, "_quickest", lambda run: 2 * seconds[run()])

    def fake(side: int, threads: int) -> Iterator[tuple[str, str, object]]:
        for name in ("quick", "slow") if threads == 1 else ("both",):
            yield "float32", name, lambda name=name: name

    monkeypatch.setattr(ceiling, "_products", fake)
    found = ceiling.measure(2)
    assert found.operations_per_s == {"float32": pytest.approx(6.0)}
    assert found.how == {"float32": "quick, N = 1, 1 of 2 threads"}


def test_a_slow_run_of_a_small_set_is_a_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache is not slower than memory: the larger set's rate stands for both."""
    monkeypatch.setattr(ceiling, "_read_rates", lambda _: [(1, 2.0), (2, 5.0), (4, 1.0)])
    assert list(ceiling._bandwidths(1)) == [(1, 5.0), (2, 5.0), (4, 1.0)]


def test_the_real_products_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime and OpenVINO multiply in float32 and int8 here; each run gives a whole matrix."""
    pytest.importorskip("openvino", reason="the openvino extra; ONNX Runtime's are run by others")
    found = {(dtype, library) for dtype, library, _ in ceiling._products(32, 1)}
    assert found >= {(d, lib) for d in ("float32", "int8") for lib in ("ONNX Runtime", "OpenVINO")}
    for _, library, run in ceiling._products(32, 1):
        answer = run()
        if library == "ONNX Runtime":
            assert answer[0].shape == (32, 32)  # type: ignore[index]


def test_every_run_reads_as_much_as_its_rate_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three threads do not divide a set: what is left over is not read, for it would be the quickest."""
    runs = []

    def first(run: functools.partial[None]) -> float:
        windows = run.args[1]
        runs.append({len(part) for _ in range(20) for part in next(windows)})
        return 1.0

    monkeypatch.setattr(ceiling, "SETS_BYTES", (1 << 10, 1 << 14))
    monkeypatch.setattr(ceiling, "WINDOW_BYTES", 1 << 12)
    monkeypatch.setattr(ceiling, "_quickest", first)
    rates = [rate for _, rate in ceiling._read_rates(3)]
    assert runs == [{(1 << 10) // 24}, {(1 << 12) // 24}]
    assert rates == [3 * 8 * ((1 << 10) // 24) * 4, 3 * 8 * ((1 << 12) // 24)]


@pytest.mark.alone
def test_it_measures_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few milliseconds of the real thing: rates for every type, bandwidth for every set."""
    monkeypatch.setattr(ceiling, "SIDES", (32,))
    monkeypatch.setattr(ceiling, "BUDGET_S", 0.0)
    monkeypatch.setattr(ceiling, "SETS_BYTES", (1 << 16, 1 << 20))
    monkeypatch.setattr(ceiling, "WINDOW_BYTES", 1 << 18)
    found = ceiling.measure(1)
    assert {"float32", "int8"} <= set(found.operations_per_s)
    assert all(rate > 0 for rate in found.operations_per_s.values())
    assert [size for size, _ in found.bandwidth] == [1 << 16, 1 << 20]
