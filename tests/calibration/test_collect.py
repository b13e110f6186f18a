"""One pass over calibration data: what is kept, when it ends, and that memory stays flat."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from accel import testing
from accel.calibration import collect as collecting
from accel.calibration.collect import collect
from accel.errors import CandidateBroken, UsageError
from accel.values import Feed, Model

DRAW = np.random.default_rng(3)


def feeds(model: Model, count: int, batch: int = 4) -> list[Feed]:
    return [
        {p.name: DRAW.normal(size=(batch, *p.shape[1:])).astype("float32") for p in model.inputs}
        for _ in range(count)
    ]


@pytest.fixture
def convnet(tmp_path: Path) -> Model:
    return testing.convnet(tmp_path / "m.onnx")


def test_every_float_value_is_seen_as_it_was(convnet: Model) -> None:
    """Extremes and counts are those of a run whose values are looked at one by one."""
    given = feeds(convnet, 5)
    found = collect(convnet.path, given, stop=False)
    assert found.feeds == 5
    session = onnxruntime.InferenceSession(str(convnet.path))
    y = np.concatenate([session.run(["y"], dict(f))[0] for f in given])
    assert found.sketches["y"].low == pytest.approx(y.min(), rel=1e-5)  # fused otherwise
    assert found.sketches["y"].high == pytest.approx(y.max(), rel=1e-5)
    assert found.sketches["y"].count == y.size
    x = np.concatenate([f["x"] for f in given])
    assert (found.sketches["x"].low, found.sketches["x"].high) == (x.min(), x.max())
    assert {"x", "p0", "r0", "p1", "r1", "mean", "flat", "y"} == set(found.sketches)


def test_channels_are_told_apart_around_products(convnet: Model) -> None:
    """Axis 1 of a convolution's input and output, the last one of a matrix product's."""
    found = collect(convnet.path, feeds(convnet, 3)).sketches
    assert np.shape(found["x"].channel_sum) == (3,)
    assert np.shape(found["r0"].channel_sum) == (8,)
    assert np.shape(found["flat"].channel_sum) == (16,)


def test_sets_of_taps_give_the_same(convnet: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all values at once are too many bytes, they are tapped in turns."""
    given = feeds(convnet, 6)
    whole = collect(convnet.path, given)
    monkeypatch.setattr(collecting, "TAPPED_BYTES", 4096)
    parts = collect(convnet.path, given)
    for name, sketch in whole.sketches.items():
        assert np.array_equal(parts.sketches[name].counts, sketch.counts), name


def test_lengths_may_vary(tmp_path: Path) -> None:
    """What makes histogram calibrators of others crash: sequences of different lengths."""
    model = testing.attention(tmp_path / "m.onnx")
    given = [testing.tokens(batch=2, length=n).inputs for n in (3, 7, 5)]
    found = collect(model.path, given)
    assert found.sketches["scores"].count == sum(2 * n * n for n in (3, 7, 5))
    assert found.sketches["embedded"].channel_sum is not None


def test_it_ends_when_ranges_have_settled(convnet: Model) -> None:
    """The same few feeds again and again teach nothing: long before the end it stops, and says so."""
    few = feeds(convnet, 8, batch=64)
    found = collect(convnet.path, few * 100)
    assert found.settled
    assert found.feeds < 100
    assert not collect(convnet.path, few * 100, stop=False, most=40).settled


def test_ranges_that_keep_growing_are_named(convnet: Model) -> None:
    """Data that drifts never settles, and what moves is told."""
    grown = [{"x": f["x"] * 1.2**i} for i, f in enumerate(feeds(convnet, 64))]
    found = collect(convnet.path, grown)
    assert not found.settled
    assert found.feeds == 64
    assert "x" in found.moving


def test_most_is_a_limit(convnet: Model) -> None:
    """No feed beyond it is even asked for."""
    asked = []

    def watched() -> Iterator[Feed]:
        for i, feed in enumerate(feeds(convnet, 50)):
            asked.append(i)
            yield feed

    assert collect(convnet.path, watched(), most=5).feeds == 5
    assert len(asked) == 5


def test_no_data_and_wrong_data_are_errors(convnet: Model) -> None:
    """Of this library's kinds."""
    with pytest.raises(UsageError, match="no calibration data"):
        collect(convnet.path, [])
    with pytest.raises(CandidateBroken, match="cannot run"):
        collect(convnet.path, [{"x": np.zeros((1, 3, 8, 9, 9), "float32")}])


MEMORY = """
import resource, sys
import numpy as np
from accel import testing
from accel.calibration.collect import collect
from pathlib import Path
model = testing.convnet(Path(sys.argv[1]))
draw = np.random.default_rng(0)
feeds = ({"x": draw.normal(size=(32, 3, 8, 8)).astype("float32")} for _ in range(int(sys.argv[2])))
collect(model.path, feeds, stop=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder: Path, count: int) -> int:
    done: Any = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder / "m.onnx"), str(count)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return int(done.stdout)


def test_memory_does_not_grow_with_feeds(tmp_path: Path) -> None:
    """From 16 to 512 feeds (25 MB more of inputs alone) the peak stays within a tenth."""
    assert peak(tmp_path, 512) < 1.1 * peak(tmp_path, 16)


MANY_SETS = """
import resource, sys
import numpy as np
from pathlib import Path
from accel.calibration import collect as collecting
collecting.TAPPED_BYTES = int(sys.argv[2])
feeds = [{"x": np.ones((1, 1024), "float32")}]
collecting.collect(Path(sys.argv[1]), feeds)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _products(path: Path, ir_version: int = 8) -> Path:
    """x [1, 1024] w0 ... w5, 4 MiB each."""
    draw, names = np.random.default_rng(0), [f"w{i}" for i in range(6)]
    weights = {n: draw.normal(size=(1024, 1024)).astype(np.float32) / 32 for n in names}
    nodes = [
        helper.make_node("MatMul", [f"h{i}" if i else "x", n], [f"h{i + 1}"])
        for i, n in enumerate(names)
    ]
    port, last = (helper.make_tensor_value_info(n, 1, [1, 1024]) for n in ("x", "h6"))
    inputs = [helper.make_tensor_value_info(n, 1, [1024, 1024]) for n in names]
    held = [onnx.numpy_helper.from_array(v, n) for n, v in weights.items()]
    every = [port, *inputs] if ir_version < 4 else [port]  # an initializer had to be an input
    body = helper.make_graph(nodes, "g", every, [last], held)
    opsets = [helper.make_opsetid("", 8 if ir_version < 4 else 17)]
    onnx.save(helper.make_model(body, opset_imports=opsets, ir_version=ir_version), path)
    return path


def test_memory_does_not_grow_with_sets_of_taps(tmp_path: Path) -> None:
    """Six sets, one for each value, hold the weights once: 24 MiB, not 6 times as much and packed copies."""
    path = _products(tmp_path / "m.onnx")
    one, six = (
        int(subprocess.run(
            [sys.executable, "-c", MANY_SETS, str(path), str(most)],
            capture_output=True, check=True, text=True,
        ).stdout)
        for most in (1 << 30, 1)
    )  # fmt: skip
    assert six < 1.1 * one


@pytest.mark.parametrize("ir_version", [3, 8])
def test_large_weights_are_those_of_the_file(ir_version: int, tmp_path: Path) -> None:
    """Though sessions get them with each feed, and whether the file names them as inputs or not."""
    path = _products(tmp_path / "m.onnx", ir_version)
    x = DRAW.normal(size=(1, 1024)).astype(np.float32)
    found = collect(path, [{"x": x}]).sketches
    (y,) = onnxruntime.InferenceSession(path).run(["h6"], {"x": x})
    assert {"x", "h1", "h2", "h3", "h4", "h5", "h6"} == set(found)
    assert found["h6"].high == pytest.approx(y.max(), rel=1e-4)


def test_weights_stay_where_a_constant_may_be_asked_for(tmp_path: Path) -> None:
    """By an operator that is not ONNX's; a branch reads the other one as before."""
    text = """
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    g (float[n, 32] x, bool c) => (float[n, 32] y) {
      h = com.microsoft.FusedMatMul(x, own)
      y = If (c) <
        then_branch = t () => (float[n, 32] a) { a = MatMul(h, large) },
        else_branch = e () => (float[n, 32] b) { b = Neg(h) }
      >
    }"""
    proto = onnx.parser.parse_model(text)
    square = DRAW.normal(size=(32, 32)).astype(np.float32)
    held = [onnx.numpy_helper.from_array(square, n) for n in ("own", "large")]
    proto.graph.initializer.extend(held)
    onnx.save(proto, tmp_path / "m.onnx")
    feed: Feed = {"x": DRAW.normal(size=(4, 32)).astype(np.float32), "c": np.array(True)}
    found = collect(tmp_path / "m.onnx", [feed]).sketches
    assert found["y"].high == pytest.approx((feed["x"] @ square @ square).max(), rel=1e-4)
    assert set(collecting._taken(proto)) == {"large"}
    assert [t.name for t in proto.graph.initializer] == ["own"]


def test_sizes_are_known_before_anything_is_tapped(
    convnet: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values of the first feed at once may be more than there is memory."""
    monkeypatch.setattr(collecting, "TAPPED_BYTES", 4096)
    asked: list[int] = []
    real = collecting._run

    def run(session: Any, names: Any, feed: Feed) -> list[Any]:
        found = real(session, names, feed)
        asked.append(sum(np.asarray(v).nbytes for v in found if len(found) > 1))
        return found

    monkeypatch.setattr(collecting, "_run", run)
    collect(convnet.path, feeds(convnet, 2))
    assert max(asked) <= 4096


def test_where_two_nodes_differ_on_the_channels_nobody_knows(tmp_path: Path) -> None:
    """A convolution's output [N, C, L] that a product reads along L, with C == L."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 3, 4] x) => (float[n, 4, 4] y)
    <float[4, 3, 1] k = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}>
    { c = Conv(x, k)  y = MatMul(c, w) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    given: list[Feed] = [{"x": DRAW.normal(size=(2, 3, 4)).astype(np.float32)} for _ in range(3)]
    found = collect(tmp_path / "m.onnx", given).sketches
    assert found["c"].channel_sum is None
    assert np.shape(found["x"].channel_sum) == (3,)


def test_a_graph_without_a_float32_has_nothing_to_sketch(tmp_path: Path) -> None:
    """All of it is float16: its feeds are counted, and no value of it is kept."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float16[n, 4] x) => (float16[n, 4] y) { y = Relu(x) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    found = collect(tmp_path / "m.onnx", [{"x": np.ones((1, 4), np.float16)}])
    assert found.sketches == {}
    assert found.feeds == 1
