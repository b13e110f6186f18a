"""Budgets and rules as people write them: what is meant is read, what is not is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UsageError
from accel.evidence import METRICS, REFERENCE, TIMED, Budget, Rules
from accel.gating import budgets, settings


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("p50=3%", Budget("p50", 0.03)),
        ("p99/batch=10%:watch", Budget("p99", 0.10, mode="watch", group="batch")),
        (" p50 / batch 8x128 = 2.5 % watch ", Budget("p50", 0.025, mode="watch", group="batch 8x128")),
        ("p50/a=b@c=3%:gate", Budget("p50", 0.03, group="a=b@c")),
        ("drop=0.5pt", Budget("drop", 0.5, "pt")),
        ("drop=1%", Budget("drop", 0.01)),
        ("copies=0", Budget("copies", 0, "")),
        ("nodes=12 watch", Budget("nodes", 12, "", "watch")),
        ("p50@reference=5%", Budget("p50", 0.05, arm=REFERENCE)),
        ("p99@reference/short=0%", Budget("p99", 0, group="short", arm=REFERENCE)),
    ],
)  # fmt: skip
def test_a_budget_is_read_as_it_is_meant(said: str, meant: Budget) -> None:
    """Metric, arm, group, limit, unit and mode; and its text says the same again."""
    found = budgets.parse(said)
    assert found == meant
    assert budgets.parse(budgets.text(found)) == meant


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("p5=3%", "Did you mean 'p50'?"),
        ("latency=3%", "Allowed: p50, p99"),
        ("", "has no '='"),
        ("p50", "has no '='"),
        ("p50=3", "the unit is missing. Allowed: '3%'"),
        ("p50=0.03pt", "'pt' is not its unit. Allowed: '3%'"),
        ("drop=0.5", "the unit is missing. Allowed: '0.5pt' or '3%'"),
        ("copies=0.5", "is counted, and 0.5 is not whole"),
        ("p50=-3%", "not a number of 0 or more"),
        ("p50=nan%", "not a number of 0 or more"),
        ("p50=inf%", "not a number of 0 or more"),
        ("p50=" + "9" * 400 + "%", "not a number of 0 or more"),
        ("p50=%", "not a number of 0 or more"),
        ("p50=3% 4%", "not a number of 0 or more"),
        ("p50=1 0%", "not a number of 0 or more"),
        ("p50=٣%", "not a number of 0 or more"),
        ("p50=3%:warn", "not a number of 0 or more"),
        ("p50@shadow=3%", "not '@shadow'"),
        ("size@reference=3%", "only p50, p99"),
        ("size/short=3%", "a group of requests goes with p50"),
        ("p50/ =3%", "a group of requests goes with p50"),
    ],
)
def test_what_is_not_a_budget_is_named(said: str, named: str) -> None:
    """The message holds what was wrong, or what is allowed."""
    with pytest.raises(UsageError) as error:
        budgets.parse(said)
    assert named in str(error.value)


@given(
    st.sampled_from(METRICS),
    st.integers(0, 10**6),
    st.sampled_from(["gate", "watch"]),
    st.booleans(),
    st.text(min_size=1).filter(lambda t: t.strip() == t),
)
def test_every_budget_survives_its_text(
    metric: str, tenths: int, mode: str, cumulative: bool, group: str
) -> None:
    """Whatever the group is called: what is written is read as the same budget."""
    unit = budgets.UNITS[metric][0]
    limit = float(tenths) if unit == "" else tenths / 10 if unit == "pt" else tenths / 1000
    inside = group if metric in budgets.GROUPED else ""
    arm = REFERENCE if cumulative and metric in TIMED else "baseline"
    one = Budget(metric, limit, unit, mode, inside, arm)  # type: ignore[arg-type]
    found = budgets.parse(budgets.text(one))
    assert found.limit == pytest.approx(limit)
    assert (found.metric, found.unit, found.mode, found.group, found.arm) == (
        metric, unit, mode, inside, arm,
    )  # fmt: skip


def test_each_metric_has_its_units_and_defaults_are_read_back() -> None:
    """No metric is without a unit; the defaults are budgets that people could have written."""
    assert budgets.UNITS.keys() == set(METRICS)
    for one in (*budgets.DEFAULT, *budgets.SCORED_DEFAULT):
        assert budgets.parse(budgets.text(one)) == one
    assert budgets.load(None, "any") == budgets.DEFAULT
    assert budgets.load(None, "any", scored=True)[-1] == Budget("drop", 0.5, "pt")


TOML = """
[gate]
p50 = "5%"
"p50/batch 8x128" = "7% watch"
cold_start = "off"
[gate.rules]
max_epochs = 60
[gate.minilm]
p50 = "1%"
"p50@reference" = "5%"
[gate.minilm.rules]
rounds = 12
alpha_fail = 0.001
"""


def test_a_workload_has_what_stands_for_all_and_its_own(tmp_path: Path) -> None:
    """Its own table is read last; the other workloads do not see it; "off" takes one away."""
    path = tmp_path / settings.FILE
    path.write_text(TOML)
    own = {budgets.label(b): b for b in budgets.load(path, "minilm")}
    other = {budgets.label(b): b for b in budgets.load(path, "resnet")}
    assert own["p50"].limit == 0.01
    assert own["p50@reference"].arm == REFERENCE
    assert other["p50"].limit == 0.05
    assert "p50@reference" not in other
    assert own["p50/batch 8x128"] == other["p50/batch 8x128"] == Budget("p50", 0.07, mode="watch", group="batch 8x128")  # fmt: skip
    assert "cold_start" not in own
    assert own["size"] == Budget("size", 0.05)  # a default that nobody changed
    assert settings.rules(path, "minilm") == Rules(max_epochs=60, rounds=12, alpha_fail=0.001)
    assert settings.rules(path, "resnet") == Rules(max_epochs=60)
    assert settings.rules(None, "resnet") == Rules()


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[gate]\np50 = 3", "it is not text. Allowed: '3%'"),
        ('[gate]\np05 = "3%"', "Did you mean 'p50'?"),
        ('[gate]\np05 = "off"', "Did you mean 'p50'?"),
        ('[gate.p50]\nshort = "3%"', '"p50/short" = "3%"'),
        ('[gate.minilm.p50]\nshort = "3%"', '"p50/short" = "3%"'),
        ("gate = 3", "gate = 3 is not a table"),
        ('p50 = "1%"', "'p50' stands where only [gate] is read. Put [gate] above it."),
        ('[gates]\np50 = "1%"', "'gates' stands where only [gate] is read. Did you mean 'gate'?"),
        ('[gate]\nminilm = "3%"', "gate.minilm = '3%' is not a table"),
        ("[gate]\nrules = 3", "is not a table of rules"),
        ("[gate.rules]\nmax_epoch = 3", "Did you mean 'max_epochs'?"),
        ("[gate.rules]\nmax_epochs = 0", "is not a whole number of 1 or more"),
        ("[gate.rules]\nmax_epochs = 3.5", "is not a whole number of 1 or more"),
        ("[gate.rules]\nrounds = true", "is not a whole number of 1 or more"),
        ("[gate.rules]\nblock_s = nan", "is not a number of 0 or more"),
        ("[gate.rules]\nalpha_fail = 1", "is not a probability between 0 and 1"),
        (f"[gate.rules]\nblock_s = 1{'0' * 400}", "is not a number of 0 or more, at most 1e+15"),
        (f"[gate.rules]\nseed = 0x{'f' * 5000}", "seed = 0xfff"),
        (f"[gate.rules]\nrounds{'.a' * 3000} = 1", "rounds = {'a': {'a': {'a':"),
        (f"[gate]\np50 = 0x{'f' * 5000}", "it is not text"),
        ('[gate.minilm]\n"a\\u001b[31m" = {}', r"'a\x1b[31m' in [gate.minilm] is a table"),
        ("[gate", "is not TOML"),
        ("\x00", "is not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_the_file(
    tmp_path: Path, toml: str, named: str
) -> None:
    """One error of code 2, that begins with the path."""
    path = tmp_path / settings.FILE
    path.write_text(toml)

    def both() -> None:
        budgets.load(path, "minilm")
        settings.rules(path, "minilm")

    with pytest.raises(UsageError) as error:
        both()
    assert str(error.value).startswith(str(path))
    assert named in str(error.value)


def test_a_file_that_is_missing_or_a_workload_called_rules(tmp_path: Path) -> None:
    """Both are errors, not defaults."""
    with pytest.raises(UsageError, match="cannot be read"):
        budgets.load(tmp_path / "nothing.toml", "minilm")
    (tmp_path / "accel.toml").write_text("")
    with pytest.raises(UsageError, match="cannot be gated as 'rules'"):
        budgets.load(tmp_path / "accel.toml", "rules")


def test_a_table_of_another_name_is_told(tmp_path: Path) -> None:
    """Tables of workloads, and none of this one: its budgets were meant for another name."""
    path = tmp_path / settings.FILE
    path.write_text('[gate]\n[gate.rules]\nrounds = 9\n[gate.minlm]\np50 = "1%"\n')
    (note,) = settings.unmatched(path, "minilm")
    assert note == f"{path} has tables for minlm, none for 'minilm': add --name, or a table"
    assert settings.unmatched(path, "minlm") == settings.unmatched(None, "minilm") == ()
    path.write_text('[gate]\np50 = "1%"\n[gate.rules]\nrounds = 9\n')
    assert settings.unmatched(path, "minilm") == ()


def test_accels_own_are_those_that_nobody_wrote(tmp_path: Path) -> None:
    """Also where somebody wrote the very same."""
    path = tmp_path / settings.FILE
    path.write_text('[gate]\np50 = "3%"\n[gate.minilm]\ncopies = "0"\n')
    said = [b.metric for b in budgets.own(path, "minilm", ["size=5%"])]
    assert said == [b.metric for b in budgets.DEFAULT if b.metric not in ("p50", "copies", "size")]
    assert budgets.own(None, "minilm") == budgets.DEFAULT


def test_one_set_of_budgets_on_top_of_another() -> None:
    """The same metric, group and arm is replaced where it stood; another is added."""
    base = (Budget("p50", 0.03), Budget("size", 0.05))
    over = (Budget("p50", 0.01), Budget("p50", 0.05, arm=REFERENCE))
    assert budgets.merged(base, over) == (over[0], base[1], over[1])


def test_what_is_wider_than_asked_is_told() -> None:
    """Missing, only watched, or with a higher limit; narrower is no complaint, nor is a watch."""
    asked = (Budget("p50", 0.03), Budget("size", 0.05), Budget("p99", 0.1, mode="watch"))
    assert budgets.wider(asked, (Budget("p50", 0.01), Budget("size", 0.05))) == ()
    assert budgets.wider(asked, (Budget("p50", 0.05), Budget("size", 0.05, mode="watch"))) == (
        "p50=3% was judged as p50=5%",
        "size=5% was not gated",
    )


HALF = Budget("p50", 0.005)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"p50": "3%", "peak_memory": "5% watch"}, ("p50=3%", "peak_memory=5%:watch")),
        (["2%", "size=5%"], ("p50=2%", "size=5%")),
        ("p99/short=10%", ("p99/short=10%",)),
        ((HALF, "copies=0"), ("p50=0.5%", "copies=0")),
        (HALF, ("p50=0.5%",)),
        ((), ()),
    ],
)
def test_python_code_may_write_them_in_any_form(
    given: budgets.Asked, meant: tuple[str, ...]
) -> None:
    """Mappings, lines, shares of the median and values; nothing at all leaves it to accel.toml."""
    assert budgets.asked(given) == tuple(map(budgets.parse, meant))
    assert budgets.asked(None) is None


@pytest.mark.parametrize("given", [3, {"p50": 3}, [None], {"p5": "3%"}])
def test_what_python_code_gives_and_is_no_budget_is_refused(given: object) -> None:
    """A number has no unit, and None no meaning."""
    with pytest.raises(UsageError, match=r"[Bb]udget|not a metric"):
        budgets.asked(given)  # type: ignore[arg-type]
