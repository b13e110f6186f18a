"""Baked constants: which of them a kernel's code hangs on, and which the nodes of a graph state."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from accel import catalog, flatten, graph
from accel.values import Options


class _Asked(Mapping[str, Any]):
    """Constants that note which of them are looked at."""

    def __init__(self, baked: Options) -> None:
        self._baked, self.names = baked, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return self._baked[name]

    def __iter__(self) -> Iterator[str]:
        self.names.update(self._baked)
        return iter(self._baked)

    def __len__(self) -> int:
        self.names.update(self._baked)
        return len(self._baked)


def of_code(kernel: str, dtype: str, baked: Options) -> Options:
    """Those that the kernel's source looks at: others are arguments of a launch, and change no code."""
    names = _asked(kernel, dtype, tuple(sorted(baked.items())))
    return {name: value for name, value in baked.items() if name in names}


@functools.cache
def _asked(kernel: str, dtype: str, baked: tuple[tuple[str, Any], ...]) -> frozenset[str]:
    seen = _Asked(dict(baked))
    try:
        catalog.load("kernels", kernel).source(dtype, seen)
    except Exception:  # a kernel that has none of them, or no Numba: told where it is compiled
        return frozenset(name for name, _ in baked)
    return frozenset(seen.names)


def beyond(kernels: Sequence[str], graphs: Iterable[Any]) -> dict[str, tuple[Options, ...]]:
    """What nodes of these kernels state and none of the VARIANTS has the code of; each once."""
    nodes = [n for g in graphs for n in graph.walk(g) if n.domain == flatten.KERNELS]
    found: dict[str, tuple[Options, ...]] = {}
    for kernel in kernels:
        member = catalog.load("kernels", kernel)
        known = [of_code(kernel, member.DTYPES[0], variant) for variant in member.VARIANTS]
        for node in (n for n in nodes if n.op_type == member.OP):
            stated = _stated(node, member.VARIANTS[0])
            code = of_code(kernel, member.DTYPES[0], stated)
            if code not in known:
                known.append(code)
                found[kernel] = (*found.get(kernel, ()), stated)
    return found


def _stated(node: Any, usual: Options) -> Options:
    return {**usual, **{a.name: _value(a) for a in node.attribute if a.name in usual}}


def _value(attribute: Any) -> Any:
    """A float of ONNX has 32 bits: the shortest decimal that is it, as TensorRT's plugins read it."""
    import onnx

    found = onnx.helper.get_attribute_value(attribute)
    if isinstance(found, float):
        return float(str(np.float32(found)))
    return found.decode() if isinstance(found, bytes) else found
