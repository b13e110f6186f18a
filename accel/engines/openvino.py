"""OpenVINO on the CPU: dynamic as it comes, or as a few static shape buckets with padding.

Every setting is explicit and read back: left alone, OpenVINO picks bf16 where the processor has it,
and takes the bf16 hint without a word where it has not (then 16 to 70 times slower).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import openvino

from accel import graph
from accel import padding as pad
from accel.errors import CandidateBroken
from accel.measure import machine
from accel.protocols import Probe
from accel.values import Feed, Model, Options, Plan, QuantStyle, Refusal, Request, Target

BASELINE = False
INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


def probe() -> Probe:
    """Usable where its CPU plugin loads."""
    try:
        core = openvino.Core()
        name = core.get_property("CPU", "FULL_DEVICE_NAME")
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception as error:  # openvino raises RuntimeError and types of its own
        fix = "pip install --force-reinstall openvino"
        return Probe(False, reason=f"its CPU plugin does not load: {error}", fix=fix)
    return Probe(True, openvino.__version__, facts={"device": name, "capabilities": list(able)})


def style(target: Target) -> QuantStyle:
    """U8 activations, symmetric S8 weights, per channel: what its int8 kernels take."""
    return QuantStyle(
        weight_signed=True,
        activation_signed=False,
        weight_symmetric=True,
        activation_symmetric=False,
        per_channel=True,
        operators=("openvino",),
    )


def recipes(target: Target) -> Mapping[str, Refusal | None]:
    """int8_static by Q/DQ; bf16 where the plugin says it has kernels."""
    isa = set(target.isa) or set(machine.isa())
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    no_bf16 = Refusal("bf16", f"no bf16 kernels on this processor (it has {', '.join(able)})")
    no_dot = Refusal("int8", "no int8 dot product (VNNI, DOT) on this processor")
    decomposed = "DynamicQuantizeLinear and MatMulInteger are decomposed here, not run in int8"
    return {
        "fp32": None,
        "bf16": None if "BF16" in able else no_bf16,
        "int8_static": None if INT8 & isa else no_dot,
        "int8_dynamic": Refusal("int8_dynamic", decomposed),
    }


def options(
    recipe: str, target: Target, requests: Sequence[Request], padding: Mapping[str, float]
) -> tuple[Options, ...]:
    """Precision hint x (static buckets, dynamic); buckets first: static was 1.2 to 2.4x quicker."""
    base = {"threads": target.threads or machine.cores()}
    hints = ["bf16"] if recipe == "bf16" else ["f32"]
    if recipe.startswith("int8") and recipes(target)["bf16"] is None:
        hints.append("bf16")  # what is not int8 may run in bf16
    buckets = {"buckets": pad.MOST, "padding": dict(padding)}
    return tuple({**base, "precision": hint, **more} for hint in hints for more in (buckets, {}))


def build(
    model: Model, target: Target, options: Options, requests: Sequence[Request], out: Path
) -> Plan:
    """The graph, the shapes to compile, and what was read back.

    Raises CandidateBroken when OpenVINO refuses the graph."""
    path = graph.copy(model.path, out / model.path.name)
    chosen = _chosen(model, options, requests)
    plan = Plan(
        "openvino",
        model,
        path,
        {**options, **({"buckets": chosen} if chosen else {})},
        versions={"openvino": openvino.__version__},
        portable=options["precision"] == "f32",
    )
    session = load(plan)
    facts = session.facts
    session.close()
    return dataclasses.replace(plan, facts=facts)


def _chosen(model: Model, options: Options, requests: Sequence[Request]) -> list[pad.Sizes]:
    if "buckets" not in options:
        return []
    found = pad.buckets(model, requests, options.get("padding", {}), int(options["buckets"]))
    if found == [{}]:
        raise CandidateBroken("the model has no dynamic axis: there is nothing to put in buckets")
    return found


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": int(plan.options["threads"]),
        "INFERENCE_PRECISION_HINT": plan.options["precision"],
    }


def _compile(core: Any, model: Any, plan: Plan) -> Any:
    try:
        made = core.compile_model(model, "CPU", _settings(plan))
    except Exception as error:  # as above
        raise CandidateBroken(f"OpenVINO refuses the graph: {str(error).strip()[:400]}") from None
    obtained = made.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if obtained != plan.options["precision"]:
        raise CandidateBroken(
            f"asked OpenVINO for {plan.options['precision']}, obtained {obtained}"
        )
    threads = made.get_property("INFERENCE_NUM_THREADS")
    if threads != int(plan.options["threads"]):
        raise CandidateBroken(f"asked for {plan.options['threads']} threads, obtained {threads}")
    return made


def load(plan: Plan) -> Session:
    """Every bucket compiled; the dynamic plan too where there are none."""
    core = openvino.Core()
    try:
        model = core.read_model(str(plan.path))
    except Exception as error:  # as above
        raise CandidateBroken(
            f"OpenVINO cannot read the graph: {str(error).strip()[:400]}"
        ) from None
    return Session(core, model, plan)


class _Static:
    """One compiled shape with input and output buffers of its own."""

    def __init__(self, compiled: Any, fill: Mapping[str, float], sizes: pad.Sizes) -> None:
        self.sizes, self.request = sizes, compiled.create_infer_request()
        self.fill = {p.get_any_name(): fill.get(p.get_any_name(), 0) for p in compiled.inputs}
        self.inputs = {p.get_any_name(): self._buffer(p) for p in compiled.inputs}
        self.outputs = {p.get_any_name(): self._buffer(p) for p in compiled.outputs}

    def _buffer(self, port: Any) -> Any:
        tensor = openvino.Tensor(port.get_element_type(), port.get_shape())
        tensor.data[...] = 0
        self.request.set_tensor(port, tensor)
        return tensor.data


class Session:
    """Routes each feed to the smallest static shape that holds it, or to the dynamic plan."""

    def __init__(self, core: Any, model: Any, plan: Plan) -> None:
        self._core, self._model, self._plan = core, model, plan
        self._names = [p.name for p in plan.model.inputs]
        self._fill: Mapping[str, float] = plan.options.get("padding", {})
        self._axes = pad.padded_axes(plan.model, self._fill)
        found = plan.options.get("buckets") or []
        self._static = [self._compile_static(b) for b in found if isinstance(b, dict)]
        self._dynamic: Any = None if self._static else self._compile_dynamic()
        self._routes: dict[Any, Callable[[Feed], dict[str, Any]]] = {}

    def _compile_static(self, sizes: pad.Sizes) -> _Static:
        model = self._model.clone()  # shares the weights
        model.reshape(
            {
                port.name: [sizes.get(d, d) if isinstance(d, str) else d for d in port.shape]
                for port in self._plan.model.inputs
            }
        )
        return _Static(_compile(self._core, model, self._plan), self._fill, sizes)

    def _compile_dynamic(self) -> Any:
        return _compile(self._core, self._model, self._plan).create_infer_request()

    @property
    def facts(self) -> Options:
        """What was obtained, for the plan."""
        return {
            "precision": self._plan.options["precision"],
            "threads": int(self._plan.options["threads"]),
            "static_shapes": len(self._static),
            "beyond_buckets": "compiled dynamic on first need",
        }

    def __call__(self, feed: Feed) -> dict[str, Any]:
        return {name: value.copy() for name, value in self._run(feed).items()}

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """Routing, and padding into the bucket's own buffers, are inside; outputs are views."""
        self._run(feed)
        return lambda: self._run(feed)

    def _run(self, feed: Feed) -> dict[str, Any]:
        shapes = tuple(feed[n].shape for n in self._names if n in feed)
        if len(shapes) != len(feed) or len(feed) != len(self._names):
            missing = sorted(set(self._names) ^ set(feed))
            raise CandidateBroken(f"the feed and the model differ in {', '.join(missing)}")
        route = self._routes.get(shapes)
        if route is None:
            route = self._routes[shapes] = self._route(feed)
        return route(feed)

    def _route(self, feed: Feed) -> Callable[[Feed], dict[str, Any]]:
        wanted = pad.sizes_of(self._plan.model, feed)
        chosen = pad.fitting([s.sizes for s in self._static], wanted, self._axes)
        if chosen is None:
            return self._dynamic_route()
        return self._static_route(next(s for s in self._static if s.sizes == chosen), wanted)

    def _dynamic_route(self) -> Callable[[Feed], dict[str, Any]]:
        if self._dynamic is None:
            self._dynamic = self._compile_dynamic()
        request = self._dynamic

        def run(feed: Feed) -> dict[str, Any]:
            given = {k: numpy.ascontiguousarray(v) for k, v in feed.items()}
            found = request.infer(given, share_inputs=True, share_outputs=True)
            return {port.get_any_name(): value for port, value in found.items()}

        return run

    def _static_route(self, static: _Static, wanted: pad.Sizes) -> Callable[[Feed], dict[str, Any]]:
        model, request = self._plan.model, static.request
        copies = [
            (p.name, static.inputs[p.name], static.fill[p.name], _place(p.shape, wanted))
            for p in model.inputs
        ]
        views = {p.name: static.outputs[p.name][_place(p.shape, wanted)] for p in model.outputs}
        exact = wanted == static.sizes

        def run(feed: Feed) -> dict[str, Any]:
            for name, buffer, fill, place in copies:
                if not exact:
                    buffer[...] = fill
                buffer[place] = feed[name]
            request.infer(share_inputs=True, share_outputs=True)
            return views

        return run

    def close(self) -> None:
        self._static, self._dynamic, self._model, self._routes = [], None, None, {}


def _place(shape: Sequence[int | str], sizes: pad.Sizes) -> tuple[slice, ...]:
    """Where an array of these sizes lies in its bucket's buffer."""
    return tuple(slice(0, sizes.get(d)) if isinstance(d, str) else slice(None) for d in shape)
