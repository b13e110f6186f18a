"""A fake TensorRT: names, signatures and enums of the real bindings, behaviour made up here.

Use it in a test through the fixture `fake_trt` of conftest.py, which runs the test with each version:

    def test_it(fake_trt: World) -> None:
        fake_trt.out_of_memory_builds = 2     # moods: fake_world.World
        import tensorrt as trt                # the fake; under it NVIDIA's own Python code
        ...
        assert fake_trt.called("IBuilderConfig.set_memory_pool_limit")[0]["pool_size"] == 1 << 30

A class, method, property, keyword or enum member that the bindings of that version lack raises as it
would there: AttributeError or TypeError. What they have and nobody has written a behaviour for raises
NotFaked; a behaviour is a method of the same name and class in one of the other files fake_*.py.

Engines hold the ONNX file, and contexts run it in ONNX Runtime on host memory, which stands for the
GPU's: data flow is real, and no duration means anything.
"""

from __future__ import annotations

import enum
import functools
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_build
import fake_context
import fake_network
import fake_objects
import fake_parser
import fake_run
import fake_signatures as signatures
from fake_world import World

NATIVE = "tensorrt.tensorrt"
BEHAVIOURS = (fake_objects, fake_network, fake_parser, fake_build, fake_run, fake_context)


class NotFaked(NotImplementedError):
    """The real bindings have it, and the fake does not do it yet."""


class Number(enum.Enum):
    """An enum of pybind11: its members become integers when asked, and never are any."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__


class Meta(type):
    """Classes as pybind11 makes them: a subclass that does not call __init__ of its base is refused."""

    def __call__(cls, *given: Any, **named: Any) -> Any:
        made = super().__call__(*given, **named)
        if "_s" not in made.__dict__:
            raise TypeError(f"{cls.__name__}.__init__() must be called when overriding __init__")
        return made


class Base(metaclass=Meta):
    """State lies in `_s`; other attributes can be set on classes that a user derives only."""

    _world: World
    _s: dict[str, Any]

    def __init__(self, *given: Any, **named: Any) -> None:
        raise TypeError(f"{type(self).__qualname__}: No constructor defined!")

    def __setattr__(self, name: str, value: Any) -> None:
        generated = "_generated" in type(self).__dict__
        if generated and name != "_s" and not isinstance(getattr(type(self), name, None), property):
            raise AttributeError(f"{type(self).__qualname__!r} object has no attribute {name!r}")
        super().__setattr__(name, value)


def install(site: Path, api: Path) -> World:
    """Make `import tensorrt` give the fake of the version that `api` (introspect.py) describes.

    `site` is the folder that holds that version's package, `tensorrt`."""
    uninstall()
    spec = json.loads(api.read_text(encoding="utf-8"))
    world = World(version=spec["version"])
    sys.modules[NATIVE] = native(spec, world)
    sys.path.insert(0, str(site))
    try:
        importlib.invalidate_caches()
        package = importlib.import_module("tensorrt")
    finally:
        sys.path.remove(str(site))
    assert package.__version__ == world.version
    return world


def uninstall() -> None:
    """Forget any tensorrt that was imported, and what accel keeps of its plugins."""
    for name in [n for n in sys.modules if n == "tensorrt" or n.startswith("tensorrt.")]:
        del sys.modules[name]
    plugins = sys.modules.get("accel.engines._tensorrt_plugins")
    if plugins is not None:
        plugins._register.cache_clear()


def native(spec: Mapping[str, Any], world: World) -> ModuleType:
    """The module that is compiled in the real package."""
    module = ModuleType(NATIVE)
    for name, members in spec["enums"].items():
        if "." not in name:
            setattr(module, name, _enum(name, members))
    for name in _bases_first(spec["classes"]):
        holder, _, short = name.rpartition(".")
        owner = functools.reduce(getattr, holder.split("."), module) if holder else module
        _put(owner, short, _class(name, spec, module, world))
    for name, (kind, member) in spec["values"].items():
        if "." not in kind:
            setattr(module, name, getattr(module, kind)[member])
    for name, texts in spec["functions"].items():
        setattr(module, name, _function(name, texts, module, world))
    return module


def _put(owner: Any, name: str, value: Any) -> None:
    type.__setattr__(owner, name, value) if isinstance(owner, type) else setattr(owner, name, value)


def _bases_first(classes: Mapping[str, Any]) -> list[str]:
    done: list[str] = []

    def visit(name: str) -> None:
        holder = name.rpartition(".")[0]
        for before in [*classes[name]["bases"], *([holder] if holder else [])]:
            if before in classes:
                visit(before)
        if name not in done:
            done.append(name)

    for name in classes:
        visit(name)
    return done


def _enum(name: str, members: Mapping[str, int]) -> Any:
    return Number(name.rpartition(".")[2], dict(members), module=NATIVE)  # type: ignore[call-overload]


def _class(name: str, spec: Mapping[str, Any], module: ModuleType, world: World) -> Any:
    told, short = spec["classes"][name], name.rpartition(".")[2]
    does = _behaviour(short)
    body: dict[str, Any] = {"__qualname__": name, "__module__": NATIVE, "_generated": True}
    body |= {"_world": world, "_trt": module, **told["constants"]}
    for method, texts in told["methods"].items():
        if method not in ("__del__", "__str__", "__repr__", "__eq__", "__ne__", "__hash__"):
            body[method] = _method(name, method, texts, module, does)
    for prop, writable in told["properties"].items():
        if prop not in told["constants"]:
            body[prop] = _property(name, prop, writable, does)
    for nested, members in spec["enums"].items():
        if nested.rpartition(".")[0] == name:
            kind = _enum(nested, members)
            body |= {nested.rpartition(".")[2]: kind, **kind.__members__}
    bases = [functools.reduce(getattr, base.split("."), module) for base in told["bases"]]
    extra = getattr(does, "BASES", ())
    if extra:
        body |= {n: _hidden(n) for b in extra for n in dir(b) if n[0] != "_" and n not in body}
    body |= getattr(does, "HELPERS", {})
    return Meta(short, (*(bases or [Base]), *extra), body)


def _hidden(name: str) -> property:
    """Not there: a name of a Python type that stands in for a buffer."""

    def absent(self: Any) -> Any:
        raise AttributeError(f"{type(self).__qualname__!r} object has no attribute {name!r}")

    return property(absent)


def _behaviour(name: str) -> Any:
    return next((vars(m)[name] for m in BEHAVIOURS if name in vars(m)), None)


def _method(name: str, method: str, texts: list[str], module: ModuleType, does: Any) -> Any:
    what, find = f"{name}.{method}", functools.partial(_found, module)
    behaviour = getattr(does, "__dict__", {}).get(method)

    def call(self: Any, *given: Any, **named: Any) -> Any:
        overloads = [signatures.parse(text) for text in texts]
        bound, world = signatures.bind(what, overloads, given, named, find), self._world
        world.note(what, bound)
        if method == "__init__":
            self._s = {}
        if behaviour is None and method != "__init__":
            raise NotFaked(f"the fake TensorRT {world.version} has no behaviour for {what}")
        with world.within():
            return behaviour(self, **bound) if behaviour else None

    call.__name__ = method
    call.__qualname__ = what
    return call


def _found(module: ModuleType, kind: str) -> Any:
    """The class or enum that a docstring names: "tensorrt.tensorrt.X" or "nvinfer1::X"."""
    short = kind.removeprefix(f"{NATIVE}.")
    if short == kind:
        short = kind.rpartition("::")[2] if "::" in kind else ""
    found: Any = module
    for part in filter(None, short.split(".")):
        found = getattr(found, part, None)
    return found if short and isinstance(found, type) else None


def _property(name: str, prop: str, writable: bool, does: Any) -> property:
    what, behaviour = f"{name}.{prop}", getattr(does, "__dict__", {}).get(prop)
    defaults = getattr(does, "DEFAULTS", {})

    def read(self: Any) -> Any:
        if behaviour:
            with self._world.within():
                return behaviour(self)
        if prop in self._s:
            return self._s[prop]
        if prop not in defaults:
            raise NotFaked(f"the fake TensorRT {self._world.version} has no behaviour for {what}")
        return defaults[prop]

    def write(self: Any, value: Any) -> None:
        self._world.note(what, {"value": value})
        self._s[prop] = value

    return property(read, write if writable else None)


def _function(name: str, texts: list[str], module: ModuleType, world: World) -> Callable[..., Any]:
    overloads = [signatures.parse(text) for text in texts]
    behaviour = _behaviour(name)

    def call(*given: Any, **named: Any) -> Any:
        bound = signatures.bind(name, overloads, given, named, functools.partial(_found, module))
        world.note(name, bound)
        if behaviour is None:
            raise NotFaked(f"the fake TensorRT {world.version} has no behaviour for {name}")
        return behaviour(module, world, **bound)

    call.__name__ = name
    return call
