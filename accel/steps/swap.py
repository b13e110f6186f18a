"""Put the kernels' operators where a graph computes the same: the verb.

Each operator is one function of domain accel.kernels, in standard operators, so the graph still
runs where no kernel is; TensorRT takes the plugin of that name instead where it is registered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import catalog, graph, shapes
from accel.values import Model, Refusal

DOMAIN = "accel.kernels"
VERSION = 1  # of the domain
FUNCTIONS_SINCE = 8  # IR version of the first models with functions
STANDARD = ("", "ai.onnx")
NO_RULE = "it has no rule: nothing in a graph of standard operators is recognised as it"
OLDEST_OPSET = 17  # of what a kernel's function is written for


@dataclass(frozen=True)
class Swapped:
    """The graph, how many nodes of each kernel were put in, and every site that was not one."""

    model: Model
    sites: Mapping[str, int]
    refused: tuple[Refusal, ...]


def swap(model: Model, out: str | Path, kernels: Sequence[str] = ()) -> Swapped:
    """The graph with kernels in it as out/"model.onnx"; `kernels`: only these.

    A graph without sites is copied as it is. Raises UsageError for an unknown kernel, BadModel
    like `graph.open_model`, MissingExtra where Numba is not installed."""
    for name in kernels:
        catalog.require("kernels", name)
    members = {n: catalog.load("kernels", n) for n in kernels or catalog.names("kernels")}
    made, sites, refused = _swapped(graph.open_model(model.path), members)
    refused += tuple(Refusal(n, NO_RULE) for n in kernels if not members[n].rules())
    path = Path(out) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    if any(sites.values()):
        graph.save(made, path)
    else:
        graph.copy(model.path, path)
    line = "swap: " + (", ".join(_counted(sites, refused)) or "0 sites")
    return Swapped(graph.describe(path, (*model.trail, line)), sites, refused)


def _counted(sites: Mapping[str, int], refused: Sequence[Refusal]) -> Iterator[str]:
    """ "bias_gelu 6 of 6", for what has sites."""
    for name, count in sites.items():
        every = count + sum(r.what.startswith(f"{name} at ") for r in refused)
        if every:
            yield f"{name} {count} of {every}"


def _swapped(
    proto: Any, members: Mapping[str, Any]
) -> tuple[Any, dict[str, int], tuple[Refusal, ...]]:
    import onnx_ir
    from onnx_ir.passes import common

    known = shapes.infer(proto)
    model = onnx_ir.from_proto(known)
    model.functions.clear()  # they stay as they are, ours above all
    before, bodies, refused = _present(model), [], []
    for name, member in members.items():
        body, reason = _body(proto, member)
        rules = member.rules()
        if reason:
            left = [(_place(node), reason) for node, _ in _sites(model, rules)]
        else:
            left = _put_in(model, rules)
        bodies += [] if reason else [body]
        refused += [Refusal(f"{name} at {node}", why) for node, why in left]
        refused += [Refusal(f"{name} at {n}", why) for n, why in _in_functions(known, rules)]
    found = _present(model)  # a later kernel may have taken in what an earlier one made
    sites = {name: max(0, found[m.OP] - before[m.OP]) for name, m in members.items()}
    common.RemoveUnusedNodesPass()(model)  # constants that only the replaced nodes read
    model.graph.sort()  # a node stands where the last of those it replaces stood
    made = onnx_ir.to_proto(model)
    made.graph.sparse_initializer.extend(proto.graph.sparse_initializer)  # onnx_ir holds none
    made.functions.extend(proto.functions)
    there = {(f.domain, f.name) for f in proto.functions}
    needed = [b for b in bodies if found[b.name] and (b.domain, b.name) not in there]
    made.functions.extend(needed)
    made.ir_version = max(made.ir_version, FUNCTIONS_SINCE)
    return made, sites, tuple(refused)


def _body(proto: Any, member: Any) -> tuple[Any, str]:
    """The kernel's function at the model's opset, and why it cannot stand there, or ""."""
    opset = next((o.version for o in proto.opset_import if o.domain in STANDARD), 0)
    if opset < OLDEST_OPSET:
        return None, f"it needs opset {OLDEST_OPSET} or newer; the model has {opset}"
    version = next((o.version for o in proto.opset_import if o.domain == DOMAIN), VERSION)
    if version != VERSION:
        return None, f"the model imports {DOMAIN} {version}, not {VERSION}"
    body = member.function(opset)
    for other in proto.functions:
        if (other.domain, other.name) == (body.domain, body.name) and not _alike(other, body):
            return body, f"the model has another function {body.domain}.{body.name} already"
    return body, ""


def _alike(one: Any, other: Any) -> bool:
    """The same nodes, whatever inference or a writer noted beside them."""
    import onnx

    plain = []
    for function in (one, other):
        copy = onnx.FunctionProto()
        copy.CopyFrom(function)
        for name in ("doc_string", "metadata_props", "value_info"):
            copy.ClearField(name)
        plain.append(copy.SerializeToString(deterministic=True))
    return bool(plain[0] == plain[1])


def _present(model: Any) -> Counter[str]:
    """How many nodes there are of each operator of ours."""
    return Counter(n.op_type for n in model.graph.all_nodes() if n.domain == DOMAIN)


def _put_in(model: Any, rules: Any) -> list[tuple[str, str]]:
    """Apply a kernel's rules; the sites that they left, each with the reason."""
    from onnxscript.rewriter import RewriteRuleSet

    whys: dict[Any, str] = {}
    for rule in rules:
        applied = RewriteRuleSet([_onnxscript(rule, whys)], commute=rule.commute)
        applied.apply_to_model(model)
    return [(_place(node), whys.get(node) or why) for node, why in _sites(model, rules)]


def _onnxscript(rule: Any, whys: dict[Any, str]) -> Any:
    """The rule as the rewriter takes it, noting for each matched node why a check refused."""
    from onnxscript.rewriter.pattern import RewriteRule

    def check(context: Any, **bound: Any) -> Any:
        found = rule.check(context, **bound)
        if not found:
            whys.update(dict.fromkeys(context.nodes, found.reason))
        return found

    return RewriteRule(rule.pattern, rule.rewrite, check)


def _sites(part: Any, rules: Any) -> Iterator[tuple[Any, str]]:
    """Nodes that mark a site of a kernel, with what its rules say of the structure around them."""
    for node in getattr(part, "graph", part).all_nodes():
        reasons = [
            r.explain(node) for r in rules if node.domain in STANDARD and node.op_type in r.anchors
        ]
        if any(reasons):
            yield node, next(reason for reason in reasons if reason)


def _in_functions(proto: Any, rules: Any) -> Iterator[tuple[str, str]]:
    """Sites inside of the model's own functions: sizes are not known there."""
    import onnx_ir

    for function in proto.functions:
        if function.domain == DOMAIN:
            continue
        for node, _ in _sites(onnx_ir.from_proto(function), rules):
            place = f"{function.domain}.{function.name}"
            yield f"{place} {_place(node)}", f"it stands in the function {place}: inline it first"


def _place(node: Any) -> str:
    return node.name or f"{node.op_type} of {node.outputs[0].name}"
