"""The compiler and the assembler of kernels: which versions, and do they work? No GPU is asked."""

from __future__ import annotations

import importlib.metadata
import sys

from accel.cuda import cubin, ptx
from accel.errors import AccelError, MissingExtra
from accel.protocols import Probe

FIX = "pip install 'accel-inference[kernels]'"
PACKAGES = ("numba", "numba-cuda", "llvmlite")
COMPILER = "nvidia-nvvm"  # absent where numba-cuda finds one in a CUDA toolkit
PYTHON = "{}.{}".format(*sys.version_info)


def versions() -> dict[str, str]:
    """Of all that a kernel's machine code depends on besides its source.

    Python is among them: Numba reads its bytecode. Raises MissingExtra where a package or ptxas
    is absent."""
    found = {name: _version(name) for name in PACKAGES}
    found["nvvm"] = _installed(COMPILER) or "of a CUDA toolkit"
    found["ptxas"] = cubin.version()
    found["python"] = PYTHON
    return found


def known() -> dict[str, str]:
    """What of these is here, "" for what is not: a key tells two machines apart without either."""
    found = {name: _installed(name) for name in (*PACKAGES, COMPILER)}
    try:
        found["ptxas"] = cubin.version()
    except (MissingExtra, OSError):
        found["ptxas"] = ""
    return {**found, "python": PYTHON}


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _version(package: str) -> str:
    found = _installed(package)
    if not found:
        raise MissingExtra(
            f"kernels need {package}, which is not installed for {sys.executable}. Run: {FIX}"
        )
    return found


def probe() -> Probe:
    """Compile and look for the assembler: usable, or what is missing and the line that mends it."""
    try:
        facts = versions()
        _compile_nothing()
    except AccelError as error:
        reason, _, fix = str(error).partition(" Run: ")
        return Probe(False, reason=reason, fix=fix or FIX)
    except Exception as error:  # whatever a half-installed compiler says
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Probe(False, reason=f"Numba cannot compile for a GPU: {lines[0][:300]}.", fix=FIX)
    told = ", ".join(f"{k} {v}" for k, v in facts.items() if k not in ("llvmlite", "python"))
    return Probe(True, told, facts=facts)


def _compile_nothing() -> None:
    from numba import config, cuda, types

    if config.ENABLE_CUDASIM:
        raise MissingExtra(
            "Numba is told to simulate, so that nothing compiles. Run: unset NUMBA_ENABLE_CUDASIM"
        )

    def nothing() -> None:
        pass

    with ptx.offline((7, 5)):
        cuda.compile(nothing, types.void(), device=False, cc=(7, 5), abi="numba")
