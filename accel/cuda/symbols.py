"""Sizes that are not known yet, as text: launch geometry called with them reads as a formula.

They know what TensorRT's symbols know (they stand left of +, -, *, // and have no truth), so what
can be printed here can be built there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accel.protocols import Shapes

SUM, PRODUCT, NAME = 1, 2, 3  # how tightly a text binds


@dataclass(frozen=True)
class Symbol:
    """`Symbol("x0") * 3` prints as x0*3; ceil(x / n) is recognised in (x + (n - 1)) // n."""

    text: str
    binds: int = NAME
    less: Symbol | None = None  # of a sum with a number: what the number was added to
    added: int = 0

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: Any) -> Symbol:
        if other == 0:
            return self
        text = f"{self.text} + {other}"
        return Symbol(text, SUM, *((self, other) if isinstance(other, int) else ()))

    def __sub__(self, other: Any) -> Symbol:
        return self if other == 0 else Symbol(f"{self.text} - {_bound(other, PRODUCT)}", SUM)

    def __mul__(self, other: Any) -> Symbol:
        if other == 1:
            return self
        return Symbol(f"{_bound(self, PRODUCT)}*{_bound(other, PRODUCT)}", PRODUCT)

    def __floordiv__(self, other: Any) -> Symbol:
        if other == 1:
            return self
        if self.less is not None and self.added == other - 1:
            return Symbol(f"ceil({_bound(self.less, PRODUCT)} / {other})")
        return Symbol(f"floor({_bound(self, PRODUCT)} / {_bound(other, NAME)})")

    def __bool__(self) -> bool:
        raise TypeError(f"{self.text} is not known yet: geometry must not depend on its truth")


def _bound(value: Any, least: int) -> str:
    return f"({value})" if isinstance(value, Symbol) and value.binds < least else str(value)


def shapes(known: Shapes) -> dict[str, tuple[Any, ...]]:
    """The same with a symbol for every size but the last of each input: x0, x1, 384."""
    return {
        name: (*(Symbol(f"{name}{axis}") for axis in range(len(sizes) - 1)), *sizes[-1:])
        for name, sizes in known.items()
    }
