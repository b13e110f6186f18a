"""Occupancy: which share of a multiprocessor's warps a kernel can keep resident.

The arithmetic of NVIDIA's cuda_occupancy.h (CUDA 13), for the capabilities 7.5 to 12.x, of kernels
with static shared memory and one barrier (Numba knows no second one). A warp takes registers in
units of 256, a block takes shared memory in units of 256 bytes on 7.x and 128 bytes later, and a
multiprocessor splits its warps over four schedulers.
"""

from __future__ import annotations

from collections.abc import Mapping

from accel.cuda.geometry import WARP, cdiv

REGISTER_UNIT = 256  # registers, per warp
SCHEDULERS = 4  # of a multiprocessor: registers are divided among them
# The limits of one block, alike on all of them: CUDA C++ Programming Guide, "Compute Capabilities"
THREADS = 1024
REGISTERS = 256  # per thread: what the header allows; ptxas stops at 255
STATIC_SHARED_BYTES = 48 * 1024


def blocks(
    registers: int,
    threads: int,
    shared_bytes: int,
    limits: Mapping[str, int],
    compute_capability: str,
) -> int:
    """Blocks of `threads` threads that fit on one multiprocessor at once; 0 when none does."""
    warps = int(cdiv(threads, WARP))
    unit = 256 if compute_capability.startswith("7.") else 128
    reserved = limits["reserved_shared_bytes"]
    shared = int(cdiv(shared_bytes + reserved, unit)) * unit
    per_warp = int(cdiv(registers * WARP, REGISTER_UNIT)) * REGISTER_UNIT
    # the hardware's check of one block counts warps as if every scheduler had as many
    whole = int(cdiv(warps, SCHEDULERS)) * SCHEDULERS
    if threads > THREADS or registers > REGISTERS or shared > STATIC_SHARED_BYTES + reserved:
        return 0
    if per_warp * whole > limits["registers"]:
        return 0
    fits = [limits["blocks"], limits["warps"] // warps]
    if per_warp:
        fits.append(limits["registers"] // SCHEDULERS // per_warp * SCHEDULERS // warps)
    if shared:
        fits.append(limits["shared_bytes"] // shared)
    return min(fits)


def occupancy(
    registers: int,
    threads: int,
    shared_bytes: int,
    limits: Mapping[str, int],
    compute_capability: str,
) -> float:
    """Resident warps over the most there can be: 0.0 to 1.0."""
    resident = blocks(registers, threads, shared_bytes, limits, compute_capability)
    return resident * int(cdiv(threads, WARP)) / limits["warps"]
