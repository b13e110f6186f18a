"""Kernels as torch.library operators: schema, shapes while tracing, values, refusals."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from accel import catalog
from accel.engines import _torch_ops
from accel.errors import UsageError
from accel.protocols import Case
from accel.values import Options

KERNELS = {name: catalog.load("kernels", name) for name in catalog.names("kernels")}
TYPED = [(name, dtype) for name, member in KERNELS.items() for dtype in member.DTYPES]


def _baked(name: str, case: Case) -> Options:
    return case.baked or KERNELS[name].VARIANTS[0]


def _tensors(name: str, dtype: str, case: Case) -> tuple[list[Any], Options]:
    """A case's inputs in the signature's order, and its keyword arguments."""
    baked = _baked(name, case)
    inputs = KERNELS[name].signature(dtype, baked).inputs
    named = {**baked, "dtype": dtype} if _torch_ops.asks_dtype(KERNELS[name]) else baked
    return [_torch_ops._tensor(case.inputs[n], kind) for n, kind in inputs], named


def _outputs(found: Any) -> list[Any]:
    return list(found) if isinstance(found, tuple) else [found]


@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_it_keeps_what_torch_asks_of_an_operator(name: str, dtype: str) -> None:
    """Its schema tells the truth, and traced it has the shapes and dtypes that it has when run, with
    symbols for sizes too."""
    tensors, named = _tensors(name, dtype, next(iter(KERNELS[name].cases(dtype))))
    found = torch.library.opcheck(_torch_ops.operator(name), tuple(tensors), dict(named))
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_on_a_cpu_it_gives_the_reference(name: str, dtype: str) -> None:
    """Every case, variant after variant, in the output's dtype, rounded once."""
    member = KERNELS[name]
    for case in member.cases(dtype):
        tensors, named = _tensors(name, dtype, case)
        found, baked = _outputs(_torch_ops.operator(name)(*tensors, **named)), _baked(name, case)
        with np.errstate(all="ignore"):
            wanted = member.reference(case.inputs, baked)
        for (output, kind), got in zip(member.signature(dtype, baked).outputs, found, strict=True):
            assert _torch_ops.name_of(got.dtype) == kind
            allowed = member.TOLERANCE[kind]
            exact = torch.from_numpy(_torch_ops.stored(wanted[output], kind).astype(np.float64))
            same = torch.allclose(got.double(), exact, allowed, allowed, equal_nan=True)
            assert same, (case.name, output)


def test_its_schema_is_its_signature() -> None:
    """Tensors by position, baked constants by keyword, a result an output."""
    schema = str(_torch_ops.operator("residual_layernorm")._schema)
    words = "Tensor x, Tensor residual, Tensor gamma, Tensor beta, *, float epsilon"
    assert schema == f"accel::residual_layernorm({words}) -> (Tensor, Tensor)"
    schema = str(_torch_ops.operator("preprocess_image")._schema)
    assert schema.endswith(", str dtype) -> Tensor"), schema  # bytes in: they tell none


def test_other_dtypes_are_refused_in_our_words() -> None:
    """Nothing is cast without a word: the kernel, what was given, what it is made for."""
    row = torch.ones(8, dtype=torch.float64)
    with pytest.raises(
        UsageError, match=r"'bias_gelu' does not take float64, float64\. It is made"
    ):
        _torch_ops.operator("bias_gelu")(row, row, approximate="none")


@pytest.mark.parametrize("name", KERNELS)
def test_on_a_gpu_it_is_launched_with_its_own_names(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reaches accel.cuda.launch (a fake here): dense inputs and blank outputs by name, the
    dtype, the constants; what was launched into is what comes back."""
    from accel.cuda import launch

    member, asked = KERNELS[name], []
    monkeypatch.setattr(launch, "run", lambda *words, **named: asked.append((words, named)))
    dtype = member.DTYPES[0]
    case = next(iter(member.cases(dtype)))
    baked, (tensors, words) = _baked(name, case), _tensors(name, dtype, case)
    tensors = [torch.stack([t, t], -1)[..., 0] for t in tensors]  # every second element in memory
    found = _outputs(_torch_ops._launch(name, member, *tensors, **words))
    ((kernel, inputs, outputs, constants), named) = asked[0]
    signature = member.signature(dtype, baked)
    assert (kernel, constants, named) == (name, baked, {"dtype": dtype})
    assert list(inputs) == [n for n, _ in signature.inputs]
    assert all(t.is_contiguous() for t in inputs.values())
    assert [*map(id, outputs.values())] == [*map(id, found)]
    assert list(outputs) == [n for n, _ in signature.outputs]


def test_without_numba_the_line_to_type_is_told() -> None:
    """Kernels cannot even be described without it."""
    words = (
        "import sys; sys.modules['numba'] = None\n"
        "from accel.engines import _torch_ops\n"
        "try:\n    _torch_ops.operator('bias_gelu')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    found = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert found.stdout.startswith("MissingExtra kernel 'bias_gelu' needs numba"), found.stderr
    assert "pip install 'accel-inference[kernels]'" in found.stdout


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no NVIDIA GPU is visible to PyTorch; instead: the reference bodies, above, and the "
    "compiled kernels in tests/contracts/test_kernel.py",
)
@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_on_a_gpu_it_gives_the_reference(name: str, dtype: str) -> None:
    """The compiled kernel, through the operator, on every case that can be aligned."""
    member = KERNELS[name]
    for case in member.cases(dtype):
        tensors, named = _tensors(name, dtype, case)
        found = _outputs(_torch_ops.operator(name)(*[t.cuda() for t in tensors], **named))
        wanted, baked = _outputs(_torch_ops.operator(name)(*tensors, **named)), _baked(name, case)
        for (output, kind), got, want in zip(
            member.signature(dtype, baked).outputs, found, wanted, strict=True
        ):
            allowed = 2 * member.TOLERANCE[kind]  # both are rounded
            same = torch.allclose(got.cpu().double(), want.double(), allowed, allowed, True)
            assert same, (case.name, output)
