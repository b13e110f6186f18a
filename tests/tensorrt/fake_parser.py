"""The ONNX parser of a fake TensorRT; classes have TensorRT's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from fake_network import fill
from fake_objects import new, say


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

    def get_used_vc_plugin_libraries(self) -> list[str]:
        return []

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
