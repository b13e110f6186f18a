"""The search for the largest rate, on a queue whose answer is known."""

from __future__ import annotations

import pytest

from accel.measure import rates


def queue(limit_qps: float, bad: tuple[int, ...] = ()) -> rates.Rate:
    """A fake queue that keeps 10 ms up to a rate; runs of the numbers in `bad` fail by chance."""

    def p99_s(qps: float, number: int) -> float | None:
        assert number == len(asked)
        asked.append(qps)
        return 0.005 if qps <= limit_qps and number not in bad else 0.02

    asked: list[float] = []
    found = rates.largest(p99_s, 100.0, 0.01)
    assert [one.qps for one in found.tries] == asked
    return found


@pytest.mark.parametrize("limit_qps", [3.0, 42.0, 77.7, 99.9])
def test_the_largest_rate_is_found_to_two_percent_of_the_capacity(limit_qps: float) -> None:
    """It holds, a run confirms it, and 2 % of the capacity more would not hold."""
    found = queue(limit_qps)
    assert found.confirmed
    assert found.qps is not None
    assert found.qps <= limit_qps < found.qps + 2.0
    assert [one.confirming for one in found.tries] == [False] * (len(found.tries) - 1) + [True]


def test_a_rate_that_is_not_confirmed_is_lowered() -> None:
    """The run that was to confirm it failed: 5 % less is run anew, and every run is told."""
    first = queue(42.0)
    failed = queue(42.0, bad=(len(first.tries) - 1,))
    assert first.qps is not None
    assert failed.qps == pytest.approx(first.qps * 0.95)
    assert [one.inside for one in failed.tries if one.confirming] == [False, True]


def test_no_rate_at_all() -> None:
    """Nothing keeps inside, or nothing is confirmed: there is no rate."""
    assert queue(0.0).qps is None
    first = queue(42.0)
    never = queue(42.0, bad=tuple(range(len(first.tries) - 1, 99)))
    assert (never.qps, never.confirmed) == (None, False)
    assert sum(one.confirming for one in never.tries) == 5


def test_a_run_that_was_given_up_is_not_inside() -> None:
    """None is a p99 that cannot keep inside the bound."""
    found = rates.largest(lambda *_: None, 100.0, 0.01)
    assert found.qps is None
    assert not any(one.inside for one in found.tries)
