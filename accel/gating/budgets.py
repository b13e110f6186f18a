"""Budgets as people write them: "p50=3%", "p99/batch 8x128=10%:watch", "drop=0.5pt", "copies=0".

A metric, then "@reference" for the cumulative budget (against the last release), then "/" and a
group of requests; after "=" how much worse than the baseline it may be, in a unit that must be
there, and whether that gates (the default) or is watched. accel.toml says the same in tables:

    [gate]                               # every workload
    p50 = "3%"
    "p50/batch 8x128" = "5% watch"
    cold_start = "off"
    [gate.minilm]                        # one of them, on top of what stands above
    "p50@reference" = "5%"
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from accel.errors import UsageError
from accel.evidence import BASELINE, METRICS, REFERENCE, TIMED, Budget
from accel.gating import settings
from accel.plain import seen

GROUPED = ("p50", "p99", "throughput")  # what is told apart by group of requests
UNITS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(TIMED, ("%",)),
    "size": ("%",),
    **dict.fromkeys(("nodes_fallen", "nodes_slipped", "copies", "nodes"), ("", "%")),
    "drop": ("pt", "%"),  # points of the metric, or a share of the baseline's score
    "flips": ("%",),
}
DEFAULT = (
    Budget("p50", 0.03),
    Budget("peak_memory", 0.05),
    Budget("size", 0.05),
    Budget("nodes_fallen", 0, ""),
    Budget("copies", 0, ""),
    Budget("p99", 0.10, mode="watch"),
    Budget("throughput", 0.03, mode="watch"),
    Budget("cold_start", 0.10, mode="watch"),
)
SCORED_DEFAULT = (Budget("drop", 0.5, "pt"),)  # only where a workload can be scored
OFF = "off"
Key = tuple[str, str, str]  # metric, group, arm
Asked = Mapping[str, str] | Sequence[str | Budget] | str | Budget

_NAME = re.compile(r"([^@/=]+)(?:@([^/=]*))?(?:/(.*))?", re.DOTALL)
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(%|[A-Za-z]*)")
_EXAMPLE = {"%": "3%", "pt": "0.5pt", "": "0"}
_UNIT: Mapping[str, Literal["%", "pt", ""]] = {"%": "%", "pt": "pt", "": ""}


def asked(given: Asked | None) -> tuple[Budget, ...] | None:
    """Budgets as Python code writes them: {"p50": "3%"}, ["p50=3%", "size=5%"], values; a share alone
    is of the median latency. None stays None: accel.toml's.

    Raises UsageError for what is not a budget."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        lines: list[str | Budget] = [f"{metric}={value}" for metric, value in given.items()]
    else:
        lines = [given] if isinstance(given, str | Budget) else list(_each(given))
    return tuple(x if isinstance(x, Budget) else _line(str(x)) for x in lines)


def _each(given: Any) -> Iterable[Any]:
    return given if isinstance(given, Iterable) else (given,)


def _line(said: str) -> Budget:
    return parse(said if "=" in said else f"p50={said}")


def parse(text: str) -> Budget:
    """A budget of one line. Raises UsageError for what is not one, with what is allowed."""
    name, equals, value = text.rpartition("=")
    if not equals:
        raise UsageError(f"Budget {text!r} has no '='. Write it so: p50=3% or copies=0.")
    return budget(name, value)


def budget(name: str, value: object) -> Budget:
    """The budget `value` ("3%", "10% watch") of the metric `name` ("p99", "p50@reference/short").

    Raises UsageError for what is not one, with what is allowed."""
    metric, group, arm = key(name)
    if not isinstance(value, str):
        raise _wrong(metric, f"{name} = {seen(value)}", "it is not text")
    words = value.replace(":", " ").split()
    mode = words.pop() if words and words[-1] in ("gate", "watch") else "gate"
    number, unit = _amount(metric, f"{name}={value.strip()}", " ".join(words))
    limit = number / 100 if unit == "%" else number
    return Budget(metric, limit, _UNIT[unit], "watch" if mode == "watch" else "gate", group, arm)


def _amount(metric: str, said: str, word: str) -> tuple[float, str]:
    """The number and the unit of "0.5pt"."""
    found = _AMOUNT.fullmatch(word)  # no sign, no nan, no other script's digits
    if found is None or not math.isfinite(float(found[1])):
        raise _wrong(metric, said, "it is not a number of 0 or more with its unit")
    number, unit = float(found[1]), found[2]
    if unit not in UNITS[metric]:
        raise _wrong(metric, said, f"{unit!r} is not its unit" if unit else "the unit is missing")
    if unit == "" and not number.is_integer():
        raise _wrong(metric, said, f"{metric} is counted, and {word} is not whole")
    return number, unit


def _wrong(metric: str, said: str, why: str) -> UsageError:
    allowed = " or ".join(f"{_EXAMPLE[unit]!r}" for unit in UNITS[metric])
    return UsageError(
        f"Budget {said!r}: {why}. Allowed: {allowed}, or the same with ' watch' behind it."
    )


def key(name: str) -> Key:
    """(metric, group, arm) of what stands before the "=".

    Raises UsageError for an unknown metric or arm, or one that is not told apart so."""
    found = _NAME.fullmatch(name.strip())
    metric = found[1].strip() if found else name.strip()
    if found is None or metric not in METRICS:
        raise UsageError(
            f"{metric!r} is not a metric.{settings.suggestion(metric, METRICS)} Allowed: {', '.join(METRICS)}."
        )
    arm, group = found[2], found[3]
    if arm not in (None, REFERENCE, BASELINE):
        raise UsageError(
            f"{name.strip()!r}: a budget is against the baseline, or '@{REFERENCE}', not '@{arm}'."
        )
    if arm == REFERENCE and metric not in TIMED:
        raise UsageError(
            f"{name.strip()!r}: only {', '.join(TIMED)} are timed beside the reference."
        )
    if group is not None and (metric not in GROUPED or not group.strip()):
        raise UsageError(
            f"{name.strip()!r}: a group of requests goes with {', '.join(GROUPED)}: p50/short=3%."
        )
    return metric, (group or "").strip(), arm or BASELINE


def text(one: Budget) -> str:
    """The line that `parse` reads as this budget."""
    number = f"{100 * one.limit if one.unit == '%' else one.limit:.10g}"
    return f"{label(one)}={number}{one.unit}{':watch' if one.mode == 'watch' else ''}"


def label(one: Budget) -> str:
    """What `budget` reads as its name: "p50@reference/short"."""
    arm = f"@{one.arm}" if one.arm != BASELINE else ""
    return one.metric + arm + (f"/{one.group}" if one.group else "")


def load(path: Path | None, name: str, scored: bool = False) -> tuple[Budget, ...]:
    """The budgets of the workload `name`: the defaults, what accel.toml changes for all, then what
    it changes for this one. `scored`: there is a workload to score, so the drop is gated too.

    Raises UsageError for a file that cannot be read or says something unknown."""
    budgets = {_key(b): b for b in (*DEFAULT, *(SCORED_DEFAULT if scored else ()))}
    if path is None:
        return tuple(budgets.values())
    for table in settings.tables(path, name):
        with settings.at(path):
            for word, value in table.items():
                if value == OFF:
                    budgets.pop(key(word), None)
                else:
                    budgets[key(word)] = budget(word, value)
    return tuple(budgets.values())


def own(path: Path | None, name: str, lines: Iterable[str] = ()) -> tuple[Budget, ...]:
    """Of accel's own budgets those that neither accel.toml nor `lines`, an entry's, say anything of.

    Raises like `load`."""
    said = {_key(parse(line)) for line in lines}
    for table in settings.tables(path, name) if path else ():
        said |= {key(word) for word in table}
    return tuple(b for b in DEFAULT if _key(b) not in said)


def merged(base: Iterable[Budget], over: Iterable[Budget]) -> tuple[Budget, ...]:
    """`base`, where one in `over` of the same metric, group and arm takes its place."""
    return tuple({_key(b): b for b in (*base, *over)}.values())


def wider(asked: Sequence[Budget], used: Sequence[Budget]) -> tuple[str, ...]:
    """A line for each gating budget of `asked` that `used` lacks, only watches, or has wider."""
    there = {_key(b): b for b in used}
    lines = []
    for one in asked:
        other = there.get(_key(one))
        if one.mode == "watch":
            continue
        if other is None or other.mode == "watch":
            lines.append(f"{text(one)} was not gated")
        elif other.unit != one.unit or not other.limit <= one.limit * (1 + 1e-9):  # NaN is no limit
            lines.append(f"{text(one)} was judged as {text(other)}")
    return tuple(lines)


def _key(one: Budget) -> Key:
    return one.metric, one.group, one.arm
