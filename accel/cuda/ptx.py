"""Numba CUDA source to PTX, with no GPU and no driver: stable names, checked against its target.

The entry's mangled name and the numbers of its arrays count what the process compiled before, so they
are replaced; what is left is the same bytes for the same source and toolchain. `.target` and `.version` are read back: toolchains
older than a GPU clamp silently to one that they know.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import types as builtin
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from accel import catalog
from accel.errors import CandidateBroken, UsageError
from accel.protocols import Signature
from accel.values import Options

ENTRY = re.compile(r"\.visible \.entry (\w+)\(")
ENVIRONMENT = re.compile(r"^\.common \.global .*NumbaEnv.*;\n", re.MULTILINE)
MEMORY = re.compile(r"_cudapy_([a-z]+)_(\d+)")  # shared and constant arrays: numbered per process
PARAMETER = re.compile(r"\.param \.(\w+) ")
# the name stands after a function's return value, else last; shared memory is sized at the launch
EXTERN = re.compile(
    r"^\.extern (?!\.shared)(?:\.func\s+(?:\(.*?\)\s*)?|.*?)(\w+)(?:\[\d*\])?\s*[(;]", re.MULTILINE
)
STORAGE = {"bfloat16": "uint16", "bool": "uint8"}  # dtype -> how its bits are held
_LOCK = threading.Lock()  # the offline shim below is global


@dataclass(frozen=True)
class Ptx:
    """One kernel for one compute capability."""

    entry: str
    text: str
    compute_capability: str
    version: str  # of the PTX language: "9.0"
    parameters: tuple[str, ...]  # "u64" for a pointer, "u32" for an int32


def compile(kernel: str, dtype: str, baked: Options, compute_capability: str) -> Ptx:
    """The PTX of a member of kernels/, proven to fit its target and its signature.

    Raises UsageError for a dtype that the kernel does not have, CandidateBroken for source that
    does not compile or PTX that is not what was asked for."""
    member = catalog.load("kernels", kernel)
    require_dtype(kernel, member, dtype)
    signature = member.signature(dtype, baked)
    name = f"accel_{kernel}_{dtype}"
    text = _named(
        _compile(member.source(dtype, baked), signature, compute_capability, name), name, kernel
    )
    made = Ptx(name, text, compute_capability, _version(text), _parameters(text))
    _check(made, signature)
    return made


def lower(ptx: Ptx, newest: str) -> Ptx:
    """The same text marked as an older PTX version, where the target's driver knows no newer one.

    Only ptxas can tell whether the text uses anything newer: assemble what this gives."""
    if tuple(map(int, ptx.version.split("."))) <= tuple(map(int, newest.split("."))):
        return ptx
    text = ptx.text.replace(f".version {ptx.version}", f".version {newest}", 1)
    return dataclasses.replace(ptx, text=text, version=newest)


def require_dtype(kernel: str, member: Any, dtype: str) -> None:
    """Raise UsageError unless the kernel is compiled for this dtype."""
    if dtype not in member.DTYPES:
        raise UsageError(
            f"Kernel {kernel!r} has no dtype {dtype!r}. It has: {', '.join(member.DTYPES)}."
        )


def _compile(function: Any, signature: Signature, compute_capability: str, name: str) -> str:
    from numba import cuda, types
    from numba.core.errors import NumbaError

    pointers = {d: types.CPointer(getattr(types, STORAGE.get(d, d))) for d in _dtypes(signature)}
    given = [pointers[d] for _, d in signature.inputs]
    given += [types.int32] * len(signature.scalars)
    given += [pointers[d] for _, d in signature.outputs]
    major, minor = (int(x) for x in compute_capability.split("."))
    try:
        with offline((major, minor)):
            text, _ = cuda.compile(
                function, types.void(*given), device=False, cc=(major, minor), abi="numba"
            )
    except (NumbaError, RuntimeError, ValueError, NotImplementedError) as error:
        raise CandidateBroken(
            f"{name} does not compile for {compute_capability}: {_first(error)}"
        ) from error
    return str(text)


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:500] or type(error).__name__


def _dtypes(signature: Signature) -> set[str]:
    return {dtype for _, dtype in (*signature.inputs, *signature.outputs)}


@contextlib.contextmanager
def offline(capability: tuple[int, int]) -> Iterator[None]:
    """Device functions ask for the current GPU's capability; with no GPU, this is the answer.

    numba-cuda 0.30 also asks numpy, once, for a name that 2.5 dropped."""
    import numpy as np
    from numba.cuda import dispatcher

    with _LOCK, contextlib.ExitStack() as undone:
        if not hasattr(np, "row_stack"):
            np.row_stack = np.vstack  # what it was: numpy 2.0 release notes
            undone.callback(delattr, np, "row_stack")
        kept = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: builtin.SimpleNamespace(
            compute_capability=capability
        )
        try:
            yield
        finally:
            dispatcher.get_current_device = kept


def _named(text: str, name: str, kernel: str) -> str:
    entries = ENTRY.findall(text)
    if len(entries) != 1:
        raise CandidateBroken(f"{kernel} compiled to {len(entries)} entries; one was expected.")
    text = ENVIRONMENT.sub("", text.replace(entries[0], name))
    order = {found: i for i, found in enumerate(dict.fromkeys(MEMORY.findall(text)))}
    return MEMORY.sub(lambda found: f"{found[1]}_{order[found[1], found[2]]}", text)


def _version(text: str) -> str:
    found = re.search(r"^\.version (\S+)", text, re.MULTILINE)
    return found[1] if found else "absent"


def _parameters(text: str) -> tuple[str, ...]:
    return tuple(PARAMETER.findall(text.split(".entry", 1)[1].split(")", 1)[0]))


def _check(made: Ptx, signature: Signature) -> None:
    wanted = "sm_" + made.compute_capability.replace(".", "")
    found = re.search(r"^\.target (\w+)", made.text, re.MULTILINE)
    obtained = found[1] if found else "absent"
    if obtained != wanted:
        raise CandidateBroken(
            f"{made.entry}: asked for {wanted}, the toolchain gave {obtained}: it is older than "
            f"that GPU. Run: pip install 'accel-inference[kernels]'"
        )
    outside = EXTERN.findall(made.text)
    if outside:
        raise CandidateBroken(f"{made.entry} calls what nothing defines: {', '.join(outside)}")
    pointers = ("u64",)
    expected = (
        pointers * len(signature.inputs)
        + ("u32",) * len(signature.scalars)
        + pointers * len(signature.outputs)
    )
    if made.parameters != expected:
        raise CandidateBroken(
            f"{made.entry} takes {made.parameters}, its signature says {expected}"
        )
