"""Our registration, run through TensorRT's own `tensorrt.plugin` code over stub libraries.

The arguments are a file for the findings (JSON), the target, and whose PTX is made, once a dtype: "all", or
the name of one kernel, for PTX does not depend on TensorRT's version. What libnvinfer would hand over is
faked here: the registry, and expressions, of which all but the last axis are not known until run time.
"""

from __future__ import annotations

import json
import operator
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from tensorrt.plugin import _plugin_class, _tensor

from accel import catalog, target
from accel.engines import _tensorrt_attributes as attributes
from accel.engines import _tensorrt_plugins as plugins
from accel.errors import CandidateBroken


class Registry:
    """A fake of IPluginRegistry: it keeps the creators that it is given."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> bool:
        self.creators[creator.name, namespace] = creator
        return True

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        assert version == "1"
        return self.creators[name, namespace]


class Expression:
    """A fake of IDimensionExpr: it knows its value, and whether the builder may know it."""

    def __init__(self, value: int, constant: bool) -> None:
        self.value, self._constant = value, constant

    def is_constant(self) -> bool:
        return self._constant

    def get_constant_value(self) -> int:
        assert self._constant
        return self.value


class Expressions:
    """A fake of IExprBuilder."""

    def constant(self, value: int) -> Expression:
        return Expression(value, True)

    def operation(self, kind: Any, a: Expression, b: Expression) -> Expression:
        of = trt.DimensionOperation
        does = {of.SUM: operator.add, of.SUB: operator.sub, of.PROD: operator.mul, of.MAX: max}
        does |= {of.MIN: min, of.FLOOR_DIV: operator.floordiv, of.CEIL_DIV: lambda x, y: -(-x // y)}
        return Expression(does[kind](a.value, b.value), a.is_constant() and b.is_constant())


class Faked:
    """TensorRT as its modules see it, with the classes above in place of what only C++ can make."""

    IDimensionExpr = Expression
    DimsExprs = staticmethod(lambda length: [None] * length)

    def __getattr__(self, name: str) -> Any:
        return getattr(trt, name)


class Bag:
    """Holds what is set on it, by name or by index."""

    def __setitem__(self, index: int, value: Any) -> None:
        self.__dict__[str(index)] = value

    def __getitem__(self, index: int) -> Any:
        return self.__dict__[str(index)]


def sizes(arrays: Any, known: int, fixed: bool) -> list[list[Expression]]:
    """All but the last `known` axes are symbols; none is, of inputs but the first, where `fixed`."""
    return [
        [Expression(n, (fixed and k > 0) or i >= a.ndim - known) for i, n in enumerate(a.shape)]
        for k, a in enumerate(arrays)
    ]


def field(name: str, value: Any) -> tuple[Any, Any]:
    """An ONNX attribute as the parser hands it over: 32 bits a number, strings with their NUL; and
    the memory that it points to."""
    kinds = trt.PluginFieldType
    items = value if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, str):
        kind, held = kinds.CHAR, np.frombuffer(value.encode() + b"\0", np.int8)
    elif isinstance(items[0], float):
        kind, held = kinds.FLOAT32, np.array(items, np.float32)
    else:
        kind, held = kinds.INT32, np.array(items, np.int32)
    return trt.PluginField(name, held, kind), held


def described(kind: Any, shape: Any) -> Any:
    """A tensor as the autotuner shows it."""
    found = trt.DynamicPluginTensorDesc()
    found.desc.type, found.desc.format = kind, trt.TensorFormat.LINEAR
    found.desc.dims = trt.Dims(tuple(shape))
    return found


def create(registry: Registry, member: Any, baked: Any) -> Any:
    """A plugin as the parser makes it of a node whose attribute `aot` is 1."""
    creator = registry.get_creator(member.OP, "1", "accel")
    fields = [field(f.name, baked[f.name]) for f in creator.field_names]
    collection = trt.PluginFieldCollection([f for f, _ in fields])
    request = trt.QuickPluginCreationRequest.STRICT_AOT
    return creator.create_plugin(member.OP, "accel", collection, trt.TensorRTPhase.BUILD, request)


def run(
    registry: Registry,
    member: Any,
    dtype: str,
    case: Any,
    kinds: Any = None,
    known: int = 1,
    fixed: bool = False,
) -> dict[str, Any]:
    """Creator -> plugin -> types -> shapes -> formats -> launch -> kernel, in TensorRT's order."""
    baked = case.baked or member.VARIANTS[0]
    signature = member.signature(dtype, baked)
    arrays = [case.inputs[name] for name, _ in signature.inputs]
    types = kinds or [getattr(trt.DataType, plugins.TYPES[a.dtype.name]) for a in arrays]
    to = attributes.onnx_type(signature.outputs[0][1])
    plugin = create(registry, member, {**baked, "to": to})
    made = plugin.get_output_data_types(types, [a.ndim for a in arrays])
    builder = Expressions()
    shapes = plugin.get_output_shapes(sizes(arrays, known, fixed), [], builder)
    shapes = [[e.value for e in shape] for shape in shapes]
    tensors = [described(t, a.shape) for t, a in zip(types, arrays, strict=True)]
    tensors += [described(t, s) for t, s in zip(made, shapes, strict=True)]
    formats = plugin.get_supported_format_combinations(tensors, len(arrays))
    plugin.configure_plugin(tensors[: len(arrays)], tensors[len(arrays) :])
    tactics = plugin.get_valid_tactics()
    plugin.set_tactic(0)
    launch, scalars = Bag(), Bag()
    plugin.get_launch_params([], tensors, len(arrays), launch, scalars, builder)
    descs = [t.desc for t in tensors]
    entry, text = plugin.get_kernel(descs[: len(arrays)], descs[len(arrays) :])
    return {
        "case": case.name,
        "fixed": fixed,
        "attributes": list(plugin.attrs),
        "outputs": [[t.name, s] for t, s in zip(made, shapes, strict=True)],
        "formats": [[f.type.name, f.format.name] for f in formats],
        "tactics": tactics,
        "grid": [launch.__dict__[f"grid_{axis}"].expr.value for axis in "xyz"],
        "block": [launch.__dict__[f"block_{axis}"].expr.value for axis in "xyz"],
        "shared_bytes": launch.__dict__["shared_mem"].expr.value,
        "scalars": [scalars[i].expr.value for i in range(scalars.nbSymExprs)],
        "entry": entry,
        "ptx": text.decode(),
    }


def open_run(registry: Registry, member: Any, dtype: str, case: Any) -> dict[str, Any]:
    """With as many symbols as the kernel takes: parameters are constants of a network, after all."""
    try:
        return run(registry, member, dtype, case)
    except CandidateBroken:
        return run(registry, member, dtype, case, fixed=True)


def refused(registry: Registry, **changed: Any) -> str:
    """What residual_layernorm says to a network that it cannot serve."""
    member = catalog.load("kernels", "residual_layernorm")
    try:
        run(registry, member, "float32", next(iter(member.cases("float32"))), **changed)
    except CandidateBroken as error:
        return str(error)
    return "taken"


def main(out: str, name: str, compiled: str) -> None:
    """Every case of every dtype of each kernel that this TensorRT takes."""
    registry = Registry()
    trt.get_plugin_registry = lambda: registry
    _tensor.trt = _plugin_class.trt = Faked()
    _tensor.SymExprImpl.expr = None  # a plain attribute: the real one takes C++ pointers alone
    plugins._compiled = sparing(plugins._compiled, compiled)
    found = plugins.register(target.load(name))
    runs = {}
    for kernel in (k for k, refusal in found.items() if not refusal):
        member = catalog.load("kernels", kernel)
        for dtype in member.DTYPES:
            runs[f"{kernel}-{dtype}"] = [
                open_run(registry, member, dtype, c) for c in member.cases(dtype)
            ]
    findings = {
        "version": trt.__version__,
        "registered": reasons(found),
        "again": reasons(plugins.register(target.load(name))),
        "other": reasons(plugins.register(target.load("h100"))),
        "open": refused(registry, known=0),
        "integers": refused(registry, kinds=[trt.DataType.INT32] * 4),
        "runs": runs,
    }
    Path(out).write_text(json.dumps(findings), encoding="utf-8")


def sparing(real: Any, compiled: str) -> Any:
    """A fake of the compiler's cache: it compiles a kernel once a dtype, the rest are empty."""
    seen = set()

    def made(kernel: str, dtype: str, *rest: str) -> tuple[str, str]:
        if compiled not in ("all", kernel) or (kernel, dtype) in seen:
            return f"accel_{kernel}_{dtype}", ""
        seen.add((kernel, dtype))
        return real(kernel, dtype, *rest)

    return made


def reasons(found: Any) -> dict[str, str]:
    """Why each kernel was refused; empty where it was not."""
    return {name: refusal.reason if refusal else "" for name, refusal in found.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
