"""ONNX Runtime on the CPU: the portable engine."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import onnxruntime

from accel import arrays, graph
from accel.engines import _ort_placement
from accel.engines._asked import asked
from accel.errors import CandidateBroken
from accel.measure import machine
from accel.protocols import Probe
from accel.values import (
    Feed,
    Model,
    Options,
    Placement,
    Plan,
    Port,
    QuantStyle,
    Refusal,
    Request,
    Target,
)

BASELINE = False
PROVIDER = "CPUExecutionProvider"
INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}  # int8 dot products
ERRORS_ONLY = 3  # ONNX Runtime's log severity
# of products whose weights have a blocked DequantizeLinear. Left alone it is 4: float activations are then rounded
# to int8 unasked (seen in 1.32; onnxruntime_session_options_config_keys.h)
ACCURACY_LEVEL, AS_IN_THE_GRAPH = "session.qdq_matmulnbits_accuracy_level", "1"


def probe() -> Probe:
    """Usable when it imports, has the provider, and is not installed twice."""
    installed = [n for n in ("onnxruntime", "onnxruntime-gpu") if _version(n)]
    if len(installed) == 2:
        fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime"
        return Probe(False, reason="onnxruntime and onnxruntime-gpu overwrite each other.", fix=fix)
    if PROVIDER not in onnxruntime.get_available_providers():
        return Probe(
            False, reason=f"no {PROVIDER}", fix="pip install --force-reinstall onnxruntime"
        )
    return Probe(True, onnxruntime.__version__, facts={"providers": [PROVIDER]})


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def style(target: Target) -> QuantStyle:
    """U8S8, per channel; 7-bit weights where int16 sums would saturate (no VNNI).

    Signed weights: dynamic int8 with unsigned ones was 2.1 times slower on a VNNI machine."""
    return QuantStyle(
        weight_signed=True,
        activation_signed=False,
        weight_symmetric=True,
        activation_symmetric=False,
        per_channel=True,
        reduce_range=not INT8 & _isa(target),
    )


def _isa(target: Target) -> set[str]:
    return set(target.isa) or set(machine.isa())


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """fp32 and weights alone always; int8 where there are int8 dot products; no 16-bit floats on a CPU."""
    slow = Refusal("bf16", "ONNX Runtime has no bf16 kernels on a CPU: nodes would be cast to fp32")
    no_dot = None if INT8 & _isa(target) else Refusal("int8", "no int8 dot product (VNNI, DOT)")
    half = Refusal("fp16", "no fp16 kernels on a CPU: ONNX Runtime would cast each node to fp32")
    int8 = dict.fromkeys(("int8_dynamic", "int8_static", "int8_mixed"), no_dot)
    return {"fp32": None, "weight_only": None, **int8, "bf16": slow, "fp16": half}


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """Threads are set, never left to the runtime; spinning stays on (off was 1.7 times slower)."""
    return ({"threads": target.threads or machine.cores()},)


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """The graph itself, copied, opened to see that the runtime takes it, and run once to see where."""
    return built(model, options, requests, out, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)


def built(
    model: Model, options: Options, requests: Sequence[Request], out: Path, level: Any
) -> Plan:
    """`build` at a level of ONNX Runtime's graph optimization; without a request nothing is run."""
    proto = graph.skeleton(model.path)
    path = graph.copy(model.path, out / "model.onnx", proto)
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        opened = session(path, int(options["threads"]), level, watched=Path(folder))
        facts = Session(opened, model.inputs).facts
        placement = _placement(opened, requests, proto)
    return Plan(
        "onnxruntime_cpu",
        dataclasses.replace(model, path=path),
        path,
        options,
        facts,
        {"onnxruntime": onnxruntime.__version__},
        placement=placement,
    )


def _placement(opened: Any, requests: Sequence[Request], proto: Any) -> Placement | None:
    """None where no request runs: who runs the plan is told why, and of which arm."""
    feeds = sorted((r.inputs for r in requests), key=_bytes)
    try:
        return _ort_placement.read(opened, feeds[0], asked(proto)) if feeds else None
    except CandidateBroken:
        return None


def _bytes(feed: Feed) -> int:
    return sum(array.nbytes for array in feed.values())


def session(
    path: Path,
    threads: int,
    level: Any,
    watched: Path | None = None,
    ports: Sequence[Port] = (),
) -> onnxruntime.InferenceSession:
    """A session with exactly this provider; anything else is an error. Of one that is watched, in
    a scratch folder, the placement can be read. `ports`: what it is called with for long."""
    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = threads
    wanted.inter_op_num_threads = 1
    wanted.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    wanted.graph_optimization_level = level
    wanted.log_severity_level = ERRORS_ONLY
    # kept of each new shape and never given back: 40 kB on MiniLM, which is no quicker with it
    wanted.enable_mem_pattern = all(isinstance(d, int) for port in ports for d in port.shape)
    wanted.add_session_config_entry(ACCURACY_LEVEL, AS_IN_THE_GRAPH)
    if watched is not None:
        _ort_placement.watch(wanted, watched)
    try:
        made = onnxruntime.InferenceSession(str(path), wanted, providers=[PROVIDER])
    except Exception as error:  # onnxruntime raises a dozen types of its own
        raise CandidateBroken(f"ONNX Runtime refuses the graph: {_first(error)}") from None
    if made.get_providers() != [PROVIDER]:
        raise CandidateBroken(f"asked for {PROVIDER}, obtained {made.get_providers()}")
    obtained = made.get_session_options().intra_op_num_threads
    if obtained != threads:
        raise CandidateBroken(f"asked for {threads} threads, obtained {obtained}")
    return made


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:400]


def load(plan: Plan) -> Session:
    """Ready to run, every optimization on."""
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    threads, ports = int(plan.options["threads"]), plan.model.inputs
    return Session(session(plan.path, threads, level, ports=ports), ports)


class Session:
    """A loaded graph; outputs belong to the caller."""

    def __init__(self, inner: onnxruntime.InferenceSession, ports: Sequence[Port]) -> None:
        self._inner: Any = inner
        self._ports = ports
        self._outputs = [o.name for o in inner.get_outputs()]

    @property
    def facts(self) -> Options:
        """What was obtained, for the plan."""
        return {
            "providers": self._inner.get_providers(),
            "precision": "as in the graph",
            "threads": self._inner.get_session_options().intra_op_num_threads,
        }

    def __call__(self, feed: Feed) -> dict[str, Any]:
        given = dict(feed)
        arrays.fit(given, self._ports)
        return dict(zip(self._outputs, self._run(given), strict=True))

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """run() on a prebuilt dict: I/O binding was not faster on a CPU."""
        given = dict(feed)
        arrays.fit(given, self._ports)
        self._run(given)
        return lambda: self._run(given)

    def _run(self, feed: Feed) -> Any:
        if self._inner is None:
            raise CandidateBroken("the engine is closed: load it again")
        try:
            return self._inner.run(self._outputs, feed)
        except Exception as error:  # as above
            raise CandidateBroken(f"ONNX Runtime could not run: {_first(error)}") from None

    def close(self) -> None:
        self._inner = None
