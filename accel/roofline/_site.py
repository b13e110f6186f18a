"""One node as its cost sees it: sizes of what it takes and gives, and its attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accel.roofline._sizes import Sized, Tensor

Dims = tuple[int, ...]


class Unknown(Exception):
    """A cost that cannot be told, with the reason; it never leaves this package."""


@dataclass(frozen=True)
class Site:
    """A node's operator, its values by position (None: left out), and its attributes."""

    operator: str  # with its domain where that is not ONNX's own
    takes: tuple[Tensor | None, ...]
    gives: tuple[Tensor | None, ...]
    attributes: Mapping[str, Any]

    def has(self, index: int) -> bool:
        """Is this optional input given?"""
        return index < len(self.takes) and self.takes[index] is not None

    def dims(self, index: int = 0) -> Dims:
        """An input's sizes. Raises Unknown."""
        return _dims(self.takes[index] if self.has(index) else None, f"input {index}")

    def made(self, index: int = 0) -> Dims:
        """An output's sizes. Raises Unknown."""
        return _dims(self.gives[index] if index < len(self.gives) else None, f"output {index}")

    def taken(self, index: int = 0) -> int:
        """Elements of an input. Raises Unknown."""
        return math.prod(self.dims(index))

    def given(self, index: int = 0) -> int:
        """Elements of an output. Raises Unknown."""
        return math.prod(self.made(index))


def _dims(tensor: Tensor | None, what: str) -> Dims:
    if tensor is None:
        raise Unknown(f"{what} is left out")
    if tensor.dims is None:
        raise Unknown(f"the size of {what} is not known")
    return tensor.dims


def operator(node: Any) -> str:
    """Its name; the domain stands before it where it is not ONNX's own."""
    plain = node.domain in ("", "ai.onnx")
    return node.op_type if plain else f"{node.domain}.{node.op_type}"


def of(node: Any, sized: Sized) -> Site:
    """The node in its graph."""
    import onnx

    return Site(
        operator=operator(node),
        takes=tuple(sized.of(name) if name else None for name in node.input),
        gives=tuple(sized.of(name) if name else None for name in node.output),
        attributes={
            a.name: onnx.helper.get_attribute_value(a)
            for a in node.attribute
            if not a.HasField("g") and not a.ref_attr_name
        },
    )
