"""A workload file, opened plainly: the arms must not go through accel to reach their problem."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Problem:
    """What the arms need of a workload file; the names are the file's own."""

    name: str
    model: Callable[[], Any]
    inputs: Callable[[], Feed]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    calibration: Callable[[], Iterable[Feed]]
    samples: Callable[[str], Iterable[tuple[Feed, Any]]] | None  # None: there are no labels
    row: Callable[[Mapping[str, np.ndarray], Any], Any]
    metric: Callable[[Any], float]
    requests: Callable[[], Iterable[tuple[str, float, Feed]]]
    ports: tuple[str, ...]  # inputs, in the order that the module takes them


def load(path: Path) -> Problem:
    """The problem that a workload file states."""
    spec = importlib.util.spec_from_file_location(f"peers_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Problem(
        name=path.stem,
        outputs=tuple(getattr(module, "outputs", ("output_0",))),
        ports=tuple(module.inputs()),
        **{
            k: getattr(module, k, None)
            for k in Problem.__dataclass_fields__
            if k not in ("name", "outputs", "ports")
        },
    )
