"""Where the Q/DQ pairs go: which inputs of which nodes read a value that was quantized on its way.

Two ways, by what fuses them. OpenVINO and TensorRT fuse a product with what follows it, and requantize
where the next one reads: pairs stand at inputs alone. ONNX Runtime needs them around a convolution, an
addition or a pool, else it computes that in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from accel.qdq import order
from accel.qdq.sites import JOINS, PRODUCTS, Site

Way = Literal["inputs", "around"]
ABSORBED = ("Relu", "Clip")  # into the rounding behind them
CARRIED = (*ABSORBED, "LeakyRelu", "MaxPool", "Identity", "Reshape", "Flatten", "Transpose", "Squeeze",
           "Unsqueeze", "Slice", "Pad")  # fmt: skip


@dataclass(frozen=True)
class Placing:
    """What the writer does."""

    edges: frozenset[tuple[int, int]]  # (node, input slot) that read DQ(Q(x))
    products: tuple[Site, ...]  # whose weights are int8


def place(proto: Any, found: Sequence[Site], chosen: Collection[str], way: Way) -> Placing:
    """The pairs for the sites whose names are chosen; what an engine would not run in int8 is left out."""
    links = _Links(proto)
    wanted = [s for s in found if s.name in chosen and (way == "inputs" or _runs(s, links))]
    products = tuple(s for s in wanted if s.operator in PRODUCTS)
    inside = {s.index for s in products}
    others = [s for s in wanted if s.operator not in PRODUCTS]
    edges = {(s.index, slot) for s in products for slot in s.activations}
    if way == "inputs":
        for site in others:
            edges |= _beside(site, links, inside)
        return Placing(frozenset(edges), products)
    kept = {s.index for s in others if _between(s, links, inside)}
    edges |= {(s.index, slot) for s in others if s.index in kept for slot in s.activations}
    tensors = {links.nodes[i].input[slot] for i, slot in edges}
    made = {links.rounded(links.nodes[i].output[0]): i for i in (*inside, *kept)}
    # what int8 makes has one reader, a rounding; so its other readers take what comes back from that
    always = {t for t, i in made.items() if i in kept or links.nodes[i].op_type == "Conv"}
    edges |= {e for t in (tensors & set(made)) | always for e in links.readers.get(t, ())}
    return Placing(frozenset(edges), products)


def _runs(site: Site, links: _Links) -> bool:
    """Does ONNX Runtime have it in int8? A convolution only where its output is rounded again.

    (ConvQDQRules, onnxruntime/core/optimizer/qdq_transformer/selectors_actions)"""
    if site.operator == "ConvTranspose":
        return False
    end = links.rounded(links.nodes[site.index].output[0])
    return site.operator != "Conv" or (end in links.readers and end not in links.outputs)


def _beside(site: Site, links: _Links, inside: set[int]) -> set[tuple[int, int]]:
    """Of an addition: all but the product that it is fused with. Of an average: its input."""
    makers = {slot: links.maker(links.nodes[site.index].input[slot]) for slot in site.activations}
    after = links.reaches(site.index, inside)
    if site.operator in ("AveragePool", "GlobalAveragePool"):
        slot = site.activations[0]
        return {(site.index, slot)} if links.comes_from(site.index, inside) else set()
    if site.operator != "Add" or not after:
        return set()
    fused = next((s for s, m in makers.items() if m in inside and len(links.after(m)) == 1), None)
    if fused is None:
        return set()
    return {(site.index, slot) for slot in site.activations if slot != fused}


def _between(site: Site, links: _Links, inside: set[int]) -> bool:
    """Is int8 on both sides of it? Else a pair would cost more than it saves."""
    from_int8 = links.comes_from(site.index, inside)
    return from_int8 and (site.operator not in JOINS or links.reaches(site.index, inside))


class _Links:
    """Who makes and who reads what."""

    def __init__(self, proto: Any) -> None:
        self.nodes = proto.graph.node
        self.readers: dict[str, list[tuple[int, int]]] = {}
        self._makers: dict[str, int] = {}
        self.inner: set[str] = set()  # what subgraphs read: they go on reading the float32 value
        self.outputs = {v.name for v in proto.graph.output}
        for i, node in enumerate(self.nodes):
            for slot, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((i, slot))
            self.inner.update({*order.reads(node)} - {*node.input})
            self._makers |= dict.fromkeys(node.output, i)

    def maker(self, name: str) -> int | None:
        """The node that makes a value."""
        return self._makers.get(name)

    def after(self, index: int) -> list[int]:
        """Nodes that read what a node makes."""
        return [i for o in self.nodes[index].output for i, _ in self.readers.get(o, ())]

    def rounded(self, name: str) -> str:
        """The value behind what is absorbed into the rounding: of Conv, Relu: the Relu's."""
        readers = self.readers.get(name, [])
        alone = len(readers) == 1 and name not in self.inner | self.outputs
        if alone and self.nodes[readers[0][0]].op_type in ABSORBED:
            return self.rounded(self.nodes[readers[0][0]].output[0])
        return name

    def reaches(self, index: int, inside: set[int]) -> bool:
        """Does a product in int8 read it, perhaps through what only carries values, or another join?"""
        return self._search(index, inside, self.after)

    def comes_from(self, index: int, inside: set[int]) -> bool:
        """Is it made of a product in int8, in the same sense?"""
        return self._search(index, inside, self._before)

    def _before(self, index: int) -> list[int]:
        return [m for n in self.nodes[index].input if (m := self._makers.get(n)) is not None]

    def _search(self, index: int, inside: set[int], step: Any) -> bool:
        left, seen = list(step(index)), {index}
        while left:
            i = left.pop()
            if i in inside:
                return True
            if i not in seen and self.nodes[i].op_type in (*CARRIED, *JOINS):
                seen.add(i)
                left += step(i)
        return False


def tensors(proto: Any, placing: Placing) -> Mapping[str, tuple[tuple[int, int], ...]]:
    """Each quantized value, and the inputs that read it so."""
    found: dict[str, list[tuple[int, int]]] = {}
    for index, slot in sorted(placing.edges):
        found.setdefault(proto.graph.node[index].input[slot], []).append((index, slot))
    return {name: tuple(edges) for name, edges in found.items()}
