"""What every kernel promises: its source, its ONNX body and its reference agree, on any machine."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from accel import catalog
from accel.cuda import cubin, emulator, ptx
from accel.cuda.comparing import excess
from accel.cuda.simulator import Simulated, Simulator
from accel.errors import UsageError
from accel.protocols import Case

NAMES = catalog.names("kernels")
KERNELS = {name: catalog.load("kernels", name) for name in NAMES}
TYPED = [(name, dtype) for name in NAMES for dtype in KERNELS[name].DTYPES]
PLAIN = [
    (n, d) for n, d in TYPED if d not in ("float16", "bfloat16")
]  # ONNX Runtime runs all of them on a CPU
CASES = [(n, d, case) for n, d in TYPED for case in KERNELS[n].cases(d)]
IDS = [f"{n}-{d}-{case.name}" for n, d, case in CASES]
EMULATED: dict[tuple[str, str, str], list[tuple[Any, Simulated]]] = {}  # what each program gave
AHEAD = 8  # cases that are simulated before they are asked for


@pytest.fixture(scope="module")
def simulated() -> Iterator[Callable[[str], Any]]:
    """Of a case's id, what its kernel wrote. The next cases are started with it, for two processes
    to simulate while the tests read; not all of them, which another worker may be given."""
    started: dict[str, Any] = {}
    with Simulator(2) as run:

        def find(name: str) -> Any:
            first = IDS.index(name)
            for one, case in zip(IDS[first:][:AHEAD], CASES[first:], strict=False):
                if one not in started:
                    started[one] = run.start(*case)
            return started[name].result()

        yield find


@pytest.mark.parametrize(("name", "dtype", "case"), CASES, ids=IDS)
def test_the_kernel_is_right(
    name: str, dtype: str, case: Case, simulated: Callable[[str], Any]
) -> None:
    """Its own source, in the simulator, against the float64 reference."""
    member = KERNELS[name]
    baked = case.baked or member.VARIANTS[0]
    found = simulated(f"{name}-{dtype}-{case.name}")
    assert found.threads <= 4096
    for (output, kind), want in zip(
        member.signature(dtype, baked).outputs,
        _reference(member, case, dtype),
        strict=True,
    ):
        assert excess(found.outputs[output], want, member.TOLERANCE[kind]) <= 1, output


@pytest.mark.parametrize(("name", "dtype", "case"), CASES, ids=IDS)
def test_what_was_compiled_is_right(name: str, dtype: str, case: Case) -> None:
    """Its PTX, run by the emulator: the simulator sees the source, not what the compiler made of it.

    Reads and writes outside of an array, or not aligned, are errors there."""
    _compiled_is_right(name, dtype, case, "8.7")


@pytest.mark.parametrize("compute_capability", ["7.5", "9.0", "12.0"])
@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_it_is_right_on_older_and_newer(name: str, dtype: str, compute_capability: str) -> None:
    """The first case and the one that is not aligned, as compiled for other GPUs."""
    cases = list(KERNELS[name].cases(dtype))
    for case in (cases[0], *(c for c in cases if c.offset)):
        _compiled_is_right(name, dtype, case, compute_capability)


def _compiled_is_right(name: str, dtype: str, case: Case, compute_capability: str) -> None:
    member = KERNELS[name]
    found = _emulated(name, dtype, case, compute_capability)
    signature = member.signature(dtype, case.baked or member.VARIANTS[0])
    for (output, kind), want in zip(
        signature.outputs, _reference(member, case, dtype), strict=True
    ):
        assert excess(found.outputs[output], want, member.TOLERANCE[kind]) <= 1, output


def _emulated(name: str, dtype: str, case: Case, compute_capability: str) -> Simulated:
    """Each program once: for 9.0 a kernel is compiled to the instructions of 8.7, for 7.5 often."""
    baked = KERNELS[name].VARIANTS[0] if case.baked is None else case.baked
    program = emulator._program(name, dtype, tuple(sorted(baked.items())), compute_capability)
    tried = EMULATED.setdefault((name, dtype, case.name), [])
    for other, found in tried:
        if other == program:
            return found
    tried.append((program, emulator.run(name, dtype, case, compute_capability)))
    return tried[-1][1]


def _reference(member: Any, case: Case, dtype: str) -> list[Any]:
    baked = case.baked or member.VARIANTS[0]
    found = member.reference(case.inputs, baked)
    return [found[name] for name, _ in member.signature(dtype, baked).outputs]


@pytest.mark.parametrize("opset", [17, 23])  # what the older and the newer exporter write
@pytest.mark.parametrize(("name", "dtype"), PLAIN)
def test_the_function_is_right(name: str, dtype: str, opset: int) -> None:
    """Its ONNX body, run by ONNX Runtime, on every case, in models of old and new opsets."""
    member = KERNELS[name]
    body = member.function(opset)
    assert (body.domain, body.name) == ("accel.kernels", member.OP)
    for case in member.cases(dtype):
        if case.offset:
            continue  # addresses are the kernel's business
        if opset < 20 and case.baked in member.VARIANTS[1:]:
            continue  # the protocol promises the first variant there, no other
        got = _run(member, body, case, dtype)
        for (output, kind), have, want in zip(
            member.signature(dtype, case.baked or member.VARIANTS[0]).outputs,
            got,
            _reference(member, case, dtype),
            strict=True,
        ):
            assert excess(have, want, member.TOLERANCE[kind]) <= 1, (case.name, output)


def _run(member: Any, body: Any, case: Case, dtype: str) -> list[Any]:
    """A model of one node and its function, in ONNX Runtime."""
    baked = case.baked or member.VARIANTS[0]
    signature = member.signature(dtype, baked)
    ports = [
        helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(np.dtype(d)), case.inputs[n].shape
        )
        for n, d in signature.inputs
    ]
    shapes = member.output_shapes({n: a.shape for n, a in case.inputs.items()}, baked)
    outputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(d)), shapes[n])
        for n, d in signature.outputs
    ]
    attributes = {k: v for k, v in baked.items() if k in body.attribute}
    node = helper.make_node(
        member.OP,
        [n for n, _ in signature.inputs],
        [n for n, _ in signature.outputs],
        domain="accel.kernels",
        **attributes,
    )
    graph = helper.make_graph([node], "one", ports, outputs)
    opsets = [*body.opset_import, helper.make_opsetid("accel.kernels", 1)]
    model = helper.make_model(graph, functions=[body], opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {n: case.inputs[n] for n, _ in signature.inputs}))


@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_its_machine_code_fits_the_signature(name: str, dtype: str) -> None:
    """Compiled for an edge module and assembled: pointers and int32 in the plugin's order, no
    spills, no function left undefined, the entry's name its own."""
    member = KERNELS[name]
    made = ptx.compile(name, dtype, member.VARIANTS[0], "8.7")
    assert made.entry == f"accel_{name}_{dtype}"
    _binary, usage = cubin.assemble(ptx.lower(made, "8.5"))
    assert usage.spill_bytes == usage.stack_bytes == 0


@pytest.mark.parametrize("capability", ["7.5", "8.7"])  # 8.0 brought conversions of pairs
@pytest.mark.parametrize(("name", "dtype"), [t for t in TYPED if t not in PLAIN])
def test_its_machine_code_has_the_dtype_meant(name: str, dtype: str, capability: str) -> None:
    """float16 is converted as float16 and bfloat16 is not: in a compiler's eyes both are 16 bits,
    and the simulator, which asks numpy, would not notice."""
    made = ptx.compile(name, dtype, KERNELS[name].VARIANTS[0], capability)
    assert bool(re.search(r"cvt\S*\.f16", made.text)) == (dtype == "float16")


@pytest.mark.parametrize("name", NAMES)
def test_launch_geometry_is_symbolic(name: str) -> None:
    """With symbols for leading sizes it gives the same numbers as with the numbers themselves."""
    member = KERNELS[name]
    case = next(iter(member.cases(member.DTYPES[0])))
    shapes = {n: a.shape for n, a in case.inputs.items()}
    baked = case.baked or member.VARIANTS[0]
    known = member.launch(shapes, member.DTYPES[0], baked)
    symbols = {n: tuple(map(Symbol, s[:-1])) + s[-1:] for n, s in shapes.items()}
    found = member.launch(symbols, member.DTYPES[0], baked)
    assert tuple(int(v) for v in (*found.grid, *found.scalars)) == (*known.grid, *known.scalars)
    assert found.block == known.block
    assert math.prod(known.block) <= 1024


@dataclasses.dataclass(frozen=True)
class Symbol:
    """As much as a TensorRT symbol can: it stands left of its operator, and has no truth."""

    value: int

    def __int__(self) -> int:
        return self.value

    def __add__(self, other: Any) -> Symbol:
        return Symbol(self.value + int(other))

    def __sub__(self, other: Any) -> Symbol:
        return Symbol(self.value - int(other))

    def __mul__(self, other: Any) -> Symbol:
        return Symbol(self.value * int(other))

    def __floordiv__(self, other: Any) -> Symbol:
        return Symbol(self.value // int(other))

    def __bool__(self) -> bool:
        raise TypeError("a symbol has no truth")


def test_the_same_source_gives_the_same_bytes() -> None:
    """In two processes of their own, whatever was compiled before."""
    words = (
        "import hashlib; from accel.cuda import ptx, cubin;"
        "p = ptx.compile('residual_layernorm', 'float32', {'epsilon': 1e-12}, '8.7');"
        "print(hashlib.sha256(p.text.encode() + cubin.assemble(p)[0]).hexdigest())"
    )
    before = "from accel.cuda import ptx; ptx.compile('residual_layernorm', 'float16', {'epsilon': 1e-5}, '9.0');"
    first, second = (
        subprocess.run([sys.executable, "-c", w], capture_output=True, text=True, check=True).stdout
        for w in (words, before + words)
    )
    assert first == second != ""


def test_a_dtype_that_is_not_there_is_refused() -> None:
    """The kernel, the dtype that was asked for, those that it has."""
    with pytest.raises(UsageError, match=r"'residual_layernorm' has no dtype 'float64'\. It has:"):
        ptx.compile("residual_layernorm", "float64", {"epsilon": 1e-5}, "8.7")
