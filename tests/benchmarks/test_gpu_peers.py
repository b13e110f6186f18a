"""The torch arms of the GPU bench, on a CPU, against each kernel's own reference and cases."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from accel import catalog
from accel.cuda.comparing import excess

ROOT = Path(__file__).parents[2]
NAMES = catalog.names("kernels")
LOOSE = 8.0  # times the kernel's tolerance: an op at a time rounds more often


@pytest.fixture(scope="module")
def peers() -> Any:
    """benchmarks/gpu/peers.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        "gpu_peers", ROOT / "benchmarks" / "gpu" / "peers.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_peer_computes_the_same(name: str, peers: Any) -> None:
    """Every case of the first dtype; an answer in whole numbers has to be the same."""
    member = catalog.load("kernels", name)
    dtype = member.DTYPES[0]
    for case in member.cases(dtype):
        if any(_has_infinity(array) for array in case.inputs.values()):
            continue  # torch's vectorized gelu makes NaN of it, on a CPU
        baked = case.baked or member.VARIANTS[0]
        inputs = {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in case.inputs.items()}
        got = getattr(peers, name)(inputs, {**baked, "dtype": dtype})
        want = member.reference(case.inputs, baked)
        for output, kind in member.signature(dtype, baked).outputs:
            assert str(got[output].dtype) == f"torch.{kind}"
            allowed = LOOSE * member.TOLERANCE[kind]
            assert excess(got[output].numpy(), want[output], allowed) <= 1, (case.name, output)


@pytest.mark.parametrize("name", NAMES)
def test_the_peer_is_one_graph_to_torch_compile(name: str, peers: Any) -> None:
    """Traced whole, by a back end that compiles nothing; what is left out says why."""
    if name in peers.UNCOMPILED:
        assert peers.UNCOMPILED[name]
        return
    member = catalog.load("kernels", name)
    dtype = member.DTYPES[0]
    case = next(iter(member.cases(dtype)))
    baked = case.baked or member.VARIANTS[0]
    inputs = {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in case.inputs.items()}
    peer = getattr(peers, name)
    constants = {**baked, "dtype": dtype}
    traced = torch.compile(peer, backend="eager", fullgraph=True, dynamic=False)
    got, want = traced(inputs, constants), peer(inputs, constants)
    assert all(torch.equal(got[n], want[n]) for n in want)


def _has_infinity(array: Any) -> bool:
    return array.dtype.kind == "f" and bool(np.isinf(array).any())


def test_every_kernel_has_a_peer(peers: Any) -> None:
    """In a function of its name."""
    assert [name for name in NAMES if not hasattr(peers, name)] == []
