"""ONNX Runtime on a GPU, as far as a machine without one can tell: the binding by pointers runs for
real on the CPU provider, with a driver that is a fake; tests/gpu/test_engines.py has the rest."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from accel import catalog, placement, testing
from accel import target as targets
from accel.engines import _ort_cuda_open as opening
from accel.engines import _ort_cuda_probe, _ort_placement, _ort_shapes, _ort_tensorrt
from accel.engines import _ort_cuda_session as sessions
from accel.engines._asked import asked
from accel.engines._cuda_memory import Device
from accel.errors import CandidateBroken, MissingExtra, UsageError
from accel.measure import here
from accel.values import Copied, Model, Placed, Placement, Plan, Port, Request

CPU = "CPUExecutionProvider"
FIRST, SECOND = 11, 22  # the contexts of two GPUs


class FakeDriver:
    """libcuda's calls, on the host's memory: a device address is a host address. It keeps a log.

    A thread in which the first GPU's context is not current gets an error, where the driver would
    take another GPU's. `broken`: the call that fails, from its time `after` on."""

    def __init__(self, broken: str = "", after: int = 0) -> None:
        self.broken, self.after, self.calls, self.rooms = broken, after, [], {}
        self.current: dict[int, int | None] = {}  # thread -> context

    def __getattr__(self, call: str) -> Any:
        if not call.startswith("cu"):
            raise AttributeError(call)

        def answer(*words: Any) -> int:
            self.calls.append(call)
            if call == self.broken and self.calls.count(call) > self.after:
                return 2
            if call.startswith(("cuMem", "cuStream")) and self._inside() != FIRST:
                return 201
            return int(getattr(self, f"_{call}", lambda *_: 0)(*words) or 0)

        return answer

    def _cuGetErrorName(self, _: int, out: Any) -> None:  # noqa: N802
        out._obj.value = b"CUDA_ERROR_OUT_OF_MEMORY"

    def _inside(self) -> int | None:
        return self.current.get(threading.get_ident())

    def _cuDevicePrimaryCtxRetain(self, out: Any, _: Any) -> None:  # noqa: N802
        out._obj.value = FIRST

    def cuCtxGetCurrent(self, out: Any) -> int:  # noqa: N802
        """It changes nothing: not in the log."""
        out._obj.value = self._inside()
        return 0

    def _cuCtxSetCurrent(self, context: Any) -> None:  # noqa: N802
        self.current[threading.get_ident()] = context.value

    def _cuStreamCreate(self, out: Any, _: int) -> None:  # noqa: N802
        out._obj.value = 77

    def _cuMemAlloc_v2(self, out: Any, size: Any) -> None:  # noqa: N802
        room = ctypes.create_string_buffer(size.value)
        out._obj.value = ctypes.addressof(room)
        self.rooms[out._obj.value] = room

    _cuMemAllocHost_v2 = _cuMemAlloc_v2  # noqa: N815

    def _cuMemFree_v2(self, address: Any) -> None:  # noqa: N802
        del self.rooms[address.value]

    _cuMemFreeHost = _cuMemFree_v2  # noqa: N815

    def _cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, _: Any) -> None:  # noqa: N802
        ctypes.memmove(target.value, source.value, size.value)

    _cuMemcpyDtoHAsync_v2 = _cuMemcpyHtoDAsync_v2  # noqa: N815


@dataclasses.dataclass
class Loaded:
    """A session on the CPU provider, its fake driver, and the same graph run plainly."""

    session: sessions.Session
    driver: FakeDriver
    plain: Any
    model: Model


@pytest.fixture(params=["mlp", "convnet", "attention"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Loaded]:
    """Each of the tiny graphs."""
    made = _load(getattr(testing, request.param)(tmp_path / "model.onnx"))
    yield made
    made.session.close()


def _load(model: Model, driver: FakeDriver | None = None) -> Loaded:
    driver = driver or FakeDriver()
    device = Device(driver)
    inner = onnxruntime.InferenceSession(str(model.path), providers=[CPU])
    plain = onnxruntime.InferenceSession(str(model.path), providers=[CPU])
    with ExitStack() as held:
        held.callback(device.close)
        ports = model.inputs, model.outputs
        session = sessions.Session(inner, device, ports, {}, held.pop_all(), where="cpu")
    return Loaded(session, driver, plain, model)


def _feeds(model: Model) -> list[dict[str, Any]]:
    if "ids" in {p.name for p in model.inputs}:
        made = [testing.tokens(length=n, batch=b) for b, n in ((1, 3), (2, 9))]
    else:
        made = [testing.request(model, batch=n) for n in (1, 4)]
    return [dict(r.inputs) for r in made]


def test_by_pointers_it_gives_what_run_gives(loaded: Loaded) -> None:
    """Two shapes in turns, by addresses that the driver gave, bitwise the same."""
    feeds = _feeds(loaded.model)
    calls = [loaded.session.bind(feed) for feed in feeds]
    for _ in range(2):
        for feed, call in zip(feeds, calls, strict=True):
            for got, want in zip(call(), loaded.plain.run(None, feed), strict=True):
                np.testing.assert_array_equal(got, want)


def test_a_bound_call_reads_its_arrays_at_each_call(loaded: Loaded) -> None:
    """What stands in them then goes to the device: both copies are in the call."""
    feed = _feeds(loaded.model)[1]
    call = loaded.session.bind(feed)
    before = [array.copy() for array in call()]
    for array in feed.values():
        array[...] = array[::-1].copy()
    loaded.driver.calls.clear()
    after = call()
    count = len(feed)
    assert loaded.driver.calls == (
        ["cuMemcpyHtoDAsync_v2"] * count
        + ["cuMemcpyDtoHAsync_v2"] * len(after)
        + ["cuStreamSynchronize"]
    )
    np.testing.assert_array_equal(after[0], loaded.plain.run(None, feed)[0])
    assert not np.array_equal(before[0], after[0])


def test_closing_gives_all_memory_back(loaded: Loaded) -> None:
    """Pinned and on the device; twice does no harm, and no call runs afterwards."""
    feed = _feeds(loaded.model)[0]
    call = loaded.session.bind(feed)
    assert loaded.driver.rooms
    loaded.session.close()
    loaded.session.close()
    assert not loaded.driver.rooms
    assert loaded.driver.calls.count("cuStreamDestroy_v2") == 1
    with pytest.raises(CandidateBroken, match="closed"):
        call()


def test_threads_take_turns(tmp_path: Path) -> None:
    """Each enters the driver's context, and none reads outputs of another's call; any may close."""
    made = _load(testing.mlp(tmp_path / "model.onnx"))
    draw = np.random.default_rng(0)
    [(name, first)] = testing.request(made.model, batch=8).inputs.items()
    feeds = [{name: draw.normal(size=first.shape).astype(np.float32)} for _ in range(400)]
    wanted = [made.plain.run(None, feed)[0] for feed in feeds]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(made.session, feeds))
        pool.submit(made.session.close).result()
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(next(iter(got.values())), want)
    assert not made.driver.rooms


def test_a_thread_may_go_to_another_gpu_between_two_calls(tmp_path: Path) -> None:
    """As torch.cuda.set_device does: the next call enters the first GPU's context again."""
    made = _load(testing.mlp(tmp_path / "model.onnx"))
    feeds = [dict(testing.request(made.model, batch=n).inputs) for n in (1, 2)]
    call = made.session.bind(feeds[0])
    for feed in feeds:
        made.driver.current[threading.get_ident()] = SECOND
        [got] = made.session(feed).values()
        np.testing.assert_array_equal(got, made.plain.run(None, feed)[0])
    made.driver.current[threading.get_ident()] = SECOND
    np.testing.assert_array_equal(call()[0], made.plain.run(None, feeds[0])[0])
    made.session.close()


def test_what_the_collector_gives_back_moves_no_thread() -> None:
    """It comes between any two lines of a caller's, who may be at work on another GPU."""
    driver = FakeDriver()
    array = Device(driver).pinned((2,), np.float32)
    driver.current[threading.get_ident()] = SECOND
    del array
    assert not driver.rooms
    assert driver.current[threading.get_ident()] == SECOND


def test_bound_outputs_outlive_their_session(loaded: Loaded) -> None:
    """Pinned memory goes when nobody can read it any more, not under a reader."""
    feed = _feeds(loaded.model)[0]
    found = loaded.session.bind(feed)()
    loaded.session.close()
    wanted = loaded.plain.run(None, feed)
    assert len(loaded.driver.rooms) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, want)
    del found, got
    assert not loaded.driver.rooms


@pytest.mark.parametrize("call", ["cuMemAlloc_v2", "cuMemAllocHost_v2"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_room_without_memory_leaves_nothing(tmp_path: Path, call: str, after: int) -> None:
    """Refused in the middle of it, what it had is given back at once; later it finds room."""
    made = _load(testing.mlp(tmp_path / "model.onnx"), FakeDriver(call, after))
    feed = _feeds(made.model)[0]
    with pytest.raises(CandidateBroken, match=f"{call} with CUDA_ERROR_OUT_OF_MEMORY"):
        made.session.bind(feed)
    assert not made.driver.rooms
    made.driver.broken = ""
    np.testing.assert_array_equal(made.session.bind(feed)()[0], made.plain.run(None, feed)[0])
    made.session.close()


def test_old_shapes_make_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their memory goes back, and a call that was bound to one finds room again."""
    monkeypatch.setattr(sessions, "MOST_ROOMS", 2)
    made = _load(testing.mlp(tmp_path / "model.onnx"))
    feeds = [dict(testing.request(made.model, batch=n).inputs) for n in (1, 2, 3, 4)]
    calls = [made.session.bind(feed) for feed in feeds]
    assert len(made.driver.rooms) == 2 * 4  # an input and an output, twice each, of two shapes
    np.testing.assert_array_equal(calls[0]()[0], made.plain.run(None, feeds[0])[0])
    made.session.close()


def test_old_shapes_make_room_where_memory_ends_first(tmp_path: Path) -> None:
    """Fewer than are kept fit: a new shape is served all the same."""
    driver = FakeDriver()
    plenty = driver._cuMemAlloc_v2

    def scarce(out: Any, size: Any) -> int:
        if len(driver.rooms) >= 8:  # two shapes
            return 2
        plenty(out, size)
        return 0

    driver._cuMemAlloc_v2 = scarce  # type: ignore[method-assign]
    made = _load(testing.mlp(tmp_path / "model.onnx"), driver)
    for n in (1, 2, 3, 4, 1):
        feed = dict(testing.request(made.model, batch=n).inputs)
        np.testing.assert_array_equal(made.session.bind(feed)()[0], made.plain.run(None, feed)[0])
    made.session.close()


def test_outputs_whose_size_depends_on_data(tmp_path: Path) -> None:
    """NonZero: no address can be fixed, and every call has the size that it has."""
    node = helper.make_node("NonZero", ["x"], ["y"])
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("y", TensorProto.INT64, [1, "found"]),
    ]
    made = helper.make_graph([node], "g", ports[:1], ports[1:])
    path = tmp_path / "model.onnx"
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    model = Model(path, "d", (Port("x", "float32", ("n",)),), (Port("y", "int64", (1, "found")),))
    session = _load(model).session
    feed = {"x": np.array([1, 0, 2, 0], np.float32)}
    call = session.bind(feed)
    assert call()[0].tolist() == [[0, 2]]
    feed["x"][:] = 1
    assert call()[0].tolist() == [[0, 1, 2, 3]]
    session.close()


def test_the_drivers_errors_are_ours() -> None:
    """With the call and the driver's name for what went wrong."""
    device = Device(FakeDriver("cuMemAlloc_v2"))
    with pytest.raises(CandidateBroken, match=r"cuMemAlloc_v2 with CUDA_ERROR_OUT_OF_MEMORY"):
        device.alloc(8)
    device.close()


@pytest.mark.skipif(bool(here.gpus()), reason="a GPU is here; instead: tests/gpu/test_engines.py")
def test_without_a_gpu_nothing_falls_back(tmp_path: Path) -> None:
    """Build and load are refused in words, and the probe says what is missing."""
    engine = catalog.load("engines", "onnxruntime_cuda")
    model = testing.mlp(tmp_path / "graph.onnx")
    target = targets.load("cpu-local")
    with pytest.raises(CandidateBroken, match="no NVIDIA driver"):
        engine.build(model, target, {"threads": 1}, [testing.request(model)], tmp_path)
    facts = {"strict": True, "profiles": {}}
    with pytest.raises(CandidateBroken, match="Nothing falls back"):
        engine.load(Plan("onnxruntime_cuda", model, model.path, {"threads": 1}, facts))
    answer = engine.probe()
    assert not answer.usable
    assert answer.reason
    assert answer.fix


def test_both_wheels_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share an import name: which of them runs is chance."""
    monkeypatch.setattr(_ort_cuda_probe, "_version", lambda _: "1.31.1")
    answer = _ort_cuda_probe.probe()
    assert not answer.usable
    assert "overwrite each other" in answer.reason


@pytest.mark.parametrize(("major", "wheel"), [(12, "<1.27"), (13, ">=1.27")])
def test_the_line_that_mends_goes_by_cudas_major(
    monkeypatch: pytest.MonkeyPatch, major: int, wheel: str
) -> None:
    """Wheels are built for one CUDA each; both wheels go first, or one would overwrite the other."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(_ort_cuda_probe, "cuda_major", lambda: major)
    line = _ort_cuda_probe.fix()
    assert wheel in line
    assert line.startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install ")


@pytest.mark.parametrize(("major", "index"), [(12, "/jp6/cu126"), (13, "/sbsa/cu130")])
def test_on_aarch64_nothing_goes_before_nvidias_wheel_is_there(
    monkeypatch: pytest.MonkeyPatch, major: int, index: str
) -> None:
    """PyPI has none, and not every Python has one: a line that fails leaves what works on the CPU."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(_ort_cuda_probe, "cuda_major", lambda: major)
    steps = _ort_cuda_probe.fix().split(" && ")
    assert steps[0].startswith("pip download ")
    assert steps[0].endswith(index)
    assert [step.split()[1] for step in steps[1:]] == ["uninstall", "install"]


@pytest.mark.parametrize(
    ("profile", "bf16", "tf32"), [("h100", True, True), ("t4", False, False), ("a10", True, True)]
)
def test_what_is_offered_goes_by_the_hardware(profile: str, bf16: bool, tf32: bool) -> None:
    """bf16 and TF32 from 8.0 on, int8 never but as weights alone; TF32 is in the options, so in the name."""
    engine = catalog.load("engines", "onnxruntime_cuda")
    target = targets.load(profile)
    able = engine.recipes(target)
    assert (able["bf16"] is None) == bf16
    assert "no int8 kernels" in able["int8_static"].reason
    assert able["weight_only"] is None
    offered = engine.options("fp32", target, [], {})
    assert [o["cuda_graph"] for o in offered][:2] == [True, False]
    assert any(o.get("tf32") for o in offered) == tf32
    assert not any(o.get("tf32") for o in engine.options("bf16", target, [], {}))


def test_every_setting_is_set_and_tf32_is_off() -> None:
    """Nothing is left to the runtime's defaults; the CPU is named only where nodes may fall to it."""
    options = opening.settled({"threads": 1})
    [(name, given)] = opening.providers(options, 4096, Path(), strict=True)
    assert name == "CUDAExecutionProvider"
    assert (given["use_tf32"], given["enable_cuda_graph"]) == ("0", "0")
    assert given["user_compute_stream"] == "4096"
    assert opening.providers(options, 4096, Path(), strict=False)[1:] == [CPU]
    with pytest.raises(UsageError, match="arena must be one of"):
        opening.settled({"arena": "big"})


class FakeMade:
    """A session that obtained other than it was asked for."""

    def __init__(self, providers: list[str], told: dict[str, str], threads: int = 1) -> None:
        self._providers, self._told, self._threads = providers, told, threads

    def get_providers(self) -> list[str]:
        return self._providers

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {"CUDAExecutionProvider": self._told, CPU: {}}

    def get_session_options(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        return options


@pytest.mark.parametrize(
    ("providers", "changed", "threads", "said"),
    [
        ([CPU], {}, 1, "nothing falls back"),
        (None, {"use_tf32": "1"}, 1, "use_tf32=0, obtained '1'"),
        (None, {"enable_cuda_graph": "0"}, 1, "enable_cuda_graph=1, obtained '0'"),
        (None, {}, 4, "asked for 1 threads, obtained 4"),
    ],
)
def test_what_was_not_obtained_is_refused(
    providers: list[str] | None, changed: dict[str, str], threads: int, said: str
) -> None:
    """A provider that is left out with a line in the log, an option, the threads."""
    wanted = opening.cuda_options(opening.settled({"cuda_graph": True}), 4096)
    entries = [("CUDAExecutionProvider", wanted)]
    both = ["CUDAExecutionProvider", CPU]
    opening.read_back(FakeMade(both, wanted), entries, 1)
    with pytest.raises(CandidateBroken, match=said):
        opening.read_back(FakeMade(providers or both, {**wanted, **changed}, threads), entries, 1)


def _shaped() -> Any:
    """y = Reshape(x, [Shape(x)[0], -1]) and a NonZero whose integers are data, not shapes."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], "first"),
        helper.make_node("Concat", ["n", "rest"], ["to"], "sizes", axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"], "reshape"),
        helper.make_node("NonZero", ["y"], ["z"], "data"),
    ]
    fixed = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("rest", TensorProto.INT64, [1], [-1]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 3])
    z = helper.make_tensor_value_info("z", TensorProto.INT64, [2, "m"])
    made = helper.make_graph(nodes, "g", [x], [z], fixed)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_shape_arithmetic_is_told_from_fallen_nodes(tmp_path: Path) -> None:
    """Read back from a real session for a plan that wants a GPU: all fell; what computes with
    shapes alone is as planned on the host, and is still listed."""
    path = tmp_path / "model.onnx"
    onnx.save(_shaped(), path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    _ort_placement.watch(options, tmp_path)
    session = onnxruntime.InferenceSession(str(path), options, providers=[CPU])
    feed = {"x": np.ones((2, 2, 3), np.float32)}
    found = _ort_placement.read(session, feed, asked(onnx.load(path)), "GPU")
    assert sum(row.count for row in placement.fallen(found)) == 5
    apart = _ort_shapes.told_apart(found, _ort_shapes.shape_nodes(onnx.load(path).graph))
    assert {row.operator for row in placement.fallen(apart)} == {"Reshape", "NonZero"}
    assert {row.operator for row in apart.placed} == {
        "Shape",
        "Gather",
        "Concat",
        "Reshape",
        "NonZero",
    }


def test_only_small_sizes_are_the_hosts_by_design() -> None:
    """A row of a large table, and what the GPU makes of sizes that it takes from the host, are not."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], "first"),
        helper.make_node("Range", ["zero", "n", "one"], ["r"], "positions"),
        helper.make_node("Gather", ["table", "r"], ["y"], "rows"),
        helper.make_node("Gather", ["table", "n"], ["z"], "row"),
    ]
    fixed = [
        helper.make_tensor("zero", TensorProto.INT64, [], [0]),
        helper.make_tensor("one", TensorProto.INT64, [], [1]),
        helper.make_tensor("table", TensorProto.FLOAT, [101], [0.0] * 101),
    ]
    made = helper.make_graph(nodes, "g", [], [], fixed)
    assert _ort_shapes.shape_nodes(made) == {"shape", "s", "first", "n"}


def test_a_cuda_graph_is_refused_where_tensors_are_copied() -> None:
    """With how many, and for which operators."""
    engine = catalog.load("engines", "onnxruntime_cuda")
    row = Placed("NonMaxSuppression", 1, "CPU", CPU, planned_device="GPU", nodes=("n",))
    copied = (Copied("GPU", "CPU", 2, ("NonMaxSuppression",)),)
    with pytest.raises(CandidateBroken, match=r"2 tensors are copied .* NonMaxSuppression"):
        engine._uncopied(Placement((row,), copied))
    engine._uncopied(Placement((row,)))


def test_nvidias_libraries_are_found_wherever_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that onnxruntime itself is not in; what does not load is left to the session."""
    home = tmp_path / "nvidia" / "cu13" / "lib"
    home.mkdir(parents=True)
    (home / "libcublas.so.13").write_bytes(b"not a library")
    source = tmp_path / "empty.c"
    source.touch()
    command = ["gcc", "-shared", "-o", str(home / "libcurand.so.10"), str(source)]
    subprocess.run(command, check=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    assert "libcurand.so.10" in opening.preload.__wrapped__()
    assert "libcublas.so.13" not in opening.preload.__wrapped__()


def test_what_libraries_log_is_overheard(capfd: pytest.CaptureFixture[str]) -> None:
    """File descriptor 2, which sys.stderr knows nothing of; where an error passes, it comes out."""
    with opening.overheard() as said:
        os.write(2, b"from a library")
        assert said() == "from a library"
    assert capfd.readouterr().err == ""

    def fail() -> None:
        with opening.overheard():
            os.write(2, b"before the crash")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err == "before the crash"


def test_only_harmless_lines_are_hushed(capfd: pytest.CaptureFixture[str]) -> None:
    """Another warning passes; where an error passes, every line does."""
    warning = b"[W] No registered plugin EP device found for 'CUDAExecutionProvider'\n"
    with opening.hushed():
        os.write(2, b"[W] real\n" + warning + b"[E] " + opening.FELL.encode() + b" by the user\n")
    assert capfd.readouterr().err == "[W] real\n"

    def fail() -> None:
        with opening.hushed():
            os.write(2, warning)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err == warning.decode()


def test_tensorrts_profiles_are_the_workloads_shapes(tmp_path: Path) -> None:
    """Least, usual by weight, largest; precision is left to the graph, TF32 switched off."""
    model = testing.attention(tmp_path / "model.onnx")
    asked_for = [testing.tokens(length=n, batch=b) for b, n in ((1, 11), (2, 5))]
    rows = [Request("g", w, r.inputs) for w, r in zip((0.2, 0.8), asked_for, strict=True)]
    found = _ort_tensorrt.profiles(model, rows)
    assert found["trt_profile_min_shapes"].split(",")[0] == "ids:1x5"
    assert found["trt_profile_opt_shapes"].split(",")[0] == "ids:2x5"
    assert found["trt_profile_max_shapes"].split(",")[0] == "ids:2x11"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_ort_tensorrt.TF32_OFF, "1")
        options = opening.settled({"threads": 1, "provider": "tensorrt"})
        made = opening.providers({**options, "profiles": found}, 4096, tmp_path, strict=True)
        assert os.environ[_ort_tensorrt.TF32_OFF] == "0"
    assert [name for name, _ in made] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert made[0][1]["trt_fp16_enable"] == "False"


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine with ONNX Runtime's CPU provider in the GPU's place, which the ban refuses, and a
    fake driver."""
    real = opening.opened

    def opened(
        path: Path, options: Any, stream: int, strict: bool, *rest: Any, **words: Any
    ) -> Any:
        if strict:
            raise CandidateBroken(f"nodes, but {opening.FELL} by the user")
        return real(path, options, stream, strict, *rest, **words)

    engine = catalog.load("engines", "onnxruntime_cuda")
    monkeypatch.setattr(opening, "opened", opened)
    monkeypatch.setattr(opening, "providers", lambda *_: [CPU])
    monkeypatch.setattr(engine, "Device", lambda: Device(FakeDriver()))
    monkeypatch.setattr(engine, "Session", functools.partial(sessions.Session, where="cpu"))
    monkeypatch.setattr(_ort_cuda_probe, "facts", lambda: {"gpu": "a fake"})


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("name", ["mlp", "convnet", "attention"])
def test_a_build_that_fell_tells_every_node(tmp_path: Path, name: str) -> None:
    """Banned first, then opened again: each node that fell with its operator, and the plan still
    answers rightly; the same facts twice, so that plans can be compared."""
    engine = catalog.load("engines", "onnxruntime_cuda")
    model = getattr(testing, name)(tmp_path / "graph.onnx")
    requests = [Request("g", 1.0, feed) for feed in _feeds(model)]
    plans = []
    for turn in "ab":
        out = tmp_path / turn
        out.mkdir()
        options = {"threads": 1, "cuda_graph": False}
        plans.append(engine.build(model, targets.load("h100"), options, requests, out))
    plan = plans[0]
    assert plan.facts == plans[1].facts
    assert plan.placement is not None
    fell = placement.fallen(plan.placement)
    assert sum(row.count for row in fell) == sum(plan.facts["fallen"].values()) > 0
    assert plan.facts["strict"] is False
    assert plan.portable
    session = engine.load(plan)
    plain = onnxruntime.InferenceSession(str(model.path), providers=[CPU])
    for request in requests:
        want = plain.run(None, dict(request.inputs))
        for got, right in zip(session(request.inputs).values(), want, strict=True):
            np.testing.assert_array_equal(got, right)
    session.close()


@pytest.mark.usefixtures("without_gpu")
def test_a_cuda_graph_that_was_not_captured_is_refused(tmp_path: Path) -> None:
    """ONNX Runtime's log is the only sign of it: without the line, the candidate would be a lie."""
    engine = catalog.load("engines", "onnxruntime_cuda")
    model = testing.mlp(tmp_path / "graph.onnx")
    options = {"threads": 1, "cuda_graph": True}
    with pytest.raises(CandidateBroken, match="captured none"):
        engine.build(model, targets.load("h100"), options, [testing.request(model)], tmp_path)


def test_without_onnxruntime_the_gpus_wheel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wheels share the import name: the CPU's would be installed in vain."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in [n for n in sys.modules if n.startswith("accel.engines.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=r"pip install 'accel-inference\[cuda\]'"):
        catalog.load("engines", "onnxruntime_cuda")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(MissingExtra, match=r"no wheel of it for aarch64\. Run: .*/jp6/cu126"):
        catalog.load("engines", "onnxruntime_cuda")
