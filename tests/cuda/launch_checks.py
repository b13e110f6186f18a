"""What launching asks of the driver, seen by a fake one; test_launch.py runs this in its own process.

cuda.bindings, cuda-core and accel are the real ones. Nothing is computed: the addresses are made up.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_arrays import FAKE, OP, SHAPE, Array, Tensor, arrays, fresh  # noqa: F401  a fixture

from accel import catalog
from accel.cuda import driver, launch, loading, warming
from accel.errors import CandidateBroken, UsageError

NAMES = catalog.names("kernels")


@pytest.mark.parametrize("name", NAMES)
def test_parameters_stand_in_the_order_of_the_signature(name: str) -> None:
    """Every kernel and dtype: addresses, int32 scalars, addresses; the geometry of `launch`."""
    member = catalog.load("kernels", name)
    for dtype in member.DTYPES:
        inputs, outputs = arrays(name, dtype)
        case = next(iter(member.cases(dtype)))
        baked = case.baked or member.VARIANTS[0]
        signature = member.signature(dtype, baked)
        wanted = member.launch({n: a.shape for n, a in case.inputs.items()}, dtype, baked)
        layout = "p" * len(inputs) + "i" * len(wanted.scalars) + "p" * len(outputs)
        FAKE.fake_layout(layout.encode())
        # given in another order than the signature's
        launch.run(name, dict(reversed(inputs.items())), outputs, case.baked, dtype=dtype)
        ports = [n for n, _ in (*signature.inputs, *signature.outputs)]
        places = [{**inputs, **outputs}[n].__cuda_array_interface__["data"][0] for n in ports]
        n = len(inputs)
        expected = [*places[:n], *wanted.scalars, *places[n:]]
        assert [FAKE.fake_value(i) for i in range(len(expected))] == expected
        geometry = [FAKE.fake_geometry(i) for i in range(7)]
        assert geometry == [*wanted.grid, *wanted.block, 0]
        assert FAKE.fake_entry() == f"accel_{name}_{dtype}".encode()
        loaded = launch.prepare(name, dtype, baked)
        assert FAKE.fake_function() == loaded.function


def test_machine_code_of_the_real_compiler_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled for the device's own capability, under the entry that is asked for."""
    monkeypatch.undo()
    monkeypatch.setenv("ACCEL_CUBINS", "")
    found = launch.prepare(OP, "float32")
    assert (found.entry, found.compute_capability) == (f"accel_{OP}_float32", "9.0")
    assert found.entry.encode() in found.keep.code


@pytest.mark.parametrize(
    "stream",
    [0x77, SimpleNamespace(cuda_stream=0x77), SimpleNamespace(ptr=0x77),
     SimpleNamespace(__cuda_stream__=lambda: (0, 0x77))],
    ids=["address", "torch", "CuPy", "cuda-core"],
)  # fmt: skip
def test_the_stream_is_the_callers(stream: Any) -> None:
    """However it is given."""
    launch.run(OP, *arrays(), stream=stream)
    assert FAKE.fake_stream() == 0x77


def test_without_a_stream_it_is_the_default_one() -> None:
    """For arrays that are not torch's."""
    launch.run(OP, *arrays())
    assert FAKE.fake_stream() is None


def test_a_stream_that_is_none_is_refused() -> None:
    """Told what could be given."""
    with pytest.raises(UsageError, match=r"A str is no stream\. Pass its address"):
        launch.run(OP, *arrays(), stream="mine")


def test_torch_tensors_are_launched_on_torchs_current_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the moment of the call, also for what was bound before: so a capture finds it."""
    tensors = {n: torch.zeros(s).as_subclass(Tensor) for n, s in
               {"x": SHAPE, "residual": SHAPE, "gamma": (384,), "beta": (384,)}.items()}  # fmt: skip
    results = {n: torch.zeros(SHAPE).as_subclass(Tensor) for n in ("y", "s")}
    bound = launch.bind(OP, tensors, results)
    assert bound()["y"] is results["y"]
    assert FAKE.fake_stream() == 0x99
    assert FAKE.fake_value(0) == tensors["x"].data_ptr()
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 0x55)
    bound()
    assert FAKE.fake_stream() == 0x55


def test_outputs_are_new_torch_tensors_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the right sizes and dtype (on the host here, for want of a device)."""
    monkeypatch.setattr(launch, "_torch_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 0)
    inputs, _ = arrays(dtype="float16")
    found = launch.run(OP, inputs)
    assert {n: (tuple(t.shape), t.dtype) for n, t in found.items()} == {
        "y": (SHAPE, torch.float16),
        "s": (SHAPE, torch.float16),
    }
    assert [FAKE.fake_value(7), FAKE.fake_value(8)] == [
        found["y"].data_ptr(),
        found["s"].data_ptr(),
    ]


def test_outputs_come_from_the_pool_of_the_launchs_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another stream than torch's current one, given or the default: its own pool serves."""
    entered: list[int] = []

    def fake_stream(address: int) -> Any:
        entered.append(address)
        return contextlib.nullcontext()

    monkeypatch.setattr(launch, "_torch_device", lambda _: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda address, _: address)
    monkeypatch.setattr(torch.cuda, "stream", fake_stream)
    inputs, _ = arrays()
    launch.run(OP, inputs)  # on the default stream, while torch's current one is 0x99
    launch.run(OP, inputs, stream=0x33)
    launch.run(OP, inputs, stream=0x99)
    assert entered == [0, 0x33]


def test_a_bound_launch_keeps_its_stream() -> None:
    """Who gives it may forget it."""

    class Stream:
        ptr = 0x77

    stream = Stream()
    kept = weakref.ref(stream)
    bound = launch.bind(OP, *arrays(), stream=stream)
    del stream
    gc.collect()
    bound()
    assert kept() is not None


def test_bound_launches_start_again_and_keep_their_arrays() -> None:
    """The same parameters each time; nothing is freed while the launch can be repeated."""
    inputs, outputs = arrays()
    kept = weakref.ref(inputs["x"])
    bound = launch.bind(OP, inputs, outputs, stream=0x11)
    del inputs
    gc.collect()
    before = FAKE.fake_launches()
    bound()
    bound()
    assert FAKE.fake_launches() == before + 2
    assert kept() is not None
    assert FAKE.fake_value(0) == kept().__cuda_array_interface__["data"][0]


def test_dlpack_is_read_in_place() -> None:
    """The address of the producer, which is told the stream to wait for."""
    inputs, outputs = arrays()
    source, asked = torch.zeros(SHAPE), []

    class Producer:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0  # kDLCUDA

        def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
            asked.append(stream)
            capsule = torch.utils.dlpack.to_dlpack(source)
            read = ctypes.pythonapi.PyCapsule_GetPointer
            read.restype, read.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
            ctypes.c_int32.from_address(read(capsule, b"dltensor") + 8).value = 2  # its device
            return capsule

    launch.run(OP, {**inputs, "x": Producer()}, outputs, stream=0x33)
    assert FAKE.fake_value(0) == source.data_ptr()
    assert asked == [0x33]


def test_the_device_of_the_arrays_is_entered_and_left() -> None:
    """Also from a thread that never worked on a GPU; the caller's own device stays."""
    loaded = launch.prepare(OP, "float32", device=0)
    with driver.on(0):
        launch.run(OP, *arrays(device=1))
        assert FAKE.fake_device() == 1
        assert driver.current_device() == 0
    assert loaded.device == 0
    seen: list[Any] = []

    def elsewhere() -> None:
        launch.run(OP, *arrays())
        seen.extend([FAKE.fake_device(), driver.current_device()])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [0, None]


def test_a_kernel_loads_once_per_dtype_constants_and_device() -> None:
    """And is finished before its first launch: lazy loading could not be captured."""
    before, finished = FAKE.fake_loads(), FAKE.fake_finished()
    for _ in range(2):
        launch.run(OP, *arrays())
    assert (FAKE.fake_loads() - before, FAKE.fake_finished() - finished) == (1, 1)
    launch.run(OP, *arrays(), baked={"epsilon": 1e-12})  # what None means
    assert FAKE.fake_loads() - before == 1
    launch.run(OP, *arrays(), baked={"epsilon": 1e-5})
    launch.run(OP, *arrays(dtype="float16"))
    launch.run(OP, *arrays(device=1))
    assert FAKE.fake_loads() - before == 4


def test_nothing_loads_inside_a_capture() -> None:
    """The refusal names `prepare`; after that the launch is captured."""
    FAKE.fake_capture(1)
    with pytest.raises(UsageError, match=r"accel\.cuda\.launch\.prepare\('residual_layernorm'"):
        launch.run(OP, *arrays(), stream=0x77)
    FAKE.fake_capture(0)
    launch.prepare(OP, "float32")
    FAKE.fake_capture(1)
    before = FAKE.fake_loads()
    launch.run(OP, *arrays(), stream=0x77)
    assert FAKE.fake_loads() == before


def test_machine_code_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made once; other constants, another dtype or capability are other files."""
    monkeypatch.undo()
    monkeypatch.setenv("ACCEL_CUBINS", str(tmp_path))
    made: list[Any] = []
    monkeypatch.setattr(loading, "_compiled", lambda *key: made.append(key) or repr(key).encode())
    first = loading.machine_code(OP, "float32", {"epsilon": 1e-5}, "9.0")
    assert loading.machine_code(OP, "float32", {"epsilon": 1e-5}, "9.0") == first
    assert len(made) == 1
    others = [("float16", 1e-5, "9.0"), ("float32", 1e-6, "9.0"), ("float32", 1e-5, "8.0")]
    for dtype, epsilon, capability in others:
        loading.machine_code(OP, dtype, {"epsilon": epsilon}, capability)
    assert len(made) == len(list(tmp_path.iterdir())) == 4


def test_machine_code_that_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    """A folder stands where the file would: no error, and no half-made file either."""
    taken = tmp_path / "taken.cubin"
    (taken / "inside").mkdir(parents=True)
    loading._keep(taken, b"code")
    assert list(tmp_path.iterdir()) == [taken]


def test_many_are_compiled_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each once, found on disk by who loads it then; what does not compile is left to that one."""
    monkeypatch.undo()
    monkeypatch.setenv("ACCEL_CUBINS", str(tmp_path))
    keys = [(OP, "float32", {"epsilon": 1e-5})] * 2 + [(OP, "float64", {"epsilon": 1e-5})]
    assert warming.warm(keys, "9.0") == 2
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(loading, "_compiled", lambda *_: pytest.fail("it is on disk"))
    assert launch.prepare(OP, "float32", {"epsilon": 1e-5}).compute_capability == "9.0"
    monkeypatch.setenv("ACCEL_CUBINS", "")
    assert warming.warm(keys, "9.0") == 0


def test_what_the_driver_refuses_is_said() -> None:
    """The kernel, the geometry, the driver's own words."""
    FAKE.fake_refuse(701)
    with pytest.raises(CandidateBroken, match=r"accel_residual_layernorm_float32 with \(2, 1, 1, 32, 4, 1\): .*OUT_OF_RESOURCES"):  # fmt: skip
        launch.run(OP, *arrays())


def test_no_rows_is_no_launch() -> None:
    """A grid of no blocks would be an error of the driver."""
    none = (0, 384)
    inputs = {"x": Array(none, "<f4", 4096), "residual": Array(none, "<f4", 8192)}
    inputs |= {n: Array((384,), "<f4", 4096) for n in ("gamma", "beta")}
    outputs = {n: Array(none, "<f4", 4096) for n in ("y", "s")}
    before = FAKE.fake_launches()
    launch.run(OP, inputs, outputs)
    launch.bind(OP, inputs, outputs)()
    assert FAKE.fake_launches() == before
