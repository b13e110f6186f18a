"""junit.xml as test views read it."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest

from accel.evidence import Budget, Report
from accel.report import junit


def _suite(report: Report) -> ElementTree.Element:
    root = ElementTree.fromstring(junit.text(report).encode())
    suite = root.find("testsuite")
    assert suite is not None
    return suite


@pytest.mark.parametrize(
    ("outcome", "tag"),
    [
        ("fail", "failure"),
        ("cannot tell", "skipped"),
        ("unfit", "error"),
        ("broken", "error"),
        ("no baseline", "error"),
    ],
)
def test_an_outcome_is_the_element_that_views_know(make, outcome, tag) -> None:
    """The message and the text are the same: some views show one, some the other."""
    case = _suite(make(outcome)).find("testcase")
    marks = [child for child in case if child.tag != "system-out"]
    assert [mark.tag for mark in marks] == [tag]
    assert marks[0].text == marks[0].get("message") != ""
    assert "5.2 % slower" in marks[0].text


def test_a_fail_on_an_unfit_instrument_is_no_failure(make) -> None:
    """It was not shown: an error, beside the one that says why."""
    doubted = dataclasses.replace(make().judgement.cells[0], outcome="unfit")
    suite = _suite(make("unfit", [doubted], reasons=("A/A differs",)))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "2")
    assert "A/A differs" in suite.findall("testcase")[1].find("error").text


def test_a_pass_has_no_mark_and_says_what_was_seen(make) -> None:
    """Green, with the figures in system-out."""
    case = _suite(make("pass")).find("testcase")
    assert [child.tag for child in case] == ["system-out"]
    assert case.find("system-out").text.startswith("pass: 5.2 % slower")


def test_what_is_only_watched_never_fails(make) -> None:
    """A watched cell that is beyond its budget is told, and is green."""
    watched = dataclasses.replace(
        make().judgement.cells[0], budget=Budget("p99", 0.1, mode="watch"), outcome="fail"
    )
    good = dataclasses.replace(make().judgement.cells[0], outcome="pass")
    suite = _suite(make("pass", [good, watched]))
    assert suite.get("failures") == suite.get("errors") == suite.get("skipped") == "0"
    assert suite.findall("testcase")[1].find("system-out").text.startswith("fail: ")


def test_an_outcome_that_no_cell_has_gets_a_case_of_its_own(make) -> None:
    """An unfit instrument is an error even where every cell just cannot tell."""
    open_cell = dataclasses.replace(make().judgement.cells[0], outcome="cannot tell")
    suite = _suite(make("unfit", [open_cell], reasons=("A/A differs",)))
    assert (suite.get("tests"), suite.get("errors"), suite.get("skipped")) == ("2", "1", "1")
    assert "A/A differs" in suite.findall("testcase")[1].find("error").text


def test_every_report_counts_its_cases_and_names_each_once(any_report) -> None:
    """Counts are what is in the file; classname and name are a key."""
    suite = _suite(any_report)
    cases = suite.findall("testcase")
    assert len(cases) == int(suite.get("tests")) > 0
    assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(attribute)) == len(suite.findall(f".//{tag}"))
    assert int(suite.get("failures")) + int(suite.get("errors")) > 0
    assert sum(float(c.get("time")) for c in cases) == pytest.approx(70, abs=0.2)


def test_what_xml_refuses_is_taken_out(make) -> None:
    """U+FFFE and U+FFFF are the only characters beyond the controls that XML 1.0 has not."""
    name = "a\ufffeb\uffffc\U0001fffe"
    assert _suite(make(name=name)).get("name") == "accel gate a b c\U0001fffe"


def test_nothing_in_a_name_becomes_markup(hostile) -> None:
    """Elements are those that the writer made."""
    tags = {element.tag for element in _suite(hostile).iter()}
    assert "script" not in tags
    assert "<script>alert(1)</script>" in _suite(hostile).get("name")
