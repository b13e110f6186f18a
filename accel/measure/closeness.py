"""How near outputs are to a reference's: errors, NaN and Inf, and whether both say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel.errors import NoBaseline
from accel.values import Feed

COSINE, AGREEMENT = "cosine similarity to the reference", "top-1 agreement with the reference"
LOGITS = ("logit", "prob", "score", "class")  # an embedding is [N, D] too, but has no top-1
GROSS_SQNR_DB = 0.0  # the error is as large as the signal
GROSS_COSINE = 0.5  # the outputs point more than 60 degrees away
NO_VALUES = "the outputs hold no values to compare"
Shape = tuple[int | str, ...]  # of a declared one, what is no number is open


@dataclass(frozen=True)
class OutputCheck:
    """One output over all feeds. Where the reference itself is not finite nothing is compared.

    What is an index or a truth value (`discrete`) is the same or another one, and no nearer or further:
    7 for 1 is one wrong answer, which a metric counts and no distance."""

    name: str
    max_abs: float
    cosine_min: float  # over feeds in which the reference has a direction
    sqnr_db: float  # 10 log10(sum of squares of reference / of error); inf: identical
    non_finite: int  # NaN or Inf where the reference is finite
    paired: bool = True  # False: the shape differs in a feed, so that only NaN and Inf are counted
    unlike: int = 0  # values that are NaN or Inf in the reference, and others here
    discrete: bool = False  # integers or booleans


@dataclass(frozen=True)
class CheckResult:
    """`gross`: broken beyond what any budget allows; `reasons` says how."""

    outputs: tuple[OutputCheck, ...]
    gross: bool
    reasons: tuple[str, ...] = ()


def compare(
    reference: Sequence[Feed], actual: Sequence[Feed], declared: Mapping[str, Shape] | None = None
) -> CheckResult:
    """The same on outputs already at hand, one mapping per feed.

    `declared`: the shapes of outputs in the graph; where an axis is open there, it may differ, as
    that of a detector's boxes does. Raises NoBaseline where the reference holds NaN or Inf alone."""
    if _any_value(reference):
        comparable(reference)
    reasons = _shape_reasons(reference, actual, declared or {})
    if reasons:
        return CheckResult((), True, reasons)
    names = list(reference[0]) if reference else []
    found = tuple(
        _one(name, [r[name] for r in reference], [a[name] for a in actual]) for name in names
    )
    reasons = tuple(reason for one in found for reason in _reasons(one))
    return CheckResult(found, bool(reasons), reasons)


def comparable(reference: Sequence[Feed]) -> None:
    """Raise NoBaseline where the reference holds no finite value at all: anything would pass."""
    import numpy as np

    values = [array for feed in reference for array in feed.values()]
    if values and not any(np.isfinite(np.asarray(v, np.float64)).any() for v in values):
        seen = "only NaN or Inf" if _any_value(reference) else "no values"
        raise NoBaseline(
            f"The reference's outputs hold {seen}, so nothing can be compared with them. Look for "
            f"NaN among the model's weights, and for empty or huge values among its inputs."
        )


def _any_value(feeds: Sequence[Feed]) -> bool:
    return any(array.size for feed in feeds for array in feed.values())


def _shape_reasons(
    reference: Sequence[Feed], actual: Sequence[Feed], declared: Mapping[str, Shape]
) -> tuple[str, ...]:
    if len(reference) != len(actual):
        return (f"{len(actual)} outputs for {len(reference)} feeds",)
    for i, (want, got) in enumerate(zip(reference, actual, strict=True)):
        missing = sorted(set(want) - set(got))
        if missing:
            return (f"feed {i}: no output {', '.join(missing)}; there are {', '.join(got)}",)
        for name in want:
            if not _may_be(got[name].shape, want[name].shape, declared.get(name)):
                return (f"feed {i}: {name} is {got[name].shape}, expected {want[name].shape}",)
    return ()


def _may_be(shape: Shape, wanted: Shape, declared: Shape | None) -> bool:
    """Is it the wanted one, but for axes that the graph leaves open? Declared of another rank, it
    leaves open all of them."""
    if shape == wanted or declared is None or len(shape) != len(wanted):
        return shape == wanted
    known = declared if len(declared) == len(wanted) else ("?",) * len(wanted)
    rows = zip(shape, wanted, known, strict=True)
    return all(a == b or not isinstance(size, int) for a, b, size in rows)


def _one(name: str, reference: list[Any], actual: list[Any]) -> OutputCheck:
    import numpy as np

    want = [np.asarray(x, np.float64) for x in reference]
    got = [np.asarray(x, np.float64) for x in actual]
    bad = sum(map(_non_finite, want, got))
    if any(x.shape != y.shape for x, y in zip(want, got, strict=True)):
        return OutputCheck(name, math.nan, math.nan, math.nan, bad, paired=False)
    keep = [np.isfinite(x) & np.isfinite(y) for x, y in zip(want, got, strict=True)]
    pairs = [(x[k], y[k]) for x, y, k in zip(want, got, keep, strict=True) if k.any()]
    errors = [y - x for x, y in pairs]
    return OutputCheck(
        name,
        max_abs=max((float(np.abs(e).max()) for e in errors), default=math.nan),
        cosine_min=min(
            (cosine(x, y) for x, y in pairs if x.any() or not y.any()), default=math.nan
        ),
        sqnr_db=_decibel(sum(float(x @ x) for x, _ in pairs), sum(float(e @ e) for e in errors)),
        non_finite=bad,
        unlike=sum(map(_unlike, want, got)),
        discrete=any(np.asarray(x).dtype.kind in "iub" for x in reference),
    )


def _non_finite(want: Any, got: Any) -> int:
    """NaN or Inf where the reference is finite; of another shape, where all of it is."""
    import numpy as np

    fine = np.isfinite(want)
    return int((~np.isfinite(got) & (fine if want.shape == got.shape else fine.all())).sum())


def _unlike(want: Any, got: Any) -> int:
    """NaN or Inf in the reference, and not the same one here; of one shape."""
    import numpy as np

    same = (want == got) | (np.isnan(want) & np.isnan(got))
    return int((~np.isfinite(want) & ~same).sum())


def cosine(x: Any, y: Any) -> float:
    """Of two vectors; 1 where both are zero, 0 where one is."""
    import numpy as np

    norm = float(np.linalg.norm(x)) * float(np.linalg.norm(y))
    if norm == 0:
        return float(not np.any(x) and not np.any(y))
    return min(1.0, max(-1.0, float(x @ y) / norm))


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _reasons(one: OutputCheck) -> list[str]:
    if one.non_finite:
        return [f"{one.name}: {one.non_finite} values are NaN or Inf, finite in the reference"]
    if one.discrete:
        return []
    if one.cosine_min < GROSS_COSINE:
        return [f"{one.name}: cosine {one.cosine_min:.3f}, at least {GROSS_COSINE} expected"]
    if one.sqnr_db < GROSS_SQNR_DB:
        return [f"{one.name}: SQNR {one.sqnr_db:.1f} dB, at least {GROSS_SQNR_DB} expected"]
    return []


def told(seen: Sequence[OutputCheck]) -> str:
    """How far the outputs are from the baseline's, the worst one by its signal to noise; those
    whose shape differs are named, and an output without values tells nothing."""
    lines = [f'output "{o.name}" differs in shape' for o in seen if not o.paired]
    lines += [
        f'output "{o.name}": {o.unlike} values are NaN or Inf in the baseline, and others here'
        for o in seen
        if o.unlike
    ]
    known = [o for o in seen if not math.isnan(o.max_abs)]
    if known and all(o.max_abs == 0 and not o.unlike for o in seen):
        return "the outputs are the same, bit for bit"
    if known:
        worst = min(known, key=lambda o: (o.discrete, o.sqnr_db))
        lines.append(
            f"output {worst.name}: SQNR {worst.sqnr_db:.1f} dB, largest error {worst.max_abs:.3g}, "
            f"cosine {worst.cosine_min:.6f}"
        )
    return "; ".join(lines) or (NO_VALUES if seen else "")


def fidelity(want: Sequence[Feed], got: Sequence[Feed]) -> tuple[str, list[float]]:
    """What stands in for accuracy where there are no labels: its name, and rows in 0..1.

    A row an item where an output holds logits (both put the same class first), else a row a feed
    (the lowest cosine of its outputs)."""
    name = logits(want)
    if name is None:
        return COSINE, cosines(want, got)
    return AGREEMENT, agreement(name, want, got)


def logits(feeds: Sequence[Feed]) -> str | None:
    """The first output that is [N, classes] of floats and named like logits, or None."""
    named = (n for n, x in feeds[0].items() if are_logits(n, x))
    return next((n for n in named if all(feed[n].shape[-1] for feed in feeds)), None)


def unpaired(want: Sequence[Feed], got: Sequence[Feed]) -> tuple[str, ...]:
    """The outputs whose shape differs in any feed: of them no answer has its counterpart."""
    rows = list(zip(want, got, strict=True))
    return tuple(n for n in want[0] if any(w[n].shape != g[n].shape for w, g in rows))


def cosines(want: Sequence[Feed], got: Sequence[Feed]) -> list[float]:
    """One row per feed: of all its outputs, the lowest."""
    return [_lowest_cosine(w, g) for w, g in zip(want, got, strict=True)]


def fidelity_metric(rows: Any) -> float:
    """Mean of rows [N] in 0..1, in points of a hundred."""
    import numpy as np

    return 100 * float(np.mean(rows))


def are_logits(name: str, array: Any) -> bool:
    return array.ndim == 2 and array.dtype.kind == "f" and any(x in name.lower() for x in LOGITS)


def agreement(name: str, want: Sequence[Feed], got: Sequence[Feed]) -> list[float]:
    """One row per item of each batch: 1 where both put the same class first."""
    return [
        float(same)
        for w, g in zip(want, got, strict=True)
        for same in w[name].argmax(axis=-1) == g[name].argmax(axis=-1)
    ]


def _lowest_cosine(want: Feed, got: Feed) -> float:
    """Of all outputs of one feed, the lowest; NaN counts as 0. Of integers and booleans: the share of
    those that are the same."""
    import numpy as np

    found = []
    for name, array in want.items():
        if array.dtype.kind in "iub":
            found.append(float(np.mean(array == got[name])) if array.size else 1.0)
            continue
        x = np.asarray(array, np.float64).ravel()
        y = np.asarray(got[name], np.float64).ravel()
        norm = float(np.linalg.norm(x) * np.linalg.norm(y))
        same = float(np.array_equal(x, y))
        found.append(float(x @ y) / norm if norm > 0 and np.isfinite(norm) else same)
    return min(1.0, *found) if found else 0.0
