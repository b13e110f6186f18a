"""Static shapes with padding give what the unpadded graph gives, at every length."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from accel import catalog, graph, testing
from accel import target as targets
from accel.errors import CandidateBroken, MissingExtra
from accel.values import Feed, Model, Request

TARGET = targets.load("cpu-single-core")
PADDING = {"ids": 7.0, "mask": 0.0}  # 7 is a word like any other: only the mask can hide it
REQUESTED = [(1, 3), (1, 12), (1, 20), (2, 9)]  # (batch, length)
LARGEST = {1: 20, 2: 9}  # batch -> its largest bucket
BATCHES, LENGTHS = (1, 2, 3), range(1, 30)  # no bucket for 3, nor for the longest
Reference = Callable[[Model, Sequence[Feed], Path], list[Feed]]


@pytest.fixture(scope="module")
def engine() -> Any:
    """The engine that has buckets."""
    try:
        return catalog.load("engines", "openvino")
    except MissingExtra as error:
        pytest.skip(f"{error} instead: tests/test_padding.py, which needs no engine")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Masked attention over tokens."""
    return testing.attention(tmp_path_factory.mktemp("model") / "attention.onnx")


def _requests(sizes: Sequence[tuple[int, int]] = REQUESTED) -> list[Request]:
    return [testing.tokens(batch=b, length=n) for b, n in sizes]


def _options(engine: Any, requests: Sequence[Request]) -> Any:
    """The setting with buckets, in f32."""
    offered = engine.options("fp32", TARGET, requests, PADDING)
    return next(o for o in offered if "buckets" in o and o["precision"] == "f32")


@pytest.fixture(scope="module")
def session(engine: Any, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Compiled for the requests, and seen to have static shapes for them."""
    requests = _requests()
    out = tmp_path_factory.mktemp("plan")
    plan = engine.build(model, TARGET, _options(engine, requests), requests, out)
    found = plan.options["buckets"]
    assert plan.facts["static_shapes"] == len(found) > 2
    for batch, largest in LARGEST.items():
        assert max(b["sequence"] for b in found if b["batch"] == batch) == largest
    with closing(engine.load(plan)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def wanted(
    model: Model, reference: Reference, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], tuple[Feed, Feed]]:
    """(batch, length) -> a feed, and what the unpadded graph gives for it."""
    sizes = [(b, n) for b in BATCHES for n in LENGTHS]
    feeds = [testing.tokens(batch=b, length=n).inputs for b, n in sizes]
    folder = tmp_path_factory.mktemp("reference") / "plan"
    return dict(zip(sizes, zip(feeds, reference(model, feeds, folder), strict=True), strict=True))


def _equal(found: Feed, wanted: Feed, size: tuple[int, int]) -> None:
    for name, array in wanted.items():
        assert found[name].shape == array.shape, (size, name)
        np.testing.assert_allclose(found[name], array, 1e-4, 1e-5, err_msg=f"{size} {name}")


@pytest.mark.parametrize("order", ["rising", "falling", "shuffled"])
def test_every_length_gives_the_unpadded_result(
    session: Any, wanted: dict[tuple[int, int], tuple[Feed, Feed]], order: str
) -> None:
    """From 1 to beyond the largest bucket; what an earlier, longer feed left behind is not seen."""
    sizes = sorted(wanted, reverse=order == "falling")
    if order == "shuffled":
        sizes = [sizes[i] for i in np.random.default_rng(0).permutation(len(sizes))]
    for size in sizes:
        feed, answer = wanted[size]
        _equal(session(feed), answer, size)


def test_calls_bound_to_one_bucket_take_turns(
    session: Any, wanted: dict[tuple[int, int], tuple[Feed, Feed]]
) -> None:
    """A long and a short feed that share buffers each give their own result, in any order."""
    sizes = [(1, 20), (1, 18), (1, 20), (1, 17), (1, 18)]
    calls = [(size, session.bind(wanted[size][0])) for size in sizes]
    for size, call in [*calls, *reversed(calls)]:
        _equal(call(), wanted[size][1], size)


def test_a_bound_call_waits_for_another(
    session: Any, wanted: dict[tuple[int, int], tuple[Feed, Feed]]
) -> None:
    """Buffers are shared: while one call holds them, no other writes into them."""
    feed, answer = wanted[1, 18]
    call = session.bind(feed)
    found: list[Feed] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    with session._turn:
        thread.start()
        thread.join(0.2)
        assert not found
    thread.join()
    _equal(found[0], answer, (1, 18))


def test_a_padded_input_is_read_at_every_call(
    session: Any, wanted: dict[tuple[int, int], tuple[Feed, Feed]]
) -> None:
    """A bound call runs on what its arrays hold now, as a server that refills them needs."""
    feed, _ = wanted[1, 18]
    held = {k: v.copy() for k, v in feed.items()}
    call = session.bind(held)
    call()
    held["ids"][...] = (held["ids"] + 3) % 32
    _equal({k: v.copy() for k, v in call().items()}, session(held), (1, 18))


def test_without_fills_shapes_are_exact(engine: Any, model: Model, tmp_path: Path) -> None:
    """Where the workload names no padding, a bucket serves its own length and no other."""
    requests = _requests([(1, 5), (1, 12)])
    options = {**_options(engine, requests), "padding": {}}
    plan = engine.build(model, TARGET, options, requests, tmp_path)
    assert {b["sequence"] for b in plan.options["buckets"]} == {5, 12}


def test_a_name_that_hides_a_number_costs_no_padding(
    engine: Any, model: Model, reference: Reference, tmp_path: Path
) -> None:
    """torch's older exporter calls an output's fixed axis "Divpooled_dim_1"; one that does depend on what
    is padded still gets exact shapes."""
    proto = onnx.load(model.path)
    hidden, pooled = proto.graph.output
    pooled.type.tensor_type.shape.dim[1].dim_param = "Divpooled_dim_1"
    onnx.save(proto, tmp_path / "named.onnx")
    named, requests = graph.describe(tmp_path / "named.onnx"), _requests([(1, 5), (1, 12)])
    (tmp_path / "plan").mkdir()
    plan = engine.build(named, TARGET, _options(engine, requests), requests, tmp_path / "plan")
    feed = testing.tokens(length=7).inputs  # in the larger bucket
    with closing(engine.load(plan)) as session:
        _equal(session(feed), reference(model, [feed], tmp_path / "reference")[0], (1, 7))
        assert session._dynamic is None
    hidden.type.tensor_type.shape.dim[1].dim_param = "Addhidden_dim_1"
    onnx.save(proto, tmp_path / "open.onnx")
    unknown = graph.describe(tmp_path / "open.onnx")
    (tmp_path / "exact").mkdir()
    plan = engine.build(unknown, TARGET, _options(engine, requests), requests, tmp_path / "exact")
    with closing(engine.load(plan)) as session:
        _equal(session(feed), reference(model, [feed], tmp_path / "again")[0], (1, 7))
        assert session._dynamic is not None


def _nameless(model: Model, path: Path) -> Model:
    """The same graph, its axes known to be dynamic but not by which name."""
    proto = onnx.load(model.path)
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    onnx.save(proto, path)
    return graph.describe(path)


def test_axes_without_names_get_no_buckets(engine: Any, model: Model, tmp_path: Path) -> None:
    """Two nameless axes would be taken for one; the dynamic plan still serves them."""
    nameless = _nameless(model, tmp_path / "nameless.onnx")
    requests = _requests()
    options = _options(engine, requests)
    with pytest.raises(CandidateBroken, match="without a name"):
        engine.build(nameless, TARGET, options, requests, tmp_path / "static")
    dynamic = {k: v for k, v in options.items() if k not in ("buckets", "padding")}
    (tmp_path / "dynamic").mkdir()
    plan = engine.build(nameless, TARGET, dynamic, requests, tmp_path / "dynamic")
    with closing(engine.load(plan)) as session:
        assert session(testing.tokens(batch=2, length=5).inputs)["hidden"].shape == (2, 5, 8)


def test_nothing_to_make_buckets_for_is_said(engine: Any, model: Model, tmp_path: Path) -> None:
    """No request is a reason, not a crash."""
    with pytest.raises(CandidateBroken, match="no request"):
        engine.build(model, TARGET, _options(engine, _requests()), [], tmp_path)
