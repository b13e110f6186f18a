"""accel.toml: the tables [gate] and [gate.<name>] and, in either, a table of rules.

[gate.rules]                         # reserved: no workload may have this name
max_epochs = 60
[gate.minilm.rules]
rounds = 12
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accel.errors import UsageError
from accel.evidence import METRICS, Rules
from accel.plain import seen

FILE = "accel.toml"
GATE = "gate"
RULES = "rules"
LEAST: Mapping[str, float] = {"max_epochs": 1, "rounds": 1}  # of the others: 0
MOST: Mapping[str, float] = {"max_epochs": 1000}  # hours; beyond it the power is slow to compute
FAR = 1e15  # of the others: more seconds or calls than any gate has, and floats hold each of them


def tables(path: Path, name: str) -> tuple[Mapping[str, Any], ...]:
    """What stands in [gate], then what stands in [gate.<name>]; neither the rules nor subtables.

    Raises UsageError for a file that cannot be read, or a table that is not one."""
    return tuple(
        {k: v for k, v in table.items() if k != RULES and not isinstance(v, dict)}
        for table in _both(path, name)
    )


def rules(path: Path | None, name: str, base: Rules | None = None) -> Rules:
    """How the gate of the workload `name` measures and decides, as accel.toml changes it.

    Raises UsageError for an unknown rule, or a value that makes no sense."""
    found = base or Rules()
    if path is None:
        return found
    for table in _both(path, name):
        with at(path):
            changes = table.get(RULES, {})
            if not isinstance(changes, dict):
                raise UsageError(f"{RULES} = {seen(changes)} is not a table of rules.")
            found = changed(found, changes)
    return found


def unmatched(path: Path | None, name: str) -> tuple[str, ...]:
    """A note where the file has tables of workloads, and none of this one: nothing else would tell."""
    if path is None:
        return ()
    gate, _ = _both(path, name)
    named = [word for word, table in gate.items() if isinstance(table, dict) and word != RULES]
    if not named or name in named:
        return ()
    return (f"{path} has tables for {', '.join(named)}, none for {name!r}: add --name, or a table",)


def changed(base: Rules, changes: Mapping[str, Any]) -> Rules:
    """`base` with some of its fields changed.

    Raises UsageError for an unknown rule, or a value that makes no sense."""
    allowed = {f.name: type(getattr(base, f.name)) for f in dataclasses.fields(base)}
    for word, value in changes.items():
        if word not in allowed:
            raise UsageError(
                f"{word!r} is not a rule.{suggestion(word, allowed)} Allowed: {', '.join(allowed)}."
            )
        _check(word, value, allowed[word])
    made = {word: allowed[word](value) for word, value in changes.items()}
    return dataclasses.replace(base, **made)


def _check(word: str, value: Any, kind: type) -> None:
    number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    least, top = LEAST.get(word, 0), MOST.get(word, FAR)
    if word.startswith("alpha"):
        if not (number and 0 < value < 1):
            raise UsageError(f"{word} = {seen(value)} is not a probability between 0 and 1.")
    elif not (number and least <= value <= top):
        what = "a whole number" if kind is int else "a number"
        most = f", at most {top:g}" if word in MOST or (number and value > top) else ""
        raise UsageError(f"{word} = {seen(value)} is not {what} of {least} or more{most}.")


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """ " Did you mean ...?" where something allowed is near, else nothing."""
    near = difflib.get_close_matches(word, list(allowed), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


@contextmanager
def at(path: Path) -> Iterator[None]:
    """Name the file in front of what is wrong in it."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _both(path: Path, name: str) -> tuple[Mapping[str, Any], ...]:
    if name == RULES:
        raise UsageError(
            f"A workload cannot be gated as {RULES!r}: [{GATE}.{RULES}] is another table."
        )
    told = _read(path)
    for word in told:
        if word != GATE:
            hint = suggestion(word, [GATE]) or f" Put [{GATE}] above it."
            raise UsageError(f"{path}: {seen(word)} stands where only [{GATE}] is read.{hint}")
    gate = _table(told.get(GATE, {}), path, GATE)
    own = _table(gate.get(name, {}), path, f"{GATE}.{name}")
    for table, place in ((gate, GATE), (own, f"{GATE}.{name}")):
        for word, value in table.items():
            nested = isinstance(value, dict) and word != RULES
            if nested and (word in METRICS or table is own):
                raise UsageError(
                    f'{path}: {word!r} in [{place}] is a table. A budget is text: p50 = "3%"; one of '
                    f'a group has its name in quotes: "p50/short" = "3%".'
                )
    return gate, own


def _table(found: Any, path: Path, place: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {place} = {seen(found)} is not a table. Write [{place}].")
    return found


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from None
