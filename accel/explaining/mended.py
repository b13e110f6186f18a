"""Take each part back alone, and measure how much of the outputs' error that mends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accel.errors import CandidateBroken
from accel.explaining import running
from accel.explaining.parts import Part
from accel.explaining.revert import arrays_of, reverted
from accel.explaining.running import TINY, WORST, error
from accel.explaining.view import View, aligned
from accel.values import Feed

MOST = 256  # parts that are tried; of more, those that are off most themselves
LEAST = 0.01  # of the error: what mends less is noise
AT_ONCE = 32  # inner values of a run: all that a large graph has may not fit
Errors = Mapping[str, float]
Left = Callable[[Sequence[Part]], float]  # parts -> the error that is left without them


@dataclass(frozen=True)
class Tried:
    """One part."""

    part: Part
    recovered: float  # share of the whole error that goes away without it
    alone: bool = (
        False  # True: instead, the share of it that this part makes in the reference alone
    )
    trouble: str = ""  # why it cannot be taken back


def tried(
    reference: View,
    candidate: View,
    found: Sequence[Part],
    feeds: Sequence[Feed],
    want: Sequence[Sequence[Any]],
    whole: float,
    own: Errors,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Tried, ...]:
    """Each part's share of the outputs' error `whole`, most first.

    Where several parts each spoil all, taking one back mends nothing: those that are off are then
    judged by what they alone do to the reference. `own`: the error at each value, for choosing."""

    def left(back: Sequence[Part]) -> float:
        made = reverted(reference, candidate, back)
        return error(running.outputs(made, feeds, reference.outputs), want)

    chosen = found if len(found) <= MOST else _most(reference, candidate, found, own)
    results = []
    for i, part in enumerate(chosen):
        results.append(_without(left, part, whole))
        progress(i + 1, len(chosen))
    if whole > 0 and max(r.recovered for r in results) < LEAST:
        results = _alone(left, found, results, whole)
    return tuple(sorted(results, key=lambda r: -r.recovered))


def _without(left: Left, part: Part, whole: float) -> Tried:
    try:
        return Tried(part, (whole - left([part])) / max(whole, TINY))
    except CandidateBroken as trouble:
        return Tried(part, 0.0, trouble=str(trouble))


def _alone(left: Left, found: Sequence[Part], seen: Sequence[Tried], whole: float) -> list[Tried]:
    """What each does to the reference. One that cannot be taken back stays in, and what it does is left out."""
    stuck = {r.part for r in seen if r.trouble}
    free = [p for p in found if p not in stuck]
    try:
        rest = left(free) if stuck else 0.0
    except CandidateBroken:
        return list(seen)
    return [r if r.trouble else _one(left, free, r.part, rest, whole) for r in seen]


def _one(left: Left, free: Sequence[Part], part: Part, rest: float, whole: float) -> Tried:
    try:
        caused = left([p for p in free if p != part]) - rest
    except CandidateBroken as trouble:
        return Tried(part, 0.0, True, str(trouble))
    return Tried(part, min(1.0, caused / whole), True)


def _most(reference: View, candidate: View, found: Sequence[Part], own: Errors) -> tuple[Part, ...]:
    """Of each kind its share of places, to those that are off most: by their own error."""
    kinds = {p.kind for p in found}
    ranked = {
        kind: sorted((p for p in found if p.kind == kind), key=lambda p: -_off(reference, candidate, p, own))
        for kind in kinds
    }  # fmt: skip
    share = MOST // len(kinds)
    kept = {p for some in ranked.values() for p in some[:share]}
    return tuple(p for p in found if p in kept)


def _off(reference: View, candidate: View, part: Part, own: Errors) -> float:
    if part.kind != "weight":
        return own.get(part.value, WORST)
    before, after = arrays_of(reference, candidate, part)
    return float(np.sum((before - after) ** 2) / max(float(np.sum(np.square(before))), TINY))


def growth(reference: View, candidate: View, feeds: Sequence[Feed]) -> dict[str, float]:
    """Value -> its error in the candidate (as in `error`), in the order of the reference's graph; without those
    that ONNX Runtime cannot give."""
    names = aligned(reference, candidate)
    wanted = [n for n in reference.makers if n in names and n not in reference.outputs]
    found: dict[str, list[tuple[float, float]]] = {}
    for first in range(0, len(wanted), AT_ONCE):
        some = wanted[first : first + AT_ONCE]
        ones = running.values(reference.proto, some, feeds)
        twos = running.values(candidate.proto, [names[n] for n in some], feeds)
        with contextlib.suppress(CandidateBroken):  # each part that is taken back tells of it
            for one, two in zip(ones, twos, strict=True):
                for name in some:
                    a, b = two[names[name]], one[name]
                    if running.is_float(b) and a.shape == b.shape:
                        found.setdefault(name, []).append(running.off(a, b))
    return {
        name: min(WORST, sum(x for x, _ in seen) / max(sum(s for _, s in seen), TINY))
        for name, seen in found.items()
    }
