"""accel explain: where the error of a converted graph is born, how it grows, and what mends it.

Every part that the conversion changed (a pair of Q/DQ, a weight, a node in 16 bits) is taken back alone, and
how much of the outputs' error then goes away is measured: a ranking by that is causal, where one by the
size of a tensor's own error is not. Kinds are told from the part's numbers, beside the reference's values.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accel import arrays, catalog, graph
from accel.errors import CandidateBroken, UsageError
from accel.plain import flat
from accel.values import Feed

if TYPE_CHECKING:
    from accel.causes._cause import Cause
    from accel.explaining.evidence import Evidence
    from accel.explaining.mended import Tried
    from accel.explaining.view import View
    from accel.sketch import Sketch

NAMED = 10  # causes that are told
SOUGHT = 3 * NAMED  # parts whose cause is sought, those that mend most
ORDINARY = 0.25  # any int8 graph rounds: a fault stands before that, if it mends a quarter as much
LIKELY = 0.5  # how sure a cause must be to count as a fault, as accel/causes tells it
JUMP_DB = 6.0  # an error that at least quadruples at one value


@dataclass(frozen=True)
class Suspect:
    """One part, by what taking it back mends."""

    part: str
    value: str  # the reference's name of what it quantizes or makes
    recovered: float  # share of the outputs' error that goes away without it
    alone: bool = False  # True: instead, the share that it makes when put into the reference alone
    kind: str = ""  # empty: nothing is wrong with it, but that it is rounded
    message: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Growth:
    """The error at one value, in dB below it."""

    value: str
    sqnr_db: float


@dataclass(frozen=True)
class Explained:
    """Of one converted graph."""

    sqnr_db: float  # of its outputs
    parts: int
    tried: int  # of them; of more than can be, those that are off most themselves
    feeds: int
    suspects: tuple[Suspect, ...]  # most mending first; what is only rounded, by a quarter of it
    growth: tuple[Growth, ...]  # where the error grows, in the order of the graph
    untold: tuple[str, ...] = ()  # parts that cannot be taken back, and why


def explain(
    candidate: str | Path,
    reference: str | Path,
    feeds: Sequence[Feed],
    calibration: Iterable[Feed] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Explained:
    """Raises UsageError where there are no feeds, they or calibration's are not of this model or the graphs'
    ports differ, CandidateBroken where one cannot be run or nothing was changed in it, BadModel where one cannot be
    read."""
    from accel.explaining import mended, running
    from accel.explaining.parts import parts
    from accel.explaining.revert import restored

    candidate, reference = Path(candidate), Path(reference)
    one, two = _views(candidate, reference, feeds)
    whole_graph, two = two, restored(one, two)
    found = parts(one, two)
    if not found:
        raise CandidateBroken(
            f"{candidate} has no part that differs from {reference} and can be told by name. Compare "
            "with the very graph that was converted."
        )
    want = running.outputs(one.proto, feeds, one.outputs)
    if not any(running.is_float(value) for value in want[0]):
        raise UsageError(
            "No output is an array of floats: compare graphs that end before ArgMax and its like."
        )
    whole = running.error(running.outputs(whole_graph.proto, feeds, one.outputs), want)
    fitting = None if calibration is None else _fitted(one, calibration)
    known = None if fitting is None else _sketches(one, fitting)
    own = mended.growth(one, two, feeds)
    ranked = mended.tried(one, two, found, feeds, want, whole, own, progress)
    told = [t for t in ranked[:SOUGHT] if t.recovered >= mended.LEAST]
    seen = _sketches(one, feeds) if told else {}
    held = _sketches(two, feeds) if told else {}
    return Explained(
        sqnr_db=_db(whole),
        parts=len(found),
        tried=len(ranked),
        feeds=len(feeds),
        suspects=_suspects(one, two, told, seen, held, known),
        growth=_growth(own),
        untold=tuple(f"{t.part.title}: {t.trouble}" for t in ranked if t.trouble),
    )


def _views(candidate: Path, reference: Path, feeds: Sequence[Feed]) -> tuple[View, View]:
    """Both graphs, of one opset and without functions, once it is sure that they belong together."""
    import onnx

    from accel.explaining.view import View

    if not feeds:
        raise UsageError("There is nothing to run: 1 feed is the least.")
    ports = graph.describe(reference), graph.describe(candidate)
    shown = [[(p.name, p.dtype) for p in (*m.inputs, *m.outputs)] for m in ports]
    if sorted(shown[0]) != sorted(shown[1]):
        raise UsageError(
            f"{candidate} is not of {reference}: its ports are {shown[1]}, not {shown[0]}."
        )
    for i, feed in enumerate(feeds):
        arrays.fit(feed, ports[0].inputs, f"feed {i}")
    one, two = View(graph.dense(reference)), View(graph.dense(candidate))
    if one.opset == two.opset:
        return _in_form(one, two), two
    try:
        one = View(onnx.version_converter.convert_version(one.proto, two.opset))
    except Exception as error:  # the converter raises whatever its C++ does
        raise UsageError(
            f"{reference} is of opset {one.opset}, {candidate} of {two.opset}, and it cannot be converted: "
            f"{flat(error)}"
        ) from None
    return _in_form(one, two), two


def _fitted(one: View, feeds: Iterable[Feed]) -> Iterator[Feed]:
    """Calibration feeds, once each is seen to be of this model."""
    ports = [graph.port(v) for v in one.proto.graph.input if v.name in one.inputs]
    for i, feed in enumerate(feeds):
        arrays.fit(feed, ports, f"calibration feed {i}")
        yield feed


def _in_form(one: View, two: View) -> View:
    """The reference with what the candidate's recipe changed before it rounded: it is the same function, and
    weights can be compared."""
    from accel.explaining import moved

    return moved.migrated(_equalized(_folded(one, two), two), two)


def _folded(one: View, two: View) -> View:
    """Without the norms that the candidate has folded."""
    from accel.explaining.view import View, aligned
    from accel.qdq import norms

    proto, count = norms.folded(one.proto, aligned(one, two))
    return View(proto) if count else one


def _equalized(one: View, two: View) -> View:
    """With its channels scaled, where the candidate's weights are those of that graph."""
    from accel.explaining import moved
    from accel.explaining.view import View
    from accel.qdq import equalize

    proto, scales = equalize.equalized(one.proto)
    scaled = View(proto)
    return scaled if scales and moved.nearer(two, one, scaled) else one


def _sketches(view: View, feeds: Iterable[Feed]) -> Mapping[str, Sketch]:
    """A graph's own values."""
    from accel.calibration.collect import collect

    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        path = Path(folder, "model.onnx")
        graph.save(view.proto, path)
        return collect(path, feeds, stop=False).sketches


def _suspects(
    one: View,
    two: View,
    told: Sequence[Tried],
    seen: Mapping[str, Sketch],
    held: Mapping[str, Sketch],
    known: Mapping[str, Sketch] | None,
) -> tuple[Suspect, ...]:
    """Faults first, unless what is only rounded mends far more: a first layer's rounding often is the
    largest share of a sound graph's error, too, and no reason why this one is worse."""
    from accel.explaining.evidence import evidence

    found = [(_cause(evidence(one, two, t.part, seen, held, known)), t) for t in told]
    weights = [t.recovered * (1.0 if c and c.sure >= LIKELY else ORDINARY) for c, t in found]
    ranked = sorted(range(len(found)), key=lambda i: -weights[i])
    return tuple(_suspect(*found[i]) for i in ranked[:NAMED])


def _cause(e: Evidence) -> Cause | None:
    """The likeliest."""
    causes = [c for name in catalog.names("causes") if (c := catalog.load("causes", name).judge(e))]
    return max(causes, key=lambda c: c.sure, default=None)


def _suspect(cause: Cause | None, tried: Tried) -> Suspect:
    from accel.explaining.view import SMOOTH

    return Suspect(
        part=tried.part.title,
        value=tried.part.value.removesuffix(SMOOTH),
        recovered=tried.recovered,
        alone=tried.alone,
        kind=cause.kind if cause else "",
        message=cause.message if cause else "",
        mend=cause.mend if cause else "",
    )


def _growth(errors: Mapping[str, float]) -> tuple[Growth, ...]:
    """Values at which the error is much larger than at all before them."""
    found, worst_db = [], math.inf
    for name, error in errors.items():
        sqnr_db = _db(error)
        if sqnr_db < worst_db - JUMP_DB:
            found.append(Growth(name, sqnr_db))
            worst_db = sqnr_db
    return tuple(found)


def _db(error: float) -> float:
    return math.inf if error <= 0 else -10 * math.log10(error)
