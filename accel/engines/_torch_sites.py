"""Kernels put into an exported torch program: each site found by kernels/_torch_<kernel>.py.

Nothing is silent: a site that a kernel cannot take is refused with the reason, and the program then
computes it as before.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from accel import catalog
from accel.engines import _torch_ops
from accel.errors import UsageError
from accel.protocols import TorchSite
from accel.values import Options, Refusal

INERT = "aten.dropout.default"  # in evaluation; it would stand between a kernel's operators


@dataclass(frozen=True)
class Swapped:
    """How many sites each kernel took, and those that it had to leave."""

    sites: Mapping[str, int]
    refused: tuple[Refusal, ...]


def chosen(wanted: bool | Sequence[str]) -> tuple[str, ...]:
    """The kernels that an option asks for: all that fit into torch programs, none, or those named.

    Raises UsageError for an unknown name, and for one that fits into no torch program."""
    able = tuple(n for n in catalog.names("kernels") if _file(n).is_file())
    if isinstance(wanted, bool):
        return able if wanted else ()
    for name in wanted:
        catalog.require("kernels", name)
        if name not in able:
            raise UsageError(
                f"Kernel {name!r} cannot be put into a torch program: there is no "
                f"{_file(name).name}. Those that can: {', '.join(able)}."
            )
    return tuple(wanted)


def _file(kernel: str) -> Path:
    return catalog.ROOT / "kernels" / f"_torch_{kernel}.py"


def swap(program: Any, kernels: Sequence[str]) -> Swapped:
    """Put kernels into a torch.export.ExportedProgram, which is changed in place.

    A node belongs to the first kernel, in this order, that takes it. Raises MissingExtra where the
    kernels' own libraries are not installed."""
    graph, signature = program.graph_module.graph, program.graph_signature
    sites, refused = dict.fromkeys(kernels, 0), []
    with program.graph_module._set_replace_hook(signature.get_replace_hook()):
        if kernels:
            _drop_inert(graph)
        for kernel in kernels:
            member = catalog.load("kernels", kernel)
            matcher = importlib.import_module(f"accel.kernels._torch_{kernel}")
            for node in graph.nodes:
                found = matcher.site(node)
                if isinstance(found, TorchSite):
                    found = _place(graph, kernel, member, found)
                    sites[kernel] += found is None
                if isinstance(found, Refusal):
                    refused.append(Refusal(f"{kernel} at {found.what}", found.reason))
    graph.lint()
    program.graph_module.recompile()
    return Swapped(sites, tuple(refused))


def _drop_inert(graph: Any) -> None:
    for node in graph.nodes:
        if str(node.target) == INERT and not node.args[2]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _place(graph: Any, kernel: str, member: Any, site: TorchSite) -> Refusal | None:
    """Insert the op after the last of its inputs; what only fed the old nodes goes."""
    old = list(site.outputs.values())
    order = {node: i for i, node in enumerate(graph.nodes)}
    point = max(_nodes(site.inputs), key=order.__getitem__)
    first_use = min(
        (order[user] for node in old for user in node.users if user not in old), default=len(order)
    )
    if first_use <= order[point]:
        return Refusal(old[0].name, f"{point.name}, which it needs, comes after its first use")
    inputs = []
    for given in site.inputs:
        if isinstance(given, tuple):
            point = _call(graph, point, _overload(given[0]), given[1], {})
        inputs.append(point if isinstance(given, tuple) else given)
    reason = _misfit(kernel, member, [node.meta["val"] for node in inputs], site)
    if reason:
        for node in reversed(inputs):
            if node not in order:
                graph.erase_node(node)
        return Refusal(old[0].name, reason)
    op = _call(graph, point, _torch_ops.operator(kernel), tuple(inputs), dict(site.baked))
    _rewire(graph, op, member, site)
    return None


def _nodes(inputs: Sequence[Any]) -> list[Any]:
    """Every node that the inputs hold, and that those yet to be made are called with."""
    flat = [v for given in inputs for v in (given[1] if isinstance(given, tuple) else (given,))]
    return [v for v in flat if isinstance(v, torch.fx.Node)]


def _overload(name: str) -> Any:
    """ "aten.linear.default" -> torch.ops.aten.linear.default"""
    found = torch.ops
    for word in name.split("."):
        found = getattr(found, word)
    return found


def _call(graph: Any, after: Any, target: Any, args: Any, kwargs: Options) -> Any:
    """A new node that knows its value's shape and dtype, as every exported node does."""
    with graph.inserting_after(after):
        node = graph.call_function(target, args, kwargs)
    values = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in args]
    mode = next(v.fake_mode for v in values if hasattr(v, "fake_mode"))
    with mode, torch.no_grad():
        node.meta["val"] = target(*values, **kwargs)
    return node


def _misfit(kernel: str, member: Any, values: Sequence[Any], site: TorchSite) -> str:
    """Why the kernel would not run here: a dtype, or a shape that its launch refuses."""
    try:
        dtype = _torch_ops.dtype_of(kernel, member, values, site.baked)
        signature = member.signature(dtype, site.baked)
        member.launch(_torch_ops.shapes_of(signature, values), dtype, site.baked)
    except UsageError as error:
        return str(error)
    return ""


def _rewire(graph: Any, op: Any, member: Any, site: TorchSite) -> None:
    """Whoever read the old nodes reads the op's results; the old nodes go."""
    names = [name for name, _ in member.signature(member.DTYPES[0], site.baked).outputs]
    point = op
    for i, name in enumerate(names):
        if name not in site.outputs:
            continue
        result = op
        if len(names) > 1:
            with graph.inserting_after(point):
                result = point = graph.call_function(operator.getitem, (op, i))
            result.meta["val"] = op.meta["val"][i]
        site.outputs[name].replace_all_uses_with(result)
    _erase(graph, site.outputs.values())


def _erase(graph: Any, nodes: Iterable[Any]) -> None:
    """Nodes that nothing reads any more, and then what they alone read."""
    waiting, gone = list(nodes), set()
    while waiting:
        node = waiting.pop()
        if node in gone or node.users or node.op != "call_function":
            continue
        waiting += node.all_input_nodes
        graph.erase_node(node)
        gone.add(node)
