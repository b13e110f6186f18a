"""Members of kernels/ as torch.library operators: torch.ops.accel.<kernel>(*inputs, **baked).

One definition serves all of them, built from what a kernel says of itself: its signature gives the
schema, `output_shapes` the shapes while tracing, `reference` the values on a CPU, and `launch` runs
on a GPU. Baked constants are keyword arguments. (torch.library, "Creating new custom ops in Python")
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
    words = [f"Tensor {name}" for name, _ in found.inputs]
    words += ["*"] if baked else []
    words += [f"{SCHEMA_TYPES[type(value)]} {name}" for name, value in baked.items()]
    results = ", ".join(["Tensor"] * len(found.outputs))
    return f"({', '.join(words)}) -> ({results})"


def dtype_of(kernel: str, member: Any, tensors: Sequence[Any], baked: Options) -> str:
    """The dtype, of those that the kernel is generic over, whose signature these tensors fit.

    Raises UsageError where there is none: nothing is cast without a word."""
    given = [name_of(tensor.dtype) for tensor in tensors]
    for dtype in member.DTYPES:
        if given == [kind for _, kind in member.signature(dtype, baked).inputs]:
            return str(dtype)
    raise UsageError(
        f"Kernel {kernel!r} does not take {', '.join(given)}. It is made for: "
        f"{', '.join(member.DTYPES)}. Cast its inputs, or leave it out of option 'kernels'."
    )


def name_of(dtype: Any) -> str:
    """torch.float32 -> "float32"."""
    return str(dtype).removeprefix("torch.")


def shapes_of(signature: Signature, tensors: Sequence[Any]) -> dict[str, tuple[Any, ...]]:
    """Input name -> sizes, symbols among them while tracing."""
    return {n: tuple(t.shape) for (n, _), t in zip(signature.inputs, tensors, strict=True)}


def _fake(kernel: str, member: Any, *tensors: Any, **baked: Any) -> Any:
    return _blank(member, dtype_of(kernel, member, tensors, baked), tensors, baked)


def _blank(member: Any, dtype: str, tensors: Sequence[Any], baked: Options) -> Any:
    """Outputs without values, on the inputs' device: one tensor, or a tuple of several."""
    signature = member.signature(dtype, baked)
    sizes = member.output_shapes(shapes_of(signature, tensors), baked)
    made = [
        tensors[0].new_empty(sizes[name], dtype=getattr(torch, kind))
        for name, kind in signature.outputs
    ]
    return made[0] if len(made) == 1 else tuple(made)


def _reference(kernel: str, member: Any, *tensors: Any, **baked: Any) -> Any:
    """float64 in numpy, rounded once to the output's dtype: slow, and right."""
    signature = member.signature(dtype_of(kernel, member, tensors, baked), baked)
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


def _launch(kernel: str, member: Any, *tensors: Any, **baked: Any) -> Any:
    """On the current stream of the tensors' GPU, in memory that torch owns."""
    from accel.cuda import launch  # needed, and its libraries there, where there is a GPU

    dtype = dtype_of(kernel, member, tensors, baked)
    signature = member.signature(dtype, baked)
    dense = [t.contiguous() for t in tensors]  # kernels read plain pointers
    made = _blank(member, dtype, dense, baked)
    outputs = made if isinstance(made, tuple) else (made,)
    given = dict(zip((n for n, _ in signature.inputs), dense, strict=True))
    results = dict(zip((n for n, _ in signature.outputs), outputs, strict=True))
    launch.run(kernel, given, results, baked, dtype=dtype)
    return made
