"""The fake TensorRT refuses what the real bindings lack, and does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_world import World
from onnx import TensorProto, helper, numpy_helper


def small(path: Path) -> Path:
    """relu(x @ w), x: [batch, 4]."""
    weights = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="mm"),
        helper.make_node("Relu", ["h"], ["y"], name="act"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def log(trt: Any) -> Any:
    """A logger of our own, as engines have one."""

    class Log(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            self.found.append(f"{severity.name}: {msg}")

    return Log()


def built(trt: Any, path: Path, logger: Any, workspace: int = 1 << 20, *flags: str) -> Any:
    """An engine of the file for batches of 1 to 8, or None."""
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), parser.get_error(0).desc()
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 4), (2, 4), (8, 4))
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def aligned(shape: Any, dtype: Any) -> Any:
    """Zeros at an address that is a multiple of 256."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + 256, np.uint8)
    start = -raw.ctypes.data % 256
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def ran(trt: Any, engine: Any, given: Any) -> Any:
    """The output, through addresses of host memory."""
    context = engine.create_execution_context()
    x = aligned(given.shape, given.dtype)
    x[:] = given
    assert context.set_input_shape("x", x.shape)
    assert context.infer_shapes() == []
    y = aligned(tuple(context.get_tensor_shape("y")), trt.nptype(engine.get_tensor_dtype("y")))
    assert not context.set_tensor_address("y", y.ctypes.data + 4)
    context.set_tensor_address("x", x.ctypes.data)
    context.set_tensor_address("y", y.ctypes.data)
    assert context.execute_async_v3(0)
    return y


def test_names_that_the_bindings_lack_are_refused(fake_trt: World) -> None:
    """A name, a keyword, one argument too many, an enum's number: each raises as it would there."""
    import tensorrt as trt

    builder = trt.Builder(trt.Logger())
    config = builder.create_builder_config()
    with pytest.raises(AttributeError):
        trt.Bulider  # noqa: B018
    with pytest.raises(AttributeError):
        builder.max_batch_size  # noqa: B018  gone since 10.0
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1 << 30  # the same
    with pytest.raises(AttributeError):
        trt.BuilderFlag.INT7  # noqa: B018
    with pytest.raises(TypeError, match="incompatible function arguments"):
        builder.create_network(flag=0)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        builder.create_network(0, 1)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        config.set_flag(6)
    with pytest.raises(TypeError, match="No constructor"):
        trt.IBuilderConfig()
    assert hasattr(trt.BuilderFlag, "FP16") == fake_trt.version.startswith("10.")
    assert "Builder.create_network" not in fake_trt.names()


def test_a_logger_that_forgets_its_base_is_refused(fake_trt: World) -> None:
    """pybind11 demands the base's __init__."""
    import tensorrt as trt

    class Log(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="must be called when overriding __init__"):
        Log()


def test_an_engine_computes_what_its_graph_says(fake_trt: World, tmp_path: Path) -> None:
    """ONNX Runtime fills the outputs; a stripped engine computes zeros until it is refitted."""
    import tensorrt as trt

    logger, path = log(trt), small(tmp_path / "small.onnx")
    x = np.linspace(-1, 2, 12, dtype=np.float32).reshape(3, 4)
    want = np.maximum(x @ np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), 0)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(built(trt, path, logger))
    np.testing.assert_allclose(ran(trt, engine, x), want, rtol=1e-6)
    bare = runtime.deserialize_cuda_engine(built(trt, path, logger, 1 << 20, "STRIP_PLAN"))
    assert not ran(trt, bare, x).any()
    refitter = trt.Refitter(bare, logger)
    assert refitter.get_missing_weights() == ["w"]
    assert not refitter.refit_cuda_engine()
    assert trt.OnnxParserRefitter(refitter, logger).refit_from_file(str(path))
    assert refitter.refit_cuda_engine()
    np.testing.assert_allclose(ran(trt, bare, x), want, rtol=1e-6)


def test_it_runs_out_of_memory_as_told(fake_trt: World, tmp_path: Path) -> None:
    """So many builds, and only with a larger workspace; the reason goes to the logger."""
    import tensorrt as trt

    logger, path = log(trt), small(tmp_path / "small.onnx")
    fake_trt.out_of_memory_builds, fake_trt.out_of_memory_above_bytes = 2, 1 << 20
    assert built(trt, path, logger, 1 << 30) is None
    assert "Could not find any implementation for node" in logger.found[-1]
    assert built(trt, path, logger, 1 << 20) is not None
    assert built(trt, path, logger, 1 << 30) is None
    assert built(trt, path, logger, 1 << 30) is not None


def test_parse_errors_are_those_that_it_was_told(fake_trt: World, tmp_path: Path) -> None:
    """With the node, its operator and the code; an operator that nobody knows fails by itself."""
    import tensorrt as trt

    logger, path = log(trt), small(tmp_path / "small.onnx")
    told = {"desc": "no", "node": 1, "node_operator": "Relu", "code": "UNSUPPORTED_NODE"}
    fake_trt.parse_errors = (told,)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert not parser.parse_from_file(str(path))
    error = parser.get_error(0)
    assert parser.num_errors == 1
    assert (error.desc(), error.node(), error.node_operator()) == ("no", 1, "Relu")
    assert error.code() == trt.ErrorCode.UNSUPPORTED_NODE


def test_another_gpu_another_version_and_host_code_do_not_load(
    fake_trt: World, tmp_path: Path
) -> None:
    """None in place of an engine, and a line for the logger."""
    import tensorrt as trt

    logger, path = log(trt), small(tmp_path / "small.onnx")
    plan = bytes(built(trt, path, logger))
    portable = bytes(built(trt, path, logger, 1 << 20, "VERSION_COMPATIBLE"))
    runtime = trt.Runtime(logger)
    assert runtime.deserialize_cuda_engine(b"no engine") is None
    assert runtime.deserialize_cuda_engine(portable) is None
    assert "host code" in logger.found[-1]
    runtime.engine_host_code_allowed = True
    assert runtime.deserialize_cuda_engine(portable) is not None
    fake_trt.sm = "8.7"
    assert runtime.deserialize_cuda_engine(plan) is None
    assert "compute capability 9.0, the device has 8.7" in logger.found[-1]
    fake_trt.sm, fake_trt.version = "9.0", "10.0.0"
    assert runtime.deserialize_cuda_engine(plan) is None
    assert runtime.deserialize_cuda_engine(portable) is not None


def test_a_timing_cache_is_of_one_device_and_version(fake_trt: World, tmp_path: Path) -> None:
    """It fills by a build, comes back from its bytes, and is refused elsewhere unless forced."""
    import tensorrt as trt

    logger, path = log(trt), small(tmp_path / "small.onnx")
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, logger).parse(path.read_bytes())
    config = builder.create_builder_config()
    assert config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    profile = builder.create_optimization_profile()
    profile.set_shape("x", (1, 4), (2, 4), (8, 4))
    config.add_optimization_profile(profile)
    empty = bytes(config.get_timing_cache().serialize())
    assert builder.build_serialized_network(network, config) is not None
    full = bytes(config.get_timing_cache().serialize())
    assert full != empty
    assert config.create_timing_cache(b"not a cache") is None
    fake_trt.sm = "8.7"
    cache = config.create_timing_cache(full)
    assert not config.set_timing_cache(cache, ignore_mismatch=False)
    assert config.set_timing_cache(cache, ignore_mismatch=True)
