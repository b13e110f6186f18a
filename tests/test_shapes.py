"""Sizes that are known: onnx's inference, and what it leaves open."""

from __future__ import annotations

import onnx
import pytest

from accel import shapes

POSITIONS = """
<ir_version: 8, opset_import: ["" : 17]>
g (int64[batch, sequence] ids, float[batch, sequence, 4] x) => (float[a, b, 4] y)
<int64[1, 6] positions = {0, 1, 2, 3, 4, 5}, int64 at = {1},
 int64[1] first = {0}, int64[1] axis = {1}, int64[1] step = {1},
 float[6, 4] table = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}>
{
  shape = Shape(ids)
  length = Gather(shape, at)
  end = Unsqueeze(length, first)
  cut = Slice(positions, first, end, axis, step)
  rows = Gather(table, cut)
  s = Add(x, rows)
  t = Relu(s)
  y = Identity(t)
}
"""


def found(text: str) -> dict[str, shapes.Sizes | None]:
    """Sizes by value."""
    made = shapes.infer(onnx.parser.parse_model(text))
    return {v.name: shapes._sizes(v) for v in made.graph.value_info}


def test_positions_cut_to_the_length_of_the_input() -> None:
    """The cut has its size as a symbol, and a sum with it keeps the symbol of the other side."""
    sizes = found(POSITIONS)
    assert sizes["cut"] == (1, "Min(6, sequence)")
    assert sizes["rows"] == (1, "Min(6, sequence)", 4)
    assert sizes["s"] == sizes["t"] == ("batch", "sequence", 4)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("step = {1}", "step = {2}"),
        ("Slice(positions, first,", "Slice(positions, axis,"),
        ("Gather(shape, at)", "ReduceSum<keepdims=0>(shape)"),
        ("int64[1] step = {1}", "int64[1] step = {1}, int64[1] more = {3}"),
    ],
    ids=["every second", "from the second on", "another number", "the same again"],
)
def test_what_is_not_known_is_not_made_up(old: str, new: str) -> None:
    """Another step, another start, an end that is no axis: the size stays unknown."""
    size = found(POSITIONS.replace(old, new))["cut"]
    assert size is not None
    assert (size == (1, "Min(6, sequence)")) == ("more" in new)


def test_the_model_itself_is_left_alone() -> None:
    """Weights, inputs and outputs are as before; only notes were added."""
    before = onnx.parser.parse_model(POSITIONS)
    after = shapes.infer(before)
    after.graph.ClearField("value_info")
    assert after == before


@pytest.mark.parametrize(
    ("part", "whole", "wanted"),
    [
        (("B", "S", 8), ("B", "S", 8), True),
        ((8,), ("B", "S", 8), True),
        ((1, "S", 8), ("B", "S", 8), True),
        ((1, 1, 8), ("B", "S", 8), True),
        ((1, "Min(512, S)", 8), ("B", "S", 8), True),
        ((1, "Min(1, S)", 8), ("B", "S", 8), False),
        ((1, "Min(512, T)", 8), ("B", "S", 8), False),
        (("B", 1, 8), ("B", "S", 8), False),
        (("B", "T", 8), ("B", "S", 8), False),
        (("B", None, 8), ("B", None, 8), False),
        (("B", "S", 8), ("S", 8), False),
    ],
)
def test_what_repeats_over_leading_axes(
    part: shapes.Sizes, whole: shapes.Sizes, wanted: bool
) -> None:
    """Row i of the sum reads row i modulo the part's rows, or it is not said to repeat."""
    assert shapes.repeats(part, whole) is wanted


def test_a_sum_that_is_the_graphs_output_is_left_as_it_is() -> None:
    """Its type stands with the outputs, where no inner size is noted."""
    text = POSITIONS.replace("float[a, b, 4] y", "float[a, b, 4] s").replace(
        "t = Relu(s)", "t = Relu(x)"
    )
    assert found(text)["rows"] == (1, "Min(6, sequence)", 4)
