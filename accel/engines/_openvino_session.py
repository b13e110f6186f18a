"""An OpenVINO plan, loaded: static shapes with buffers of their own, and the way to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import openvino

from accel import arrays
from accel import padding as pad
from accel.errors import CandidateBroken
from accel.values import Feed, Options, Plan

MOST_ROUTES = 4096  # shapes remembered; a route is small, but traffic may never repeat itself

Route = Callable[[Feed], dict[str, Any]]


@dataclass(frozen=True)
class Compiled:
    """OpenVINO's compiled model, and what was read back from it."""

    model: Any
    facts: Options


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

    def __init__(self, model: Any, plan: Plan, compile_: Callable[[Any], Compiled]) -> None:
        self._model, self._plan, self._compile = model, plan, compile_
        self._names = [p.name for p in plan.model.inputs]
        self._fill: Mapping[str, float] = plan.options.get("padding", {})
        self._axes = pad.padded_axes(plan.model, self._fill)
        self._obtained: Options = {}
        found = plan.options.get("buckets") or []
        self._static = [self._compile_static(b) for b in found if isinstance(b, dict)]
        self._dynamic: Any = None if self._static else self._compile_dynamic()
        self._routes: dict[Any, Route] = {}
        self._turn = threading.Lock()  # buffers are shared: a call holds them until it has copied

    def _compile_static(self, sizes: pad.Sizes) -> _Static:
        model = self._model.clone()  # shares the weights
        model.reshape(
            {
                port.name: [sizes.get(d, d) if isinstance(d, str) else d for d in port.shape]
                for port in self._plan.model.inputs
            }
        )
        compiled = self._compile(model)
        self._obtained = compiled.facts
        return _Static(compiled.model, self._fill, sizes)

    def _compile_dynamic(self) -> Any:
        compiled = self._compile(self._model)
        self._obtained = compiled.facts
        return compiled.model.create_infer_request()

    @property
    def facts(self) -> Options:
        """What was obtained, for the plan."""
        return {
            **self._obtained,
            "static_shapes": len(self._static),
            "beyond_buckets": "compiled dynamic on first need",
        }

    def __call__(self, feed: Feed) -> dict[str, Any]:
        try:
            with self._turn:
                return {name: value.copy() for name, value in self._run(feed).items()}
        except RuntimeError as error:  # OpenVINO's, for whatever happens while it runs
            raise CandidateBroken(f"OpenVINO could not run: {str(error).strip()[:400]}") from None

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """Routing, and padding into the bucket's own buffers, are inside; outputs are views."""
        self(feed)
        return lambda: self._run(feed)

    def _run(self, feed: Feed) -> dict[str, Any]:
        try:
            kinds = tuple((feed[name].shape, feed[name].dtype) for name in self._names)
            route = self._routes.get(kinds)
        except (KeyError, AttributeError):  # said better by arrays.fit
            route, kinds = None, ()
        if route is None or len(feed) != len(self._names):
            route = self._route(feed)
            self._routes[kinds] = route
        return route(feed)

    def _route(self, feed: Feed) -> Route:
        arrays.fit(feed, self._plan.model.inputs)
        if self._model is None:
            raise CandidateBroken("the engine is closed: load it again")
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        wanted = pad.sizes_of(self._plan.model, feed)
        chosen = pad.fitting([s.sizes for s in self._static], wanted, self._axes)
        if chosen is None:
            return self._dynamic_route()
        return self._static_route(next(s for s in self._static if s.sizes == chosen), wanted)

    def _dynamic_route(self) -> Route:
        if self._dynamic is None:
            self._dynamic = self._compile_dynamic()
        request = self._dynamic

        def run(feed: Feed) -> dict[str, Any]:
            given = {k: numpy.ascontiguousarray(v) for k, v in feed.items()}
            found = request.infer(given, share_inputs=True, share_outputs=True)
            return {port.get_any_name(): value for port, value in found.items()}

        return run

    def _static_route(self, static: _Static, wanted: pad.Sizes) -> Route:
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
        with self._turn:
            self._static, self._dynamic, self._model, self._routes = [], None, None, {}


def _place(shape: Sequence[int | str], sizes: pad.Sizes) -> tuple[slice, ...]:
    """Where an array of these sizes lies in its bucket's buffer."""
    return tuple(slice(0, sizes.get(d)) if isinstance(d, str) else slice(None) for d in shape)
