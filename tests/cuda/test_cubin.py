"""Machine code by ptxas: what it says is read right, what it refuses is refused in our words."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import stat
from pathlib import Path

import pytest

from accel.cuda import cubin
from accel.cuda.cubin import Usage
from accel.cuda.ptx import Ptx
from accel.errors import CandidateBroken, MissingExtra

# what ptxas 13.0.88 said of residual_layernorm: as it is, and held to 24 registers
FITS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'accel_residual_layernorm_float32' for 'sm_75'
ptxas info    : Function properties for accel_residual_layernorm_float32
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 72 registers, used 1 barriers, 256 bytes smem, 416 bytes cmem[0]
ptxas info    : Compile time = 211.936 ms
"""
SPILLS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'accel_residual_layernorm_float32' for 'sm_90'
ptxas info    : Function properties for accel_residual_layernorm_float32
    160 bytes stack frame, 508 bytes spill stores, 536 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 160 bytes cumulative stack size, 256 bytes smem
ptxas info    : Compile time = 385.296 ms
"""
# and of a few lines of PTX with a function that is not inlined
CALLS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_87'
ptxas info    : Function properties for one
    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers, 8 bytes cumulative stack size, 360 bytes cmem[0]
ptxas info    : Compile time = 1.867 ms
ptxas info    : Function properties for helper
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
"""
BOTH_SPILL = CALLS.replace("0 bytes spill stores", "4 bytes spill stores")  # made up


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (FITS, Usage(72, 0, 0, 256, 1)),
        (SPILLS, Usage(24, 1044, 160, 256, 1)),
        (CALLS, Usage(10, 0, 8, 0, 0)),
        (BOTH_SPILL, Usage(10, 8, 8, 0, 0)),
    ],
)
def test_what_it_says_is_read(log: str, found: Usage) -> None:
    """Registers, spills of every function, stack, shared memory, barriers."""
    assert cubin.usage(log) == found


def test_a_log_that_tells_nothing_is_no_zero() -> None:
    """A silent assembler is not taken for a kernel that costs nothing."""
    with pytest.raises(CandidateBroken, match="expected to tell of registers; it said: ''"):
        cubin.usage("")


def test_it_assembles_for_the_texts_own_target(made: Ptx) -> None:
    """An ELF file, the same each time; registers are used, and none spills."""
    binary, usage = cubin.assemble(made)
    assert binary.startswith(b"\x7fELF")
    assert (binary, usage) == cubin.assemble(made)
    assert usage.registers > 16
    assert usage.spill_bytes == usage.stack_bytes == 0
    assert usage.barriers == 1


def test_a_broken_text_is_refused_in_our_words(made: Ptx) -> None:
    """The entry, and what ptxas has against it."""
    broken = dataclasses.replace(made, text=made.text.replace("ret;", "rett;"))
    with pytest.raises(CandidateBroken, match=r"ptxas refuses accel_residual_\w+: .*'rett'"):
        cubin.assemble(broken)


def test_an_assembler_that_does_not_end_is_given_up(
    made: Ptx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fake one that sleeps."""
    sleeper = tmp_path / "ptxas"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(sleeper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(cubin, "ptxas", lambda: sleeper)
    monkeypatch.setattr(cubin, "LIMIT_S", 0.1)
    with pytest.raises(CandidateBroken, match=r"did not end within 0\.1 s"):
        cubin.assemble(made)


def test_without_an_assembler_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither NVIDIA's wheel nor a ptxas on the PATH, nor a toolkit."""
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'accel-inference\[kernels\]'"):
        cubin.ptxas()


def test_one_on_the_path_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA toolkit's own, where the wheel is absent."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/cuda/bin/{name}")
    assert cubin.ptxas() == Path("/opt/cuda/bin/ptxas")


def test_a_toolkits_serves_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The one in CUDA_HOME, where that has one."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(MissingExtra, match="ptxas"):
        cubin.ptxas()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ptxas").touch()
    assert cubin.ptxas() == tmp_path / "bin" / "ptxas"


def test_its_version_is_told() -> None:
    """As it calls itself: three numbers."""
    assert all(part.isdigit() for part in cubin.version().split("."))
    assert cubin.version().count(".") == 2
