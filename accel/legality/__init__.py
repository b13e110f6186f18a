"""Would a graph build on a target? Static checks, with no runtime of it installed.

A rule is a file of this folder. It offers ENGINES, those that it speaks of (empty: all), `check`, and
`fix` where it can mend what it finds.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accel import catalog
from accel import graph as graphs
from accel.errors import AccelError
from accel.values import Finding, Request, Target

LEVELS = ("error", "unknown", "warning", "note")  # worst first
NAMED = 3  # places that a finding names before it counts the others
ROUNDS = 3  # one fix may uncover what another mends


def check(
    model: Path, target: Target, requests: Sequence[Request] = (), only: str = ""
) -> tuple[Finding, ...]:
    """What would be refused, go wrong, or cannot be told of an .onnx, worst first.

    Only rules of the target's engines count, and those whose names begin with `only`. Raises BadModel for a file that is no ONNX model, or
    such a broken one that the rules cannot be asked."""
    from accel.legality import _graph

    with _valid(model):
        graph = _graph.view(model)
        found = [f for rule in _rules(target, only) for f in rule.check(graph, target, requests)]
    return tuple(sorted(_merged(found), key=lambda f: (LEVELS.index(f.level), f.rule)))


def fix(model: Path, target: Target, out: Path, only: str = "") -> tuple[str, ...]:
    """Write the graph with everything mended that a rule can mend; a line for each change.

    Ports stay as they are, but for a double one, which becomes float. Nothing is written where
    nothing can be mended, or where weights beside the file were not read. Raises BadModel like
    `check`."""
    from accel.legality import _graph

    with _valid(model):
        if not all(_graph.held(t) for t in _graph.view(model).proto.graph.initializer):
            return ()
        return _fixed(model, target, out, only)


def _fixed(model: Path, target: Target, out: Path, only: str) -> tuple[str, ...]:
    from accel.legality import _graph

    done: list[str] = []
    path = model
    for _ in range(ROUNDS):
        before = len(done)
        for rule in _rules(target, only):
            if not hasattr(rule, "fix"):
                continue
            made, lines = rule.fix(_graph.view(path), target)
            if lines:
                path = out
                done += lines
                out.parent.mkdir(parents=True, exist_ok=True)
                graphs.save(made, out)
        if len(done) == before:
            break
    return tuple(done)


@contextlib.contextmanager
def _valid(model: Path) -> Iterator[None]:
    """Rules take a valid graph for granted: where one stumbles, the checker says what is wrong with
    the file. Where it finds nothing, the mistake is the rule's."""
    try:
        yield
    except AccelError:
        raise
    except Exception:  # whatever an invalid graph leads to, in onnx's C++ too
        graphs.open_model(model)
        raise


def _rules(target: Target, only: str) -> list[Any]:
    names = [name for name in catalog.names("legality") if name.startswith(only)]
    rules = [catalog.load("legality", name) for name in names]
    return [r for r in rules if not r.ENGINES or set(r.ENGINES) & set(target.engines)]


def _merged(found: Iterable[Finding]) -> list[Finding]:
    """One finding for each thing that is wrong, with the places where it is."""
    places: dict[Finding, list[str]] = {}
    for finding in found:
        seen = places.setdefault(dataclasses.replace(finding, where=""), [])
        if finding.where and finding.where not in seen:
            seen.append(finding.where)
    return [dataclasses.replace(f, where=_listed(where)) for f, where in places.items()]


def _listed(where: Sequence[str]) -> str:
    more = len(where) - NAMED
    return ", ".join(where[:NAMED]) + (f" and {more} more" if more > 0 else "")
