"""Baked constants of a kernel as attributes of a TensorRT plugin, on their way there and back.

TensorRT's parser hands a node's numbers over as arrays of 32 bits each, and a string with the NUL that
ends it (onnx-tensorrt, onnxOpImporters.cpp, loadFields).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import GenericAlias
from typing import Any

import numpy as np

from accel.errors import CandidateBroken
from accel.values import Options

OPSET = 23  # to ask a function at; its attributes are the same at any
TO = "to"  # the ONNX type of the outputs, on nodes of functions whose inputs do not tell it


def declared(member: Any) -> Options:
    """Those baked constants that the op's ONNX function declares, so that its nodes carry them, and
    the type of its outputs where it has an attribute for that. Nodes must state them all."""
    body = member.function(OPSET)
    optional = {a.name: a.i for a in body.attribute_proto}
    named = {k: v for k, v in member.VARIANTS[0].items() if k in {*body.attribute, *optional}}
    return named | ({TO: optional[TO]} if TO in optional else {})


def annotation(value: Any) -> Any:
    """The type that a plugin states for it.

    Numbers go as arrays: TensorRT 10 fails to make scalars of them under numpy 2.4 and later."""
    if isinstance(value, str):
        return str
    first = value[0] if isinstance(value, (list, tuple)) else value
    kind = np.float32 if isinstance(first, float) else np.int64
    return GenericAlias(np.ndarray, (Any, GenericAlias(np.dtype, (kind,))))


def unreadable(attributes: Options) -> str:
    """Why this TensorRT cannot read one of them; empty where it can.

    Tried, not looked up: which numpy a wheel was built for stands nowhere."""
    import tensorrt

    long = [k for k, v in attributes.items() if isinstance(v, (str, list, tuple))]
    values = np.array([1, 2])  # the field points into it, and keeps no copy
    field = tensorrt.PluginField("tried", values, tensorrt.PluginFieldType.INT64)
    if not long or list(field.data) == [1, 2]:
        return ""
    return (
        f"attribute {long[0]} has several elements, which TensorRT {tensorrt.__version__} reads as copies "
        f"of the first under numpy {np.__version__}. Use TensorRT 10.16 or newer, or numpy below 2"
    )


def baked(member: Any, given: Mapping[str, Any], attributes: Options) -> Options:
    """The kernel's constants as a node states them, the others as in the first variant.

    Raises CandidateBroken for a word that none of the kernel's variants has."""
    found = {k: constant(given[k], like) for k, like in attributes.items() if k != TO}
    for key, word in found.items():
        words = {v[key] for v in member.VARIANTS if isinstance(v.get(key), str)}
        if words and word not in words:
            raise CandidateBroken(
                f"{member.OP} has no variant with {key}={word!r}: it is one of {', '.join(sorted(words))}."
            )
    return {**member.VARIANTS[0], **found}


def makes(given: Mapping[str, Any], dtype: str) -> bool:
    """Does the node say that its outputs are of this dtype, or nothing about it?"""
    return TO not in given or constant(given[TO], 0) == onnx_type(dtype)


def onnx_type(dtype: str) -> int:
    """The number of a dtype in ONNX."""
    from onnx import TensorProto

    return int(TensorProto.DataType.Value({"float32": "FLOAT"}.get(dtype, dtype.upper())))


def constant(found: Any, like: Any) -> Any:
    """An attribute's value as the baked constant it stands for: the shortest decimal that is it."""
    if isinstance(like, str):
        return str(found).rstrip("\0")
    items = [float(str(v)) if isinstance(v, np.floating) else int(v) for v in np.ravel(found)]
    return items if isinstance(like, (list, tuple)) else type(like)(items[0])
