"""Networks and profiles of a fake TensorRT; classes have TensorRT's names."""

from __future__ import annotations

from typing import Any

import fake_model
import onnx
from fake_objects import new

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

    def get_input(self, index: int) -> Any:
        return _value(self, self._s["node"].input[index])

    def get_output(self, index: int) -> Any:
        return _value(self, self._s["node"].output[index])

    def get_output_type(self, index: int) -> Any:
        return self.get_output(index).dtype


def _value(layer: Any, name: str) -> Any:
    """A tensor of the graph; of float32 where ONNX cannot tell."""
    trt = layer._trt
    kind, sizes = layer._s["types"].get(name, ("FLOAT", ()))
    return new(
        trt.ITensor, name=name, dtype=trt.DataType[kind], shape=trt.Dims(sizes), shapes=False
    )


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
    types = fake_model.types(model)
    state["layers"] = [_layer(trt, node, types) for node in model.graph.node]
    network._s.update(state)


def _layer(trt: Any, node: Any, types: Any) -> Any:
    plugin = any(a.name == "plugin_namespace" for a in node.attribute)
    kind = "PLUGIN_V3" if plugin else LAYER.get(node.op_type, "ELEMENTWISE")
    return new(
        trt.ILayer, name=node.name or node.op_type, type=trt.LayerType[kind], node=node, types=types
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
        raise RuntimeError(f"Shape provided for min is inconsistent with other shapes: {name}")
    return [low, best, high]
