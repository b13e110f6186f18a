"""What has to be true, and known, before a kernel is started: worked out once per sizes and dtypes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accel import catalog
from accel.cuda import loading, views
from accel.cuda.loading import Loaded
from accel.errors import UsageError
from accel.values import Options

GRID = (2**31 - 1, 65535, 65535)  # the most blocks an axis: CUDA Programming Guide, 5.4.1 table 30
INT32 = 2**31 - 1

Given = Mapping[str, views.Facts]  # name -> an array's


@dataclass(frozen=True)
class Plan:
    """A launch without its addresses."""

    kernel: str
    dtype: str
    loaded: Loaded
    geometry: tuple[int, ...]  # blocks on x, y, z, then threads on x, y, z
    scalars: tuple[int, ...]
    inputs_at: tuple[int, ...]  # where, among the arrays given, each parameter's is
    outputs_at: tuple[int, ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]  # (name, dtype, sizes) a parameter
    types: tuple[Any, ...]  # a C type a parameter
    empty: bool  # nothing to compute


def make(
    kernel: str,
    dtype: str | None,
    baked: Options | None,
    inputs: Given,
    outputs: Given | None,
    stream: int | None = None,
) -> Plan:
    """Check the arrays, load the kernel, fix the geometry.

    Raises UsageError naming the array and what was allowed."""
    member = catalog.load("kernels", kernel)
    constants = member.VARIANTS[0] if baked is None else baked
    loading.require_constants(kernel, member, constants)
    chosen = _dtype(kernel, member, dtype, constants, inputs, outputs)
    signature = member.signature(chosen, constants)
    _require(kernel, "input", signature.inputs, inputs)
    shapes = {name: tuple(map(int, facts[0])) for name, facts in inputs.items()}
    launch, sizes = _geometry(kernel, member, shapes, chosen, constants)
    results = tuple((name, kind, tuple(map(int, sizes[name]))) for name, kind in signature.outputs)
    if outputs is not None:
        _require(kernel, "output", signature.outputs, outputs)
        _require_sizes(kernel, results, outputs)
    device = _device(kernel, {**inputs, **(outputs or {})})
    geometry = (*map(int, launch.grid), *launch.block)
    scalars = tuple(map(int, launch.scalars))
    _require_limits(kernel, geometry, scalars)
    pointers = len(signature.inputs), len(signature.outputs)
    return Plan(
        kernel,
        chosen,
        loading.load(kernel, chosen, constants, device, stream),
        geometry,
        scalars,
        _places(signature.inputs, inputs),
        _places(signature.outputs, outputs),
        results,
        (ctypes.c_void_p,) * pointers[0]
        + (ctypes.c_int32,) * len(scalars)
        + (ctypes.c_void_p,) * pointers[1],
        0 in geometry,
    )


def _geometry(kernel: str, member: Any, shapes: Any, dtype: str, baked: Options) -> tuple[Any, Any]:
    try:
        return member.launch(shapes, dtype, baked), member.output_shapes(shapes, baked)
    except (IndexError, ValueError) as error:  # an axis that is not there, or one too many
        told = ", ".join(f"{name} {list(sizes)}" for name, sizes in shapes.items())
        raise UsageError(
            f"{kernel} does not take arrays of these ranks: {told}. Run: accel kernels list "
            f"--kernel {kernel}"
        ) from error


def _places(ports: tuple[tuple[str, str], ...], given: Given | None) -> tuple[int, ...]:
    order = list(given) if given is not None else [name for name, _ in ports]
    return tuple(order.index(name) for name, _ in ports)


def _dtype(
    kernel: str,
    member: Any,
    asked: str | None,
    baked: Options,
    inputs: Given,
    outputs: Given | None,
) -> str:
    """The one dtype of the kernel whose signature the arrays fit."""
    if asked is not None:
        if asked not in member.DTYPES:
            raise UsageError(
                f"{kernel} has no dtype {asked!r}. It has: {', '.join(member.DTYPES)}."
            )
        return asked
    found = {**inputs, **(outputs or {})}

    def misfits(dtype: str) -> list[tuple[str, str]]:
        signature = member.signature(dtype, baked)
        ports = (*signature.inputs, *(signature.outputs if outputs is not None else ()))
        return [p for p in ports if p[0] in found and views.dtype_name(found[p[0]][1]) != p[1]]

    fits = [dtype for dtype in member.DTYPES if not misfits(dtype)]
    if len(fits) == 1:
        return str(fits[0])
    if fits:
        raise UsageError(
            f"{kernel}: the arrays fit {' and '.join(fits)}. Say which, as dtype={fits[0]!r}, or "
            f"give the outputs."
        )
    nearest = min(member.DTYPES, key=lambda dtype: len(misfits(dtype)))
    name, wanted = misfits(nearest)[0]
    raise UsageError(
        f"{kernel}: {name!r} is {views.dtype_name(found[name][1])}; beside the other arrays it has "
        f"to be {wanted}. The kernel has: {', '.join(member.DTYPES)}. Nothing is cast."
    )


def _require(kernel: str, what: str, ports: tuple[tuple[str, str], ...], given: Given) -> None:
    names = [name for name, _ in ports]
    if set(names) != set(given):
        raise UsageError(
            f"{kernel} takes the {what}s {', '.join(names)}; given were {', '.join(given) or 'none'}."
        )
    for name, dtype in ports:
        reason = views.refusal(given[name])
        if reason:
            raise UsageError(f"{kernel}: the {what} {name!r} {reason}.")
        found = views.dtype_name(given[name][1])
        if found != dtype:
            raise UsageError(
                f"{kernel}: the {what} {name!r} is {found}; it has to be {dtype}. Nothing is cast."
            )


def _require_sizes(
    kernel: str, wanted: tuple[tuple[str, str, tuple[int, ...]], ...], given: Given
) -> None:
    for name, _, shape in wanted:
        if not given[name][4]:
            raise UsageError(f"{kernel}: the output {name!r} is read-only.")
        if tuple(given[name][0]) != shape:
            raise UsageError(
                f"{kernel}: the output {name!r} is {list(given[name][0])}; for these inputs it has "
                f"to be {list(shape)}."
            )


def _device(kernel: str, given: Given) -> int:
    places = {name: int(facts[2]) for name, facts in given.items()}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in places.items())
        raise UsageError(f"{kernel}: all arrays have to be on one device; here: {listed}.")
    return next(iter(places.values()))


def _require_limits(kernel: str, geometry: tuple[int, ...], scalars: tuple[int, ...]) -> None:
    for blocks, most in zip(geometry, GRID, strict=False):
        if blocks > most:
            raise UsageError(f"{kernel}: {blocks} blocks along one axis; a GPU takes {most}.")
    for value in scalars:
        if not -INT32 - 1 <= value <= INT32:
            raise UsageError(
                f"{kernel}: a size of {value} does not fit the int32 of its parameters."
            )
