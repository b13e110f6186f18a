"""junit.xml: a testcase a cell, for the test views of GitHub actions, GitLab and Jenkins.

FAIL is a failure; unfit, broken and no baseline are errors; cannot tell is skipped. What is only
watched passes always and says in system-out what was seen. GitLab keys a case by classname and
name, and shows an element's text, its message only where that is empty (gitlab-org/gitlab,
lib/gitlab/ci/parsers/test/junit.rb): both hold the same.
"""

from __future__ import annotations

from xml.etree import ElementTree

from accel.evidence import Outcome, Report
from accel.report import _words as words

ELEMENT = {"fail": "failure", "cannot tell": "skipped"}  # and "error", of all that do not pass
WHOLE = "gate"  # the case of an outcome that no gating cell has


def text(report: Report) -> str:
    """One testsuite; its worst case is as bad as the outcome. Valid XML 1.0 whatever the names."""
    root = ElementTree.Element("testsuites", {"name": "accel gate"})
    suite = ElementTree.SubElement(root, "testsuite", {"name": f"accel gate {_name(report)}"})
    _properties(suite, report)
    cases = _cases(report)
    for name, watched, outcome, seen in cases:
        _case(suite, (f"accel.gate.{_name(report)}", name), watched, outcome, seen)
    for case in suite.iter("testcase"):
        case.set("time", f"{report.seconds / len(cases):.3f}")  # the cells share the epochs
    for element in (root, suite):
        _count(element, suite, report)
    ElementTree.indent(root, " ")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + ElementTree.tostring(root, encoding="unicode") + "\n"


def _name(report: Report) -> str:
    return words.clean(report.name, 120)


def _cases(report: Report) -> list[tuple[str, bool, Outcome, str]]:
    """(name, watched, outcome, what was seen) of every cell, and of the whole where it differs."""
    cells, fit = report.judgement.cells, report.judgement.fitness.fit
    found = []
    for name, cell in zip(words.names(cells), cells, strict=True):
        found.append((name, cell.budget.mode == "watch", cell.outcome, words.whole(cell)))
    carried = any(outcome == report.outcome for _, watched, outcome, _ in found if not watched)
    carried = carried and (fit or report.outcome != "unfit")  # the instrument has its own case
    if not found or not (carried or report.outcome == "pass"):
        found.append((WHOLE, False, report.outcome, words.first(report)))
    return found


def _case(
    suite: ElementTree.Element, key: tuple[str, str], watched: bool, outcome: Outcome, seen: str
) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": key[0], "name": key[1]})
    if watched or outcome == "pass":
        ElementTree.SubElement(case, "system-out").text = f"{outcome}: {seen}"
        return
    tag = ELEMENT.get(outcome, "error")
    kind = {} if tag == "skipped" else {"type": f"accel {outcome}"}
    message = f"{outcome.upper()} {key[1]}: {seen}"
    ElementTree.SubElement(case, tag, {"message": message, **kind}).text = message


def _properties(suite: ElementTree.Element, report: Report) -> None:
    facts = {
        "outcome": report.outcome,
        "line": words.first(report),
        "candidate": report.candidate.digest,
        "baseline": report.baseline.digest,
        "machine_class": report.machine_class,
        "evidence_head": report.evidence_head,
        "command": report.command,
    }
    parent = ElementTree.SubElement(suite, "properties")
    for name, value in facts.items():
        shown = {"name": name, "value": words.clean(value)}
        ElementTree.SubElement(parent, "property", shown)


def _count(element: ElementTree.Element, suite: ElementTree.Element, report: Report) -> None:
    counts = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    for name, tag in counts.items():
        element.set(name, str(sum(1 for _ in suite.iter(tag))))
    element.set("time", f"{report.seconds:.3f}")
    if element is suite and report.when:
        element.set("timestamp", words.clean(report.when))
