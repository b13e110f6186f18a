"""Kernels put into an exported torch program: each site found by the kernel's own `torch_site`.

Nothing is silent: a site that a kernel cannot take is refused with the reason, and the program then
computes it as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from accel import catalog
from accel.engines import _torch_ops
from accel.errors import UsageError
from accel.protocols import TorchSite
from accel.values import Refusal

INERT = "aten.dropout.default"  # in evaluation; it would stand between a kernel's operators


@dataclass(frozen=True)
class Swapped:
    """How many sites each kernel took, and those that it had to leave."""

    sites: Mapping[str, int]
    refused: tuple[Refusal, ...]


def chosen(wanted: bool | Sequence[str]) -> tuple[str, ...]:
    """The kernels that an option asks for: all that know torch programs, none, or those named.

    Raises UsageError for an unknown name, and for one that fits into no torch program."""
    if wanted is False:
        return ()
    if wanted is not True:
        for name in wanted:
            if not hasattr(catalog.load("kernels", name), "torch_site"):
                raise UsageError(
                    f"Kernel {name!r} has no torch_site: it cannot be put into a torch program. "
                    f"Those that can: {', '.join(chosen(True))}."
                )
        return tuple(wanted)
    known = catalog.names("kernels")
    return tuple(n for n in known if hasattr(catalog.load("kernels", n), "torch_site"))


def swap(program: Any, kernels: Sequence[str]) -> Swapped:
    """Put kernels into a torch.export.ExportedProgram, which is changed in place.

    A node belongs to the first kernel, in this order, that takes it."""
    graph, signature = program.graph_module.graph, program.graph_signature
    sites, refused = dict.fromkeys(kernels, 0), []
    with program.graph_module._set_replace_hook(signature.get_replace_hook()):
        for node in [n for n in graph.nodes if str(n.target) == INERT and not n.args[2]]:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        for kernel in kernels:
            member = catalog.load("kernels", kernel)
            for node in list(graph.nodes):
                found = None if node._erased else member.torch_site(node)
                if isinstance(found, TorchSite):
                    found = _place(graph, kernel, member, found)
                if isinstance(found, Refusal):
                    refused.append(Refusal(f"{kernel} at {found.what}", found.reason))
                elif found is not None:
                    sites[kernel] += 1
    graph.lint()
    program.graph_module.recompile()
    return Swapped(sites, tuple(refused))


def _place(graph: Any, kernel: str, member: Any, site: TorchSite) -> Refusal | bool:
    """Insert the op after the last of its inputs; what only fed the old nodes goes."""
    last = next(iter(site.outputs.values()))
    order = {node: i for i, node in enumerate(graph.nodes)}
    after = max(_nodes(site.inputs), key=order.__getitem__)
    old = set(site.outputs.values())
    users = {user for node in old for user in node.users} - old
    if users and min(map(order.__getitem__, users)) <= order[after]:
        return Refusal(last.name, f"{after.name}, which it needs, comes after its first use")
    made: list[Any] = []
    with graph.inserting_after(after):
        point = after
        for given in site.inputs:
            node = given
            if isinstance(given, tuple):
                with graph.inserting_after(point):
                    node = point = _call(graph, _overload(given[0]), given[1], {})
            made.append(node)
    refusal = _misfit(kernel, member, made, site, last.name)
    if refusal is not None:
        for node in (n for n in reversed(made) if n not in order):
            graph.erase_node(node)
        return refusal
    with graph.inserting_after(point):
        op = _call(graph, _torch_ops.operator(kernel), tuple(made), dict(site.baked))
    _rewire(graph, op, member, site)
    return True


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


def _call(graph: Any, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A new node that knows its value's shape and dtype, as every exported node does."""
    node = graph.call_function(target, args, kwargs)
    values = [a.meta["val"] if isinstance(a, torch.fx.Node) else a for a in args]
    mode = next(v.fake_mode for v in values if hasattr(v, "fake_mode"))
    with mode, torch.no_grad():
        node.meta["val"] = target(*values, **kwargs)
    return node


def _misfit(
    kernel: str, member: Any, inputs: Sequence[Any], site: TorchSite, name: str
) -> Refusal | None:
    """Why the kernel would not run here: a dtype, or a shape that its launch refuses."""
    values = [node.meta["val"] for node in inputs]
    try:
        dtype = _torch_ops.dtype_of(kernel, member, values, site.baked)
        signature = member.signature(dtype, site.baked)
        member.launch(_torch_ops.shapes_of(signature, values), dtype, site.baked)
    except UsageError as error:
        return Refusal(name, str(error))
    return None


def _rewire(graph: Any, op: Any, member: Any, site: TorchSite) -> None:
    names = [name for name, _ in member.signature(member.DTYPES[0], site.baked).outputs]
    point = op
    for i, name in enumerate(names):
        if name not in site.outputs:
            continue
        result = op
        if len(names) > 1:
            with graph.inserting_after(point):
                result = point = graph.call_function(_getitem(), (op, i))
            result.meta["val"] = op.meta["val"][i]
        site.outputs[name].replace_all_uses_with(result)
    for node in sorted(site.outputs.values(), key=list(graph.nodes).index, reverse=True):
        _erase(graph, node)


def _erase(graph: Any, node: Any) -> None:
    """A node that nothing reads any more, and then what it alone read."""
    if node.users or node.op != "call_function":
        return
    above = node.all_input_nodes
    graph.erase_node(node)
    for other in above:
        _erase(graph, other)


def _getitem() -> Any:
    import operator

    return operator.getitem
