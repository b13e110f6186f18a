"""The values that every verb takes and returns: read this file first.

All are frozen. Units stand in the names; shapes stand in comments. A `Path` inside a value points
to a file that a finished step wrote, and is stored relative to that step (see `manifest`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[Any]]  # port name -> array
else:
    Feed = Mapping[str, Any]

Options = Mapping[str, Any]  # JSON values only
Split = Literal["search", "certify"]


@dataclass(frozen=True)
class Port:
    """One input or output of a model; a dimension is a size, a symbol, or "?"."""

    name: str
    dtype: str  # numpy's name: "float32", "int64", ...
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Model:
    """An ONNX file and its story."""

    path: Path
    digest: str  # of what it computes (graph.digest), not of how it is laid out on disk
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    trail: tuple[
        str, ...
    ] = ()  # one line a step: "torch_export opset 23", "fused Attention 6 of 6"


@dataclass(frozen=True)
class Request:
    """An input as production sends it. `group` is the class it is reported under."""

    group: str
    weight: float  # its share of the traffic; the objective is sum(weight * median latency)
    inputs: Feed


@dataclass(frozen=True)
class Workload:
    """The user's problem, as written in a workload file; required there are `model`, and `inputs` or `requests`."""

    source: str  # "file.py", "file.py:object" or "file.onnx": enough to load it again in a child
    name: str
    digest: str  # of the source file, the object in it, and the user's modules that it imports
    model: Callable[[], Any]  # -> torch.nn.Module, or the path of an .onnx
    inputs: Callable[[], Feed] | None = None  # one example, dynamic axes at 2 or more
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()  # names of the module's outputs, in order; empty: "output_0", ...
    padding: Mapping[str, float] = field(
        default_factory=dict
    )  # input -> fill that masks itself out
    calibration: Callable[[], Iterable[Feed]] | None = None
    noise: tuple[str, ...] = ()  # inputs that are random numbers by their nature
    samples: Callable[[Split], Iterable[tuple[Any, Any]]] | None = None
    row: Callable[[Any, Any], Any] | None = None
    metric: Callable[[Any], float] | None = None
    metric_name: str = "metric"
    metric_unit: str = "pt"  # "pt" (of a hundred) or "fraction"
    higher_is_better: bool = True
    clusters: Callable[[Split], Iterable[int]] | None = None
    requests: Callable[[], Iterable[tuple[str, float, Feed]]] | None = None
    data: str | None = None  # the .npz given beside a plain .onnx
    file_digest: str = ""  # sha256 of the source file alone


@dataclass(frozen=True)
class Target:
    """A device to build for, as its file in profiles/ tells it."""

    name: str
    description: str
    engines: tuple[str, ...]  # in the order in which they are tried
    local: bool  # True: it is this machine, whatever it is; False: see measure.here.elsewhere
    recipes: tuple[str, ...] = ()  # worth trying, most promising first; empty: all
    threads: int | None = None  # None: every core that this process may use
    memory_bytes: int | None = None  # of the GPU where it has its own, else of the machine
    architecture: str | None = None  # of the processor, as platform.machine() has it: "aarch64"
    isa: tuple[str, ...] = ()  # empty: read from the machine
    gpu: str | None = None  # a part of the name that its driver gives: "H200"
    compute_capability: str | None = None  # of an NVIDIA GPU: "9.0"
    ptx_version: str | None = None  # the newest PTX that its driver loads: "8.5"
    multiprocessors: int | None = None
    dla_cores: int = 0
    sm: Mapping[str, int] = field(default_factory=dict)  # limits of one multiprocessor
    peaks: Mapping[str, float] = field(default_factory=dict)  # dense: "int8_ops_per_s": 1e12
    power_modes_w: Mapping[str, float] = field(default_factory=dict)  # "MAXN": 60.0
    software: Mapping[str, str] = field(default_factory=dict)  # "jetpack", "cuda", "tensorrt"
    sources: tuple[str, ...] = ()  # where each rate was read


@dataclass(frozen=True)
class QuantStyle:
    """What an engine on a target wants of Q/DQ nodes."""

    weight_signed: bool
    activation_signed: bool
    weight_symmetric: bool
    activation_symmetric: bool
    per_channel: bool
    reduce_range: bool = False  # 7-bit weights: AVX2 without VNNI saturates in its int16 sums
    operators: tuple[str, ...] = ()  # empty: every operator the recipe knows
    pairs: Literal["around", "inputs"] = "around"  # where Q/DQ pairs are fused: accel.qdq.place


@dataclass(frozen=True)
class Refusal:
    """Why something does not apply. A value, never an exception, never silence."""

    what: str
    reason: str


@dataclass(frozen=True)
class Placed:
    """Nodes of one operator that run alike, as the runtime tells of a plan that it has built."""

    operator: str  # ONNX's name; a layer's type where the runtime fused several into one
    count: int
    device: str  # "CPU", "GPU", "DLA"
    by: str  # what runs them: an execution provider, a plugin, a kernel's name
    dtype: str = ""  # what they compute in; empty: the runtime does not tell
    planned_device: str = ""  # that the plan asked for; empty: the same
    planned_dtype: str = ""  # that the graph asks for; empty: the same
    nodes: tuple[str, ...] = ()  # names: all of those that are not as planned, else a few


@dataclass(frozen=True)
class Copied:
    """Tensors that cross from one device to another at each call, inputs and outputs apart."""

    source: str
    target: str
    count: int
    causes: tuple[str, ...] = ()  # the operators, or the ports, that they are made for


@dataclass(frozen=True)
class Placement:
    """Where every node of a plan runs and in which precision: read back, never assumed."""

    placed: tuple[Placed, ...]
    copied: tuple[Copied, ...] = ()
    source: str = ""  # how it was read


@dataclass(frozen=True)
class Finding:
    """What a static check says of a graph for a target. "unknown" is not "fine"."""

    rule: str  # the file in legality/ that it comes from
    level: Literal["error", "warning", "unknown", "note"]
    message: str  # what is wrong, the value that was seen, what is allowed
    where: str = ""  # node, tensor or port
    operator: str = ""
    source: str = ""  # the document or thread that the rule was read in, with its date or version
    fix: str = ""  # the command or the automatic fix that mends it; empty: none


@dataclass(frozen=True)
class Plan:
    """What an engine built, and everything that it depends on."""

    engine: str
    model: Model
    path: Path  # what the engine loads: a folder or a file
    options: Options = field(default_factory=dict)  # asked
    facts: Options = field(default_factory=dict)  # read back: precision, providers, threads, ...
    versions: Mapping[str, str] = field(default_factory=dict)
    portable: bool = True  # False: needs this engine's hints or private operators
    placement: Placement | None = None  # None: the engine cannot tell


@dataclass(frozen=True)
class Score:
    """How well outputs fit the labels: every row is kept, the metric is computed over them."""

    metric: str
    unit: str
    value: float
    rows: Path  # .npy, [N] or [N, K]
    higher_is_better: bool = True
    clusters: Path | None = None  # .npy, [N] ids where rows are not independent
    split: str = "search"
    fidelity: bool = False  # True: there were no labels; closeness to the fp32 reference stands in


@dataclass(frozen=True)
class Measurement:
    """Every latency sample of one arm, and where it was taken.

    `samples` is an .npz of equally long columns: request (index), epoch, round, seconds."""

    arm: str
    samples: Path
    groups: tuple[str, ...]  # per request
    weights: tuple[float, ...]  # per request
    load_s: float
    cold_s: float  # the first call after load, with all that an engine does on first need
    peak_memory_bytes: int  # of the worker process, engine and runtime included; a GPU's apart
    warmup_calls: int
    retaken_blocks: int
    machine: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Certificate:
    """What is known of a score's drop against the baseline, from samples not used in the search."""

    grade: Literal["certified", "consistent", "violated"]
    metric: str
    unit: str
    baseline: float
    value: float
    drop: float  # positive is worse, in the metric's unit
    bound: float  # one-sided 95 % upper bound of the drop
    interval: tuple[float, float]  # two-sided 95 %
    budget: float
    samples: int
    method: str
    split: str
    note: str = ""
    needed_samples: int | None = None  # about as many would certify it; None: no number would
    fidelity: str = ""  # what `agreement` is: top-1 agreement, or cosine, with the fp32 reference
    agreement: float | None = (
        None  # in points of a hundred; equal scores may hide answers that flip
    )


@dataclass(frozen=True)
class Candidate:
    """Root graph x recipe x engine x options, and what became of it."""

    name: str
    root: str  # "torch_export", "torchscript", "onnx"
    recipe: str
    engine: str
    recipe_options: Options = field(default_factory=dict)
    options: Options = field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    status: Literal["planned", "built", "measured", "refused", "pruned", "failed", "unmeasured"] = (
        "planned"
    )
    reason: str = ""
    plan: Plan | None = None
    size_bytes: int = 0
    screen_s: float | None = None  # quick weighted latency, for pruning only
    peak_memory_bytes: int = 0  # of the worker process, at the latest timing
    score: Score | None = None
    drop: float | None = None  # on the search split
    measurement: Measurement | None = None
    objective_s: float | None = None  # weighted sum of per-request medians, from `measurement`
    floor_s: float | None = None  # what the target's peak rates allow at best, weighted alike
    findings: tuple[Finding, ...] = ()  # of the static checks, where the target is another machine


@dataclass(frozen=True)
class Verdict:
    """pass, fail, or cannot tell (with what it would take to tell)."""

    outcome: Literal["pass", "fail", "cannot tell"]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """The bundle on disk, as its manifest tells it."""

    path: Path
    winner: Candidate
    baselines: tuple[Candidate, ...]
    table: tuple[Candidate, ...]
    certificate: Certificate | None  # None: unmeasured, for `accel finish` on the device
    verdict: Verdict
    files: Mapping[str, str] = field(default_factory=dict)  # relative path -> sha256
