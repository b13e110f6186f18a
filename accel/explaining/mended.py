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
    chosen = found if len(found) <= MOST else _most(reference, candidate, found, own)
    results = []
    for i, part in enumerate(chosen):
        results.append(_without(reference, candidate, part, feeds, want, whole))
        progress(i + 1, len(chosen))
    if whole > 0 and max(r.recovered for r in results) < LEAST:
        results = [_alone(reference, candidate, found, r, feeds, want, whole) for r in results]
    return tuple(sorted(results, key=lambda r: -r.recovered))


def _without(
    reference: View, candidate: View, part: Part, feeds: Any, want: Any, whole: float
) -> Tried:
    try:
        made = reverted(reference, candidate, [part])
        left = error(running.outputs(made, feeds, reference.outputs), want)
    except CandidateBroken as trouble:
        return Tried(part, 0.0, trouble=str(trouble))
    return Tried(part, (whole - left) / max(whole, TINY))


def _alone(
    reference: View,
    candidate: View,
    found: Sequence[Part],
    seen: Tried,
    feeds: Any,
    want: Any,
    whole: float,
) -> Tried:
    others = [p for p in found if p != seen.part]
    try:
        made = reverted(reference, candidate, others)
        caused = error(running.outputs(made, feeds, reference.outputs), want)
    except CandidateBroken as trouble:
        return Tried(seen.part, 0.0, True, str(trouble))
    return Tried(seen.part, min(1.0, caused / whole), True)


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
