"""Every name of TensorRT that the engine's code says is one that the bindings have, in each version.

Found in the source: attributes of `trt` and `tensorrt`, members by `member(enum, "NAME")`, and what is
asked of objects. Their class is known by the variable's name, as the code uses them (RECEIVERS); of others
it is enough that some class has such a method with such arguments. `pytest -s` prints the list.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_signatures as signatures
import fake_tensorrt
import pytest

from accel.engines import _tensorrt_options as options
from accel.engines import _tensorrt_plugins as plugins

ROOT = Path(__file__).parents[2]
ELSE = {"_tensorrt_layers.py"}  # it reads JSON: its layers and tensors are tables
FILES = sorted(p for p in (ROOT / "accel" / "engines").glob("*tensorrt*.py") if p.name not in ELSE)
VERSIONS = ("10.13.3.9", "10.16.1.11", "11.4.0.106")
MODULES = {"trt": "tensorrt", "tensorrt": "tensorrt", "trtp": "tensorrt.plugin"}
RECEIVERS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "parser_refitter": "OnnxParserRefitter",
    "refitter": "Refitter",
    "runtime": "Runtime",
    "tensor": "ITensor",
}
BY_PLACE = {  # arguments by their places
    "get_tensor_profile_values",  # the bindings name them the wrong way round
    "PluginField",
}
Described = Callable[[str], tuple[Path, Path]]


@dataclass(frozen=True)
class Use:
    """One place: what is asked of what; `given` is None where nothing is called."""

    owner: str  # a module's or a class's name; empty where it is not known
    name: str
    where: str
    given: tuple[int, frozenset[str]] | None = None  # arguments by place, arguments by name

    def __str__(self) -> str:
        named = "" if self.given is None else f"({', '.join(sorted(self.given[1]))})"
        return f"{self.owner or '?'}.{self.name}{named}"


def uses() -> list[Use]:
    """All of them, in the order of the files."""
    return [use for path in FILES for use in _of(path)]


def _of(path: Path) -> Iterator[Use]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and _ends(node.func) == "member":
            yield from _members(node, where)
        if isinstance(node, ast.Attribute):
            call = calls.get(id(node))
            given = None
            if call is not None:
                given = len(call.args), frozenset(str(k.arg) for k in call.keywords)
            yield Use(_owner(node.value), node.attr, where, given)


def _members(call: ast.Call, where: str) -> Iterator[Use]:
    """member(trt.MemoryPoolType, "WORKSPACE"); of a name that is an option, all that it may be."""
    enum, name = call.args
    if isinstance(name, ast.Constant):
        names: tuple[str, ...] = (str(name.value),)
    elif _ends(name) == "hardware_compatibility":
        names = options.LEVELS_OF_HARDWARE
    else:
        return
    for found in names:
        yield Use(f"tensorrt.{_ends(enum)}", found, where)


def _owner(value: ast.expr) -> str:
    """What an expression stands for: "tensorrt", "tensorrt.BuilderFlag", "ICudaEngine", or ""."""
    last = _ends(value)
    if last == "__version__":  # a string
        return ""
    if last in MODULES:
        return MODULES[last]
    if isinstance(value, ast.Attribute) and _owner(value.value).startswith("tensorrt"):
        return f"{_owner(value.value)}.{last}"
    return RECEIVERS.get(last, "")


def _ends(value: ast.expr) -> str:
    """The last name of a chain: "config" of `work.made.config`."""
    if isinstance(value, ast.Attribute):
        return value.attr
    return value.id if isinstance(value, ast.Name) else ""


@pytest.fixture(params=VERSIONS)
def bindings(request: pytest.FixtureRequest, described: Described) -> Iterator[Any]:
    """(what the bindings of a version have, tensorrt): the module has their names, and its own code."""
    import importlib

    site, out = described(request.param)
    fake_tensorrt.install(site, out)
    importlib.import_module("tensorrt.plugin")
    yield json.loads(out.read_text(encoding="utf-8")), importlib.import_module("tensorrt")
    fake_tensorrt.uninstall()


def test_each_name_is_in_the_bindings(bindings: Any) -> None:
    """Modules, classes, enums and members; methods and properties of objects whose class is known."""
    told, module = bindings
    known = [use for use in uses() if use.owner]
    wrong = [f"{use.where} {use}" for use in known if not _there(use, told, module)]
    assert wrong == []
    listed = sorted({str(use) for use in known})
    print(f"\nTensorRT {told['version']}: {len(listed)} names\n" + "\n".join(listed))
    assert len(listed) > 80  # the walk is not blind


def _there(use: Use, told: Any, module: Any) -> bool:
    if use.owner.startswith("tensorrt"):
        found = module
        for part in (*use.owner.split(".")[1:], use.name):
            found = getattr(found, part, None)
        return found is not None
    described = told["classes"][use.owner]
    return use.name in described["methods"] or use.name in described["properties"]


def test_each_call_fits_a_signature(bindings: Any) -> None:
    """Arguments go by the bindings' names, in all versions; of objects of unknown class in some class."""
    told, _ = bindings
    wrong = []
    for use in uses():
        overloads = _signatures(use, told)
        if overloads and use.given is not None and not any(_fits(use, o) for o in overloads):
            wrong.append(f"{use.where} {use}, which takes {overloads}")
    assert wrong == []


def _signatures(use: Use, told: Any) -> list[tuple[signatures.Argument, ...]]:
    """Those that the call may mean; none where nothing says that TensorRT is meant."""
    classes = told["classes"]
    if use.owner == "tensorrt":
        texts = classes.get(use.name, {}).get("methods", {}).get("__init__", [])
    elif use.owner:
        texts = classes.get(use.owner, {}).get("methods", {}).get(use.name, [])
    elif "_" in use.name.strip("_"):  # `get`, `name` and the like are anybody's
        texts = [t for c in classes.values() for t in c["methods"].get(use.name, [])]
    else:
        texts = []
    return [signatures.parse(text) for text in texts]


def _fits(use: Use, arguments: tuple[signatures.Argument, ...]) -> bool:
    """By name, but where the bindings have the names wrong."""
    assert use.given is not None
    places, named = use.given
    if use.name in BY_PLACE:
        return places == len(arguments) and not named
    known = {a.name for a in arguments}
    needed = {a.name for a in arguments if not a.optional}
    return places == 0 and needed <= named <= known


def test_each_type_that_a_kernel_names_is_in_the_bindings(bindings: Any) -> None:
    """DataType's members, which are looked up from a table."""
    _, module = bindings
    assert set(plugins.TYPES.values()) <= module.DataType.__members__.keys()


@pytest.mark.parametrize(
    "spoilt",
    [
        Use("tensorrt", "Bulider", "x.py:1"),
        Use("tensorrt.BuilderFlag", "FP17", "x.py:1"),
        Use("IBuilderConfig", "max_workspace_size", "x.py:1"),
        Use("ICudaEngine", "get_binding_shape", "x.py:1"),
    ],
)
def test_a_wrong_name_is_found(bindings: Any, spoilt: Use) -> None:
    """Of a module, an enum, a property, a method."""
    assert not _there(spoilt, *bindings)


def test_a_wrong_argument_is_found(bindings: Any) -> None:
    """Another keyword, one too few, one by its place."""
    told, _ = bindings
    for given in (
        (0, frozenset({"pool", "size"})),
        (0, frozenset({"pool"})),
        (1, frozenset({"pool_size"})),
    ):
        use = Use("IBuilderConfig", "set_memory_pool_limit", "x.py:1", given)
        assert not any(_fits(use, o) for o in _signatures(use, told))
    right = (0, frozenset({"pool", "pool_size"}))
    use = Use("IBuilderConfig", "set_memory_pool_limit", "x.py:1", right)
    assert any(_fits(use, o) for o in _signatures(use, told))
