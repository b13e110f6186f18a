"""What a fake TensorRT keeps books of, and what tests tell it to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

NO_IMPLEMENTATION = (
    "Error Code 10: Internal Error (Could not find any implementation for node {ForeignNode[made "
    "up]}.)"
)


@dataclass
class World:
    """The machine and the moods of a fake TensorRT; one for each time that it is installed."""

    version: str = ""
    sm: str = "9.0"  # of the GPU that builds and loads
    dla_cores: int = 0
    # ---- building
    out_of_memory_builds: int = 0  # so many builds fail, of those with a larger workspace than:
    out_of_memory_above_bytes: int = 0
    out_of_memory_says: str = NO_IMPLEMENTATION
    parse_errors: tuple[Mapping[str, Any], ...] = ()  # desc, node, node_name, node_operator, code
    refit_errors: tuple[Mapping[str, Any], ...] = ()
    build_messages: tuple[tuple[str, str], ...] = ()  # (severity's name, text), logged by a build
    layers: str = ""  # the inspector's JSON; empty: made of the graph's nodes
    nondeterministic: bool = False  # a build's bytes differ from those of the build before
    # ---- running
    missing_creators: tuple[str, ...] = ()  # plugins that no engine loads without
    data_dependent: tuple[str, ...] = ()  # outputs, besides those that the graph tells
    uncapturable: str = ""  # what is logged when a graph capture is spoilt
    no_context: str = ""  # what is logged when no context can be put on a profile
    shapes_fail: str = ""  # what is logged when infer_shapes raises
    execution_fails: str = ""  # what is logged when execute_async_v3 returns False
    scratch_bytes: int = 1024  # per profile: this times its number from 1 on
    # ---- books
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    logged: list[tuple[str, str]] = field(default_factory=list)  # by trt.Logger itself
    runs: int = 0  # of execution contexts, replays of graphs included
    builds: int = 0
    _depth: int = 0
    creators: dict[tuple[str, str], Any] = field(default_factory=dict)  # of the plugin registry

    def note(self, name: str, arguments: dict[str, Any]) -> None:
        """Write a call down, unless it is the fake's own."""
        if not self._depth:
            self.calls.append((name, arguments))

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        """What is called from here on, the fake calls itself."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def called(self, name: str) -> list[dict[str, Any]]:
        """The arguments of each call of "Class.method", or of each setting of "Class.property"."""
        return [arguments for found, arguments in self.calls if found == name]

    def names(self) -> set[str]:
        """Everything of TensorRT that was touched, as "Class.method"."""
        return {found for found, _ in self.calls}
