"""int8_mixed: Q/DQ pairs by accel's own writer, from the sketches of one calibration run.

Which range, whether scales migrate, and which products stay in float32 are options: an assignment, that
the search (accel.mixing) solves for. Whatever it is, every pair stands where the engine fuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accel import catalog, graph
from accel.errors import CandidateBroken
from accel.plain import shown
from accel.protocols import Quantized
from accel.qdq import dynamic, equalize, norms, place, tables, write
from accel.qdq.numbers import Steps
from accel.qdq.sites import PRODUCTS, UNTYPED, Site, sites, untyped
from accel.ranges import minmax
from accel.recipes import _calibration, _fuse, _islands, _merge, _raise, _smooth
from accel.sketch import Sketch
from accel.values import Feed, Model, Options, QuantStyle

NEEDS_CALIBRATION = True
NEEDS_SKETCHES = True  # takes them instead of feeds, where one pass serves many candidates
Range = tuple[float, float]
STEPS = 255
# of the scale migration. Its authors take 0.5 for most models, with one scale a weight; here each output channel
# has its own, and MiniLM's error was least at 0.8 (at 0.5 nine times as much, at 0.95 1.2 times)
ALPHA = 0.8


def variants(style: QuantStyle) -> tuple[Options, ...]:
    """Full int8 in some ways; what is better than the best of them is for the search."""
    plain: dict[str, Any] = {"ranges": "mse", "correct": True}
    if style.pairs == "inputs" and not style.activation_symmetric:
        plain = {**plain, "symmetric": True}  # no zero points to take off
    moved: dict[str, Any] = {**plain, "migrate": ALPHA}
    # ONNX Runtime computes attention in float32 whatever stands around it
    whole = {**moved, "attention": True} if style.pairs == "inputs" else moved
    found: tuple[Options, ...] = (
        plain,
        {**plain, "ranges": "minmax"},
        moved,
        whole,
        {**plain, "equalize": True},
    )
    if "tensorrt" in style.operators:  # it computes in the types that the graph says
        found = (*({**o, "rest": "float16"} for o in found), plain)
    else:
        # nothing quicker: MiniLM is 2 % slower by its two more nodes, and less than half as large
        found = (*found, {**whole, "tables": True})
    return tuple(o for i, o in enumerate(found) if o not in found[:i])


def apply(
    model: Model,
    calibration: Iterable[Feed] | Mapping[str, Sketch] | None,
    style: QuantStyle,
    options: Options,
    out: Path,
) -> Quantized:
    """Options: "ranges" (a file of accel/ranges), "correct" (biases), "migrate" (alpha), "equalize",
    "symmetric" (no zero points), "attention" (a transformer's products of two activations, too), "merge"
    (products of one value), "tables" (that are looked up, too), "rest" ("float16": what is not int8, where it
    fits), "float" (names of sites and tables that stay as they are), "left" ("dynamic": of these, products by
    a matrix are quantized as they pass).

    `calibration` may be the sketches that accel.calibration made for this very graph. Raises UsageError for
    calibration data that is absent, NaN or not for this model, CandidateBroken where an option does not
    apply to this graph, or nothing is left to quantize."""
    seen, counted = _calibration.sketches("int8_mixed", calibration, model)
    opset = _islands.OPSET if options.get("rest") else _raise.PER_CHANNEL_OPSET
    raised, folded = norms.folded(_raise.raised(graph.dense(model.path), opset))
    found, left = sites(raised), frozenset(options.get("float", ()))
    transformer = _fuse.is_transformer(raised)
    _check(raised, {s.name for s in found}, left, transformer, options)
    chosen = _chosen(found, left, transformer and not options.get("attention"), transformer)
    proto, chosen = _joined(raised, chosen) if options.get("merge") else (raised, chosen)
    wanted = [s for s in sites(proto) if s.name in chosen]
    proto, known, given = _moved(proto, wanted, dict(seen), options)
    placing = place.place(proto, sites(proto), chosen, style.pairs)
    kept = f"{count} {UNTYPED}" if (count := untyped(proto)) else ""
    if not placing.products and not options.get("left"):
        why = f": {kept}" if kept else ""
        raise CandidateBroken(
            f"nothing was quantized: no Conv, Gemm or MatMul is left for int8{why}"
        )
    how = _how(style, bool(options.get("symmetric")))
    ranges = _ranges(proto, placing, known, given, str(options["ranges"]), how)
    means = known if options.get("correct") else None
    made = write.written(proto, placing, ranges, how, means)
    made, more = _beside(made, known, left, how, options)
    kept = ", ".join(said for said in (kept, more.get("kept in fp32", "")) if said)
    path, products = out / "model.onnx", sum(n.op_type in PRODUCTS for n in graph.walk(proto))
    graph.save(made, path)
    facts: dict[str, Any] = {
        **counted,
        **({"folded": folded} if folded else {}),
        **more,
        **({"kept in fp32": kept} if kept else {}),
        "int8": len(placing.products),
        "float32": products - len(placing.products) - int(more.get("dynamic", 0)),
        "pairs": len(place.tensors(proto, placing)),
    }
    line = f"int8_mixed {options['ranges']}, {facts['int8']} products in int8"
    return Quantized(graph.describe(path, (*model.trail, line)), facts)


def _check(
    raised: Any, names: set[str], left: frozenset[str], transformer: bool, options: Options
) -> None:
    """Raise CandidateBroken where an option does not apply to this graph."""
    known_tables = tables.tables(raised)
    if options.get("tables") and not known_tables:
        raise CandidateBroken("no table to look up: no Gather reads rows of a large constant")
    if unknown := left - names - {*known_tables}:
        raise CandidateBroken(f"no site is named {shown(', '.join(sorted(unknown)), keep='')}")
    if options.get("attention") and not transformer:
        raise CandidateBroken("no attention in this graph: its products are in int8 without it")


def _joined(proto: Any, chosen: set[str]) -> tuple[Any, set[str]]:
    """The graph with products of one value merged, and what is chosen of it."""
    made, names = _merge.merged(proto, chosen)
    if not names:
        raise CandidateBroken("nothing to merge: no value is read by two products by a matrix")
    return made, chosen.difference(*names.values()) | {*names}


def _beside(
    made: Any, known: Mapping[str, Sketch], left: frozenset[str], how: write.How, options: Options
) -> tuple[Any, dict[str, Any]]:
    """What is done beside the pairs, in place, and facts of it."""
    facts: dict[str, Any] = {}
    if options.get("left"):
        passing = dynamic.quantize(made, sites(made), left, how.weights, how.per_channel)
        if not passing:
            raise CandidateBroken(
                "no product by a matrix is left out: none to quantize as it passes"
            )
        facts["dynamic"] = len(passing)
    if options.get("tables"):
        facts["tables"] = len(tables.quantize(made, left))
    if options.get("rest"):
        made, halves = _islands.written(made, known)
        facts |= halves
    return made, facts


def _moved(
    proto: Any, wanted: Sequence[Site], known: dict[str, Sketch], options: Options
) -> tuple[Any, dict[str, Sketch], dict[str, Range]]:
    """The graph with its scales moved towards the weights of what is `wanted` in int8, its statistics, and the extremes of the values that changed."""
    given: dict[str, Range] = {}
    if options.get("equalize"):
        proto, scales = equalize.equalized(proto)
        if not scales:
            raise CandidateBroken("nothing to equalize: no two convolutions follow each other")
        moved = {n: known[n].divided(s) for n, s in scales.items() if n in known}
        known |= moved
        given = {n: minmax.of(s, STEPS, False) for n, s in moved.items() if s.count}
    if options.get("migrate"):
        proto, more = _smooth.smoothed(proto, wanted, known, float(options["migrate"]))
        if not more:
            raise CandidateBroken(
                "no scales to migrate: no MatMul or Gemm with channels of its own"
            )
        known |= more
        given |= {n: minmax.of(s, STEPS, False) for n, s in more.items()}
    return proto, known, given


def _chosen(
    found: tuple[Site, ...], left: frozenset[str], weights_alone: bool, transformer: bool
) -> set[str]:
    """In a transformer additions lead to norms in float32: int8 would gain nothing there. Its products of
    two activations have few multiplications; in OpenVINO they were a tenth of a MiniLM batch's time."""
    kinds = PRODUCTS if transformer else None
    return {
        s.name
        for s in found
        if s.name not in left
        and (s.weight is not None or not weights_alone)
        and (kinds is None or s.operator in kinds)
    }


def _ranges(
    proto: Any,
    placing: place.Placing,
    known: Mapping[str, Sketch],
    given: Mapping[str, Range],
    method: str,
    how: write.How,
) -> dict[str, Range]:
    of = catalog.load("ranges", method).of
    found = {}
    for name in place.tensors(proto, placing):
        if name in given:
            found[name] = given[name]
        elif name in known and known[name].count:
            steps = how.steps(known[name].low)
            found[name] = of(known[name], steps.count, steps.symmetric)
        else:
            raise CandidateBroken(
                f"{shown(name, keep='')} was never a finite number in calibration, or is not of the "
                "graph that was calibrated: nothing is known of its range"
            )
    for node in proto.graph.node:
        if node.op_type == "MaxPool" and node.input[0] in found and node.output[0] in found:
            found[node.output[0]] = found[node.input[0]]  # engines pool in int8 at one scale alone
    return found


def _how(style: QuantStyle, symmetric: bool) -> write.How:
    return write.How(
        activations=Steps(style.activation_signed, style.activation_symmetric),
        weights=Steps(style.weight_signed, style.weight_symmetric, 7 if style.reduce_range else 8),
        per_channel=style.per_channel,
        zeroless=symmetric,
        bias=style.pairs == "around",
        dedicated="tensorrt" in style.operators,
    )
