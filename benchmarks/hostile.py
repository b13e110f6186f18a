"""The hostile corpus as a table: how many answers are right, the slowest and the largest of them.

    .venv/bin/python -m benchmarks.hostile
    .venv/bin/python -m benchmarks.hostile external truncated   # cases whose names hold one of these

Each case is a process of its own (tests/hostile/server.py); its time and its peak memory are the
system's, with the start of Python and the imports that all share left out.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.hostile.case import Answer, Case, complaints
from tests.hostile.corpus import CORPUS
from tests.hostile.server import Server

SHOWN = 5
Row = tuple[Case, Answer, list[str]]


def rows(cases: Sequence[Case]) -> Iterator[Row]:
    """Every case, its answer, and what is wrong with it."""
    server = Server()
    for case in cases:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            made = case.make(folder)
            answer = Answer(**server.ask(folder, case.words(made), case.terminal))
            yield case, answer, complaints(case, folder, answer)
    server.close()


def told(found: Sequence[Row]) -> Iterator[str]:
    """The table, a line each."""
    for verdict in ("refuse", "report", "accept"):
        own = [row for row in found if row[0].verdict == verdict]
        right, defects = sum(not row[2] for row in own), {row[0].defect for row in own}
        yield f"{verdict}: {right} of {len(own)} cases right, {len(defects)} kinds"
    spoiled = {row[0].defect for row in found if row[0].verdict != "accept"}
    yield f"distinct defects: {len(spoiled)}; exit codes: {dict(Counter(r[1].code for r in found))}"
    for name, key, unit in _ORDERS:
        most = sorted(found, key=lambda row: -key(row[1]))[:SHOWN]
        yield f"{name}: " + ", ".join(f"{r[0].name} {key(r[1]):.2f} {unit}" for r in most)


_ORDERS: tuple[tuple[str, Callable[[Answer], float], str], ...] = (
    ("slowest", lambda answer: answer.seconds, "s"),
    ("largest", lambda answer: answer.rss_bytes / 1e6, "MB"),
)


def main(*words: str) -> int:
    """0 where every answer is right."""
    chosen = [case for case in CORPUS if not words or any(word in case.name for word in words)]
    found = list(rows(chosen))
    for case, answer, wrong in found:
        if wrong or words:
            print(f"{case.verdict} {case.name}: exit {answer.code}; {'; '.join(wrong) or 'right'}")
    print("\n".join(told(found)))
    return int(any(wrong for _, _, wrong in found))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
