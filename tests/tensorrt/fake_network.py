"""Networks, profiles and the parser of a fake TensorRT; classes have TensorRT's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fake_model
import onnx
from fake_objects import new, say

LAYER = {"Conv": "CONVOLUTION", "MatMul": "MATRIX_MULTIPLY", "Gemm": "MATRIX_MULTIPLY"}
LAYER |= {"Relu": "ACTIVATION", "QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE"}
LAYER |= {"Cast": "CAST", "Softmax": "SOFTMAX", "Reshape": "SHUFFLE", "NonZero": "NON_ZERO"}


class INetworkDefinition:
    DEFAULTS = {"name": "", "error_recorder": None}

    def flags(self) -> int:
        return int(self._s["flags"])

    def builder(self) -> Any:
        return self._s["builder"]

    def get_flag(self, flag: Any) -> bool:
        return bool(int(self._s["flags"]) >> int(flag) & 1)

    def num_inputs(self) -> int:
        return len(self._s["inputs"])

    def num_outputs(self) -> int:
        return len(self._s["outputs"])

    def num_layers(self) -> int:
        return len(self._s["layers"])

    def get_input(self, index: int) -> Any:
        return self._s["inputs"][index]

    def get_output(self, index: int) -> Any:
        return self._s["outputs"][index]

    def get_layer(self, index: int) -> Any:
        return self._s["layers"][index]

    def __len__(self) -> int:
        return len(self._s["layers"])

    def __getitem__(self, arg0: int) -> Any:
        return self._s["layers"][arg0]


class ITensor:
    DEFAULTS = {"is_execution_tensor": True}

    def is_shape_tensor(self) -> bool:
        return bool(self._s["shapes"])


class ILayer:
    DEFAULTS = {"metadata": ""}

    def num_inputs(self) -> int:
        return len(self._s["node"].input)

    def num_outputs(self) -> int:
        return len(self._s["node"].output)

    def get_output_type(self, index: int) -> Any:
        return self._trt.DataType.FLOAT


def fill(network: Any, model: onnx.ModelProto) -> None:
    """What a parser leaves in a network."""
    trt, values = network._trt, fake_model.shape_inputs(model)
    state: dict[str, Any] = {"model": model}
    for key, outputs in (("inputs", False), ("outputs", True)):
        state[key] = [
            new(
                trt.ITensor,
                name=name,
                dtype=trt.DataType[kind],
                shape=trt.Dims(sizes),
                shapes=name in values,
                is_network_input=not outputs,
                is_network_output=outputs,
            )
            for name, kind, sizes in fake_model.ports(model, outputs)
        ]
    state["layers"] = [_layer(trt, node) for node in model.graph.node]
    network._s.update(state)


def _layer(trt: Any, node: Any) -> Any:
    plugin = any(a.name == "plugin_namespace" for a in node.attribute)
    kind = "PLUGIN_V3" if plugin else LAYER.get(node.op_type, "ELEMENTWISE")
    return new(
        trt.ILayer, name=node.name or node.op_type, type=trt.LayerType[kind], node=node, metadata=""
    )


class IOptimizationProfile:
    DEFAULTS = {"extra_memory_target": 1.0}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._s["shapes"][input] = _range(input, min, opt, max)

    def get_shape(self, input: str) -> list[Any]:
        return [self._trt.Dims(n) for n in self._s["shapes"].get(input, [])]

    def set_shape_input(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self._s["values"][input] = _range(input, min, opt, max)

    def get_shape_input(self, input: str) -> list[list[int]]:
        return list(self._s["values"].get(input, []))

    def __bool__(self) -> bool:
        return True


def _range(name: str, *sizes: Any) -> list[list[int]]:
    low, best, high = ([int(n) for n in found] for found in sizes)
    together = list(zip(low, best, high, strict=True))
    if any(not a <= b <= c for a, b, c in together):
        raise ValueError(f"Shape provided for min is inconsistent with other shapes: {name}")
    return [low, best, high]


class OnnxParser:
    DEFAULTS = {"flags": 0}

    def __init__(self, network: Any, logger: Any) -> None:
        self._s.update(network=network, logger=logger, errors=[])

    def parse(self, model: Any, path: Any = None) -> bool:
        try:
            found = onnx.load_from_string(bytes(model))
            if path:
                onnx.load_external_data_for_model(found, str(Path(path).parent))
        except Exception as error:
            return _failed(self, [{"desc": f"Failed to parse the ONNX model: {error}"}])
        return _parsed(self, found)

    def parse_from_file(self, model: str) -> bool:
        try:
            found = onnx.load(model)
        except Exception as error:
            return _failed(self, [{"desc": f"Failed to open file: {model} ({error})"}])
        return _parsed(self, found)

    def num_errors(self) -> int:
        return len(self._s["errors"])

    def get_error(self, index: int) -> Any:
        return self._s["errors"][index]

    def clear_errors(self) -> None:
        self._s["errors"].clear()

    def set_flag(self, flag: Any) -> None:
        self._s["flags"] = self._s.get("flags", 0) | 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._s["flags"] = self._s.get("flags", 0) & ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._s.get("flags", 0) >> int(flag) & 1)

    def supports_operator(self, op_name: str) -> bool:
        return bool(onnx.defs.has(op_name))

    def set_builder_config(self, builder_config: Any) -> bool:
        return True


def _parsed(parser: Any, model: onnx.ModelProto) -> bool:
    known = {(f.domain, f.name) for f in model.functions}
    unknown = [
        {
            "desc": f"No importer registered for op: {n.op_type}",
            "node": i,
            "node_name": n.name,
            "node_operator": n.op_type,
            "code": "UNSUPPORTED_NODE",
        }
        for i, n in enumerate(model.graph.node)
        if (n.domain, n.op_type) not in known and not onnx.defs.has(n.op_type, domain=n.domain)
    ]
    errors = [*parser._world.parse_errors, *unknown]
    if errors:
        return _failed(parser, errors)
    fill(parser._s["network"], model)
    return True


def _failed(parser: Any, errors: list[Any]) -> bool:
    for told in errors:
        parser._s["errors"].append(parser_error(parser._trt, told))
        say(parser, "ERROR", told["desc"])
    return False


def parser_error(trt: Any, told: Any) -> Any:
    """An error as a test tells it, in the parser's class."""
    blank = {"file": "made up.cpp", "line": 1, "func": "made up", "node": -1, "node_name": ""}
    blank |= {"node_operator": "", "local_function_stack": [], "code": "INTERNAL_ERROR"}
    return new(trt.ParserError, **{**blank, **told})


class ParserError:
    def code(self) -> Any:
        return self._trt.ErrorCode[self._s["code"]]

    def desc(self) -> str:
        return str(self._s["desc"])

    def file(self) -> str:
        return str(self._s["file"])

    def line(self) -> int:
        return int(self._s["line"])

    def func(self) -> str:
        return str(self._s["func"])

    def node(self) -> int:
        return int(self._s["node"])

    def node_name(self) -> str:
        return str(self._s["node_name"])

    def node_operator(self) -> str:
        return str(self._s["node_operator"])

    def local_function_stack(self) -> list[str]:
        return list(self._s["local_function_stack"])

    def local_function_stack_size(self) -> int:
        return len(self._s["local_function_stack"])
