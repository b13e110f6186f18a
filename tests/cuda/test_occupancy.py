"""Occupancy is what NVIDIA's own calculator says, for every GPU that has a profile."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from accel import catalog, target
from accel.cuda.occupancy import blocks, occupancy
from accel.values import Target

# Reads lines of: capability, capability's minor, shared bytes and warps of a multiprocessor,
# reserved shared bytes, registers, threads, shared bytes; answers with blocks, -1 for an error.
PROGRAM = """
#include <climits>
#include <cstdio>
#include <cstring>
#include <cuda_occupancy.h>
int main() {
  int major, minor, shared, warps, reserved, registers, threads, used;
  while (scanf("%d %d %d %d %d %d %d %d", &major, &minor, &shared, &warps, &reserved,
               &registers, &threads, &used) == 8) {
    cudaOccDeviceProp device;
    device.computeMajor = major;
    device.computeMinor = minor;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = 32 * warps;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.numSms = 1;
    device.sharedMemPerBlock = 49152;
    device.sharedMemPerBlockOptin = device.sharedMemPerMultiprocessor = shared;
    device.reservedSharedMemPerBlock = reserved;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = INT_MAX;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = used;
    kernel.numBlockBarriers = 1;
    cudaOccDeviceState state;
    cudaOccResult found;
    int error = cudaOccMaxActiveBlocksPerMultiprocessor(&found, &device, &kernel, &state, threads, 0);
    printf("%d\\n", error ? -1 : found.activeBlocksPerMultiprocessor);
  }
}
"""
PROFILES = [target.load(name) for name in catalog.names("profiles")]
GPUS = [profile for profile in PROFILES if profile.compute_capability]
REGISTERS = (0, 1, 8, 16, 17, 24, 31, 32, 33, 40, 48, 52, 64, 65, 72, 96, 128, 129, 168, 255, 256, 257)  # fmt: skip
THREADS = (1, 32, 33, 64, 96, 128, 160, 192, 256, 288, 384, 512, 768, 896, 1000, 1024, 1025, 2048)
SHARED = (0, 4, 128, 129, 256, 512, 1000, 4096, 10000, 16384, 24576, 32768, 49151, 49152, 49153)

# (compute capability, registers, threads, shared bytes) -> blocks: what the header answered
KNOWN = {
    ("7.5", 52, 128, 512): 8,
    ("7.5", 64, 1024, 0): 1,
    ("7.5", 65, 1024, 0): 0,
    ("7.5", 32, 128, 49152): 1,
    ("8.0", 37, 128, 512): 12,
    ("8.0", 32, 32, 0): 32,
    ("8.6", 40, 128, 0): 12,
    ("8.6", 16, 32, 0): 16,
    ("8.7", 128, 512, 0): 1,
    ("8.9", 32, 64, 0): 24,
    ("8.9", 32, 128, 24576): 4,
    ("9.0", 168, 384, 0): 1,
    ("9.0", 255, 256, 0): 1,
    ("10.0", 31, 1025, 0): 0,
    ("11.0", 24, 128, 49153): 0,
    ("12.0", 40, 1024, 0): 1,
}


@pytest.fixture(scope="module")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program above; skipped where its compiler or NVIDIA's header is absent."""
    compiler, folder = shutil.which("g++"), _headers()
    if compiler is None or folder is None:
        pytest.skip(f"needs {'g++' if compiler is None else 'cuda_occupancy.h'}: KNOWN stands in")
    source = tmp_path_factory.mktemp("occupancy") / "occupancy.cpp"
    source.write_text(PROGRAM)
    out = source.with_suffix("")
    subprocess.run([compiler, "-I", str(folder), str(source), "-o", str(out)], check=True)
    return out


def _headers() -> Path | None:
    """The folder of cuda_occupancy.h, in the wheel of the CUDA runtime."""
    spec = importlib.util.find_spec("nvidia")
    roots = (spec.submodule_search_locations or ()) if spec else ()
    found = [p for root in roots for p in Path(root).glob("*/include/cuda_occupancy.h")]
    return found[0].parent if found else None


def _grid() -> Iterator[tuple[Target, int, int, int]]:
    for gpu in GPUS:
        for asked in itertools.product(REGISTERS, THREADS, SHARED):
            yield gpu, *asked


def _line(gpu: Target, *asked: int) -> str:
    capability = str(gpu.compute_capability).replace(".", " ")
    sizes = (gpu.sm["shared_bytes"], gpu.sm["warps"], gpu.sm["reserved_shared_bytes"], *asked)
    return " ".join([capability, *map(str, sizes)])


def test_it_is_what_nvidias_calculator_says(calculator: Path) -> None:
    """Registers x threads x shared memory, some of each just over a limit, on every profile."""
    lines = "\n".join(_line(*point) for point in _grid())
    told = subprocess.run([calculator], input=lines, capture_output=True, text=True, check=True)
    for (gpu, *asked), want in zip(_grid(), told.stdout.split(), strict=True):
        assert blocks(*asked, gpu.sm, str(gpu.compute_capability)) == int(want), (gpu.name, asked)


def test_it_is_what_the_calculator_once_said() -> None:
    """The same for a few points, where the calculator cannot be had."""
    limits = {str(gpu.compute_capability): gpu.sm for gpu in GPUS}
    for (capability, *asked), want in KNOWN.items():
        assert blocks(*asked, limits[capability], capability) == want, (capability, asked)


def test_occupancy_is_a_share_of_the_warps() -> None:
    """12 blocks of 4 warps fill 48 places; 48 registers a thread leave 5 blocks of 8 of them."""
    [a10] = [gpu.sm for gpu in GPUS if gpu.name == "a10"]
    assert occupancy(40, 128, 0, a10, "8.6") == 1.0
    assert occupancy(48, 256, 0, a10, "8.6") == 40 / 48
    assert occupancy(40, 128, 49153, a10, "8.6") == 0.0


def test_no_limit_of_a_profile_differs_from_the_calculators(calculator: Path) -> None:
    """A kernel that takes nothing fills a multiprocessor up to the blocks that the profile gives."""
    for gpu in GPUS:
        given = _line(gpu, 0, 32, 0)
        told = subprocess.run([calculator], input=given, capture_output=True, text=True, check=True)
        assert int(told.stdout) == gpu.sm["blocks"], gpu.name
