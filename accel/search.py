"""Which candidates to try, which to drop, and which one to choose. Pure: values in, values out.

The order: `plan` (everything the engines can exploit) -> trials -> `prune` (dominated by a
wide margin) -> scores -> `finalists` -> one interleaved measurement -> `rank` -> certificate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from accel import catalog
from accel.errors import UsageError
from accel.protocols import Engine, Recipe
from accel.values import Candidate, Certificate, Options, Request, Target

Objective = Literal["latency", "tail", "throughput", "size"]
OBJECTIVES: tuple[str, ...] = ("latency", "tail", "throughput", "size")

Status = Literal["planned", "built", "measured", "refused", "pruned", "failed", "unmeasured"]

# A screening takes under a second, so its medians wander by up to a fifth on a shared machine
# (round-to-round spread within an epoch was 7 to 9 %). Three times slower is never noise.
PRUNE_MARGIN = 3.0
REFINE_MARGIN = 1.6  # other settings of one graph were worth at most this on the models tried
FINALISTS = 4  # measured together; each costs a process and its share of every round
FINALIST_MARGIN = 1.3  # screened slower than this beside the best: not worth a place in the final


@dataclass(frozen=True)
class Constraints:
    """What the user demands; None is no demand. `max_drop` is in the metric's unit."""

    max_drop: float | None = None
    max_drop_relative: bool = False  # True: max_drop is a percentage of the baseline's score
    min_speedup: float | None = None  # against fp32 in ONNX Runtime, same run
    max_latency_s: float | None = None  # the weighted sum of per-request medians
    max_memory_bytes: int | None = None
    recipes: tuple[str, ...] = ()  # empty: all
    engines: tuple[str, ...] = ()  # empty: the target's
    objective: str = "latency"
    certify: bool = False

    def budget(self, baseline: float) -> float:
        """The allowed drop in the metric's own unit, given the baseline's score."""
        if self.max_drop is None:
            return float("inf")
        return self.max_drop / 100 * abs(baseline) if self.max_drop_relative else self.max_drop


def validate(constraints: Constraints, target: Target) -> None:
    """Raise UsageError for a name that does not exist or a number that makes no sense."""
    for recipe in constraints.recipes:
        catalog.require("recipes", recipe)
    for engine in constraints.engines:
        catalog.require("engines", engine)
        if engine not in target.engines:
            raise UsageError(
                f"Target {target.name!r} does not have engine {engine!r}; "
                f"it has: {', '.join(target.engines)}."
            )
    if constraints.objective == "energy":
        raise UsageError(
            "Objective 'energy' is refused: no energy counter can be read on this machine. "
            f"Allowed: {', '.join(OBJECTIVES)}."
        )
    if constraints.objective not in OBJECTIVES:
        raise UsageError(
            f"Objective {constraints.objective!r} is unknown. Allowed: {', '.join(OBJECTIVES)}."
        )
    for name in ("max_drop", "min_speedup", "max_latency_s", "max_memory_bytes"):
        value = getattr(constraints, name)
        if value is not None and not value >= 0:
            raise UsageError(f"{name} must be a number of at least 0, not {value!r}.")


def plan(
    engines: Mapping[str, Engine],
    roots: Sequence[str],
    target: Target,
    requests: Sequence[Request],
    padding: Mapping[str, float],
    wanted: Sequence[str],
) -> tuple[Candidate, ...]:
    """Every candidate worth a trial, refused ones included with their reason. fp32 is always in."""
    found: list[Candidate] = []
    for engine_name, engine in engines.items():
        capability = engine.recipes(target)
        for recipe_name in catalog.names("recipes"):
            if wanted and recipe_name not in wanted and recipe_name != "fp32":
                continue
            refusal = capability.get(recipe_name)
            if recipe_name not in capability or refusal is not None:
                reason = refusal.reason if refusal else "this engine does not know the recipe"
                found.append(_refused(engine_name, recipe_name, reason))
                continue
            settings = engine.options(recipe_name, target, requests, padding)
            found += _variants(engine_name, engine, recipe_name, roots, target, settings)
    return tuple(found)


def _refused(engine: str, recipe: str, reason: str) -> Candidate:
    return Candidate(f"{engine} {recipe}", "any", recipe, engine, status="refused", reason=reason)


def _variants(
    engine_name: str,
    engine: Engine,
    recipe_name: str,
    roots: Sequence[str],
    target: Target,
    settings: Sequence[Options],
) -> Iterable[Candidate]:
    recipe: Recipe = catalog.load("recipes", recipe_name)
    for root in roots:
        for variant in recipe.variants(engine.style(target)):
            for options in settings:
                name = label(engine_name, recipe_name, root, variant, options)
                yield Candidate(name, root, recipe_name, engine_name, variant, options)


SHORT = {"onnxruntime_cpu": "ort", "torch_export": "export", "torchscript": "script"}
SILENT = {"threads"}  # the same for every candidate of a run


def label(engine: str, recipe: str, root: str, variant: Options, options: Options) -> str:
    """A name that a person can read in a table: "ort int8_dynamic fuse @script"."""
    words = [SHORT.get(engine, engine), recipe, *_words(variant), *_words(options)]
    return " ".join(words) + f" @{SHORT.get(root, root)}"


def _words(options: Options) -> list[str]:
    words = []
    for key, value in options.items():
        if key in SILENT or value is None or value is False:
            continue
        if value is True:
            words.append(key)
        elif isinstance(value, str):
            words.append(value)
        elif isinstance(value, (list, tuple, dict)):
            words.append(f"{key}:{len(value)}")
        else:
            words.append(f"{key}={value}")
    return words


def waves(candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """The first settings of every graph and engine, and the rest, tried only where it can pay."""
    seen: set[tuple[str, ...]] = set()
    first: list[Candidate] = []
    later: list[Candidate] = []
    for candidate in candidates:
        fresh = candidate.status != "planned" or _graph(candidate) not in seen
        seen.add(_graph(candidate))
        (first if fresh else later).append(candidate)
    return tuple(first), tuple(later)


def refine(
    tried: Sequence[Candidate], later: Sequence[Candidate]
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Of the later settings: those whose graph screened well, and those spared, with the reason."""
    screened = {_graph(c): c.screen_s for c in tried if c.status == "built" and c.screen_s}
    best = min(screened.values(), default=0.0)
    worth: list[Candidate] = []
    spared: list[Candidate] = []
    for candidate in later:
        time_s = screened.get(_graph(candidate))
        if time_s is not None and time_s <= REFINE_MARGIN * best:
            worth.append(candidate)
        else:
            reason = "its graph could not be built" if time_s is None else _slow(time_s, best)
            spared.append(_with(candidate, "pruned", f"{reason} with its first settings"))
    return tuple(worth), tuple(spared)


def _graph(candidate: Candidate) -> tuple[str, ...]:
    options = repr(sorted(candidate.recipe_options.items()))
    return candidate.engine, candidate.root, candidate.recipe, options


def _slow(time_s: float, best_s: float) -> str:
    return f"{time_s / best_s:.1f}x the quickest one's time in screening"


def _with(candidate: Candidate, status: Status, reason: str) -> Candidate:
    return dataclasses.replace(candidate, status=status, reason=reason)


def prune(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Mark what screened slower than PRUNE_MARGIN times the best."""
    best = min((c.screen_s for c in candidates if c.status == "built" and c.screen_s), default=0.0)
    return tuple(
        _with(c, "pruned", _slow(c.screen_s, best))
        if c.status == "built" and c.screen_s and c.screen_s > PRUNE_MARGIN * best
        else c
        for c in candidates
    )


def hold(candidate: Candidate, budget: float) -> Candidate:
    """Refuse a scored candidate whose drop on the search split is over the budget."""
    drop, score = candidate.drop, candidate.score
    if candidate.status != "built" or drop is None or score is None or drop <= budget:
        return candidate
    return _with(candidate, "refused", f"drops {drop:.2f} {score.unit}, allowed {budget:g}")


def finalists(candidates: Sequence[Candidate], objective: str) -> tuple[Candidate, ...]:
    """The few that are measured together: the best by screening, and the best portable one."""
    alive = [c for c in candidates if c.status == "built"]
    alive.sort(key=lambda c: c.size_bytes if objective == "size" else (c.screen_s or 0.0))
    if not alive:
        return ()
    limit = (alive[0].screen_s or 0.0) * FINALIST_MARGIN
    near = [c for c in alive if objective == "size" or (c.screen_s or 0.0) <= limit][:FINALISTS]
    best_portable = next((c for c in alive if portable(c)), None)
    return (*near, *((best_portable,) if best_portable and best_portable not in near else ()))


def leave(candidates: Sequence[Candidate], final: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Give those that kept their accuracy but are not in the final their reason."""
    names = {c.name for c in final}
    best = min((c.screen_s for c in final if c.screen_s), default=1.0)
    return tuple(
        _with(c, "pruned", f"not in the final: {_slow(c.screen_s or 0.0, best)}")
        if c.status == "built" and c.name not in names
        else c
        for c in candidates
    )


def constrain(candidate: Candidate, constraints: Constraints, fp32_s: float | None) -> Candidate:
    """Refuse a measured candidate that misses a constraint on time or memory."""
    broken = _broken(candidate, constraints, fp32_s) if candidate.status == "measured" else ""
    return _with(candidate, "refused", broken) if broken else candidate


def _broken(candidate: Candidate, constraints: Constraints, fp32_s: float | None) -> str:
    time_s, measured = candidate.objective_s or 0.0, candidate.measurement
    if constraints.max_latency_s is not None and time_s > constraints.max_latency_s:
        return f"{time_s * 1e3:.2f} ms, allowed {constraints.max_latency_s * 1e3:g} ms"
    memory = constraints.max_memory_bytes
    if memory is not None and measured is not None and measured.peak_memory_bytes > memory:
        return f"{measured.peak_memory_bytes / 1e6:.0f} MB of memory, allowed {memory / 1e6:.0f} MB"
    demanded = constraints.min_speedup
    if demanded is not None and fp32_s is not None and fp32_s / time_s < demanded:
        return f"{fp32_s / time_s:.2f}x faster than fp32, demanded {demanded:g}x"
    return ""


def rank(
    measured: Sequence[Candidate],
    cost: Callable[[Candidate], float],
    tie: Callable[[Candidate, Candidate], bool],
) -> tuple[Candidate, ...]:
    """Best first. Those that tie with the best go portable, then smaller, then simpler, first."""
    left = sorted(measured, key=cost)
    if not left:
        return ()
    tied = [c for c in left if c is left[0] or tie(left[0], c)]
    tied.sort(key=lambda c: (not portable(c), c.size_bytes, len(c.options) + len(c.recipe_options)))
    return (*tied, *(c for c in left if c not in tied))


def portable(candidate: Candidate) -> bool:
    """Does the plan need nothing but its ONNX graph, in any runtime of its kind?"""
    return candidate.plan is not None and candidate.plan.portable


def uncertified(candidate: Candidate, proof: Certificate) -> Candidate:
    """Refuse a candidate whose drop did not hold on the certify split."""
    seen = f"{proof.split} split: drop {proof.drop:.2f} {proof.unit}, 95 % bound {proof.bound:.2f}"
    return _with(candidate, "refused", f"{proof.grade} on the {seen}, allowed {proof.budget:g}")


def nearest(candidates: Sequence[Candidate], constraints: Constraints) -> str:
    """What to say when nothing meets the constraints: the nearest ones, and what would help."""
    wanted = [c for c in candidates if not constraints.recipes or c.recipe in constraints.recipes]
    scored = sorted((c for c in wanted if c.drop is not None), key=lambda c: c.drop or 0.0)
    lines = [f"  {c.name}: {c.reason}" for c in (scored or wanted)[:5]]
    first = "No candidate met the constraints. Nearest:"
    last = "Allow more with --max-drop, or try more with fewer --recipe and --engine options."
    return "\n".join([first, *(lines or ["  none could be built"]), last])
