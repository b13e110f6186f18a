"""pytest --accel-gate: a test-suite holds its performance gates.

    def test_is_not_slower(accel_gate):
        accel_gate("release", "accel.baselines.json", budget={"p50": "3%", "peak_memory": "5%"})

Every pytest run of everyone who has accel installed loads this file: at module level it imports
the standard library and pytest alone. It asserts nothing, so pytest need not rewrite it, nor warn
where a filter of warnings has imported it first: PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from accel.evidence import Report

PREFIX = (
    "accel_gate."  # of the properties that a gate leaves on its test: they are in junit.xml too
)
SKIPPED = "a performance gate, which measures: run it with --accel-gate"
CROWDED = (
    "--accel-gate measures, and pytest-xdist's workers ({told}) would run tests beside the gates. "
    "Run the gates by themselves: pytest -m accel_gate --accel-gate -n 0"
)
# what is wrong, yet shows no regression: an error, as a broken fixture is one, not a failure
NOT_SLOWER: Mapping[str, str] = {
    "unfit": "instrument unfit, no regression was shown",
    "broken": "broken: it was not timed to the end, no regression was shown",
    "no baseline": "no baseline to compare with, no regression was shown",
    "not run": "the gate could not run, no regression was shown",
}
_REPORTS = pytest.StashKey[list[tuple[str, Any]]]()
_IN_BENCHMARKS = pytest.StashKey[bool]()


class AccelGateWarning(pytest.PytestWarning):
    """A gate could not tell; its line says what it would take.

    Where warnings are errors, choose in filterwarnings: default::accel.pytest_plugin.AccelGateWarning"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own."""
    group = parser.getgroup("accel", "performance gates")
    group.addoption("--accel-gate", action="store_true", help="Run the tests that use accel_gate.")
    group.addoption(
        "--accel-gate-epochs",
        type=_count,
        metavar="N",
        help="At most N new epochs a gate, whatever its test says.",
    )
    group.addoption(
        "--accel-gate-out",
        type=Path,
        metavar="DIR",
        help="Write verdict.json, junit.xml, summary.md, ... of each gate to DIR/<test>/.",
    )
    group.addoption(
        "--accel-gate-work",
        type=Path,
        metavar="DIR",
        help="Where the evidence is kept, for a re-run to go on from; .accel below the rootdir, as "
        "of 'accel gate'.",
    )
    group.addoption(
        "--accel-gate-on-inconclusive",
        choices=("warn", "fail", "pass"),
        default="warn",
        help="What becomes of a test whose gate cannot tell (%(default)s).",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker, and refuses to measure in several processes at once.

    A lock would hold off other gates only; what disturbs a gate is any test on the same cores."""
    config.addinivalue_line("markers", "accel_gate: holds a performance gate (set by itself)")
    config.stash[_REPORTS] = []
    workers = config.getoption("tx", None) or []  # pytest-xdist's; -n is counted in it by now
    if config.getoption("accel_gate") and (len(workers) > 1 or any("*" in w for w in workers)):
        raise pytest.UsageError(CROWDED.format(told=" ".join(workers)))


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gates carry the marker; unasked they are skipped here, before their fixtures build models."""
    for item in items:
        if "accel_gate" in getattr(item, "fixturenames", ()):
            item.add_marker("accel_gate")
            if not config.getoption("accel_gate"):
                item.add_marker(pytest.mark.skip(reason=SKIPPED))


@pytest.fixture
def accel_gate(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """Gates a candidate against a baseline: accel_gate(candidate, baseline, budget="3%") -> Report.

    Both may be a release's folder, an .onnx, or a value that has such a `path`; the baseline an
    accel.baselines.json as well. `budget`: "3%" (of the median latency), "p99=10%:watch", several
    of these, or {"p50": "3%", "peak_memory": "5%"}; left out, accel.toml decides. Further words:
    name, workload, reference, engine, data, config as `accel.steps.gate` has them, and the fields of
    `accel.evidence.Rules`.

    The test fails on a regression, and on what kept the gate from measuring."""
    config = request.config
    if not config.getoption("accel_gate"):  # asked for with getfixturevalue
        pytest.skip(SKIPPED)

    def run(
        candidate: Any, baseline: Any, budget: Any = None, *, name: str | None = None, **more: Any
    ) -> Report:
        __tracebackhide__ = True
        from accel import pytest_gate

        report = pytest_gate.measure(request.node, candidate, baseline, budget, name, more)
        config.stash[_REPORTS].append((request.node.nodeid, report))
        pytest_gate.judge(report, config.getoption("accel_gate_on_inconclusive"))
        return report

    return run


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """A gate that shows no regression and yet did not measure is counted with the errors."""
    if report.when == "call" and report.failed:
        verdicts = [value for name, value in told(report) if name.endswith(".verdict")]
        if verdicts and verdicts[-1] in NOT_SLOWER:
            return "error", "E", verdicts[-1].upper()
    return None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line a gate, in the order in which they ran."""
    reports = (r for kind in terminalreporter.stats.values() for r in kind)
    calls = [r for r in reports if getattr(r, "when", "") == "call" and any(told(r))]
    calls.sort(key=lambda report: getattr(report, "start", 0.0))  # pytest before 8 tells no start
    if calls:
        terminalreporter.section("accel gates")
    for report in calls:
        for line in (value for name, value in told(report) if name.endswith(".line")):
            terminalreporter.write_line(f"{report.nodeid}: {line}")


@pytest.hookimpl(optionalhook=True)  # pytest-benchmark's, where it is installed
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """The arms of every gate stand among the benchmarks that --benchmark-json or -save writes."""
    config.stash[_IN_BENCHMARKS] = True
    found = config.stash[_REPORTS]
    output_json["benchmarks"] += _arms(found)


@pytest.hookimpl(trylast=True)  # after pytest-benchmark, which writes nothing without a benchmark
def pytest_sessionfinish(session: pytest.Session) -> None:
    """--benchmark-json is written for gates alone, too."""
    stash, path = session.config.stash, session.config.getoption("benchmark_json", None)
    found = stash.get(_REPORTS, [])
    if path and found and not stash.get(_IN_BENCHMARKS, False):
        from accel import disk
        from accel.report import bench_json

        whole = {**json.loads(bench_json.text(found[0][1])), "benchmarks": _arms(found)}
        # before pytest-benchmark 5.3 it is an open file
        place = path if isinstance(path, str | Path) else path.name
        disk.write(Path(place), json.dumps(whole, indent=4) + "\n")


def _arms(found: Iterable[tuple[str, Report]]) -> list[dict[str, Any]]:
    """pytest-benchmark compares by `fullname`: a test's own, whatever its gate is called."""
    from accel.report import bench_json

    arms = [(test, arm) for test, report in found for arm in bench_json.entries(report)]
    return [{**arm, "fullname": f"{test}::{arm['name']}"} for test, arm in arms]


def told(place: pytest.Item | pytest.TestReport) -> Iterator[tuple[str, str]]:
    """What gates left on a test: ("accel_gate.<name>.verdict", "pass"), ..."""
    for name, value in place.user_properties:
        if name.startswith(PREFIX):
            yield name, str(value)


def _count(word: str) -> int:
    """argparse names the option and the word when it raises."""
    number = int(word)
    if number < 1:
        raise ValueError(word)
    return number
