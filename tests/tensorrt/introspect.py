"""What a version of TensorRT's Python bindings offers, as JSON: classes, signatures, enums, functions.

It runs in a process of its own over the stub libraries, since one process holds one version. The file
is made anew for each test run and never committed: its words are those of NVIDIA's docstrings.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import tensorrt
from tensorrt import tensorrt as native

CALLABLES = ("instancemethod", "builtin_function_or_method", "staticmethod", "method")


def signatures(name: str, documented: Any) -> list[str]:
    """The lines of a docstring that are signatures; of an overload, each of them."""
    line = re.compile(rf"^(?:\d+\. )?({re.escape(name)}\(.*)$")
    found = [m[1] for m in map(line.match, (documented.__doc__ or "").splitlines()) if m]
    return [sig for sig in found if sig != f"{name}(*args, **kwargs)"]


def described(kind: type) -> dict[str, Any]:
    """One class: its methods, its properties and whether they can be set, and its constants."""
    body = dict(kind.__dict__)
    methods = {
        name: signatures(name, value)
        for name, value in body.items()
        if type(value).__name__ in CALLABLES and signatures(name, value)
    }
    properties = {k: v.fset is not None for k, v in body.items() if isinstance(v, property)}
    static = [k for k, v in body.items() if type(v).__name__ == "pybind11_static_property"]
    constants = {k: getattr(kind, k) for k in static if isinstance(getattr(kind, k), int)}
    bases = [base.__name__ for base in kind.__bases__ if base.__module__.startswith("tensorrt")]
    return {"bases": bases, "methods": methods, "properties": properties, "constants": constants}


def walk(prefix: str, holder: Any, found: dict[str, Any]) -> None:
    """Classes and enums, and those nested in them."""
    for name, value in list(vars(holder).items()):
        if type(value).__name__ != "pybind11_type" or value.__qualname__ != f"{prefix}{name}":
            continue
        if hasattr(value, "__members__"):
            members = value.__members__.items()
            found["enums"][value.__qualname__] = {k: int(v) for k, v in members}
            continue
        found["classes"][value.__qualname__] = described(value)
        walk(f"{value.__qualname__}.", value, found)


def main(out: str) -> None:
    found: dict[str, Any] = {"version": tensorrt.__version__, "classes": {}, "enums": {}}
    walk("", native, found)
    found["functions"] = {
        name: signatures(name, value)
        for name, value in vars(native).items()
        if type(value).__name__ in CALLABLES
    }
    found["values"] = {  # float32 and its like
        name: [type(value).__qualname__, value.name]
        for name, value in vars(native).items()
        if type(value).__qualname__ in found["enums"]
    }
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
