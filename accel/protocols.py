"""What a member of each family must offer. A member is a module, so these are modules' shapes.

Protocols, not base classes: a new engine or recipe is one file that imports nothing from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from accel.values import Feed, Finding, Model, Options, Plan, QuantStyle, Refusal, Request, Target

Shapes = Mapping[str, tuple[Any, ...]]  # input name -> sizes: numbers, or symbols that add


@dataclass(frozen=True)
class Probe:
    """Whether an engine can run here: why not, and the one line that mends it."""

    usable: bool
    version: str = ""
    reason: str = ""
    fix: str = ""
    facts: Options | None = None


class Session(Protocol):
    """A loaded plan. Calling it runs once; outputs belong to the caller (copied where shared)."""

    def __call__(self, feed: Feed) -> dict[str, Any]: ...

    def bind(self, feed: Feed) -> Any:
        """A zero-argument callable that runs on these preallocated inputs: what is timed.

        It includes everything production pays per call (padding, routing), nothing else; its
        return value is the outputs, which may share memory with the engine."""

    def close(self) -> None: ...


class Engine(Protocol):
    """A runtime. Files in engines/ offer these at module level.

    `style`, `recipes` and `options` are asked for targets that are another machine too. A file may
    also say KERNELS = True: its graphs are then tried with the operators of kernels/ in them too. It
    says NATIVE where to load a plan is to run code that lies in it: True, or the options that such
    plans have. `accel verify` reads that in the file."""

    BASELINE: bool  # True: only ever timed beside the candidates, never chosen

    def probe(self) -> Probe:
        """Can it run here? Called in a child process; may import anything, raises nothing."""

    def style(self, target: Target) -> QuantStyle:
        """How Q/DQ must look to be fast here."""

    def recipes(self, target: Target) -> Mapping[str, Refusal | None]:
        """Each recipe: None where this hardware can exploit it, else why not."""

    def options(
        self, recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
    ) -> tuple[Options, ...]:
        """The settings that matter for this recipe, most promising first; threads always set.

        An engine that runs the workload's own module, not a graph of it, offers an empty "workload"
        too: whoever builds fills in the workload's source, or refuses where there is none."""

    def build(
        self, model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
    ) -> Plan:
        """Write what `load` needs into the folder `out`. Runs in a child process.

        Raises CandidateBroken when the engine refuses the graph."""

    def load(self, plan: Plan) -> Session:
        """Ready to run; reads back what it obtained and raises CandidateBroken where it differs."""


@dataclass(frozen=True)
class Calibration:
    """What one pass over calibration data found of every float value in a graph."""

    sketches: Path  # .npz: accel.sketch.read
    feeds: int  # that the graph was run on
    offered: int  # that there were
    settled: bool  # it stopped before the end, since the ranges no longer moved
    moving: tuple[str, ...] = ()  # values whose ranges still did at the end, the most moved first
    findings: tuple[Finding, ...] = ()  # of the auditor


@dataclass(frozen=True)
class Quantized:
    """What a recipe made: the graph, and facts for the table (sites found, method, refused)."""

    model: Model
    facts: Options
    portable: bool = True  # False: only what is named in `only` reads it as meant
    only: str = ""  # an engine, or what the names of several begin with: "onnxruntime"


class Recipe(Protocol):
    """A pure function of graph, data, style and options; a file in recipes/."""

    NEEDS_CALIBRATION: bool
    # A file may also say NEEDS_SKETCHES = True: `calibration` may then be the graph's sketches instead.

    def variants(self, style: QuantStyle) -> tuple[Options, ...]:
        """The assignments worth trying, most promising first; at least one, {} when none."""

    def apply(
        self,
        model: Model,
        calibration: Iterable[Feed] | None,
        style: QuantStyle,
        options: Options,
        out: Path,
    ) -> Quantized:
        """Write the new graph as out/"model.onnx".

        Raises UsageError without the calibration data it needs, CandidateBroken when the graph
        cannot be treated."""


@dataclass(frozen=True)
class Signature:
    """A kernel's parameters in order: pointers to inputs, int32 scalars, pointers to outputs.

    It is the order of TensorRT's ahead-of-time plugins, whose extra arguments are int32 only."""

    inputs: tuple[tuple[str, str], ...]  # (name, dtype)
    scalars: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Launch:
    """How a kernel is started; a size that is not known yet is a symbolic expression."""

    grid: tuple[Any, Any, Any]  # blocks
    block: tuple[int, int, int]  # threads
    scalars: tuple[Any, ...]  # in the signature's order


@dataclass(frozen=True)
class Case:
    """Inputs that a kernel must get right, some of them chosen to hurt."""

    name: str
    inputs: Feed  # bfloat16 as ml_dtypes has it
    baked: Options | None = None  # None: the kernel's first variant
    offset: int = 0  # elements by which every pointer misses a 128-bit boundary


@dataclass(frozen=True)
class TorchSite:
    """Where a kernel fits in an exported torch program, in nodes of its graph.

    A kernel that fits into such programs has a file kernels/_torch_<kernel>.py, which offers
    `site(node) -> TorchSite | Refusal | None`: the site whose last node it is, why it is not quite
    one, or None for any other node. An input that no node holds yet is (operator, arguments): ("aten.linear.default", (x, w))."""

    inputs: tuple[Any, ...]  # in the signature's order
    outputs: Mapping[str, Any]  # output name -> the node whose value it is; unused ones left out
    baked: Options


class Kernel(Protocol):
    """One hand-written op; a file in kernels/, its reference first.

    `baked` holds the constants that are compiled in, since scalar arguments are int32 only."""

    OP: str  # its operator in the domain accel.kernels
    DTYPES: tuple[str, ...]  # "float32", "float16", "bfloat16": what it is generic over
    VARIANTS: tuple[Options, ...]  # baked constants whose code differs; the first is the default
    TOLERANCE: Mapping[str, float]  # output dtype -> allowed |got - want| / (1 + |want|)

    def signature(self, dtype: str, baked: Options) -> Signature:
        """Its parameters."""

    def output_shapes(self, shapes: Shapes, baked: Options) -> Shapes:
        """Sizes of the outputs."""

    def launch(self, shapes: Shapes, dtype: str, baked: Options) -> Launch:
        """Launch geometry. Leading sizes may be symbols; symbols stand left of numbers.

        Raises UsageError for shapes that the kernel does not take."""

    def reference(self, inputs: Feed, baked: Options) -> dict[str, Any]:
        """What is right, in numpy and float64: every output by its name."""

    def source(self, dtype: str, baked: Options) -> Any:
        """The Numba CUDA kernel, on raw pointers: parameters as in the signature."""

    def function(self, opset: int) -> Any:
        """The same in standard operators of the model's opset, 17 or newer: the FunctionProto of
        domain accel.kernels. A function may import another version than the model only where no
        operator that it uses changed in between, and Constant and Cast change with almost each.

        One body serves all variants, by attributes of the node; below 20 it may be the first's
        alone, as it may need an operator or an attribute that came later."""

    def rules(self) -> tuple[Any, ...]:
        """How onnxscript's rewriter puts the op in (kernels/_swap.Rule: pattern, check, rewrite), the
        operators that mark a site, and the reason for every site that does not fit."""

    def cases(self, dtype: str) -> Iterable[Case]:
        """At most about 4,000 threads each: the simulator runs some thousand a second."""

    def moved_bytes(self, shapes: Shapes, dtype: str, baked: Options) -> int:
        """Bytes that must cross the memory bus at least: inputs once, outputs once."""
