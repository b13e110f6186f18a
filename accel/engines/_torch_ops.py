"""Members of kernels/ as torch.library operators: torch.ops.accel.<kernel>(*inputs, **baked).

One definition serves all of them, built from what a kernel says of itself: its signature gives the
schema, `output_shapes` the shapes while tracing, `reference` the values on a CPU, and accel.cuda
starts it on a GPU. Baked constants are keyword arguments, and so is `dtype` where the inputs do not
tell it. (torch.library, "Creating new custom ops in Python")
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from accel import catalog
from accel.errors import UsageError
from accel.protocols import Signature
from accel.values import Options

NAMESPACE = "accel"
DTYPE = "dtype"  # a keyword of operators whose inputs do not tell it
SCHEMA_TYPES = {bool: "bool", int: "int", float: "float", str: "str"}


@functools.cache
def operator(kernel: str) -> Any:
    """The overload torch.ops.accel.<kernel>.default, registered on first use in a process.

    Raises UsageError for an unknown kernel, MissingExtra where numba is not installed."""
    member = catalog.load("kernels", kernel)
    made = torch.library.custom_op(
        f"{NAMESPACE}::{kernel}",
        functools.partial(_reference, kernel, member),
        mutates_args=(),
        device_types="cpu",
        schema=schema(member),
    )
    made.register_fake(functools.partial(_fake, kernel, member))
    made.register_kernel("cuda")(functools.partial(_launch, kernel, member))
    return getattr(getattr(torch.ops, NAMESPACE), kernel).default


def schema(member: Any) -> str:
    """ "(Tensor x, ..., *, float epsilon) -> (Tensor, Tensor)": tensors, then baked constants."""
    baked = member.VARIANTS[0]
    found: Signature = member.signature(member.DTYPES[0], baked)
    named = {**baked, DTYPE: ""} if asks_dtype(member) else baked
    words = [f"Tensor {name}" for name, _ in found.inputs]
    words += ["*"] if named else []
    words += [f"{SCHEMA_TYPES[type(value)]} {name}" for name, value in named.items()]
    results = ", ".join(["Tensor"] * len(found.outputs))
    return f"({', '.join(words)}) -> ({results})"


def asks_dtype(member: Any) -> bool:
    """Do the inputs leave open which dtype is meant, as where only the output has it?"""
    kinds = {member.signature(dtype, member.VARIANTS[0]).inputs for dtype in member.DTYPES}
    return len(kinds) < len(member.DTYPES)


def dtype_of(kernel: str, member: Any, tensors: Sequence[Any], baked: Options) -> str:
    """The dtype, of those that the kernel is generic over, whose signature these tensors fit.

    `baked` names it where the tensors cannot tell. Raises UsageError where there is none: nothing is
    cast without a word."""
    given = [name_of(tensor.dtype) for tensor in tensors]
    named = baked.get(DTYPE)
    for dtype in member.DTYPES if named is None else {named} & set(member.DTYPES):
        if given == [kind for _, kind in member.signature(dtype, baked).inputs]:
            return str(dtype)
    words = ", ".join(given if named is None else [*given, f"{DTYPE} {named!r}"])
    raise UsageError(
        f"Kernel {kernel!r} does not take {words}. It is made for: "
        f"{', '.join(member.DTYPES)}. Cast its inputs, or leave it out of option 'kernels'."
    )


def name_of(dtype: Any) -> str:
    """torch.float32 -> "float32"."""
    return str(dtype).removeprefix("torch.")


def shapes_of(signature: Signature, tensors: Sequence[Any]) -> dict[str, tuple[Any, ...]]:
    """Input name -> sizes, symbols among them while tracing."""
    return {n: tuple(t.shape) for (n, _), t in zip(signature.inputs, tensors, strict=True)}


def _told(kernel: str, member: Any, tensors: Sequence[Any], named: Options) -> tuple[str, Options]:
    """The dtype, and the baked constants without it."""
    baked = {name: value for name, value in named.items() if name != DTYPE}
    return dtype_of(kernel, member, tensors, named), baked


def _fake(kernel: str, member: Any, *tensors: Any, **named: Any) -> Any:
    dtype, baked = _told(kernel, member, tensors, named)
    return _blank(member, dtype, tensors, baked)


def _blank(member: Any, dtype: str, tensors: Sequence[Any], baked: Options) -> Any:
    """Outputs without values, on the inputs' device: one tensor, or a tuple of several."""
    signature = member.signature(dtype, baked)
    sizes = member.output_shapes(shapes_of(signature, tensors), baked)
    made = [
        tensors[0].new_empty(sizes[name], dtype=getattr(torch, kind))
        for name, kind in signature.outputs
    ]
    return made[0] if len(made) == 1 else tuple(made)


def _reference(kernel: str, member: Any, *tensors: Any, **named: Any) -> Any:
    """float64 in numpy, rounded once to the output's dtype: slow, and right."""
    dtype, baked = _told(kernel, member, tensors, named)
    signature = member.signature(dtype, baked)
    given = {n: _numpy(t) for (n, _), t in zip(signature.inputs, tensors, strict=True)}
    with np.errstate(all="ignore"):  # NaN and infinity go through, as on a GPU
        found: Mapping[str, Any] = member.reference(given, baked)
    made = [_tensor(found[name], kind) for name, kind in signature.outputs]
    return made[0] if len(made) == 1 else tuple(made)


def _numpy(tensor: Any) -> Any:
    dense = tensor.detach().contiguous()
    if dense.dtype != torch.bfloat16:
        return dense.numpy()
    import ml_dtypes

    return dense.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def _tensor(values: Any, dtype: str) -> Any:
    """A tensor of its own, rounded to the dtype."""
    array = np.array(stored(values, dtype), order="C")
    if dtype != "bfloat16":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)


def stored(values: Any, dtype: str) -> Any:
    """numpy's array of a dtype, bfloat16 as ml_dtypes has it."""
    if dtype == "bfloat16":
        import ml_dtypes

        return np.asarray(values).astype(ml_dtypes.bfloat16)
    return np.asarray(values).astype(dtype)


def _launch(kernel: str, member: Any, *tensors: Any, **named: Any) -> Any:
    """On the current stream of the tensors' GPU, in memory that torch owns."""
    from accel.cuda import launch  # needed, and its libraries there, where there is a GPU

    dtype, baked = _told(kernel, member, tensors, named)
    signature = member.signature(dtype, baked)
    dense = [t.contiguous() for t in tensors]  # kernels read plain pointers
    made = _blank(member, dtype, dense, baked)
    outputs = made if isinstance(made, tuple) else (made,)
    given = dict(zip((n for n, _ in signature.inputs), dense, strict=True))
    results = dict(zip((n for n, _ in signature.outputs), outputs, strict=True))
    launch.run(kernel, given, results, baked, dtype=dtype)
    return made
