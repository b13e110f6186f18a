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
from accel.engines import _openvino_placement
from accel.engines._asked import Asked
from accel.engines._openvino_branches import branches, turns
from accel.errors import CandidateBroken
from accel.plain import flat
from accel.values import Feed, Model, Options, Placement, Plan

MOST_ROUTES = 4096  # shapes remembered; a route is small, but traffic may never repeat itself

Route = Callable[[Feed, bool], dict[str, Any]]  # the feed, and whether its caller owns the outputs


@dataclass(frozen=True)
class Compiled:
    """OpenVINO's compiled model, and what was read back from it."""

    model: Any
    facts: Options


class _Static:
    """The compiled branches, each with input buffers of its own.

    An inference leaves the caches without Python's code and data: what is done here took 24 us
    beside 800 us of MiniLM, and 7 when timed alone. What a route can know is worked out once."""

    def __init__(
        self, compiled: Any, model: Model, shapes: Sequence[pad.Sizes], fill: Mapping[str, float]
    ) -> None:
        self.shapes, self.request, self.model = shapes, compiled.create_infer_request(), model
        self.fill = {p.name: fill.get(p.name, 0) for p in model.inputs}
        names, ports = list(self.fill), list(compiled.inputs)
        end = len(shapes) * len(names)
        buffers = [self._buffer(port) for port in ports[:end]]
        self.inputs = [
            dict(zip(names, buffers[i : i + len(names)], strict=True))
            for i in range(0, end, len(names))
        ]
        self.takes = numpy.zeros(len(ports) - end, bool)
        for i, port in enumerate(ports[end:]):
            take = self.takes[i : i + 1].reshape(())  # a view: one write sets them all
            self.request.set_tensor(port, openvino.Tensor(take, shared_memory=True))

    def _buffer(self, port: Any) -> Any:
        tensor = openvino.Tensor(port.get_element_type(), port.get_shape())
        tensor.data[...] = 0
        self.request.set_tensor(port, tensor)
        return tensor.data

    def route(self, chosen: int, wanted: pad.Sizes) -> Route:
        """The way of one shape: into the branch's buffers, padded, and out without the padding."""
        model, inputs = self.model, self.inputs[chosen]
        takes, infer = self.takes, self.request.infer
        exact = wanted == self.shapes[chosen]
        fills = [] if exact else [(inputs[name], fill) for name, fill in self.fill.items()]
        copies = [(inputs[p.name][_place(p.shape, wanted)], p.name) for p in model.inputs]
        way = numpy.array(turns(chosen, len(self.shapes)), bool)
        names = [p.name for p in model.outputs]
        cuts = {} if exact else {p.name: _place(p.shape, wanted) for p in model.outputs}

        def run(feed: Feed, owned: bool) -> dict[str, Any]:
            takes[:] = way
            for buffer, fill in fills:
                buffer[...] = fill
            for place, name in copies:
                place[...] = feed[name]
            values = infer(share_inputs=True, share_outputs=not owned).values()
            found = dict(zip(names, values, strict=True))
            return {name: found[name][cut] for name, cut in cuts.items()} if cuts else found

        return run


class Session:
    """Routes each feed to the smallest static shape that holds it, or to the dynamic plan."""

    def __init__(self, model: Any, plan: Plan, compile_: Callable[[Any], Compiled]) -> None:
        self._model, self._plan, self._compile = model, plan, compile_
        self._names = [p.name for p in plan.model.inputs]
        self._fill: Mapping[str, float] = plan.options.get("padding", {})
        self._axes = pad.padded_axes(plan.model, self._fill)
        self._obtained: Options = {}
        found = plan.options.get("buckets") or []
        self._shapes = [b for b in found if isinstance(b, dict)]
        self._static = self._compile_static() if self._shapes else None
        self._dynamic: Any = None if self._static else self._compile_dynamic()
        self._routes: dict[Any, Route] = {}
        self._turn = threading.Lock()  # buffers are shared: a call holds them until it has copied

    def _compile_static(self) -> _Static:
        model = self._plan.model
        compiled = self._compile(branches(self._model, model.inputs, self._shapes))
        self._obtained = compiled.facts
        return _Static(compiled.model, model, self._shapes, self._fill)

    def _compile_dynamic(self) -> Any:
        compiled = self._compile(self._model)
        self._obtained = compiled.facts
        return compiled.model.create_infer_request()

    @property
    def facts(self) -> Options:
        """What was obtained, for the plan."""
        return {
            **self._obtained,
            "static_shapes": len(self._shapes),
            "beyond_buckets": "compiled dynamic on first need",
        }

    def placement(self, wanted: Asked) -> Placement:
        """Where its layers run, against what the graph asks for. The plugin does not tell what is
        in a branch: of several static shapes the first is compiled once more, apart."""
        hint, shapes = str(self._plan.options["precision"]), self._shapes
        if self._static is None:
            compiled, which = self._dynamic.get_compiled_model(), "dynamic shapes"
        elif len(shapes) == 1:
            compiled, which = self._static.request.get_compiled_model(), f"{shapes[0]}"
        else:
            model = branches(self._model, self._plan.model.inputs, shapes[:1])
            compiled = self._compile(model).model
            which = f"{shapes[0]}, the first of {len(shapes)} static shapes"
        return _openvino_placement.read(compiled, wanted, hint, which)

    def __call__(self, feed: Feed) -> dict[str, Any]:
        try:
            with self._turn:
                return self._run(feed, owned=True)
        except RuntimeError as error:  # OpenVINO's, for whatever happens while it runs
            raise _broken(error) from None

    def bind(self, feed: Feed) -> Callable[[], Any]:
        """Routing, and padding into the bucket's own buffers, are inside; outputs are views, which the
        next call of anyone's may overwrite."""
        self(feed)

        def call() -> dict[str, Any]:
            try:
                with self._turn:
                    return self._run(feed, owned=False)
            except RuntimeError as error:
                raise _broken(error) from None

        return call

    def _run(self, feed: Feed, owned: bool) -> dict[str, Any]:
        try:
            kinds = tuple([(feed[name].shape, feed[name].dtype) for name in self._names])
            route = self._routes.get(kinds)
        except (KeyError, AttributeError):  # said better by arrays.fit
            route, kinds = None, ()
        if route is None or len(feed) != len(self._names):
            route = self._route(feed)
            self._routes[kinds] = route
        return route(feed, owned)

    def _route(self, feed: Feed) -> Route:
        arrays.fit(feed, self._plan.model.inputs)
        if self._model is None:
            raise CandidateBroken("the engine is closed: load it again")
        if len(self._routes) >= MOST_ROUTES:
            self._routes.clear()
        wanted = pad.sizes_of(self._plan.model, feed)
        chosen = pad.fitting(self._shapes, wanted, self._axes)
        if chosen is None or self._static is None:
            return self._dynamic_route()
        return self._static.route(self._shapes.index(chosen), wanted)

    def _dynamic_route(self) -> Route:
        if self._dynamic is None:
            self._dynamic = self._compile_dynamic()
        request, names = self._dynamic, [p.name for p in self._plan.model.outputs]

        def run(feed: Feed, owned: bool) -> dict[str, Any]:
            given = {k: numpy.asarray(v, order="C") for k, v in feed.items()}
            found = request.infer(given, share_inputs=True, share_outputs=not owned)
            # by place: a tensor may bear two outputs' names, or an input's, and gives any of them
            return dict(zip(names, found.values(), strict=True))

        return run

    def close(self) -> None:
        with self._turn:
            self._static, self._dynamic, self._model, self._routes = None, None, None, {}


def _broken(error: RuntimeError) -> CandidateBroken:
    return CandidateBroken(f"OpenVINO could not run: {flat(error)[:400]}")


def _place(shape: Sequence[int | str], sizes: pad.Sizes) -> Any:
    """Where an array of these sizes lies in its bucket's buffer: all of it, where it has no axes."""
    whole = tuple(slice(0, sizes.get(d)) if isinstance(d, str) else slice(None) for d in shape)
    return whole or ...
