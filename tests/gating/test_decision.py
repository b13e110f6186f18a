"""What follows from epochs: every branch, on made-up epochs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.evidence import (
    BASELINE,
    CANDIDATE,
    EXIT_CODES,
    REFERENCE,
    SHADOW,
    Budget,
    Cell,
    Epoch,
    Outcome,
    Rules,
)
from accel.gating import decision
from accel.gating.decision import holm, judge

RULES = Rules()
P50 = Budget("p50", 0.03)
BASE_S = 0.0119
SETTINGS = settings(derandomize=True, deadline=None)


def epochs(
    n: int, ratio: float = 1.0, sigma: float = 0.01, stats: Sequence[str] = ("p50",), seed: int = 1
) -> list[Epoch]:
    """n seeded epochs of a candidate so many times as slow, beside a fit baseline."""
    draw = np.random.default_rng(seed)
    found = []
    for k in range(n):
        logs = {s: math.log(ratio) + float(draw.normal(0, sigma)) for s in stats}
        shadow = {"p50": float(draw.normal(0, sigma))}
        values = {
            BASELINE: dict.fromkeys(stats, BASE_S),
            CANDIDATE: {s: BASE_S * math.exp(x) for s, x in logs.items()},
        }
        found.append(Epoch(k, {CANDIDATE: logs, SHADOW: shadow}, values, calls={BASELINE: 120}))
    return found


def with_logs(seen: Sequence[Epoch], **more: Sequence[float]) -> list[Epoch]:
    """The same epochs with further statistics of the candidate."""
    return [
        Epoch(
            e.number,
            {**e.logs, CANDIDATE: {**e.logs[CANDIDATE], **{s: v[k] for s, v in more.items()}}},
        )
        for k, e in enumerate(seen)
    ]


def test_a_candidate_like_its_baseline_passes() -> None:
    """With the counts, the ratio, its interval and the noise."""
    found = judge(epochs(20), [P50], RULES)
    assert (found.outcome, found.done, found.reasons) == ("pass", True, ())
    cell = found.cells[0]
    assert (cell.outcome, cell.label, cell.epochs) == ("pass", "equivalent", 20)
    assert cell.worse + cell.better == 20
    assert cell.e_pass >= 20
    assert cell.low is not None
    assert cell.high is not None
    assert 0.97 < cell.low < 1 < cell.high < 1.03
    assert cell.ratio == pytest.approx(1, abs=0.01)
    assert cell.sigma == pytest.approx(0.01, rel=0.5)
    assert cell.detectable is not None
    assert 0.03 < cell.detectable < 0.05
    assert cell.baseline == BASE_S


def test_a_slow_candidate_fails_and_the_reason_has_units() -> None:
    """10 % slower under a budget of 3 %, in nine epochs."""
    found = judge(epochs(9, 1.10, 0.001), [P50], RULES)
    assert (found.outcome, found.done) == ("fail", True)
    reason = found.cells[0].reason
    assert reason.startswith("10.0 % slower [9.9, 10.1]: 13.09 ms against 11.9 ms; ")
    assert reason.endswith("a budget of 3 % was exceeded in 9 of 9 epochs")
    assert found.reasons == (f"p50: {reason}",)


def test_a_verdict_waits_for_an_interval() -> None:
    """Seven epochs PASS at 5 %, and have no interval yet: the eighth is taken."""
    seven, eight = judge(epochs(7), [P50], RULES), judge(epochs(8), [P50], RULES)
    assert (seven.cells[0].outcome, seven.done, seven.cells[0].low) == ("pass", False, None)
    assert eight.done
    assert eight.cells[0].low is not None


def test_before_the_first_epoch_nothing_is_known() -> None:
    """And nothing passes."""
    found = judge([], [P50], RULES)
    assert (found.outcome, found.done) == ("cannot tell", False)
    assert found.reasons == ("p50: not measured: there is no epoch yet",)
    assert found.cells[0].ratio is None


def test_exactly_at_the_budget_nobody_can_tell() -> None:
    """On a quiet machine: the noise is not to blame, and more epochs may tell."""
    found = judge(epochs(40, 1.03), [P50], RULES)
    assert (found.outcome, found.done) == ("cannot tell", False)
    assert "of 40 epochs, which settles nothing yet" in found.reasons[0]


def test_a_budget_below_the_noise_is_refused_with_one_that_can_be_gated() -> None:
    """Undecided with 4 % of noise under a budget of 1 %: the machine is unfit for it."""
    found = judge(epochs(40, 1.01, 0.04), [Budget("p50", 0.01)], RULES)
    cell = found.cells[0]
    assert (found.outcome, cell.outcome) == ("unfit", "unfit")
    assert cell.sigma is not None
    allowed = math.ceil(1000 * math.expm1(0.9943 * cell.sigma)) / 10
    assert f"with which 40 epochs can gate {allowed:g} %" in cell.reason
    assert f"scatters by {100 * cell.sigma:.1f} %" in cell.reason


def test_noise_is_no_excuse_once_the_verdict_is_clear() -> None:
    """With the same noise and budget, 20 % slower is a FAIL."""
    assert judge(epochs(40, 1.20, 0.04), [Budget("p50", 0.01)], RULES).outcome == "fail"


def test_few_epochs_do_not_condemn_a_machine() -> None:
    """Seven noisy ones are undecided, and their scatter is not known well enough to blame."""
    assert judge(epochs(7, 1.01, 0.04), [Budget("p50", 0.01)], RULES).outcome == "cannot tell"


def test_a_re_run_goes_on_and_can_gate_less() -> None:
    """Epochs beyond those of one run count; the capability is that of all of them."""
    seen = epochs(160, 1.03, 0.05)
    assert judge(seen[:40], [P50], RULES).outcome == "unfit"
    assert judge(seen, [P50], RULES).outcome == "cannot tell"


@pytest.mark.parametrize(
    ("ratio", "label"), [(0.95, "faster"), (1.0, "equivalent"), (1.02, "slower within budget")]
)
def test_a_pass_says_what_it_is_beyond_that(ratio: float, label: str) -> None:
    """By the interval, which lies to one side of 1 or within the budget around it."""
    cell = judge(epochs(40, ratio), [P50], RULES).cells[0]
    assert (cell.outcome, cell.label) == ("pass", label)


def test_a_pass_with_a_wide_interval_claims_no_more() -> None:
    """Eight noisy epochs within the budget: neither equivalent nor faster."""
    logs = [-0.09, -0.07, -0.05, -0.03, -0.01, 0.01, 0.02, 0.025]
    cell = judge(with_logs(epochs(8), p50=logs), [P50], RULES).cells[0]
    assert (cell.outcome, cell.label) == ("pass", "")


def test_failing_stands_above_passing() -> None:
    """Both claims crossed, one after the other: ten epochs within the budget, forty beyond it."""
    seen = with_logs(epochs(50), p50=[0.0] * 10 + [0.1] * 40)
    cell = judge(seen, [P50], RULES).cells[0]
    assert cell.e_pass >= 20
    assert cell.e_fail >= 100
    assert cell.outcome == "fail"


def test_a_fail_is_claimed_of_the_whole_family() -> None:
    """Nine of nine fail at 1 % alone (e = 102), not as one cell of five."""
    stats = ("p50", "throughput", "cold_start", "peak_memory", "p99")
    seen = with_logs(epochs(9, stats=stats), p50=[0.1] * 9)
    alone = judge(seen, [P50], RULES).cells[0]
    among = judge(seen, [Budget(s, 0.03) for s in stats], RULES).cells[0]
    assert (alone.outcome, among.outcome) == ("fail", "cannot tell")
    assert among.p_fail == pytest.approx(5 * alone.p_fail)


def test_holm_lets_later_cells_fail_at_less() -> None:
    """Once one cell has failed, the other is tested at what is left: alpha, not alpha / 2."""
    other = [0.1] * 9 + [0.0] * 2
    seen = with_logs(epochs(11), p50=[0.1] * 11, throughput=other)
    budgets = [P50, Budget("throughput", 0.03)]
    found = judge(seen, budgets, RULES)
    assert [c.outcome for c in found.cells] == ["fail", "fail"]
    assert found.cells[1].p_fail == pytest.approx(10 / 1023)
    calm = judge(with_logs(epochs(11), throughput=other), budgets, RULES)
    assert calm.cells[1].p_fail == pytest.approx(20 / 1023)
    assert calm.cells[1].outcome != "fail"


@SETTINGS
@given(st.lists(st.floats(1e-6, 1), max_size=6))
def test_holm_by_its_definition(p: list[float]) -> None:
    """Adjusted to the largest, so far from the smallest, of p times the hypotheses left."""
    adjusted, order = holm(p), np.argsort(p, kind="stable")
    for rank, i in enumerate(order):
        steps = [min(1.0, (len(p) - j) * p[order[j]]) for j in range(rank + 1)]
        assert adjusted[i] == max(steps)


def test_a_watched_cell_has_an_outcome_and_decides_nothing() -> None:
    """Nor does it prolong a run, or take a part of the error of the gating ones."""
    watched = Budget("cold_start", 0.05, mode="watch")
    slow = with_logs(epochs(20), cold_start=[0.5] * 20)
    found = judge(slow, [P50, watched], RULES)
    assert (found.outcome, found.done) == ("pass", True)
    assert found.cells[1].outcome == "fail"
    undecided = with_logs(epochs(20), cold_start=[0.0, 0.1] * 10)
    assert judge(undecided, [P50, watched], RULES).done
    failing = with_logs(epochs(9, 1.2, 0.001), cold_start=[0.5] * 9)
    assert judge(failing, [P50, watched], RULES).cells[0] == judge(failing, [P50], RULES).cells[0]


def test_a_family_can_detect_less_than_a_cell_alone() -> None:
    """The level of each is a part of the family's; a watched one has the whole."""
    stats = ("p50", "throughput", "cold_start", "peak_memory", "p99")
    seen = epochs(40, stats=stats)
    alone = judge(seen, [P50], RULES).cells[0].detectable
    among = judge(seen, [Budget(s, 0.03) for s in stats], RULES).cells[0].detectable
    watched = [replace(P50, mode="watch"), *(Budget(s, 0.03) for s in stats[1:])]
    assert alone is not None
    assert among is not None
    assert among > alone == judge(seen, watched, RULES).cells[0].detectable


def test_a_run_goes_on_while_a_gating_cell_is_open() -> None:
    """One has passed, the other lies at its budget."""
    seen = with_logs(epochs(20), throughput=[0.02, 0.04] * 10)
    found = judge(seen, [P50, Budget("throughput", 0.03)], RULES)
    assert [c.outcome for c in found.cells] == ["pass", "cannot tell"]
    assert (found.outcome, found.done) == ("cannot tell", False)


def test_a_metric_that_no_epoch_carries_cannot_be_told() -> None:
    """Which ends the run, and says what it would take."""
    found = judge(epochs(20), [P50, Budget("p99", 0.1)], RULES)
    assert (found.outcome, found.done) == ("cannot tell", True)
    assert found.cells[0].outcome == "pass"
    assert "needs 300 calls" in found.cells[1].reason
    assert "the baseline had 120" in found.cells[1].reason


def test_the_arm_that_keeps_a_p99_from_all_is_named() -> None:
    """With what the calls would take, by which the rules can be set."""
    seen = [
        replace(
            e,
            calls={BASELINE: 320, CANDIDATE: 290},
            values={BASELINE: {"p50": BASE_S, "throughput/a": 0.1, "throughput/b": 0.5}},
        )
        for e in epochs(20)
    ]
    whole, group = judge(seen, [Budget("p99", 0.1), Budget("p99", 0.1, group="a")], RULES).cells
    assert "the candidate had 290 of all groups at most" in whole.reason
    assert "(300 took the baseline 150 s)" in whole.reason
    assert "(300 took the baseline 30 s)" in group.reason


def test_a_group_that_does_not_exist_names_those_that_do() -> None:
    """A typo in a budget never passes."""
    seen = epochs(20, stats=("p50", "p50/batch"))
    found = judge(seen, [Budget("p50", 0.03, group="bach")], RULES)
    assert found.outcome == "cannot tell"
    assert "what was measured: p50, p50/batch" in found.cells[0].reason


def test_epochs_without_a_statistic_count_for_neither_side() -> None:
    """A slow arm makes too few calls for a p99: what is absent is not absent at random."""
    seen = epochs(20)
    p99 = Budget("p99", 0.1)
    half = with_logs(seen[:10], p99=[0.0] * 10) + seen[10:]
    cell = judge(half, [p99], RULES).cells[0]
    assert (cell.epochs, cell.better, cell.worse) == (20, 10, 0)
    rare = [*seen[:8], *with_logs(seen[8:], p99=[0.0] * 12)]
    assert judge(with_logs(seen, p99=[0.0] * 20), [p99], RULES).outcome == "pass"
    assert judge(rare, [p99], RULES).outcome == "cannot tell"


def test_a_group_has_a_cell_of_its_own() -> None:
    """The budget of a group reads the group's statistic."""
    seen = with_logs(epochs(20, stats=("p50", "p50/batch")), **{"p50/batch": [0.2] * 20})
    found = judge(seen, [P50, Budget("p50", 0.03, group="batch")], RULES)
    assert [c.outcome for c in found.cells] == ["pass", "fail"]
    assert found.reasons[0].startswith("p50/batch: 22.1 % slower")


def test_the_cumulative_budget_is_against_the_last_release() -> None:
    """The candidate is 4 % above the baseline and 9 % above the release before it."""
    seen = []
    for e in epochs(20, math.exp(0.04), 0.001):
        logs = {**e.logs, REFERENCE: {"p50": -0.05}}
        seen.append(Epoch(e.number, logs, {**e.values, REFERENCE: {"p50": 0.0113}}))
    whole = Budget("p50", 0.05, arm=REFERENCE)
    found = judge(seen, [Budget("p50", 0.05), whole], RULES)
    assert [c.outcome for c in found.cells] == ["pass", "fail"]
    assert found.cells[1].ratio == pytest.approx(math.exp(0.09), abs=0.002)
    assert found.cells[1].baseline == 0.0113
    assert found.reasons[0].startswith("p50 against the last release: ")
    absent = judge(epochs(20), [whole], RULES)
    assert absent.outcome == "cannot tell"
    assert "no epoch ran the last release" in absent.reasons[0]


def test_an_unfit_instrument_ends_the_run() -> None:
    """The baseline is 5 % slower than itself: no cell's verdict counts."""
    seen = [
        Epoch(e.number, {**e.logs, SHADOW: {"p50": 0.05 + 0.001 * (e.number % 3)}})
        for e in epochs(15, 1.2)
    ]
    found = judge(seen, [P50], RULES)
    assert (found.outcome, found.done) == ("unfit", True)
    (cell,) = found.cells
    assert (cell.outcome, cell.p_fail <= RULES.alpha_fail) == ("unfit", True)
    assert cell.reason.startswith("beyond its budget, on an unfit instrument: 19.9 % slower")
    assert "differs from itself" in found.reasons[0]
    undecided = [
        Epoch(e.number, {CANDIDATE: {"p50": x}, SHADOW: e.logs[SHADOW]})
        for e, x in zip(seen, [0.02, 0.04] * 8, strict=False)
    ]
    assert (judge(undecided, [P50], RULES).outcome, judge(undecided, [P50], RULES).done) == (
        "unfit",
        True,
    )


SIZE, DROP = Budget("size", 0.05), Budget("drop", 0.5, "pt")


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.combinations(decision.PRECEDENCE, 2)), ids=str
)
def test_the_worse_outcome_stands_above_the_other(first: Outcome, second: Outcome) -> None:
    """Whichever of the two budgets has it, in the order of the exit codes."""
    for one, two in ((first, second), (second, first)):
        cells = (Cell(SIZE, one, "one"), Cell(DROP, two, "two"))
        found = judge([], [SIZE, DROP], RULES, cells)
        assert found.outcome == first
        assert found.done
        assert found.reasons[0] == ("size: one" if one == first else "drop: two")


def test_precedence_of_cells_in_exit_codes() -> None:
    """6 > 5 > 1 > 4 > 3 > 0: a cell that is too noisy hides no other cell's FAIL."""
    assert [EXIT_CODES[o] for o in decision.PRECEDENCE] == [6, 5, 1, 4, 3, 0]


def test_a_count_fails_on_an_unfit_instrument_and_a_time_does_not() -> None:
    """A larger file is larger on any machine; a time that was taken with a bent rule is none."""
    bent = [
        Epoch(e.number, {**e.logs, SHADOW: {"p50": 0.05 + 0.001 * (e.number % 3)}})
        for e in epochs(15, 1.2)
    ]
    assert judge(bent, [P50], RULES).outcome == "unfit"
    grown = Cell(SIZE, "fail", "8 % larger")
    assert judge(bent, [SIZE, P50], RULES, [grown]).outcome == "fail"


def test_a_timed_fail_ends_the_run() -> None:
    """Nothing that comes takes it back, so that no minutes are spent on the other cells."""
    noisy = Budget("throughput", 0.03)
    seen = with_logs(epochs(14, 1.2), throughput=[0.5, -0.5] * 7)
    found = judge(seen, [P50, noisy], RULES)
    assert [c.outcome for c in found.cells] == ["fail", "unfit"]
    assert (found.outcome, found.done) == ("fail", True)


def test_what_needs_no_epochs_is_part_of_the_whole() -> None:
    """A file that has grown fails the gate, in its place among the budgets."""
    grown = Cell(SIZE, "fail", "8 % larger")
    found = judge(epochs(20), [SIZE, P50], RULES, [grown])
    assert (found.outcome, found.cells[0], found.cells[1].outcome) == ("fail", grown, "pass")
    watched = Cell(Budget("size", 0.05, mode="watch"), "fail")
    assert judge(epochs(20), [watched.budget, P50], RULES, [watched]).outcome == "pass"


def test_a_cell_that_nobody_asked_for_is_kept() -> None:
    """What a counting step adds by itself comes after the budgets, and counts."""
    nan = Cell(Budget("flips", 0.0), "broken", "a NaN in the outputs")
    found = judge(epochs(20), [P50], RULES, [nan])
    assert (found.outcome, found.done, found.cells[-1]) == ("broken", True, nan)


def test_a_budget_that_nobody_answered_is_no_pass() -> None:
    """Its cell says so."""
    found = judge(epochs(20), [P50, DROP], RULES)
    assert (found.outcome, found.done) == ("cannot tell", True)
    assert found.reasons == ("drop: not measured: nothing told its value",)


def test_nothing_gated_never_passes() -> None:
    """Neither without budgets nor with watched ones alone, which get their eight epochs."""
    assert judge([], [], RULES).outcome == "cannot tell"
    assert judge([], [], RULES).done
    watched = [Budget("p50", 0.03, mode="watch")]
    found = judge(epochs(7), watched, RULES)
    assert (found.outcome, found.done) == ("cannot tell", False)
    assert "no budget gates anything" in found.reasons[0]
    assert judge(epochs(8), watched, RULES).done


def test_memory_is_told_in_megabytes() -> None:
    """And grows larger, where durations grow slower."""
    seen = [
        Epoch(k, {CANDIDATE: {"peak_memory": math.log(1.2)}}, {a: {"peak_memory": v} for a, v in
              ((BASELINE, 250e6), (CANDIDATE, 300e6))}) for k in range(9)
    ]  # fmt: skip
    found = judge(seen, [Budget("peak_memory", 0.05)], RULES)
    assert found.reasons[0].startswith(
        "peak_memory: 20.0 % larger [20.0, 20.0]: 300 MB against 250 MB"
    )


def test_a_speed_up_can_be_demanded() -> None:
    """A budget of -10 %: 20 % faster passes, just as fast fails."""
    demand = [Budget("p50", -0.10)]
    assert judge(epochs(20, 0.8), demand, RULES).outcome == "pass"
    assert judge(epochs(20, 1.0), demand, RULES).outcome == "fail"


def test_accuracy_is_of_the_family() -> None:
    """Beside a gating drop a time fails at half of alpha_fail, and the drop has the other half."""
    both, alone = [P50, Budget("drop", 0.5, "pt")], [P50]
    assert decision.share(both, RULES) == decision.share(alone, RULES) / 2 == RULES.alpha_fail / 2
    watched = [P50, Budget("drop", 0.5, "pt", "watch")]
    assert decision.share(watched, RULES) == decision.share(alone, RULES)
    seen = epochs(12, 1.2)
    p = [judge(seen, budgets, RULES).cells[0].p_fail for budgets in (alone, both)]
    assert p[1] == pytest.approx(2 * p[0])
