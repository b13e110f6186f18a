"""What a torch module computes with: tensors, the plain values it holds, and the code of its classes.

Its state_dict alone is not enough: buffers that are not persistent are not in it, and neither are a
scale, a number of heads or a mask that stands as a plain attribute. Nor is the workload's own digest,
of code: what model() alone finds, by a name or a path that it makes, is known once it has run.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from accel import sources

DEPTH = 8  # of containers in containers: whatever nests deeper is no setting


def digest(module: Any) -> str:
    """sha256 of it all. An attribute of a kind of its own counts by its class alone."""
    total = hashlib.sha256()
    seen: dict[int, Any] = {}
    for part in _told(module, seen):
        total.update(part)
    kinds = {kind for part in seen.values() for kind in type(part).__mro__}
    total.update(sources.loaded({kind.__module__ for kind in kinds}).encode())
    return total.hexdigest()


def _told(module: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """`seen`: the modules that were told, by id. One in a plain list or dict is none of the others'
    named_modules, and may hold them in turn."""
    import torch

    internal = vars(torch.nn.Module())
    seen[id(module)] = module
    for name, tensor in sorted(module.state_dict().items()):
        yield from _tensor(name, tensor)
    if not hasattr(module, "named_modules"):
        return
    for name, buffer in sorted(module.named_buffers()):
        yield from _tensor(name, buffer)
    seen.update((id(part), part) for _, part in module.named_modules())
    for name, part in module.named_modules():
        yield f"{name} is a {type(part).__qualname__};".encode()
        for key, value in sorted(vars(part).items()):
            if key not in internal:
                yield f"{key}=".encode()
                yield from _value(value, seen)


def _tensor(name: str, tensor: Any) -> Iterator[bytes]:
    import torch

    array = tensor.detach().cpu().contiguous()
    yield f"{name} {array.dtype} {tuple(array.shape)};".encode()
    yield array.flatten().view(torch.uint8).numpy().tobytes()


def _value(value: Any, seen: dict[int, Any], depth: int = DEPTH) -> Iterator[bytes]:
    """A setting as bytes that are the same in every process: an object's address is not."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        yield from _tensor("", value)
    elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
        yield f"{value.dtype.str} {value.shape};".encode() + np.ascontiguousarray(value).tobytes()
    elif isinstance(value, torch.nn.Module) or not depth:
        yield type(value).__qualname__.encode()
        if isinstance(value, torch.nn.Module) and id(value) not in seen:
            yield from _told(value, seen)
    elif isinstance(value, enum.Enum) or value is None:
        yield str(value).encode()
    elif isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device)):
        yield f"{type(value).__name__} {value!r};".encode()
    else:
        yield from _container(value, seen, depth - 1)


def _container(value: Any, seen: dict[int, Any], depth: int) -> Iterator[bytes]:
    yield f"{type(value).__qualname__}(".encode()
    if isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield from (*_value(key, seen, depth), *_value(value[key], seen, depth))
    elif isinstance(value, (set, frozenset)):
        yield from sorted(b"".join(_value(one, seen, depth)) for one in value)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _value(one, seen, depth)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _value(getattr(value, field.name, None), seen, depth)
    elif callable(getattr(value, "to_dict", None)) and not isinstance(value, type):
        yield from _value(value.to_dict(), seen, depth)  # transformers' configurations
    else:
        yield str(getattr(value, "__qualname__", "")).encode()  # a function's or a class's name
    yield b")"
