"""The members of kernels/ as TensorRT plugins, ahead of time: the engine holds PTX, and no Python.

Written from the Python code of `tensorrt.plugin` as the wheels 10.13, 10.16 and 11.4 ship it, and from
the parser's plugin importer (onnx-tensorrt, onnxOpImporters.cpp, loadFields). TensorRT keeps plugins
for the life of the process, so each target is built in a process of its own.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

from accel import catalog
from accel.cuda import cubin, packed, ptx
from accel.engines import _tensorrt_attributes as node
from accel.engines._tensorrt_symbols import Symbol, expression, size
from accel.errors import CandidateBroken
from accel.protocols import Shapes
from accel.values import Options, Refusal, Target

NAMESPACE = "accel"  # TensorRT allows no dot in it, so it is not the ONNX domain
OLDEST = (10, 13)  # of whose Python code the tests run; ahead-of-time plugins began with 10.9
TYPES = {  # dtype -> the name of its tensorrt.DataType
    "float32": "FLOAT",
    "float16": "HALF",
    "bfloat16": "BF16",
    "int8": "INT8",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


def register(target: Target, kernels: Sequence[str] = ()) -> Mapping[str, Refusal | None]:
    """Make kernels, all of them by default, plugins that are compiled for one target.

    Each name maps to None where nodes of its op, with `plugin_namespace` "accel", now become a plugin,
    else to why not. Raises MissingExtra without TensorRT."""
    names = tuple(kernels) or catalog.names("kernels")
    problem = _problem(target)
    if problem:
        return {name: Refusal(f"kernel {name}", problem) for name in names}
    compiler = str(target.compute_capability), target.ptx_version or ""
    return {name: _register(Plugin(name, *compiler)) for name in names}


def _problem(target: Target) -> str:
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        raise catalog.missing("kernels as TensorRT plugins", error) from None
    found = tuple(int(part) for part in tensorrt.__version__.split(".")[:2])
    if found < OLDEST:
        return (
            f"TensorRT {tensorrt.__version__} is installed; plugins compiled ahead of time need "
            "10.13 or newer. Run: pip install 'tensorrt>=10.13,<12'"
        )
    if target.compute_capability is None:
        return f"target {target.name!r} has no compute_capability to compile for"
    return ""


@functools.cache  # the same plugin again is no error
def _register(plugin: Plugin) -> Refusal | None:
    import tensorrt.plugin as trtp

    name, op = f"{NAMESPACE}::{plugin.member.OP}", plugin.member.OP
    if hasattr(getattr(trtp.op, NAMESPACE, None), op):
        reason = f"this process has {op} for another target: build each in a process of its own"
        return Refusal(f"kernel {plugin.kernel}", reason)
    problem = node.unreadable(plugin.attributes)
    if problem:
        return Refusal(f"kernel {plugin.kernel}", problem)
    descriptions = GenericAlias(tuple, (trtp.TensorDesc,) * len(plugin.signature.outputs))
    given = {tensor: trtp.TensorDesc for tensor, _ in plugin.signature.inputs}
    given |= {key: node.annotation(value) for key, value in plugin.attributes.items()}
    written = {**given, "outputs": descriptions}
    compiled = tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]
    trtp.register(name)(_signed(plugin.describe, given, descriptions))
    trtp.autotune(name)(_signed(plugin.tune, written, list[trtp.AutoTuneCombination]))
    trtp.aot_impl(name)(_signed(plugin.implement, {**written, "tactic": int}, compiled))
    return None


def _signed(function: Callable[..., Any], given: Mapping[str, Any], returns: Any) -> Any:
    """The function under the signature that TensorRT reads a plugin's inputs from (PEP 362)."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=a) for name, a in given.items()]
    signature = inspect.Signature(parameters, return_annotation=returns)

    def call(*values: Any, **named: Any) -> Any:
        return function(signature.bind(*values, **named).arguments)

    call.__dict__["__signature__"] = signature
    return call


@dataclass(frozen=True)
class Plugin:
    """One kernel for one target; TensorRT calls its three methods with their arguments by name."""

    kernel: str
    compute_capability: str
    ptx_version: str = ""  # the newest that the target's driver loads; empty: the compiler's own

    @property
    def member(self) -> Any:
        return catalog.load("kernels", self.kernel)

    @property
    def signature(self) -> Any:
        """Names and their order, which no dtype changes."""
        return self.member.signature(self.member.DTYPES[0], self.member.VARIANTS[0])

    @functools.cached_property
    def attributes(self) -> Options:
        """Baked constants that a node carries."""
        return node.declared(self.member)

    def describe(self, given: Mapping[str, Any]) -> Any:
        """Types of the outputs, and their sizes where TensorRT knows those of the inputs."""
        import tensorrt.plugin as trtp

        dtype, baked = self._dtype(given), self._baked(given)
        outputs = self.member.signature(dtype, baked).outputs
        if any(axis.is_fake for desc in self._inputs(given) for axis in desc.shape_expr):
            anything = self._inputs(given)[0].shape_expr  # this first call asks for types alone
            return tuple(trtp.from_shape_expr(anything, _type(kind)) for _, kind in outputs)
        sizes = self.member.output_shapes(self._shapes(given), baked)
        shapes = [(tuple(map(expression, sizes[name])), kind) for name, kind in outputs]
        return tuple(trtp.from_shape_expr(shape, _type(kind)) for shape, kind in shapes)

    def tune(self, given: Mapping[str, Any]) -> list[Any]:
        """One combination: the network's own types, row by row. Precision is the graph's affair."""
        import tensorrt.plugin as trtp

        signature = self.member.signature(self._dtype(given), self._baked(given))
        types = [TYPES[kind] for _, kind in (*signature.inputs, *signature.outputs)]
        return [trtp.AutoTuneCombination(", ".join(types), "LINEAR")]

    def implement(self, given: Mapping[str, Any]) -> Any:
        """Entry, PTX, launch geometry and int32 arguments, for the types of this call."""
        import tensorrt.plugin as trtp

        dtype, baked = self._dtype(given), self._baked(given)
        launch = self._launch(self._shapes(given), dtype, baked)
        key = json.dumps(baked, sort_keys=True)
        entry, text = _compiled(self.kernel, dtype, key, self.compute_capability, self.ptx_version)
        scalars = trtp.SymIntExprs(len(launch.scalars))
        for i, scalar in enumerate(launch.scalars):
            scalars[i] = trtp.SymInt32(expression(scalar))
        grid = map(expression, launch.grid)
        return entry, text, trtp.KernelLaunchParams(*grid, *launch.block), scalars

    def _launch(self, shapes: Shapes, dtype: str, baked: Options) -> Any:
        try:
            return self.member.launch(shapes, dtype, baked)
        except TypeError as error:
            open_ = [n for n, sizes in shapes.items() if any(isinstance(s, Symbol) for s in sizes)]
            if not open_:
                raise
            raise CandidateBroken(
                f"{self.kernel} needs a size of {' or '.join(open_)}, and {error}. Export the model "
                "with the last axis of each, and all axes of its parameters, fixed."
            ) from error

    def _inputs(self, given: Mapping[str, Any]) -> list[Any]:
        return [given[name] for name, _ in self.signature.inputs]

    def _shapes(self, given: Mapping[str, Any]) -> Shapes:
        return {n: tuple(map(size, given[n].shape_expr)) for n, _ in self.signature.inputs}

    def _baked(self, given: Mapping[str, Any]) -> Options:
        return node.baked(self.member, given, self.attributes)

    def _dtype(self, given: Mapping[str, Any]) -> str:
        """The kernel's dtype under which its inputs, and its outputs if the node tells, are of these."""
        found, baked = [desc.dtype.name for desc in self._inputs(given)], self._baked(given)
        for dtype in self.member.DTYPES:
            signature = self.member.signature(dtype, baked)
            fits = [TYPES[kind] for _, kind in signature.inputs] == found
            if fits and node.makes(given, signature.outputs[0][1]):
                return str(dtype)
        raise CandidateBroken(
            f"{self.kernel} has no code for inputs of types {', '.join(found)}; it is compiled for "
            f"{', '.join(self.member.DTYPES)}. Cast the inputs, or leave the kernel out."
        )


def _type(dtype: str) -> Any:
    import tensorrt

    return getattr(tensorrt.DataType, TYPES[dtype])


@functools.cache  # a network has the same node many times
def _compiled(kernel: str, dtype: str, baked: str, capability: str, newest: str) -> tuple[str, str]:
    """Entry and PTX, proven by the assembler at the version that the driver loads: there, if it came
    with a release, else here."""
    constants = json.loads(baked)
    found = packed.find(kernel, dtype, constants, capability, newest)
    if found:
        return found
    made = ptx.compile(kernel, dtype, constants, capability)
    made = ptx.lower(made, newest or made.version)
    cubin.assemble(made)
    return made.entry, made.text
