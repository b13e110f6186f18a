"""Streams, graphs, zero-copy and refusals, with a real driver and real memory."""

from __future__ import annotations

from typing import Any

import pytest

from accel.cuda import launch
from accel.errors import UsageError

OP = "residual_layernorm"
SHAPE = (64, 384)


def tensors(dtype: str = "float32", offset: int = 0, seed: int = 0) -> dict[str, Any]:
    """Random inputs; `offset` elements past a boundary."""
    import torch

    draw = torch.Generator("cuda").manual_seed(seed)

    def one(*shape: int) -> Any:
        count = int(torch.Size(shape).numel())
        whole = torch.randn(count + offset, device="cuda", generator=draw)
        return whole.to(getattr(torch, dtype))[offset:].view(shape)

    return {"x": one(*SHAPE), "residual": one(*SHAPE), "gamma": one(384), "beta": one(384)}


def expected(inputs: dict[str, Any]) -> Any:
    """y in float64."""
    import torch.nn.functional as F  # noqa: N812  torch's own abbreviation

    x, residual, gamma, beta = (inputs[n].double() for n in ("x", "residual", "gamma", "beta"))
    return F.layer_norm(x + residual, (384,), gamma, beta, 1e-12)


def close(got: Any, inputs: dict[str, Any], allowed: float = 1e-5) -> bool:
    """Within float32's rounding of a row of 384."""
    want = expected(inputs)
    return bool(((got.double() - want).abs() / (1 + want.abs())).max() < allowed)


def test_the_kernel_runs_on_the_callers_stream() -> None:
    """Behind what is queued there: the input is overwritten on that stream, after a long wait, and
    the kernel has to see it. torch's current stream, and a stream that is given."""
    import torch

    for given in (False, True):
        inputs, late = tensors(seed=1), tensors(seed=2)
        stream = torch.cuda.Stream()
        launch.run(OP, inputs, stream=stream)  # loaded, and memory taken: both may wait
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(50_000_000)  # cycles: some 30 ms
            inputs["x"].copy_(late["x"])
            if not given:
                found = launch.run(OP, inputs)
        if given:
            found = launch.run(OP, inputs, stream=stream)
        assert not stream.query()  # it waits for nothing
        stream.synchronize()
        assert close(found["y"], {**inputs, "x": late["x"]})


def test_a_graph_replays_with_what_the_inputs_hold_then() -> None:
    """Captured once; other contents, the same addresses."""
    import torch

    inputs = tensors(seed=3)
    bound = launch.bind(OP, inputs, {n: torch.empty_like(inputs["x"]) for n in ("y", "s")})
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bound()
    for seed in (4, 5):
        for name, tensor in tensors(seed=seed).items():
            inputs[name].copy_(tensor)
        graph.replay()
        torch.cuda.synchronize()
        assert close(bound.outputs["y"], inputs)


def test_run_can_be_captured_once_its_kernel_is_prepared() -> None:
    """Its outputs then live in the graph's pool; without `prepare` the refusal names it."""
    import torch

    inputs = tensors("float16", seed=6)
    baked = {"epsilon": 1e-3}  # nobody else's: not loaded yet
    torch.cuda.synchronize()
    refused = torch.cuda.CUDAGraph()
    with torch.cuda.graph(refused):
        inputs["x"].mul_(1)  # an empty graph would be warned of
        with pytest.raises(UsageError, match="before the capture"):
            launch.run(OP, inputs, baked=baked)
    launch.prepare(OP, "float16", baked)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = launch.run(OP, inputs, baked=baked)
    graph.replay()
    torch.cuda.synchronize()
    assert close(found["y"], inputs, 1e-2)


class CudaArray:
    """A tensor's memory, seen through `__cuda_array_interface__` alone."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.__cuda_array_interface__ = {
            "shape": tuple(tensor.shape), "typestr": "<f4", "version": 3,
            "data": (tensor.data_ptr(), False), "strides": None,
        }  # fmt: skip


class Dlpack:
    """A tensor's memory, seen through DLPack alone."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __dlpack__(self, **words: Any) -> Any:
        return self.tensor.__dlpack__(**words)


@pytest.mark.parametrize("kind", [CudaArray, Dlpack])
def test_other_libraries_arrays_are_used_in_place(kind: Any) -> None:
    """Inputs and outputs: the kernel reads and writes the tensors' own memory."""
    import torch

    inputs = tensors(seed=7)
    outputs = {n: torch.zeros_like(inputs["x"]) for n in ("y", "s")}
    wrapped = {n: kind(t) for n, t in inputs.items()}
    stream = torch.cuda.current_stream()
    launch.run(OP, wrapped, {n: kind(t) for n, t in outputs.items()}, stream=stream)
    torch.cuda.synchronize()
    assert close(outputs["y"], inputs)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("offset", [1, 3])
def test_views_that_are_not_aligned_are_right(dtype: str, offset: int) -> None:
    """A slice of a tensor may start anywhere."""
    inputs = tensors(dtype, offset, seed=8)
    assert inputs["x"].data_ptr() % 16
    allowed = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}[dtype]
    assert close(launch.run(OP, inputs)["y"], inputs, allowed)


def test_what_cannot_be_taken_is_refused() -> None:
    """Host memory, strides, dtypes: in our words, before the driver sees them."""
    inputs = tensors()
    wrong = {
        "in the host's memory": {"x": inputs["x"].cpu()},
        "not contiguous": {"x": inputs["x"].T.contiguous().T},
        "Nothing is cast": {"gamma": inputs["gamma"].half()},
        "takes the inputs": {"z": inputs["x"]},
    }
    for message, array in wrong.items():
        with pytest.raises(UsageError, match=message):
            launch.run(OP, {**inputs, **array})


def test_two_devices_are_kept_apart() -> None:
    """Arrays on two are refused; arrays on the second run there, whatever is current."""
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs; instead: tests/cuda/test_launch.py, with a fake driver")
    inputs = tensors(seed=9)
    with pytest.raises(UsageError, match="on one device"):
        launch.run(OP, {**inputs, "x": inputs["x"].to("cuda:1")})
    second = {n: t.to("cuda:1") for n, t in inputs.items()}
    found = launch.run(OP, second)
    torch.cuda.synchronize(1)
    assert close(found["y"], second)
    assert torch.cuda.current_device() == 0
