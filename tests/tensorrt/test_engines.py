"""Kernels inside an engine that TensorRT built: only a GPU with TensorRT can tell."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from accel import catalog, target
from accel.engines import _tensorrt_attributes as attributes
from accel.engines import _tensorrt_plugins as plugins

OPSET = 20
KERNELS = {name: catalog.load("kernels", name) for name in catalog.names("kernels")}
TYPED = [
    (name, dtype)
    for name, member in KERNELS.items()
    for dtype in member.DTYPES
    if dtype != "bfloat16"  # numpy's files do not know it
]
# What a deployment has: TensorRT and the plan. Neither accel nor Python code of a plugin.
RUN = """
import sys
import numpy as np, tensorrt as trt, torch
plan, inputs, outputs = sys.argv[1:]
engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(open(plan, "rb").read())
context = engine.create_execution_context()
given = {k: torch.from_numpy(v).cuda() for k, v in np.load(inputs).items()}
for name, tensor in given.items():
    context.set_input_shape(name, tuple(tensor.shape))
    context.set_tensor_address(name, tensor.data_ptr())
found = {}
for i in range(engine.num_io_tensors):
    name = engine.get_tensor_name(i)
    if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
        kind = getattr(torch, np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name)
        found[name] = torch.empty(tuple(context.get_tensor_shape(name)), dtype=kind, device="cuda")
        context.set_tensor_address(name, found[name].data_ptr())
assert context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
torch.cuda.synchronize()
np.savez(outputs, **{k: v.cpu().numpy() for k, v in found.items()})
assert "accel" not in sys.modules
"""


@pytest.fixture(scope="module")
def here() -> Any:
    """This machine's GPU as a target, its plugins registered; else the reason why not."""
    if importlib.util.find_spec("tensorrt") is None:
        pytest.skip(
            "tensorrt is not installed: pip install 'accel-inference[tensorrt]'; instead: "
            "tests/tensorrt/test_plugins.py, over stub libraries"
        )
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use; instead: tests/tensorrt/test_plugins.py")
    major, minor = torch.cuda.get_device_capability()
    made = dataclasses.replace(target.load("h100"), compute_capability=f"{major}.{minor}")
    return plugins.register(made)


@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_onnx_runtime_takes_the_same_file(name: str, dtype: str) -> None:
    """The nodes' attributes for TensorRT are no hindrance to it: the function is as right as ever."""
    case = next(iter(KERNELS[name].cases(dtype)))
    _assert_right(name, dtype, case, _in_onnx_runtime(_model(name, dtype, case), case))


@pytest.mark.tensorrt
@pytest.mark.gpu
@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_an_engine_with_the_kernel_is_right(
    name: str, dtype: str, here: Any, tmp_path: Path
) -> None:
    """Built with leading axes open, strictly ahead of time, and run in a process without accel: as
    near to the reference as the kernel alone, and to ONNX Runtime on the same file."""
    if here[name]:
        pytest.skip(f"{here[name].reason} instead: test_onnx_runtime_takes_the_same_file")
    case = next(iter(KERNELS[name].cases(dtype)))
    model = _model(name, dtype, case)
    plan, given, out = (tmp_path / n for n in ("plan", "given.npz", "out.npz"))
    plan.write_bytes(_built(model, case))
    np.savez(given, **case.inputs)
    words = [sys.executable, "-c", RUN, str(plan), str(given), str(out)]
    subprocess.run(words, cwd=tmp_path, check=True)
    found = np.load(out)
    _assert_right(name, dtype, case, found)
    for port, other in _in_onnx_runtime(model, case).items():
        wide, allowed = other.astype(np.float64), 2 * KERNELS[name].TOLERANCE[other.dtype.name]
        assert np.all(np.abs(found[port].astype(np.float64) - wide) <= allowed * (1 + np.abs(wide)))


def _assert_right(name: str, dtype: str, case: Any, found: Any) -> None:
    """Against the kernel's own reference, to its own tolerance."""
    member = KERNELS[name]
    baked = case.baked or member.VARIANTS[0]
    for port, want in member.reference(case.inputs, baked).items():
        kind = dict(member.signature(dtype, baked).outputs)[port]
        assert found[port].dtype == kind
        error = np.abs(found[port].astype(np.float64) - want) / (1 + np.abs(want))
        assert np.all(error <= member.TOLERANCE[kind]), port


def _in_onnx_runtime(model: onnx.ModelProto, case: Any) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(case.inputs)), strict=True))


def _model(name: str, dtype: str, case: Any) -> onnx.ModelProto:
    """One node as `accel swap` writes it, and its function; leading axes are open."""
    member = KERNELS[name]
    baked = case.baked or member.VARIANTS[0]
    body, signature = member.function(OPSET), member.signature(dtype, baked)
    named = {**baked, "to": attributes.onnx_type(signature.outputs[0][1])}

    def port(name: str, kind: str, shape: Any) -> Any:
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape
        )

    node = helper.make_node(
        member.OP,
        [n for n, _ in signature.inputs],
        [n for n, _ in signature.outputs],
        domain=body.domain,
        plugin_namespace=plugins.NAMESPACE,
        plugin_version="1",
        aot=1,
        **{key: named[key] for key in attributes.declared(member)},
    )
    inputs = [port(n, k, _open(n, case.inputs[n].shape)) for n, k in signature.inputs]
    outputs = [port(n, k, None) for n, k in signature.outputs]
    graph = helper.make_graph([node], "one", inputs, outputs)
    opsets = [*body.opset_import, helper.make_opsetid(body.domain, 1)]
    return helper.make_model(graph, functions=[body], opset_imports=opsets, ir_version=10)


def _open(name: str, shape: Any) -> list[Any]:
    return [f"{name}_{i}" for i, _ in enumerate(shape[:-1])] + list(shape[-1:])


def _built(model: onnx.ModelProto, case: Any) -> bytes:
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    taken = parser.parse(model.SerializeToString())
    assert taken, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    kinds = [network.get_layer(i).type for i in range(network.num_layers)]
    assert trt.LayerType.PLUGIN_V3 in kinds, kinds  # not its function in standard operators
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for name, array in case.inputs.items():
        profile.set_shape(name, array.shape, array.shape, array.shape)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return bytes(plan)
