"""What launching asks of the driver, seen by a fake one; test_launch.py runs this in its own process.

cuda.bindings, cuda-core and accel are the real ones. Nothing is computed: the addresses are made up.
"""

from __future__ import annotations

import ctypes
import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from accel import catalog
from accel.cuda import driver, launch, loading, plans, warming
from accel.errors import CandidateBroken, UsageError

FAKE = ctypes.CDLL("libcuda.so.1")
FAKE.fake_value.restype = ctypes.c_int64
FAKE.fake_stream.restype = FAKE.fake_function.restype = ctypes.c_void_p
FAKE.fake_entry.restype = ctypes.c_char_p
OP = "residual_layernorm"
SHAPE = (2, 3, 384)
NAMES = catalog.names("kernels")


class Array:
    """Says that it lies on a device, by `__cuda_array_interface__`."""

    def __init__(self, shape: Any, typestr: str, address: int, device: int = 0, **said: Any):
        where = (0xD0 + device << 40) + address
        self.__cuda_array_interface__ = {
            "shape": tuple(shape), "typestr": typestr, "data": (where, False), "version": 3, **said
        }  # fmt: skip


class Tensor(torch.Tensor):
    """A tensor of the host that says it lies on device 0."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def get_device(self) -> int:
        """The device that it says."""
        return 0


def typestr(dtype: str) -> str:
    """As the protocol spells it: bfloat16 is two bytes of no known kind."""
    return "<V2" if dtype == "bfloat16" else np.dtype(dtype).str


def arrays(name: str = OP, dtype: str = "float32", device: int = 0) -> tuple[Any, Any]:
    """Inputs and outputs for the kernel's first case, each at an address of its own."""
    member = catalog.load("kernels", name)
    case = next(iter(member.cases(dtype)))
    baked = case.baked or member.VARIANTS[0]
    signature = member.signature(dtype, baked)
    shapes = {n: a.shape for n, a in case.inputs.items()}
    sizes = {**shapes, **member.output_shapes(shapes, baked)}
    made = {
        n: Array(sizes[n], typestr(kind), 4096 * (i + 1), device)
        for i, (n, kind) in enumerate((*signature.inputs, *signature.outputs))
    }
    outputs = {n: made.pop(n) for n, _ in signature.outputs}
    return made, outputs


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing planned, nothing loaded; machine code is a fake that the fake driver takes."""
    launch._PLANS.clear()
    loading._LOADED.clear()
    FAKE.fake_layout(b"ppppiiipp")
    monkeypatch.setattr(loading, "machine_code", lambda *_: b"\177ELF and nothing else")
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 0x99, raising=False)
    yield
    FAKE.fake_capture(0)
    FAKE.fake_refuse(0)


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


HOST = np.zeros(SHAPE, np.float32)
REFUSED = {
    "a list": ({"x": [1.0]}, r"A list has no GPU memory to read\. Pass a torch tensor"),
    "an array of the host": ({"x": HOST}, r"input 'x' is in the host's memory; move it"),
    "a tensor of the host": ({"x": torch.zeros(SHAPE)}, r"'x' is in the host's memory"),
    "an unknown address": ({"x": Array(SHAPE, "<f4", 4096, -0xD0)}, r"'x' is in the host's memory"),
    "strides": (
        {"x": Array(SHAPE, "<f4", 4096, strides=(4, 8, 4))},
        r"input 'x' is not contiguous; pass x\.contiguous\(\)",
    ),
    "a dtype of its own": (
        {"gamma": Array((384,), "<f2", 4096)},
        r"'gamma' is float16; beside the other arrays it has to be float32\. The kernel has: float32, float16, bfloat16\. Nothing is cast",
    ),
    "a dtype of nobody": ({"x": Array(SHAPE, "<c8", 4096)}, r"The dtype '<c8' is none that"),
    "another device": (
        {"x": Array(SHAPE, "<f4", 4096, device=1)},
        r"all arrays have to be on one device; here: x on 1, residual on 0",
    ),
    "one input too many": ({"z": Array((1,), "<f4", 4096)}, r"takes the inputs x, residual"),
    "a bias too short": (
        {"beta": Array((383,), "<f4", 4096)},
        r"residual_layernorm: beta is \[383\]; beside the other inputs it has to be \[384\]",
    ),
    "a residual of another height": (
        {"residual": Array((2, 384), "<f4", 4096)},
        r"residual is \[2, 384\]; beside the other inputs it has to be \[3, 384\]",
    ),
    "a row too long": (
        {"x": Array((1, 20000), "<f4", 4096), "gamma": Array((20000,), "<f4", 4096), "beta": Array((20000,), "<f4", 4096)},
        r"takes rows of up to 16384, not 20000",
    ),
    "more rows than int32": (
        {"x": Array((2**31, 1), "<f4", 4096), "residual": Array((1, 1), "<f4", 4096), "gamma": Array((1,), "<f4", 4096), "beta": Array((1,), "<f4", 4096)},
        r"a size of 2147483648 does not fit the int32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_inputs_that_a_kernel_cannot_take_are_refused(what: str) -> None:
    """Before anything is started, with the array, what it is and what it has to be."""
    wrong, message = REFUSED[what]
    inputs, outputs = arrays()
    if "row" in what:
        outputs = {
            n: Array(wrong["x"].__cuda_array_interface__["shape"], "<f4", 1) for n in outputs
        }
    before = FAKE.fake_launches()
    with pytest.raises(UsageError, match=message):
        launch.run(OP, {**inputs, **wrong}, outputs)
    assert FAKE.fake_launches() == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Array((2, 3, 383), "<f4", 4096), r"output 'y' is \[2, 3, 383\]; .* to be \[2, 3, 384\]"),
        (Array(SHAPE, "<f4", 4096, data=((0xD0 << 40) + 1, True)), r"output 'y' is read-only"),
        (HOST, r"output 'y' is in the host's memory"),
    ],
)  # fmt: skip
def test_outputs_that_do_not_fit_are_refused(wrong: Any, message: str) -> None:
    """Sizes, memory, permission."""
    inputs, outputs = arrays()
    with pytest.raises(UsageError, match=message):
        launch.run(OP, inputs, {**outputs, "y": wrong})


def test_a_missing_input_is_named() -> None:
    """All that it takes, and what was given."""
    inputs, outputs = arrays()
    del inputs["beta"]
    with pytest.raises(
        UsageError, match=r"inputs x, residual, gamma, beta; given were x, residual, gamma\."
    ):
        launch.run(OP, inputs, outputs)


def test_an_unknown_device_is_refused() -> None:
    """How many there are."""
    with pytest.raises(UsageError, match=r"no CUDA device 7; this machine has 2"):
        launch.prepare(OP, "float32", device=7)


def test_a_dtype_that_the_arrays_do_not_tell_is_asked_for() -> None:
    """An op whose dtype shows in its output only."""
    signature = SimpleNamespace(inputs=(("x", "uint8"),), outputs=())
    member = SimpleNamespace(DTYPES=("float32", "float16"), signature=lambda *_: signature)
    given = {"x": ((4,), "uint8", 0, True, True)}
    with pytest.raises(
        UsageError, match=r"the arrays fit float32 and float16\. Say which, as dtype="
    ):
        plans._dtype("made_up", member, None, {}, given, None)
    assert plans._dtype("made_up", member, "float16", {}, given, None) == "float16"
