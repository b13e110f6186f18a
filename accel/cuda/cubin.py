"""PTX to machine code by ptxas, and what it says of registers, spills and shared memory."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from accel.cuda.ptx import Ptx
from accel.errors import CandidateBroken, MissingExtra

LIMIT_S = 120.0
TOOLKIT = "/usr/local/cuda"  # where NVIDIA's packages put it; CUDA_HOME says otherwise
SAID = {  # by `ptxas -v`
    "registers": r"Used (\d+) registers",
    "spills": r"(\d+) bytes spill (?:stores|loads)",
    "stack": r"(\d+) bytes (?:stack frame|cumulative stack size)",
    "shared": r"(\d+) bytes smem",
    "barriers": r"used (\d+) barriers",
}


@dataclass(frozen=True)
class Usage:
    """What one thread, or one block, of a kernel takes."""

    registers: int  # per thread
    spill_bytes: int  # stores and loads together
    stack_bytes: int  # per thread
    shared_bytes: int  # static, per block
    barriers: int


def ptxas() -> Path:
    """The assembler of the kernels extra, else one on the PATH, else that of the CUDA toolkit.

    Raises MissingExtra where there is none."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        found = sorted(Path(root).glob("*/bin/ptxas"))
        if found:
            return found[-1]
    on_path = shutil.which("ptxas")
    if on_path:
        return Path(on_path)
    in_toolkit = Path(os.environ.get("CUDA_HOME") or TOOLKIT, "bin", "ptxas")
    if in_toolkit.is_file():
        return in_toolkit
    raise MissingExtra(
        "ptxas, NVIDIA's assembler, was not found. Run: pip install 'accel-inference[kernels]'"
    )


def version() -> str:
    """ptxas's own, "13.0.88"."""
    words = [str(ptxas()), "--version"]
    text = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", text)
    return found[1] if found else "unknown"


def assemble(ptx: Ptx) -> tuple[bytes, Usage]:
    """The cubin for the PTX's own target.

    Raises CandidateBroken where ptxas refuses it, MissingExtra where there is no ptxas."""
    with tempfile.TemporaryDirectory(prefix="accel-") as folder:
        source, out = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx.text, encoding="utf-8")
        arch = "sm_" + ptx.compute_capability.replace(".", "")
        words = [str(ptxas()), "-v", f"-arch={arch}", str(source), "-o", str(out)]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise CandidateBroken(f"ptxas did not end within {LIMIT_S:g} s") from None
        if done.returncode:
            raise CandidateBroken(f"ptxas refuses {ptx.entry}: {done.stderr.strip()[:400]}")
        return out.read_bytes(), usage(done.stderr)


def usage(log: str) -> Usage:
    """Parsed from what `ptxas -v` prints: the entry, and functions that were not inlined into it.

    Raises CandidateBroken where it does not tell of registers."""
    numbers = {name: [int(n) for n in re.findall(p, log)] for name, p in SAID.items()}
    if not numbers["registers"]:
        raise CandidateBroken(f"ptxas -v was expected to tell of registers; it said: {log[:200]!r}")
    return Usage(
        registers=max(numbers["registers"]),
        spill_bytes=sum(numbers["spills"]),
        stack_bytes=max(numbers["stack"], default=0),
        shared_bytes=max(numbers["shared"], default=0),
        barriers=max(numbers["barriers"], default=0),
    )
