"""Who makes and who reads what in the main graph of a ModelProto, and its pairs of Q and DQ."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from accel.qdq import order

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


class Graph:
    """Who makes and who reads what in the main graph; made anew behind each change."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self.constants = {t.name: t for t in proto.graph.initializer}
        self.names = set(order.names(proto))
        self.makers = {o: n for n in proto.graph.node for o in n.output}
        self.readers: dict[str, list[Any]] = {}
        for node in proto.graph.node:
            for name in order.reads(node):
                self.readers.setdefault(name, []).append(node)

    def array(self, name: str) -> NDArray[Any] | None:
        """Of an initializer whose values are here."""
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        found: NDArray[Any] = numpy_helper.to_array(tensor)
        return found

    def numbers(self, node: Any) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Scale and zero point of a node, both constant; None where they are not."""
        scale = self.array(node.input[1])
        zero = self.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if scale is None or zero is None or scale.ndim > 1:
            return None
        return scale, zero

    def alike(self, node: Any, backs: Iterable[Any]) -> bool:
        """Have a Q and its DQ nodes the same numbers? Where not, the pair scales or shifts what it rounds,
        which ONNX allows: neither half's numbers are the other's."""
        return all(
            _equal(self._number(node, slot), self._number(back, slot))
            for back in backs
            for slot in (1, 2)
        )

    def _number(self, node: Any, slot: int) -> NDArray[Any] | None:
        """A scale or a zero point, which is 0 where it is left out; in float64, which holds them all."""
        if len(node.input) <= slot or not node.input[slot]:
            return np.zeros(1)
        found = self.array(node.input[slot])
        return None if found is None else found.astype(np.float64)

    def pairs(self) -> Iterator[tuple[Any, list[Any]]]:
        """Each Q of a value, with its DQ nodes, where nothing else reads what it makes."""
        outputs = {v.name for v in self.proto.graph.output}
        for node in self.proto.graph.node:
            if not order.rounds(node, QUANTIZE) or node.output[0] in outputs:
                continue
            backs = self.readers.get(node.output[0], [])
            if backs and all(order.rounds(b, DEQUANTIZE) for b in backs):
                yield node, backs

    def weights(self) -> Iterator[tuple[Any, NDArray[Any]]]:
        """Each DQ of an initializer, with its integers."""
        for node in self.proto.graph.node:
            if not order.rounds(node, DEQUANTIZE):
                continue
            if (found := self.array(node.input[0])) is not None:
                yield node, found

    def constant(self, name: str, values: Any) -> str:
        """An initializer of these values: a new one, its name numbered where a rule before took it."""
        wanted = np.asarray(values)
        tried = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2)))
        new = next(n for n in tried if n not in self.names or _same(self.array(n), wanted))
        if new not in self.names:
            self.constants[new] = numpy_helper.from_array(wanted, new)
            self.proto.graph.initializer.append(self.constants[new])
            self.names.add(new)
        return new

    def fresh(self, name: str) -> str:
        """A name that no value and no node has, numbered where one has it; from now on it is taken."""
        tried = itertools.chain([name], (f"{name}_{i}" for i in itertools.count(2)))
        new = next(n for n in tried if n not in self.names)
        self.names.add(new)
        return new


def _equal(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    """One number is equal to any count of the same."""
    if one is None or other is None:
        return False
    return len({one.size, other.size} - {1}) < 2 and bool(np.all(one.ravel() == other.ravel()))


def _same(one: NDArray[Any] | None, other: NDArray[Any]) -> bool:
    return one is not None and one.dtype == other.dtype and np.array_equal(one, other)
