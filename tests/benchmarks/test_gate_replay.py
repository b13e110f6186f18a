"""Streams as text, gates cut from them, and other tools' rules, on streams with known answers."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel.errors import UsageError
from accel.evidence import Rules

_spec = importlib.util.spec_from_file_location(
    "gate_streams", Path(__file__).with_name("gate_streams.py")
)
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

stream, cuts, noise, told = (made.script(n) for n in ("stream", "cuts", "noise", "told"))
aa, power, rules, others, adversary = (
    made.script(n) for n in ("aa", "power", "rules", "others", "adversary")
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """An A/A stream of 60 epochs with 1 % noise."""
    path = tmp_path / "made-idle-aa.csv"
    stream.write(path, made.HEADER, made.epochs(60, made.SAME, 0.01))
    return path


def test_a_stream_survives_as_text(trace: Path) -> None:
    """What is read back has the same ratios, to the resolution of 10 ns, and the same conditions."""
    before, after = made.epochs(60, made.SAME, 0.01), stream.to_epochs(trace)
    assert len(after) == 60
    for a, b in zip(before, after, strict=True):
        assert b.logs["candidate"]["p50"] == pytest.approx(a.logs["candidate"]["p50"], abs=2e-6)
        assert b.logs["shadow"]["cold_start"] == pytest.approx(0.0, abs=1e-5)
        assert b.values["shadow"]["peak_memory"] == 2.0**27
        assert (b.number, b.order, b.seconds, b.calls) == (a.number, a.order, 3.0, a.calls)
        assert b.covariates == {"foreign_cores": 0.25}
    assert stream.read(trace).header == made.HEADER


def test_a_row_is_short(trace: Path) -> None:
    """Under 110 bytes an epoch and arm: hours of recording fit in a repository."""
    rows = trace.read_text().splitlines()[3:]
    assert len(rows) == 180
    assert max(map(len, rows)) < 110


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "# accel gate stream 1\n# {}\nwrong\n"])
def test_another_file_is_no_stream(text: str, tmp_path: Path) -> None:
    """A file of another format is refused, and the message says how to make one."""
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"is no stream .*gate/stream\.py"):
        stream.read(path)


def test_a_torn_row_is_no_stream(trace: Path) -> None:
    """A row that lost its columns is refused, not read as something else."""
    trace.write_text(trace.read_text() + "60,baseline,0\n")
    with pytest.raises(UsageError, match="a row has 3 columns"):
        stream.read(trace)


def test_arms_take_other_parts() -> None:
    """An arm of a power stream becomes the candidate, another the shadow, at their share of time."""
    given = made.epochs(3, {"baseline": 1.0, "lag0": 1.0, "lag5": 1.05, "lag10": 1.1})
    found = stream.cast(given, "lag5", "lag0")
    assert [e.logs["candidate"]["p50"] for e in found] == pytest.approx([math.log(1.05)] * 3)
    assert [e.logs["shadow"]["p50"] for e in found] == pytest.approx([0.0] * 3)
    assert found[0].seconds == pytest.approx(3.0 * 3 / 4)
    assert sorted(found[0].order) == ["baseline", "candidate", "shadow"]
    swapped = stream.cast(given, "baseline", None, baseline="lag10")
    assert swapped[0].logs["candidate"]["p50"] == pytest.approx(-math.log(1.1))


def test_a_shift_is_exact() -> None:
    """A shifted candidate is slower by just that share in its ratio, its rounds and its value."""
    before = made.epochs(2, made.SAME, 0.02)
    after = stream.shifted(before, 0.05)
    for a, b in zip(before, after, strict=True):
        assert b.logs["candidate"]["p50"] - a.logs["candidate"]["p50"] == pytest.approx(
            math.log(1.05)
        )
        assert b.values["candidate"]["p50"] == pytest.approx(1.05 * a.values["candidate"]["p50"])
        ratios = stream.ratios("candidate", "baseline", b.rounds_s, b.values)
        assert ratios["p50"] == pytest.approx(b.logs["candidate"]["p50"])
        assert b.logs["shadow"] == a.logs["shadow"]


def test_without_noise_a_copy_passes_as_soon_as_one_can() -> None:
    """Seven epochs carry 5 %; the eighth is the first that carries an interval too."""
    (gate,) = cuts.cut(made.epochs(10, made.SAME), cuts.budgets(0.03), Rules())
    assert (gate.outcome, gate.epochs, gate.seconds) == ("pass", 8, 24.0)


def test_ten_percent_slower_fails_at_the_ninth_epoch() -> None:
    """Nine epochs of nine beyond the budget are the first that carry 1 %."""
    slower = {**made.SAME, "candidate": 1.10}
    (gate,) = cuts.cut(made.epochs(12, slower), cuts.budgets(0.03), Rules())
    assert (gate.outcome, gate.epochs) == ("fail", 9)


def test_gates_share_no_epoch_and_a_torn_one_is_not_counted() -> None:
    """Twenty epochs hold two gates of eight; the four that are left are no gate."""
    gates = cuts.cut(made.epochs(20, made.SAME), cuts.budgets(0.03), Rules())
    assert [(g.first, g.epochs) for g in gates] == [(0, 8), (8, 8)]


def test_a_gate_ends_at_its_most_epochs() -> None:
    """A candidate exactly at its budget ends without a verdict, and the next gate begins."""
    at_budget = {**made.SAME, "candidate": 1.03}
    found = made.epochs(24, at_budget, 0.003, seed=3)
    gates = cuts.cut(found, cuts.budgets(0.03), Rules(max_epochs=12))
    assert [g.epochs for g in gates] == [12, 12]
    assert {g.outcome for g in gates} == {"cannot tell"}


def test_the_bound_of_no_failure_in_300() -> None:
    """0 of 300 bounds the rate by 1 - 0.05^(1/300), which is 0.99 %; other bounds are exact too."""
    gates = [cuts.Gate("pass", 7 * i, 7, 21.0) for i in range(300)]
    found = cuts.summary(gates)
    assert found["fail_upper"] == pytest.approx(1 - 0.05 ** (1 / 300))
    assert (found["gates"], found["pass"], found["minutes_mean"]) == (300, 300, 0.35)
    assert told.upper(5, 5) == 1.0
    low, high = told.bounds(1, 10)  # Clopper-Pearson: 0.0025 to 0.4450
    assert (low, high) == pytest.approx((0.002529, 0.445016), abs=1e-5)
    assert cuts.summary([])["fail_upper"] == 1.0


def test_noise_is_found_as_it_was_made() -> None:
    """The noise of a round within an epoch is read back; epochs add none, so many rounds are best."""
    found = noise.described(made.epochs(400, made.SAME, 0.02))
    assert found["sigma_round"] == pytest.approx(0.02 * math.sqrt(2), rel=0.1)
    assert found["sigma_between_epochs"] < 0.005
    assert abs(found["autocorrelation"]) < 2 * found["autocorrelation_noise"]
    assert found["sigma_interval"][0] < found["sigma_robust"] < found["sigma_interval"][1]


def test_rounds_follow_from_variances_and_costs() -> None:
    """sqrt(cost ratio) x sigma ratio, held between 3 and 30."""
    found = {"sigma_between_epochs": 0.01, "sigma_round": 0.03}
    assert noise.best_rounds(found, epoch_s=4.0, round_s=1.0) == 6
    assert noise.best_rounds({**found, "sigma_round": 0.001}, 4.0, 1.0) == 3
    assert noise.best_rounds({**found, "sigma_between_epochs": 0.0}, 4.0, 1.0) == 30


def test_power_finds_what_was_planted() -> None:
    """A recorded 10 % always fails at 3 %, a copy never does, and a shift is labelled as one."""
    arms = {"baseline": 1.0, "lag0": 1.0, "lag10": 1.10}
    recorded = stream.Stream("made", {}, made.epochs(40, arms, 0.002))
    found = {(r["how"], r["arm"], r["budget"]): r for r in power.lines(recorded, Rules())}
    slow, same = found["recorded", "lag10", 0.03], found["recorded", "lag0", 0.03]
    assert (slow["gates"], slow["fail"], slow["epochs_mean"]) == (4, 4, 9.0)
    assert slow["ratio"] == pytest.approx(0.10, abs=0.002)
    assert (same["gates"], same["pass"]) == (5, 5)
    parts = {arm: set(epochs[0].logs) for how, arm, epochs in power.candidates(recorded)}
    assert parts["lag10"] == {"candidate", "shadow"}
    assert parts["lag0"] == {"candidate"}
    shifted = found["shifted", "+10 %", 0.03]
    assert (shifted["fail"], shifted["gates"]) == (4, 4)


@pytest.mark.parametrize("rule", others.OTHERS, ids=lambda r: r.name)
def test_other_rules_know_slower_from_faster(rule: Any) -> None:
    """Each calls 20 % slower slower, at little noise, and neither the same times nor faster ones."""
    draw = np.random.default_rng(5)
    base = 0.01 * np.exp(0.004 * draw.standard_normal((rule.processes, 8)))
    assert rule.slower(base, 1.2 * base)
    assert not rule.slower(base, base)
    assert not rule.slower(base, base / 1.2)


def test_our_reading_of_pytest_benchmark_is_its_own() -> None:
    """The rule agrees with the check that the installed plugin makes, on both sides of 5 %."""
    from pytest_benchmark.utils import PercentageRegressionCheck

    check = PercentageRegressionCheck("mean", 5)
    rule = next(r for r in others.OTHERS if r.name == "pytest-benchmark mean:5%")
    base = np.asarray([[0.010, 0.011, 0.012]])
    for factor in (0.9, 1.0, 1.049, 1.051, 1.2):
        theirs = check.fails({"mean": float(base.mean() * factor)}, {"mean": float(base.mean())})
        assert rule.slower(base, base * factor) == bool(theirs)


def test_comparisons_share_no_epoch() -> None:
    """Ten epochs hold two comparisons of two processes each apart, five beside, four stored."""
    assert rules._windows(10, 2, "apart") == [(0, 2), (4, 6)]
    assert rules._windows(10, 2, "beside") == [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8)]
    assert rules._windows(10, 2, "stored") == [(0, 2), (0, 4), (0, 6), (0, 8)]


def test_drift_alarms_a_stored_baseline_and_no_gate() -> None:
    """A machine that became 10 % slower for every arm: the stored rule alarms, the gate does not."""
    first = made.epochs(20, made.SAME, 0.002)
    later = made.epochs(20, dict.fromkeys(made.SAME, 1.10), 0.002, seed=1)
    found = {
        r["rule"]: r["alarms"]["0.0"] for r in rules.lines(stream.Stream("d", {}, first + later))
    }
    assert found["stored baseline, median > 5 %"] == (2, 3)
    assert found["accel gate, budget 3 %"] == (0, 5)


def test_rules_of_one_process_may_have_every_pass(tmp_path: Path) -> None:
    """Calls are summed to whole passes over the requests, and a planted 10 % is seen in them."""
    count, passes = 3, 20
    draw = np.random.default_rng(2)
    for number in range(6):
        ns = {
            f"{arm}/ns": (1e6 * np.exp(0.01 * draw.standard_normal(count * passes))).astype(int)
            for arm in made.SAME
        }
        np.savez(tmp_path / f"epoch-{number:05d}.npz", **ns)
    recorded = stream.Stream("p", {"requests": count}, made.epochs(6, made.SAME))
    (first, *_) = rules._passes(recorded, tmp_path, "candidate", count)
    assert first.shape == (passes,)
    assert first.mean() == pytest.approx(count * 1e-3, rel=0.02)
    found = {(r["rule"], r["way"]): r["alarms"] for r in rules.every_pass(recorded, tmp_path)}
    mean = found["pytest-benchmark mean:5%, every pass", "beside"]
    assert mean == {"0.0": (0, 6), "0.05": mean["0.05"], "0.1": (6, 6)}
    assert found["Mann-Whitney (Google Benchmark), every pass", "apart"]["0.05"] == (3, 3)


def test_a_chain_shows_what_was_altered() -> None:
    """Beside its head each alteration is refused; without it the cut tail alone, or a forgery, is read."""
    found = {r["what"]: r for r in adversary.files(made.epochs(12, made.SAME, 0.01))}
    assert not found["nothing"]["head"]
    altered = {k: r for k, r in found.items() if k != "nothing"}
    assert all(r["head"] and r["witness"] for r in altered.values())
    assert {k for k, r in altered.items() if not r["neither"]} == {
        "the last epoch edited",
        "the tail cut off",
        "the worst dropped, all hashes made anew",
    }


def test_chances_of_an_adversary() -> None:
    """Going on keeps the rate below alpha, ten fixed tests do not, and neither would hidden drops."""
    rows = adversary.chances(simulated=300)
    found = {r["what"]: r for r in rows}
    on = found["accel, run 10 times: the evidence goes on"]
    assert on["FAIL"] < 0.01
    assert on["PASS"] < 0.05
    assert found["a test at 5 %, run 10 times"]["FAIL"] == pytest.approx(0.4013, abs=1e-4)
    assert found["accel, one run"]["FAIL"] == pytest.approx(0.0046, abs=1e-4)
    assert found["unseen: the three worst dropped"]["PASS"] > 0.1


@pytest.mark.parametrize("name", ["aa", "power", "rules", "adversary"])
@pytest.mark.parametrize("form", ["table", "json"])
def test_every_script_says_what_it_judged(
    name: str,
    form: str,
    trace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The table and the JSON both name the stream's and this machine's versions."""
    monkeypatch.setattr(adversary, "SIMULATED", 5)
    monkeypatch.setattr(sys, "argv", [name, str(trace), *(["--json"] if form == "json" else [])])
    made.script(name).main()
    out = capsys.readouterr().out
    if form == "table":
        assert "made-idle-aa: recorded on machine class" in out
        assert "judged with commit" in out
        return
    told_of = json.loads(out)
    assert told_of["on"]["recorded"]["made-idle-aa"]["workload"] == "made up"
    assert set(told_of["on"]["judged"]) == {"machine_class", "machine", "versions", "commit"}
    assert told_of["results"]
