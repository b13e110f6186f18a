"""OpenVINO on the CPU: dynamic as it comes, or as a few static shape buckets with padding.

Every setting is explicit and read back: left alone, OpenVINO picks bf16 where the processor has it,
and takes the bf16 hint without a word where it has not (then 16 to 70 times slower).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import openvino

from accel import arrays, graph
from accel import padding as pad
from accel.errors import CandidateBroken
from accel.measure import machine
from accel.protocols import Probe
from accel.values import Feed, Model, Options, Plan, QuantStyle, Refusal, Request, Target

BASELINE = False
INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
IR = "openvino.xml"  # what NNCF's OpenVINO backend writes beside the .onnx; weights in its .bin


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
    """The graph (or the IR beside it), the shapes to compile, and what was read back.

    Raises CandidateBroken when OpenVINO refuses the graph."""
    ir = model.path.with_name(IR)
    path = _copy_ir(ir, out / "ir") if ir.exists() else graph.copy(model.path, out / "model.onnx")
    chosen = _chosen(model, options, requests)
    plan = Plan(
        "openvino",
        model,
        path,
        {**options, **({"buckets": chosen} if chosen else {})},
        versions={"openvino": openvino.__version__},
        portable=options["precision"] == "f32" and path.suffix == ".onnx",
    )
    session = load(plan)
    facts = session.facts
    session.close()
    return dataclasses.replace(plan, facts=facts)


def _copy_ir(source: Path, folder: Path) -> Path:
    """A folder, so that whoever copies or weighs the plan takes the weights along."""
    folder.mkdir()
    for file in (source, source.with_suffix(".bin")):
        shutil.copyfile(file, folder / file.name)
    return folder


def _chosen(model: Model, options: Options, requests: Sequence[Request]) -> list[pad.Sizes]:
    if "buckets" not in options:
        return []
    if any(dim == "?" for port in model.inputs for dim in port.shape):
        raise CandidateBroken("an input has an axis without a name: a bucket cannot tell it apart")
    found = pad.buckets(model, requests, options.get("padding", {}), int(options["buckets"]))
    if not found:
        raise CandidateBroken("there is no request whose shape a bucket could be made for")
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
    for key, obtained in _obtained(made).items():
        if obtained != plan.options[key]:
            wanted = plan.options[key]
            raise CandidateBroken(f"asked OpenVINO for {key} {wanted}, obtained {obtained}")
    return made


def _obtained(compiled: Any) -> dict[str, Any]:
    """What the plugin says that it took of the settings."""
    return {
        "precision": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
        "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
    }


def load(plan: Plan) -> Session:
    """Every bucket compiled; the dynamic plan too where there are none."""
    core = openvino.Core()
    try:
        model = core.read_model(str(plan.path / IR if plan.path.is_dir() else plan.path))
    except Exception as error:  # as above
        raise CandidateBroken(
            f"OpenVINO cannot read the graph: {str(error).strip()[:400]}"
        ) from None
    return Session(core, model, plan)


class _Static:
    """One compiled shape with buffers of its own."""

    def __init__(self, compiled: Any, fill: Mapping[str, float], sizes: pad.Sizes) -> None:
        self.sizes, self.facts = sizes, _obtained(compiled)
        self.request = compiled.create_infer_request()
        self.outputs = {p.get_any_name(): i for i, p in enumerate(compiled.outputs)}
        self.inputs: dict[str, Any] = {}
        for port in compiled.inputs:
            name = port.get_any_name()
            tensor = openvino.Tensor(port.get_element_type(), port.get_shape())
            tensor.data[...] = fill.get(name, 0)
            self.request.set_tensor(name, tensor)
            self.inputs[name] = tensor.data


class Session:
    """Routes each feed to the smallest static shape that holds it, or to the dynamic plan."""

    def __init__(self, core: Any, model: Any, plan: Plan) -> None:
        self._core, self._model, self._plan = core, model, plan
        self._fill: Mapping[str, float] = plan.options.get("padding", {})
        self._axes = pad.padded_axes(plan.model, self._fill)
        found = plan.options.get("buckets") or []
        self._static = [self._compile_static(b) for b in found if isinstance(b, dict)]
        self._dynamic: Any = None
        self._facts = self._static[0].facts if self._static else self._compile_dynamic()

    def _compile_static(self, sizes: pad.Sizes) -> _Static:
        model = self._model.clone()  # shares the weights
        model.reshape(
            {
                port.name: [sizes.get(d, d) if isinstance(d, str) else d for d in port.shape]
                for port in self._plan.model.inputs
            }
        )
        return _Static(_compile(self._core, model, self._plan), self._fill, sizes)

    def _compile_dynamic(self) -> Options:
        compiled = _compile(self._core, self._model, self._plan)
        self._dynamic = compiled.create_infer_request()
        return _obtained(compiled)

    @property
    def facts(self) -> Options:
        """What was obtained, for the plan."""
        return {
            **self._facts,
            "static_shapes": len(self._static),
            "beyond_buckets": "compiled dynamic on first need",
        }

    def __call__(self, feed: Feed) -> dict[str, Any]:
        run = self.bind(feed)
        try:
            found: dict[str, Any] = run()
        except Exception as error:  # as above
            raise CandidateBroken(f"OpenVINO could not run: {str(error).strip()[:400]}") from None
        return {name: value.copy() for name, value in found.items()}

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """Padding into the bucket's own buffers is inside the call; outputs are views."""
        arrays.fit(feed, self._plan.model.inputs)
        if self._model is None:
            raise CandidateBroken("this session was closed")
        wanted = pad.sizes_of(self._plan.model, feed)
        chosen = pad.fitting([s.sizes for s in self._static], wanted, self._axes)
        if chosen is None:
            return self._bind_dynamic(feed)
        static = next(s for s in self._static if s.sizes == chosen)
        return self._bind_static(static, feed, wanted)

    def _bind_dynamic(self, feed: Feed) -> Callable[[], Any]:
        if self._dynamic is None:
            self._compile_dynamic()
        request = self._dynamic
        given = {k: numpy.ascontiguousarray(v) for k, v in feed.items()}

        def run() -> dict[str, Any]:
            found = request.infer(given, share_inputs=True, share_outputs=True)
            return {port.get_any_name(): value for port, value in found.items()}

        return run

    def _bind_static(self, static: _Static, feed: Feed, wanted: pad.Sizes) -> Callable[[], Any]:
        copies = [
            (static.inputs[name], value, tuple(slice(0, n) for n in value.shape))
            for name, value in feed.items()
        ]
        exact = wanted == static.sizes
        fills = [(static.inputs[k], self._fill.get(k, 0)) for k in feed]
        cuts = {
            p.name: tuple(slice(0, wanted.get(str(d))) for d in p.shape)
            for p in self._plan.model.outputs
        }
        request, outputs = static.request, list(static.outputs.items())

        def run() -> dict[str, Any]:
            if not exact:
                for buffer, fill in fills:
                    buffer[...] = fill
            for buffer, value, place in copies:
                buffer[place] = value
            request.infer(share_inputs=True, share_outputs=True)
            return {n: request.get_output_tensor(i).data[cuts[n]] for n, i in outputs}

        return run

    def close(self) -> None:
        self._static, self._dynamic, self._model = [], None, None
