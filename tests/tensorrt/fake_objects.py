"""Small things that both halves of a fake TensorRT are made of; classes have TensorRT's names."""

from __future__ import annotations

from typing import Any


def new(kind: Any, /, **state: Any) -> Any:
    """An object that only TensorRT itself can make."""
    made = kind.__new__(kind)
    object.__setattr__(made, "_s", state)
    return made


def memory(trt: Any, data: bytes) -> Any:
    """An IHostMemory with these bytes."""
    made = trt.IHostMemory.__new__(trt.IHostMemory, data)
    object.__setattr__(made, "_s", {"nbytes": len(data), "dtype": trt.DataType.INT8})
    return made


def say(of: Any, severity: str, text: str) -> None:
    """A message to the logger that the object was made with."""
    logger = of._s["logger"]
    logger.log(getattr(of._trt.ILogger.Severity, severity), text)


def _no_length(memory: Any) -> int:
    raise TypeError(f"object of type {type(memory).__name__!r} has no len()")


class IHostMemory:
    """Bytes; like the real one it has no length of its own (`nbytes`)."""

    BASES = (bytes,)
    HELPERS = {"__len__": _no_length}


class Dims:
    def __init__(self, shape: Any = ()) -> None:
        self._s["sizes"] = tuple(int(n) for n in shape)

    def __len__(self) -> int:
        return len(self._s["sizes"])

    def __getitem__(self, arg0: Any) -> Any:
        return self._s["sizes"][arg0]

    HELPERS = {
        "__eq__": lambda self, other: tuple(self) == tuple(other),
        "__hash__": lambda self: hash(tuple(self)),
        "__repr__": lambda self: str(tuple(self)),
    }


class Logger:
    DEFAULTS = {}

    def __init__(self, min_severity: Any = None) -> None:
        self._s["min_severity"] = min_severity

    def log(self, severity: Any, msg: str) -> None:
        self._world.logged.append((severity.name, msg))


class PluginField:
    DEFAULTS = {}

    def __init__(self, name: Any = "", data: Any = None, type: Any = None) -> None:
        self._s.update(name=name, data=data, type=type)


class PluginFieldCollection:
    def __init__(self, arg0: Any = ()) -> None:
        self._s["fields"] = list(arg0)

    def __len__(self) -> int:
        return len(self._s["fields"])

    def __getitem__(self, arg0: int) -> Any:
        return self._s["fields"][arg0]

    def __iter__(self) -> Any:
        return iter(self._s["fields"])


class IPluginRegistry:
    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        self._s["creators"][creator.name, plugin_namespace] = creator
        return True

    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
        return self._s["creators"].get((type, plugin_namespace))

    def all_creators(self) -> list[Any]:
        return list(self._s["creators"].values())


def get_plugin_registry(trt: Any, world: Any) -> Any:
    """One for the process, as it is there."""
    return new(trt.IPluginRegistry, creators=world.creators)


def init_libnvinfer_plugins(trt: Any, world: Any, logger: Any, namespace: str) -> bool:
    return True
