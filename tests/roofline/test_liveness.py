"""Peak memory, counted by hand."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from accel import roofline
from accel.errors import UsageError

Write = Callable[..., Path]

TWO_LAYERS = """
<ir_version: 8, opset_import: ["": 17]>
g (float[batch, 8] x) => (float[batch, 4] y)
<int64[2] flat = {-1, 100}>
{
  a = Relu(x)
  b = MatMul(a, w)
  c = Reshape(b, flat)
  d = Tanh(c)
  y = MatMul(d, v)
}
"""


@pytest.fixture
def two_layers(write: Write) -> Path:
    """float32 weights of 800 and 400 elements."""
    return write(TWO_LAYERS, w=("float32", 8, 100), v=("float32", 100, 4))


def test_the_peak_is_where_the_widest_values_meet(two_layers: Path) -> None:
    """At Tanh: x is the caller's, b and d are 100 wide, c shows b's bytes, a is dead.

    batch 2: x 2 x 8, b and d 2 x 100 each, 4 bytes an element: 64 + 800 + 800.
    Weights: 800 + 400 float32 and two int64: 4,816."""
    found = roofline.peak(two_layers, {"batch": 2})
    assert dict(found.live) == {"x": 64, "b": 800, "d": 800}
    assert (found.activations_bytes, found.weights_bytes) == (1664, 4816)
    assert found.total_bytes == 1664 + 4816
    assert (found.node, found.unknown) == ("d", ())


def test_a_size_that_is_not_given_is_unknown(two_layers: Path) -> None:
    """Nothing is guessed: every value that depends on the axis is named."""
    found = roofline.peak(two_layers, {})
    assert set(found.unknown) >= {"x", "a", "b", "d", "y"}
    assert found.weights_bytes == 4816


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({"bach": 2}, "Did you mean 'batch'"), ({"batch": 0}, "1 at least, not 0")],
)
def test_a_wrong_size_is_refused(two_layers: Path, sizes: dict[str, int], said: str) -> None:
    """A misspelt axis never goes unnoticed, nor does an empty one."""
    with pytest.raises(UsageError, match=said):
        roofline.peak(two_layers, sizes)


def test_quantized_values_are_counted_in_their_own_bytes(write: Write) -> None:
    """DequantizeLinear takes no memory: w stays 800 bytes and q 8; y is 100 float32."""
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    g (float[1, 8] x) => (float[1, 100] y)
    <float s = {0.5}, int8 z = {0}>
    {
      q = QuantizeLinear(x, s, z)
      f = DequantizeLinear(q, s, z)
      h = DequantizeLinear(w, s, z)
      y = MatMul(f, h)
    }
    """
    found = roofline.peak(write(text, w=("int8", 8, 100)), {})
    assert dict(found.live) == {"x": 32, "q": 8, "y": 400}
    assert found.weights_bytes == 800 + 4 + 1


def test_a_turned_weight_is_counted_in_its_own_bytes(write: Write) -> None:
    """Transpose(DequantizeLinear(w)) of int8 [6, 8]: 48 bytes, a scale and a zero point, and no float32."""
    path = write(
        """
<ir_version: 8, opset_import: ["": 17]>
g (float[n, 8] x) => (float[n, 6] y)
<float s = {0.1}, int8 z = {0}>
{
  f = DequantizeLinear(w, s, z)
  t = Transpose<perm = [1, 0]>(f)
  y = MatMul(x, t)
}
""",
        w=("int8", 6, 8),
    )
    assert roofline.peak(path, {"n": 2}).weights_bytes == 48 + 4 + 1


def test_only_one_branch_is_alive(write: Write) -> None:
    """An If adds the larger of its branches, 2 x 64 float32, and what it takes from outside."""
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    g (bool which, float[64] x) => (float[64] y)
    {
      a = Relu(x)
      y = If (which) <
        then_branch = large () => (float[64] t) { m = Exp(a) t = Neg(m) },
        else_branch = small () => (float[64] e) { e = Neg(a) }
      >
    }
    """
    found = roofline.peak(write(text), {})
    assert dict(found.live) == {"which": 1, "x": 256, "a": 256, "m": 256, "t": 256, "y": 256}


def test_the_sizes_follow_what_the_graph_computes(write: Write) -> None:
    """A reshape to [rows / 2, 2 * width], as arithmetic in the graph, with rows bound."""
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    g (float[rows, 6] x) => (float[a, b] y)
    <int64 first = {0}, int64[1] at = {0}, int64[1] two = {2}, int64[1] rest = {-1}>
    {
      shape = Shape(x)
      rows = Gather(shape, at)
      half = Div(rows, two)
      sizes = Concat<axis = 0>(half, rest)
      y = Reshape(x, sizes)
    }
    """
    path = write(text)
    assert roofline.peak(path, {"rows": 10}).unknown == ()
    found = roofline._sizes.bind(path, {"rows": 10})
    assert found.of("y").dims == (5, 12)


def test_values_that_live_to_the_end_add_up(write: Write) -> None:
    """Each of 300 outputs stays for the caller, so the last node is the peak; one nobody reads dies at once."""
    nodes = "".join(f"y{i} = Relu(x) d{i} = Abs(x)\n" for i in range(300))
    outputs = ", ".join(f"float[4] y{i}" for i in range(300))
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => ({outputs}) {{ {nodes} }}'
    found = roofline.peak(write(text), {})
    assert found.node == "d299"
    assert dict(found.live) == {"x": 16, "d299": 16} | {f"y{i}": 16 for i in range(300)}


HUGE = 1 << 26  # elements: half a GB of int64
GROWING = {
    "Range": "y = Range(zero, huge, one)",
    "ConstantOfShape": "y = ConstantOfShape(sizes)",
    "Expand": "y = Expand(zero, sizes)",
    "Tile": "y = Tile(ones, sizes)",
    "Pad": "y = Pad(ones, around)",
    "OneHot": "y = OneHot(ones, huge, around)",
    "Resize": "y = Resize(ones, , , sizes)",
    "HannWindow": "y = HannWindow(huge)",
    "MaxPool": "c = Cast<to = 3>(plane) y = MaxPool<kernel_shape = [1], pads = [0, 67108864], strides = [67108864]>(c)",
}  # fmt: skip


@pytest.mark.parametrize("kind", GROWING)
def test_what_a_graph_computes_takes_no_memory(write: Write, kind: str) -> None:
    """An operator that makes much of a few numbers is not run for its sizes."""
    text = f"""
    <ir_version: 8, opset_import: ["": 17]>
    g (float[4] x) => (float[4] z)
    <int64 zero = {{0}}, int64 one = {{1}}, int64[1] ones = {{1}}, int64 huge = {{{HUGE}}},
     int64[1] sizes = {{{HUGE}}}, int64[2] around = {{{HUGE}, 0}}, int64[1, 1, 1] plane = {{1}}>
    {{ {GROWING[kind]} z = Relu(x) }}
    """
    path = write(text)
    tracemalloc.start()
    try:
        roofline.peak(path, {})
        assert tracemalloc.get_traced_memory()[1] < HUGE
    finally:
        tracemalloc.stop()
