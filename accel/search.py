"""Which candidates to try, which to drop, and which one to choose. Pure: values in, values out.

The order: `plan` (everything the engines can exploit) -> trials -> `prune` (dominated by a
wide margin) -> scores -> a heat of the `contenders` -> `finalists` -> one interleaved measurement
-> `rank` -> certificate.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from accel import catalog
from accel.constraints import Constraints, broken, fits
from accel.naming import label
from accel.protocols import Engine, Recipe
from accel.values import Candidate, Options, Request, Target

Status = Literal["planned", "built", "measured", "refused", "pruned", "failed", "unmeasured"]

# A screening takes under a second, so its medians wander by up to a fifth on a shared machine
# (round-to-round spread within an epoch was 7 to 9 %). Three times slower is never noise.
PRUNE_MARGIN = 3.0
CONTENDERS = 12  # timed together, briefly, for the places in the final
CONTENDER_MARGIN = 1.6  # one machine's speed changed by 1.5 between screenings
MODULE = "module"  # the root of what is made of the workload's module and not of a graph
MODULE_OPTION = "workload"  # an engine that offers it runs that module: see Engine.options
PLAIN = "onnx"  # the root of a workload that is a graph
GIVEN = "given"  # the root of a graph that was not exported here
ALIKE = 1.05  # amounts within this factor are hardly told apart
FINALISTS = 3  # measured together; each costs a process and its share of every round
FINALIST_MARGIN = 1.3  # screened slower than this beside the best: not worth a place in the final


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
        for recipe_name in _recipes(target, wanted):
            if target.recipes and recipe_name not in (*target.recipes, "fp32"):
                found.append(_refused(engine_name, recipe_name, "not in the profile's recipes"))
                continue
            refusal = capability.get(recipe_name)
            if recipe_name not in capability or refusal is not None:
                reason = refusal.reason if refusal else "this engine does not know the recipe"
                found.append(_refused(engine_name, recipe_name, reason))
                continue
            settings = engine.options(recipe_name, target, requests, padding)
            if any(MODULE_OPTION in options for options in settings):
                found += _modules(engine_name, recipe_name, roots, settings)
                continue
            found += _variants(engine_name, engine, recipe_name, roots, target, settings)
    return tuple(found)


def _recipes(target: Target, wanted: Sequence[str]) -> tuple[str, ...]:
    """In the target's order, where it has one; then what was asked for beyond it."""
    named = target.recipes or catalog.names("recipes")
    every = dict.fromkeys((*named, "fp32", *wanted))
    return tuple(r for r in every if not wanted or r in (*wanted, "fp32"))


def _refused(engine: str, recipe: str, reason: str) -> Candidate:
    return Candidate(f"{engine} {recipe}", "any", recipe, engine, status="refused", reason=reason)


def _modules(
    engine: str, recipe: str, roots: Sequence[str], settings: Sequence[Options]
) -> Iterable[Candidate]:
    """Of an engine that runs the workload's own module: there is no root graph to choose."""
    if PLAIN in roots:
        reason = "it runs a workload's own torch.nn.Module; this workload is an .onnx"
        return [_refused(engine, recipe, reason)]
    return [
        Candidate(label(engine, recipe, MODULE, {}, o), MODULE, recipe, engine, {}, o)
        for o in settings
    ]


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
            for kernels in _kernels(engine):
                for options in settings:
                    name = label(engine_name, recipe_name, root, variant, options, kernels)
                    yield Candidate(name, root, recipe_name, engine_name, variant, options, kernels)


def _kernels(engine: Engine) -> tuple[tuple[str, ...], ...]:
    """Graphs without our kernels; and with all that fit, where the engine takes them as plugins."""
    return ((), catalog.names("kernels")) if getattr(engine, "KERNELS", False) else ((),)


def slow(time_s: float, best_s: float) -> str:
    """For people."""
    return f"{time_s / best_s:.1f}x the quickest one's time in screening"


def marked(candidate: Candidate, status: Status, reason: str) -> Candidate:
    """The candidate with what became of it."""
    return dataclasses.replace(candidate, status=status, reason=reason)


def prune(candidates: Sequence[Candidate], constraints: Constraints) -> tuple[Candidate, ...]:
    """Mark what screened slower than PRUNE_MARGIN times the best, unless only size counts."""
    if constraints.objective == "size":
        return tuple(candidates)
    able = [c for c in candidates if c.status == "built" and c.screen_s and fits(c, constraints)]
    best = min((c.screen_s or 0.0 for c in able), default=0.0)
    return tuple(
        marked(c, "pruned", slow(c.screen_s, best))
        if best and c.status == "built" and c.screen_s and c.screen_s > PRUNE_MARGIN * best
        else c
        for c in candidates
    )


def hold(candidate: Candidate, budget: float) -> Candidate:
    """Refuse a scored candidate whose drop on the search split is over the budget."""
    drop, score = candidate.drop, candidate.score
    if candidate.status != "built" or drop is None or score is None or drop <= budget:
        return candidate
    return marked(candidate, "refused", f"drops {drop:.2f} {score.unit}, allowed {budget:g}")


def contenders(candidates: Sequence[Candidate], constraints: Constraints) -> tuple[Candidate, ...]:
    """Those among whom screening cannot choose, where they are more than a final takes."""
    alive = _alive(candidates, constraints)
    if constraints.objective == "size" or not alive:
        return ()
    limit = (alive[0].screen_s or 0.0) * CONTENDER_MARGIN
    near = [c for c in alive if (c.screen_s or 0.0) <= limit][:CONTENDERS]
    return tuple(near) if len(near) > FINALISTS else ()


def _alive(candidates: Sequence[Candidate], constraints: Constraints) -> list[Candidate]:
    """What may come to a final, best first."""
    size = constraints.objective == "size"
    alive = [c for c in candidates if c.status == "built" and fits(c, constraints)]
    if size:
        return sorted(alive, key=lambda c: c.size_bytes)
    # of those that screened alike, the more accurate ones have the better claim to a place
    return sorted(
        alive,
        key=lambda c: (class_of((c.screen_s or 0.0) * 1e9), c.drop or 0.0, c.screen_s or 0.0),
    )


def finalists(candidates: Sequence[Candidate], constraints: Constraints) -> tuple[Candidate, ...]:
    """The few that are measured together: the best by screening, and the best portable one."""
    size = constraints.objective == "size"
    alive = _alive(candidates, constraints)
    if not alive:
        return ()
    limit = (alive[0].screen_s or 0.0) * FINALIST_MARGIN
    near = [c for c in alive if size or (c.screen_s or 0.0) <= limit][:FINALISTS]
    best_portable = next((c for c in alive if portable(c)), None)
    return (*near, *((best_portable,) if best_portable and best_portable not in near else ()))


def leave(candidates: Sequence[Candidate], constraints: Constraints) -> tuple[Candidate, ...]:
    """Give those that kept their accuracy but never came to a final their reason."""
    timed = [c.screen_s for c in candidates if c.measurement is not None and c.screen_s]
    best = min(timed, default=1.0)

    def reason(c: Candidate) -> str:
        told = "" if fits(c, constraints) else ", and outside the constraints there"
        return f"not in the final: {slow(c.screen_s or 0.0, best)}{told}"

    return tuple(marked(c, "pruned", reason(c)) if c.status == "built" else c for c in candidates)


def constrain(candidate: Candidate, constraints: Constraints, fp32_s: float | None) -> Candidate:
    """Refuse a measured candidate that misses a constraint on time or memory."""
    if candidate.status != "measured":
        return candidate
    missed = broken(candidate, constraints, fp32_s)
    if not missed and constraints.min_speedup is not None and fp32_s is None:
        missed = f"fp32 in ONNX Runtime was not timed: {constraints.min_speedup:g}x cannot be told"
    return marked(candidate, "refused", missed) if missed else candidate


def rank(
    measured: Sequence[Candidate],
    cost: Callable[[Candidate], float],
    tie: Callable[[Candidate, Candidate], bool],
) -> tuple[Candidate, ...]:
    """Best first. Those that tie with the best go portable, then clearly smaller, then by their drop,
    then simpler, first."""
    left = sorted(measured, key=cost)
    if not left:
        return ()
    tied = [c for c in left if c is left[0] or tie(left[0], c)]
    tied.sort(key=lambda c: (not portable(c), class_of(c.size_bytes), c.drop or 0.0, _words(c)))
    return (*tied, *(c for c in left if c not in tied))


def class_of(amount: float) -> int:
    """Bytes, or nanoseconds, that differ by less than about 5 % are one."""
    return round(math.log(max(amount, 1.0)) / math.log(ALIKE))


def _words(candidate: Candidate) -> int:
    """The fewer options, the simpler."""
    return len(candidate.options) + len(candidate.recipe_options)


def portable(candidate: Candidate) -> bool:
    """Does the plan need nothing but its ONNX graph, in any runtime of its kind?"""
    return candidate.plan is not None and candidate.plan.portable


def nearest(candidates: Sequence[Candidate], constraints: Constraints) -> str:
    """What to say when nothing meets the constraints: the nearest ones, and what would help."""
    wanted = [c for c in candidates if not constraints.recipes or c.recipe in constraints.recipes]
    scored = sorted((c for c in wanted if c.drop is not None), key=lambda c: c.drop or 0.0)
    lines = [f"  {c.name}: {_missed(c, constraints)}" for c in (scored or wanted)[:5]]
    first = "No candidate met the constraints. Nearest:"
    last = (
        "Allow more (--max-drop, --max-latency, --max-memory, --min-speedup), or try more with "
        "fewer --recipe and --engine options."
    )
    return "\n".join([first, *(lines or ["  none could be built"]), last])


def _missed(candidate: Candidate, constraints: Constraints) -> str:
    """The reason; of one that kept its accuracy and came to no final, the limit that it was over."""
    if candidate.status != "built":
        return candidate.reason
    screened = dataclasses.replace(candidate, objective_s=candidate.screen_s)
    missed = broken(screened, constraints, None)
    return f"{missed}, in the screening" if missed else candidate.reason
