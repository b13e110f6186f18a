"""A TensorRT plan built, loaded and run; test_session.py runs this in its own process, under a fake driver.

cuda.bindings and accel are the real ones. TensorRT is the fake of fake_tensorrt.py, once a version: it
computes with ONNX Runtime what it is given by addresses. Work waits in the fake driver's queues until
somebody waits for it. No duration is looked at.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_world import World
from onnx import TensorProto, helper

from accel import catalog, graph, testing
from accel import target as targets
from accel.cuda import device, driver
from accel.engines import _tensorrt_bound as bounds
from accel.engines import _tensorrt_cache as cache
from accel.engines import _tensorrt_session as sessions
from accel.errors import CandidateBroken, UsageError
from accel.values import Model, Plan, Refusal, Request

FAKE = ctypes.CDLL("libcuda.so.1")
FAKE.fake_free_bytes.argtypes = [ctypes.c_size_t]
ENGINE = catalog.load("engines", "tensorrt")
H100 = dataclasses.replace(targets.load("h100"), gpu=None)
FREE_BYTES = 8 << 30
GRAPH = {"cuda_graph": True}
Build = Callable[..., Plan]
gc.freeze()  # what is imported stays: each collection would walk all of it


@pytest.fixture(autouse=True)
def moods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The driver's as they were; every session gives back what it took."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "timings"))
    gc.collect()
    before = held()
    yield
    FAKE.fake_refuse_graph(0)
    FAKE.fake_free_bytes(FREE_BYTES)
    gc.collect()
    assert held() == before


def held() -> tuple[int, ...]:
    """Blocks on the device, pinned blocks, graphs, streams, copies that nobody waited for."""
    counts = FAKE.fake_live(0), FAKE.fake_live(1), FAKE.fake_live_graphs()
    return (*counts, FAKE.fake_live_streams(), FAKE.fake_pending())


@pytest.fixture
def build(fake_trt: World, tmp_path: Path) -> Build:
    """build(model, requests, **options) -> the plan."""

    def make(model: Model | None = None, requests: Any = None, **options: Any) -> Plan:
        model = model or testing.mlp(tmp_path / "mlp.onnx")
        asked = [testing.request(model, batch=b) for b in (1, 4)] if requests is None else requests
        out = tmp_path / f"plan-{len(list(tmp_path.glob('plan-*')))}"
        out.mkdir()
        plan: Plan = ENGINE.build(model, H100, {"room": 1, **options}, asked, out)
        return plan

    return make


@pytest.fixture
def load() -> Iterator[Callable[[Plan], Any]]:
    """load(plan) -> its session, closed at the end."""
    opened: list[Any] = []

    def make(plan: Plan) -> Any:
        opened.append(ENGINE.load(plan))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


def rows(batch: int, seed: int = 0) -> dict[str, Any]:
    """An input of the mlp."""
    return {"x": np.random.default_rng(seed).normal(size=(batch, 8)).astype(np.float32)}


def right(plan: Plan, feed: Any) -> dict[str, Any]:
    """What ONNX Runtime makes of the graph itself."""
    import fake_model

    return fake_model.run(Path(plan.model.path).read_bytes(), feed)


def same(got: Any, want: Any) -> None:
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-6)


@pytest.mark.parametrize("graphs", [False, True])
def test_outputs_are_those_of_the_graph(build: Build, load: Any, graphs: bool) -> None:
    """Called and bound, for several shapes in turn, with and without CUDA graphs."""
    plan = build(cuda_graph=graphs)
    session = load(plan)
    bound = {b: (session.bind(rows(b)), rows(b)) for b in (1, 3)}
    for turn in range(3):
        for batch in (4, 1, 2):
            feed = rows(batch, turn)
            same(session(feed), right(plan, feed))
        for call, feed in bound.values():
            same(call(), right(plan, feed))


@pytest.mark.parametrize("graphs", [False, True])
def test_a_bound_call_copies_what_the_arrays_hold_then(
    build: Build, load: Any, graphs: bool
) -> None:
    """Production fills its buffers anew for every call, and pays for the copies."""
    plan, feed = build(cuda_graph=graphs), rows(2)
    call = load(plan).bind(feed)
    feed["x"][:] = rows(2, 7)["x"]
    same(call(), right(plan, feed))


def test_outputs_of_a_call_belong_to_the_caller(build: Build, load: Any) -> None:
    """The next call leaves them alone; those of a bound call stay readable after the session ends."""
    plan = build(**GRAPH)
    session = load(plan)
    first = session(rows(2))
    session(rows(2, 1))
    same(first, right(plan, rows(2)))
    kept = session.bind(rows(2))()
    session.close()
    same(kept, right(plan, rows(2)))


def test_the_smallest_profile_serves_and_changes_outside_of_captures(
    build: Build, load: Any, fake_trt: World
) -> None:
    """Two profiles: each context is put on its own once, before anything is captured."""
    plan = build(profiles=2, **GRAPH)
    assert [p["x"]["max"][0] for p in plan.facts["profiles"]] == [1, 4]
    fake_trt.calls.clear()
    session = load(plan)
    for batch in (1, 4, 1, 3):
        same(session(rows(batch)), right(plan, rows(batch)))
    switched = fake_trt.called("IExecutionContext.set_optimization_profile_async")
    assert [c["profile_index"] for c in switched] == [0, 1, 1]
    assert not [text for _, text in fake_trt.logged if "captured" in text]
    assert set(session.facts["cuda_graph"].values()) == {"captured"}


def test_a_shape_that_no_profile_covers_is_refused(build: Build, load: Any) -> None:
    """With all that are covered, before TensorRT is asked."""
    session = load(build())
    with pytest.raises(UsageError, match=r"takes x \[9, 8\]\. It has: 0: x \[1\.\.4, 8\]"):
        session(rows(9))
    with pytest.raises(UsageError, match="the model takes float32"):
        session({"x": np.zeros((1, 8))})


def test_a_captured_run_is_replayed_and_enqueues_nothing(
    build: Build, load: Any, fake_trt: World
) -> None:
    """One run outside, one captured; afterwards only replays, which compute with new inputs."""
    plan, before = build(**GRAPH), FAKE.fake_replays()
    fake_trt.calls.clear()
    fake_trt.runs = 0
    session = load(plan)
    call = session.bind(rows(2))
    assert len(fake_trt.called("IExecutionContext.execute_async_v3")) == 2
    assert fake_trt.runs == 1
    for _ in range(3):
        same(call(), right(plan, rows(2)))
    assert FAKE.fake_replays() - before == 3
    assert fake_trt.runs == 4
    assert len(fake_trt.called("IExecutionContext.execute_async_v3")) == 2
    assert session.facts["cuda_graph"] == {"x [2, 8]": "captured"}


def test_each_graph_has_a_context_of_its_own(build: Build, load: Any, fake_trt: World) -> None:
    """To modify one that was captured is undefined; all work in the same scratch memory."""
    plan = build(**GRAPH)
    fake_trt.calls.clear()
    session = load(plan)
    calls = [session.bind(rows(b)) for b in (1, 2)]
    session.bind(rows(1))
    assert calls
    assert len(fake_trt.called("ICudaEngine.create_execution_context")) == 3
    given = fake_trt.called("IExecutionContext.set_device_memory")
    assert len({c["memory"] for c in given}) == 1
    assert {c["size"] for c in given} == {fake_trt.scratch_bytes}
    kind = fake_trt.called("ICudaEngine.create_execution_context")[0]["strategy"]
    assert kind.name == "USER_MANAGED"


def test_without_graphs_a_context_serves_all_shapes_of_a_profile(
    build: Build, load: Any, fake_trt: World
) -> None:
    """It is set anew when the shape changes, and only then."""
    plan = build()
    fake_trt.calls.clear()
    session = load(plan)
    calls = {b: session.bind(rows(b)) for b in (1, 2)}
    before = len(fake_trt.called("IExecutionContext.set_input_shape"))
    for batch in (1, 1, 2, 2, 1):
        same(calls[batch](), right(plan, rows(batch)))
    assert len(fake_trt.called("IExecutionContext.set_input_shape")) == before + 3
    assert len(fake_trt.called("ICudaEngine.create_execution_context")) == 1
    assert session.facts["cuda_graph"] == {}


def test_a_refused_capture_falls_back_with_the_reason(
    build: Build, load: Any, fake_trt: World
) -> None:
    """TensorRT's own words; the outputs are right all the same."""
    fake_trt.uncapturable = "operation not permitted when stream is capturing"
    plan = build(**GRAPH)
    fake_trt.calls.clear()
    session, before = load(plan), FAKE.fake_replays()
    call = session.bind(rows(3))
    for _ in range(2):
        same(call(), right(plan, rows(3)))
    # before the first run, and anew after the capture, which may have left it in any state
    assert len(fake_trt.called("IExecutionContext.set_input_shape")) == 3
    (reason,) = session.facts["cuda_graph"].values()
    assert "operation not permitted when stream is capturing" in reason
    assert FAKE.fake_replays() == before


def test_a_graph_that_does_not_start_falls_back_with_the_reason(build: Build, load: Any) -> None:
    """The driver's own words."""
    FAKE.fake_refuse_graph(701)
    plan = build(**GRAPH)
    session = load(plan)
    same(session(rows(3)), right(plan, rows(3)))
    (reason,) = session.facts["cuda_graph"].values()
    assert "the graph does not start: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" in reason


def test_work_that_cannot_start_leaves_no_graph_behind() -> None:
    """It says why, or raises; the stream is as good as before."""
    with driver.on(0):
        stream = device.stream()
        refused = device.capture(stream, lambda: "it would not")
        assert isinstance(refused, Refusal)
        assert refused.reason == "it would not"
        with pytest.raises(ZeroDivisionError):
            device.capture(stream, lambda: str(1 // 0))
        waits = device.capture(stream, lambda: str(driver.api().cuStreamSynchronize(stream)[1:]))
        assert isinstance(waits, Refusal)
        graph_ = device.capture(stream, lambda: "")
        assert isinstance(graph_, int)
        device.launch(graph_, stream)
        device.wait(stream)
        device.forget(graph_)
        device.end(stream)


def test_a_build_runs_each_shape_once_and_tells_how(build: Build, fake_trt: World) -> None:
    """An engine that does not run is no plan; what became of captures stands in the facts."""
    assert build(**GRAPH).facts["session"] == {
        "scratch_bytes": fake_trt.scratch_bytes,
        "cuda_graph": {"x [1, 8]": "captured", "x [4, 8]": "captured"},
    }
    assert build().facts["session"]["cuda_graph"] == {}
    fake_trt.uncapturable = "no"
    told = build(**GRAPH).facts["session"]["cuda_graph"]
    assert all("TensorRT said: no" in reason for reason in told.values())
    fake_trt.execution_fails = "an illegal memory access was encountered"
    with pytest.raises(CandidateBroken, match="illegal memory access"):
        build()


def test_build_and_session_share_the_one_logger_that_tensorrt_listens_to(
    build: Build, load: Any, fake_trt: World
) -> None:
    """It goes on with the first that a process gave it; a second would hear nothing."""
    load(build())
    made = ("Builder.__init__", "Runtime.__init__", "OnnxParser.__init__")
    assert len({id(c["logger"]) for name in made for c in fake_trt.called(name)}) == 1


def test_a_missing_plugin_is_told_at_load(build: Build, fake_trt: World) -> None:
    """With TensorRT's words and whom the engine was built for."""
    plan = build()
    fake_trt.missing_creators = ("ResidualLayerNorm",)
    with pytest.raises(CandidateBroken, match=r"not found for ResidualLayerNorm.*built for: fake"):
        ENGINE.load(plan)


def test_an_engine_for_another_gpu_is_told_at_load(build: Build, fake_trt: World) -> None:
    """As TensorRT sees it, where the driver's name and capability agree with the plan."""
    plan = build()
    fake_trt.sm = "8.7"
    with pytest.raises(CandidateBroken, match=r"the device has 8\.7.*capability 9\.0"):
        ENGINE.load(plan)


def test_host_code_runs_only_from_the_file_that_was_built(
    build: Build, load: Any, fake_trt: World
) -> None:
    """Allowed for a plan of several versions with its own sha256; never without; not for others."""
    plan = build(version_compatible=True)
    same(load(plan)(rows(2)), right(plan, rows(2)))
    unsigned = {k: v for k, v in plan.facts.items() if k != "digests"}
    with pytest.raises(CandidateBroken, match="code for the processor, which is run only where"):
        ENGINE.load(dataclasses.replace(plan, facts=unsigned))
    asked = fake_trt.called("Runtime.engine_host_code_allowed")
    assert [c["value"] for c in asked][-2:] == [True, False]
    plain = build()
    load(plain)
    assert fake_trt.called("Runtime.engine_host_code_allowed")[-1]["value"] is False


def test_a_file_that_was_changed_is_not_run(build: Build) -> None:
    """An engine is code."""
    plan = build()
    path = plan.path / plan.facts["engine_file"]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CandidateBroken, match="is not the file that was built"):
        ENGINE.load(plan)
    path.unlink()
    with pytest.raises(CandidateBroken, match="cannot be read"):
        ENGINE.load(plan)


def test_an_engine_with_other_profiles_than_its_plan_is_refused(build: Build) -> None:
    """What was obtained is read back."""
    plan = build()
    (told,) = plan.facts["profiles"]
    wider = {"x": {**told["x"], "max": [9, 8]}}
    wrong = dataclasses.replace(plan, facts={**plan.facts, "profiles": [wider]})
    with pytest.raises(CandidateBroken, match=r"max \[9, 8\] for 'x', the engine \[4, 8\]"):
        ENGINE.load(wrong)
    two = dataclasses.replace(plan, facts={**plan.facts, "profiles": [told, told]})
    with pytest.raises(CandidateBroken, match="tells of 2 optimization profiles"):
        ENGINE.load(two)


def test_a_plan_without_weights_gets_them_from_its_graph(build: Build, load: Any) -> None:
    """Before any context is made; without the graph it is refused."""
    plan = build(strip_plan=True, **GRAPH)
    same(load(plan)(rows(2)), right(plan, rows(2)))
    (plan.path / plan.facts["onnx"]).unlink()
    with pytest.raises(CandidateBroken, match=r"holds no weights.*lacks 2 weights"):
        ENGINE.load(plan)


def written(path: Path, nodes: Any, inputs: Any, outputs: Any) -> Model:
    """A model of nodes; ports are (name, type, axes)."""
    ports = [[helper.make_tensor_value_info(*p) for p in group] for group in (inputs, outputs)]
    made = helper.make_graph(nodes, "made", *ports)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return graph.describe(path)


def test_outputs_whose_size_comes_with_the_data(build: Build, load: Any, tmp_path: Path) -> None:
    """An allocator gets memory for them while they are computed; there is no graph, and a reason."""
    model = written(
        tmp_path / "where.onnx",
        [helper.make_node("NonZero", ["x"], ["at"]), helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["n"])],
        [("at", TensorProto.INT64, [1, "m"]), ("y", TensorProto.FLOAT, ["n"])],
    )
    feeds = [{"x": np.array(v, np.float32)} for v in ([0, 1, 2, 0, 3, 4], [1, 0, 0, 0, 0, 0])]
    plan = build(model, [Request("g", 1.0, feeds[0])], **GRAPH)
    session = load(plan)
    for feed in (feeds[1], *feeds):
        same(session(feed), right(plan, feed))
    zero = {"x": np.zeros(6, np.float32)}
    same(session.bind(zero)(), right(plan, zero))
    (reason,) = session.facts["cuda_graph"].values()
    assert reason == "the size of at comes with the data"


@pytest.mark.parametrize("graphs", [False, True])
def test_an_input_that_is_read_as_a_shape(
    build: Build, load: Any, tmp_path: Path, graphs: bool
) -> None:
    """Its values stay in host memory and are part of what is bound."""
    model = written(
        tmp_path / "reshape.onnx",
        [helper.make_node("Reshape", ["x", "size"], ["y"])],
        [("x", TensorProto.FLOAT, ["n"]), ("size", TensorProto.INT64, [2])],
        [("y", TensorProto.FLOAT, ["a", "b"])],
    )
    feeds = [
        {"x": np.arange(a * b, dtype=np.float32), "size": np.array([a, b])}
        for a, b in ((2, 3), (3, 2), (4, 3))
    ]
    plan = build(model, [Request("g", 1.0, f) for f in feeds], cuda_graph=graphs)
    session = load(plan)
    for feed in (*feeds, *feeds):
        same(session(feed), right(plan, feed))
    call = session.bind(feeds[0])
    same(call(), right(plan, feeds[0]))
    feeds[0]["size"][:] = [3, 2]
    with pytest.raises(UsageError, match=r"was \[2, 3\] when this feed was bound; now it is"):
        call()
    with pytest.raises(UsageError, match=r"size = \[6, 1\]"):
        session({"x": np.zeros(6, np.float32), "size": np.array([6, 1])})


class OnDevice:
    """An array in the fake driver's device memory."""

    def __init__(self, array: Any, strides: Any = None) -> None:
        api = driver.api()
        with driver.on(0):
            self.address = int(driver.checked("", api.cuMemAlloc(array.nbytes)))
            api.cuMemcpyHtoD(self.address, np.ascontiguousarray(array).ctypes.data, array.nbytes)
        self.__cuda_array_interface__ = {
            "data": (self.address, False), "shape": array.shape, "typestr": array.dtype.str,
            "version": 3, "strides": strides,
        }  # fmt: skip

    def free(self) -> None:
        with driver.on(0):
            driver.api().cuMemFree(self.address)


@pytest.mark.parametrize("graphs", [False, True])
def test_an_input_on_the_gpu_is_read_where_it_is(
    build: Build, load: Any, fake_trt: World, graphs: bool
) -> None:
    """TensorRT gets its address; other types, and strides, are refused."""
    plan = build(cuda_graph=graphs)
    fake_trt.calls.clear()
    session, x = load(plan), OnDevice(rows(2)["x"])
    same(session({"x": x}), right(plan, rows(2)))
    same(session.bind({"x": x})(), right(plan, rows(2)))
    addresses = fake_trt.called("IExecutionContext.set_tensor_address")
    assert {c["memory"] for c in addresses if c["name"] == "x"} == {x.address}
    wrong = OnDevice(rows(2)["x"].astype(np.float16))
    with pytest.raises(UsageError, match="is float16; the model takes float32"):
        session({"x": wrong})
    strided = OnDevice(rows(2)["x"], strides=(4, 8))
    with pytest.raises(UsageError, match="'x' is not contiguous"):
        session({"x": strided})
    shifted = OnDevice(rows(2)["x"])
    data = shifted.address + 4, False
    shifted.__cuda_array_interface__ = {**shifted.__cuda_array_interface__, "data": data}
    with pytest.raises(UsageError, match="'x' begins at no multiple of 256 bytes"):
        session({"x": shifted})
    for array in (x, wrong, strided, shifted):
        array.free()


def test_a_bound_call_keeps_the_memory_that_it_reads(build: Build, load: Any) -> None:
    """Its owner may forget the array: a graph has its address."""
    session, x = load(build(**GRAPH)), OnDevice(rows(2)["x"])
    address, kept = x.address, weakref.ref(x)
    call = session.bind({"x": x})
    del x
    gc.collect()
    assert kept() is not None
    del call
    gc.collect()
    assert kept() is None
    with driver.on(0):
        driver.api().cuMemFree(address)


def test_float64_is_narrowed_and_widened_again(build: Build, load: Any, tmp_path: Path) -> None:
    """TensorRT's parser makes float32 of it; the ports stay what the model says."""
    model = written(
        tmp_path / "double.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.DOUBLE, ["n"])],
        [("y", TensorProto.DOUBLE, ["n"])],
    )
    feed = {"x": np.array([-1.5, 2.5])}
    plan = build(model, [Request("g", 1.0, feed)])
    same(load(plan)(feed), {"y": np.array([0, 2.5])})


def test_buffers_of_few_shapes_are_kept(
    build: Build, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was used longest ago goes, with its memory and graph."""
    monkeypatch.setattr(sessions, "MOST_BOUND", 2)
    plan = build(**GRAPH)
    session = load(plan)
    for batch in (1, 2, 1, 3):
        session(rows(batch))
    kept = held()
    for batch in (1, 2, 3, 4):
        same(session(rows(batch)), right(plan, rows(batch)))
    assert held() == kept


def test_a_bound_call_that_nobody_holds_gives_its_memory_back(build: Build, load: Any) -> None:
    """At once, not when the session ends."""
    session = load(build(**GRAPH))
    before = held()
    call = session.bind(rows(2))
    assert held() != before
    del call
    assert held() == before


def test_a_closed_session_is_told(build: Build, load: Any) -> None:
    """By what was bound as well; closing twice is no error."""
    session = load(build(**GRAPH))
    call = session.bind(rows(2))
    session.close()
    session.close()
    for run in (call, lambda: session(rows(2)), lambda: session.facts):
        with pytest.raises(CandidateBroken, match="closed: load it again"):
            run()


def test_a_run_that_fails_is_told_with_tensorrts_words(
    build: Build, load: Any, fake_trt: World
) -> None:
    """And the next run is another try."""
    plan = build()
    session = load(plan)
    call = session.bind(rows(2))
    fake_trt.execution_fails = "an illegal memory access was encountered"
    with pytest.raises(CandidateBroken, match=r"could not run.*illegal memory access"):
        call()
    fake_trt.execution_fails = ""
    same(call(), right(plan, rows(2)))


def test_what_the_bindings_raise_is_told_with_tensorrts_words(
    build: Build, load: Any, fake_trt: World
) -> None:
    """A profile that no context takes, shapes that cannot be inferred."""
    plan = build()
    session = load(plan)
    fake_trt.no_context = "the profile is in use"
    with pytest.raises(CandidateBroken, match=r"no execution context for profile 0.*is in use"):
        session(rows(2))
    fake_trt.no_context, fake_trt.shapes_fail = "", "a shape came out negative"
    with pytest.raises(CandidateBroken, match=r"set to x \[2, 8\].*a shape came out negative"):
        session(rows(2))
    fake_trt.shapes_fail = ""
    same(session(rows(2)), right(plan, rows(2)))


def test_too_little_memory_is_told_with_what_is_free(build: Build) -> None:
    """At load, for the engine's scratch memory; nothing is kept."""
    plan = build()
    FAKE.fake_free_bytes(100)
    with pytest.raises(CandidateBroken, match=r"no 1024 bytes left: 100 of .* are free"):
        ENGINE.load(plan)


def test_the_class_that_asks_for_memory_says_zero_where_there_is_none(fake_trt: World) -> None:
    """TensorRT cannot be thrown at."""
    import tensorrt as trt

    addresses: dict[str, int] = {}
    made = bounds.allocator(trt, addresses)
    with driver.on(0):
        FAKE.fake_free_bytes(100)
        assert made.reallocate_output_async("y", 0, 1 << 20, 256, 0) == 0
        FAKE.fake_free_bytes(FREE_BYTES)
        first = made.reallocate_output_async("y", 0, 64, 256, 0)
        assert made.reallocate_output_async("y", first, 32, 256, 0) == first
        assert addresses == {"y": first}
        bounds._give_back(addresses, [])
