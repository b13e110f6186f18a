"""Shape buckets: few, fitting, and optimal."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from accel import padding
from accel.values import Model, Port, Request

PORTS = tuple(Port(n, "int64", ("batch", "sequence")) for n in ("ids", "mask"))
MODEL = Model(Path("m.onnx"), "d", PORTS, (Port("y", "float32", ("batch", 4)),))
FILL = {"ids": 0.0, "mask": 0.0}


def _request(batch: int, length: int, weight: float) -> Request:
    shape = np.ones((batch, length), np.int64)
    return Request("g", weight, {"ids": shape, "mask": shape})


def _cost(weights: dict[int, float], chosen: tuple[int, ...]) -> float:
    return sum(w * min(c for c in chosen if c >= s) for s, w in weights.items())


@pytest.mark.parametrize("most", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_the_partition_is_as_good_as_the_best_of_all(most: int, seed: int) -> None:
    """Against every choice of that many sizes, tried one by one."""
    draw = np.random.default_rng(seed)
    sizes = sorted(draw.choice(range(8, 200, 8), 7, replace=False).tolist())
    weights = dict(zip(sizes, draw.random(7).tolist(), strict=True))
    others = [(*c, sizes[-1]) for n in range(most) for c in itertools.combinations(sizes[:-1], n)]
    best = min(_cost(weights, c) for c in others)
    assert _cost(weights, tuple(padding.partition(weights, most))) == pytest.approx(best)


def test_each_batch_size_gets_its_own_buckets() -> None:
    """The batch is never padded; the longest length of each has its bucket."""
    requests = [_request(1, 7, 0.5), _request(1, 30, 0.3), _request(8, 128, 0.2)]
    found = padding.buckets(MODEL, requests, FILL)
    assert found == [
        {"batch": 1, "sequence": 7},
        {"batch": 1, "sequence": 30},
        {"batch": 8, "sequence": 128},
    ]


def test_of_many_sizes_that_cannot_be_padded_the_heaviest_are_compiled() -> None:
    """A shape each would be a graph each in memory, one for every batch size ever seen."""
    requests = [_request(n, 7, 0.01 * n) for n in range(1, 31)]
    found = padding.buckets(MODEL, requests, FILL)
    assert [b["batch"] for b in found] == list(range(31 - padding.SETS, 31))


def test_without_a_fill_for_every_input_shapes_are_exact() -> None:
    """An axis that one input cannot fill is not padded."""
    found = padding.buckets(MODEL, [_request(1, 7, 1.0)], {"ids": 0.0})
    assert found == [{"batch": 1, "sequence": 7}]


def test_an_output_that_could_not_be_cut_back_is_not_padded() -> None:
    """An axis of it that no input has, or none has a name for: how long it is without padding nobody knows."""
    for axis in ("sequence//2", "?"):
        model = Model(Path("m.onnx"), "d", PORTS, (Port("y", "float32", ("batch", axis)),))
        assert padding.padded_axes(model, FILL) == set()
    named = Model(Path("m.onnx"), "d", PORTS, (Port("y", "float32", ("batch", "sequence")),))
    assert padding.padded_axes(named, FILL) == {"sequence"}


def test_of_two_axes_only_those_pairs_are_compiled_that_a_request_needs() -> None:
    """And the largest, for what comes later; not every size of one beside every size of the other."""
    ports = (*PORTS, Port("target", "int64", ("batch", "length")))
    model = Model(Path("m.onnx"), "d", ports, (Port("y", "float32", ("batch", 4)),))
    both = [(4, 30), (8, 20), (16, 10), (32, 5)]
    requests = [
        Request("g", 0.25, {**_request(1, n, 1.0).inputs, "target": np.ones((1, m), np.int64)})
        for n, m in both
    ]
    found = padding.buckets(model, requests, {**FILL, "target": 0.0})
    assert {(b["sequence"], b["length"]) for b in found} == {*both, (32, 30)}


def test_the_smallest_fitting_bucket_is_chosen() -> None:
    """A longer request than every bucket fits none; another batch fits none either."""
    found = [{"batch": 1, "sequence": n} for n in (32, 8, 64)]
    axes = {"sequence"}
    assert padding.fitting(found, {"batch": 1, "sequence": 9}, axes) == found[0]
    assert padding.fitting(found, {"batch": 1, "sequence": 65}, axes) is None
    assert padding.fitting(found, {"batch": 2, "sequence": 8}, axes) is None


def test_what_is_checked_has_every_shape() -> None:
    """A runtime may be wrong at one shape alone; beyond that, the first few in turn."""
    requests = [_request(1, 5, 1.0) for _ in range(9)] + [_request(1, n, 1.0) for n in (6, 7)]
    lengths = [f["ids"].shape[1] for f in padding.varied(requests, 4)]
    assert lengths == [5, 6, 7, 5]
    assert len(padding.varied(requests, 1)) == 3
    assert len(padding.varied(requests, 99)) == len(requests)
