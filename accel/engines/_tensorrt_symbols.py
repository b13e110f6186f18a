"""Sizes that TensorRT knows only when the engine runs, with no more than all its versions have.

TensorRT's own expressions can be compared: before 10.16 the result is always true, so a kernel that
chose by one would choose wrongly in silence. These refuse, so that it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn


def _refuse(self: Symbol, *_: Any) -> NoReturn:
    raise TypeError("it is compared, or counted with, and open until the engine runs")


def _with(name: str) -> Callable[[Symbol, Any], Symbol]:
    def operate(self: Symbol, other: Any) -> Symbol:
        return Symbol(getattr(self.expression, name)(expression(other)))

    return operate


@dataclass(frozen=True, eq=False)
class Symbol:
    """A tensorrt.plugin.ShapeExpr: it stands left of +, -, * and //, and has no truth."""

    expression: Any

    __add__, __sub__, __mul__, __floordiv__ = map(
        _with, ("__add__", "__sub__", "__mul__", "__floordiv__")
    )
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __index__ = _refuse
    __hash__ = object.__hash__


def size(found: Any) -> Any:
    """A number where the network fixes it, else a symbol."""
    return found.constant_value() if found.is_constant else Symbol(found)


def expression(value: Any) -> Any:
    """What TensorRT takes: its own expression, or a number."""
    return value.expression if isinstance(value, Symbol) else value
