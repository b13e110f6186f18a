"""Geometry called with symbols reads as the formula that it computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.cuda.geometry import cdiv, product
from accel.cuda.symbols import Symbol, shapes

A, B = Symbol("a"), Symbol("b")
FORMULAS: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda a, b: product((a, b, 384)), "a*b*384"),
    (lambda a, b: cdiv(product((a, b)), 4), "ceil(a*b / 4)"),
    (lambda a, b: cdiv(a * b * 3, 1), "a*b*3"),
    (lambda a, b: (a + 1) * b, "(a + 1)*b"),
    (lambda a, b: a * (b - 2), "a*(b - 2)"),
    (lambda a, b: a - (b + 1), "a - (b + 1)"),
    (lambda a, b: (a * b + 3) // 8, "floor((a*b + 3) / 8)"),
    (lambda a, b: a // 8 * b, "floor(a / 8)*b"),
    (lambda a, b: cdiv(a + b, 8) + 1, "ceil((a + b) / 8) + 1"),
    (lambda a, b: a // (b + 1), "floor(a / (b + 1))"),
    (lambda a, b: (a + b) * 1 + 0, "a + b"),
]


@pytest.mark.parametrize(("formula", "text"), FORMULAS)
def test_it_prints_as_it_would_be_written(formula: Callable[[Any, Any], Any], text: str) -> None:
    """Brackets where they are needed, ceil where it is meant, nothing that changes nothing."""
    assert str(formula(A, B)) == text


@pytest.mark.parametrize("formula", [f for f, _ in FORMULAS])
@given(a=st.integers(1, 10**6), b=st.integers(1, 10**6))
def test_the_text_computes_the_same(formula: Callable[[Any, Any], Any], a: int, b: int) -> None:
    """Read as Python, it gives what the numbers give."""
    text = str(formula(A, B))
    names = {"a": a, "b": b, "ceil": math.ceil, "floor": math.floor}
    assert eval(text, {"__builtins__": {}}, names) == formula(a, b)


def test_a_symbol_is_no_number() -> None:
    """It has no truth, and does not stand right of a number: an engine's symbols cannot either."""
    with pytest.raises(TypeError, match="a is not known yet"):
        bool(A)
    with pytest.raises(TypeError, match="unsupported operand"):
        3 * A  # type: ignore[operator]


def test_every_size_but_the_last_is_one() -> None:
    """Named after the input and the axis; the last is what rows and vectors are made of."""
    found = shapes({"x": (2, 3, 384), "bias": (384,)})
    assert {n: [str(s) for s in sizes] for n, sizes in found.items()} == {
        "x": ["x0", "x1", "384"],
        "bias": ["384"],
    }
