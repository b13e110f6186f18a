"""metrics.txt, read by Prometheus' own parser and held to what that parser lets pass."""

from __future__ import annotations

import dataclasses
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from accel.evidence import EXIT_CODES, Budget, Cell, Report
from accel.report import openmetrics


def _families(report: Report) -> dict:
    return {f.name: f for f in text_string_to_metric_families(openmetrics.text(report))}


def _value(report: Report, family: str, **labels: str) -> float:
    found = [
        s.value for s in _families(report)[family].samples if labels.items() <= s.labels.items()
    ]
    assert len(found) == 1
    return found[0]


def test_every_report_is_read_by_prometheus_own_parser(any_report) -> None:
    """Every family has a type and a help text; every series stands once."""
    families = _families(any_report)
    assert families
    for family in families.values():
        assert family.type != "unknown"
        assert family.documentation
        keys = [(s.name, tuple(sorted(s.labels.items()))) for s in family.samples]
        assert len(set(keys)) == len(keys) > 0


def test_what_the_specification_asks_and_the_parser_lets_pass(any_report) -> None:
    """One EOF at the very end, no carriage return, TYPE before UNIT before HELP, units in names."""
    text = openmetrics.text(any_report)
    assert text.endswith("\n# EOF\n")
    assert text.count("# EOF") == 1
    assert "\r" not in text
    text.encode()
    order = {"TYPE": 0, "UNIT": 1, "HELP": 2}
    last: tuple[str, int] = ("", -1)
    for line in text.splitlines()[:-1]:
        if found := re.fullmatch(r"# (TYPE|UNIT|HELP) (\w+) (.+)", line):
            word, name, rest = found.groups()
            assert (name, order[word]) > last or name != last[0]
            assert word != "UNIT" or name.endswith(f"_{rest}")
            last = (name, order[word])
        else:
            assert re.fullmatch(r'\w+\{(\w+="([^"\\\n]|\\[n"\\])*",?)*\} [-+.\de]+', line), line


def test_the_outcome_is_a_state_set(make) -> None:
    """Exactly one of the six states is on."""
    for outcome in EXIT_CODES:
        family = _families(make(outcome))["accel_gate_outcome"]
        assert family.type == "stateset"
        on = [s.labels["accel_gate_outcome"] for s in family.samples if s.value == 1]
        assert on == [outcome]
        assert len(family.samples) == len(EXIT_CODES)


def test_ratio_interval_and_budget_are_in_one_unit(make) -> None:
    """1.03 is the most that a budget of 3 % allows."""
    report = make()
    assert _value(report, "accel_gate_p50_ratio") == 1.052
    assert _value(report, "accel_gate_p50_low_ratio") == 1.036
    assert _value(report, "accel_gate_p50_high_ratio") == 1.069
    assert _value(report, "accel_gate_p50_budget_ratio") == 1.03
    assert _value(report, "accel_gate_p50_seconds", arm="candidate") == 0.012
    assert _families(report)["accel_gate_p50_seconds"].unit == "seconds"


def test_counts_and_points_have_their_own_families(make) -> None:
    """A copy is a count, a drop in points is no ratio, bytes are bytes."""
    cells = [
        Cell(Budget("copies", 0, ""), "fail", value=3, baseline=1),
        Cell(Budget("drop", 0.5, "pt"), "pass", epochs=200, ratio=0.2, low=0.1, high=0.4),
        Cell(Budget("peak_memory", 0.05), "pass", ratio=1.01, value=2e8, baseline=1.9e8),
    ]
    report = make("fail", cells)
    assert _value(report, "accel_gate_copies_more") == 2
    assert _value(report, "accel_gate_drop_points") == 0.2
    assert _value(report, "accel_gate_drop_budget_points") == 0.5
    assert _value(report, "accel_gate_peak_memory_bytes", arm="baseline") == 1.9e8


def test_the_help_says_which_way_is_worse(make) -> None:
    """A throughput is told as a time, so that more of it is worse as well; a drop starts at 0."""
    cells = [
        Cell(Budget("throughput", 0.03), "fail", ratio=1.05),
        Cell(Budget("drop", 0.01), "pass", epochs=200, ratio=0.002),
        Cell(Budget("copies", 0, ""), "pass", value=1, baseline=1),
    ]
    families = _families(make("fail", cells))
    told = {name: families[f"accel_gate_{name}"].documentation for name in
            ("throughput_ratio", "drop_ratio", "copies_more")}  # fmt: skip
    assert told == {
        "throughput_ratio": "Time of an inference, candidate over baseline: above 1 is worse.",
        "drop_ratio": "drop, candidate against baseline: above 0 is worse.",
        "copies_more": "copies, candidate against baseline: above 0 is worse.",
    }


def test_what_is_not_known_has_no_sample(make) -> None:
    """NaN would be a value."""
    unseen = dataclasses.replace(
        make().judgement.cells[0], ratio=None, low=None, high=float("inf"), sigma=float("nan")
    )
    families = _families(make("cannot tell", [unseen]))
    for name in ("p50_ratio", "p50_low_ratio", "p50_high_ratio", "sigma_ratio"):
        assert f"accel_gate_{name}" not in families


def test_a_label_keeps_quotes_and_backslashes(make) -> None:
    """They are escaped, and come back as they were."""
    report = make(name='a "b" \\n c')
    assert _value(report, "accel_gate_epochs", gate='a "b" \\n c') == 14


@pytest.mark.parametrize("change", [("# EOF", ""), ("_ratio ", "_percent "), ('="', "=")])
def test_the_parser_of_this_test_refuses_what_is_broken(make, change) -> None:
    """It is strict enough to be worth asking."""
    text = openmetrics.text(make()).replace(*change)
    with pytest.raises(ValueError):  # noqa: PT011 (the parser's own texts)
        list(text_string_to_metric_families(text))
