"""Kernels to PTX and machine code, for many GPUs at once, by two processes and no GPU.

What fails is named with its reason and the rest goes on; files are written with their digests.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import catalog, disk, manifest, store, target
from accel.cuda import cubin, ptx
from accel.cuda.cubin import Usage
from accel.cuda.ptx import Ptx
from accel.errors import AccelError, EnvironmentProblem, UsageError
from accel.values import Options, Refusal, Target

PROCESSES = 2
MANIFEST = "manifest.json"
NONE: Mapping[str, Sequence[Options]] = {}


@dataclass(frozen=True)
class Job:
    """One op, dtype and variant for one GPU."""

    kernel: str
    dtype: str
    variant: int  # which of the kernel's VARIANTS; beyond them, of a graph's own
    baked: Options
    target: Target

    def __str__(self) -> str:
        told = "".join(f" {k}={v}" for k, v in self.baked.items())
        return f"{self.kernel} {self.dtype}{told} for {self.target.name}"


@dataclass(frozen=True)
class Built:
    """What came of a job."""

    ptx: Ptx  # at most of the version that the target's driver loads
    cubin: bytes
    usage: Usage


@dataclass(frozen=True)
class Written:
    """One kernel's files, as the manifest tells them."""

    entry: str
    baked: Options
    target: str
    compute_capability: str
    ptx_version: str
    sha256: Mapping[str, str]  # by path below the folder: .ptx, .cubin


def gpus(names: Sequence[str] = ()) -> tuple[Target, ...]:
    """The profiles of NVIDIA GPUs by rising compute capability, or those of these names.

    Raises UsageError for a name that is no GPU's."""
    chosen = [target.load(name) for name in names or catalog.names("profiles")]
    known = [t for t in chosen if t.compute_capability is not None]
    if names and len(known) < len(chosen):
        other = next(t.name for t in chosen if t.compute_capability is None)
        able = ", ".join(t.name for t in gpus())
        raise UsageError(
            f"{other} gives no compute_capability: kernels are for NVIDIA GPUs. Choose of: {able}."
        )
    return tuple(sorted(known, key=lambda t: (float(t.compute_capability or 0), t.name)))


def jobs(
    kernels: Iterable[str], targets: Sequence[Target], own: Mapping[str, Sequence[Options]] = NONE
) -> Iterator[Job]:
    """Every dtype and variant of these kernels for these GPUs; `own`: of a graph, besides the variants.

    Raises UsageError for an unknown kernel, MissingExtra without Numba."""
    for kernel in kernels:
        member = catalog.load("kernels", kernel)
        for dtype in member.DTYPES:
            for variant, baked in enumerate((*member.VARIANTS, *own.get(kernel, ()))):
                for gpu in targets:
                    yield Job(kernel, dtype, variant, baked, gpu)


def build(job: Job) -> Built | Refusal:
    """Compile, mark as what the driver loads, assemble. What cannot be is refused with the reason.

    Raises EnvironmentProblem where the toolchain is absent."""
    capability, newest = str(job.target.compute_capability), job.target.ptx_version
    try:
        made = ptx.compile(job.kernel, job.dtype, job.baked, capability)
        made = ptx.lower(made, newest) if newest else made
        return Built(made, *cubin.assemble(made))
    except EnvironmentProblem:
        raise
    except AccelError as error:
        return Refusal(str(job), str(error))
    except Exception as error:  # a kernel's own source, run by a user who is writing it
        return Refusal(str(job), f"its source fails: {type(error).__name__}: {error}")


def run(asked: Iterable[Job], processes: int = PROCESSES) -> Iterator[tuple[Job, Built | Refusal]]:
    """Build them all, in this order, each answered as soon as it and those before it are done."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _become_compiler) as pool:
        started = [(job, pool.submit(build, job)) for job in asked]
        try:
            for job, found in started:
                yield job, _answer(job, found)
        finally:
            pool.shutdown(cancel_futures=True)


def _become_compiler() -> None:
    os.environ["NUMBA_ENABLE_CUDASIM"] = "0"  # a simulator would compile nothing


def _answer(job: Job, found: Any) -> Built | Refusal:
    try:
        answer: Built | Refusal = found.result()
        return answer
    except BrokenProcessPool:
        return Refusal(str(job), "a process that compiles died, at this one or beside it")


def clear(folder: Path) -> None:
    """Make the folder, and take the manifest of an earlier build away: only a whole one has it."""
    with disk.guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)


def write(folder: Path, job: Job, built: Built) -> Written:
    """Both files of a job, below the folder."""
    name = f"{job.target.name}/{built.ptx.entry}_{job.variant}"
    digests = {}
    with disk.guarded(folder):
        (folder / job.target.name).mkdir(exist_ok=True)
        for suffix, content in ((".ptx", built.ptx.text.encode()), (".cubin", built.cubin)):
            disk.write(folder / f"{name}{suffix}", content)
            digests[f"{name}{suffix}"] = store.digest_file(folder / f"{name}{suffix}")
    made = built.ptx
    return Written(
        made.entry, job.baked, job.target.name, made.compute_capability, made.version, digests
    )


def told(
    asked: Sequence[Job], progress: Callable[[str], None]
) -> Iterator[tuple[Job, Built | Refusal]]:
    """As `run`, with a line of progress for each."""
    for i, (job, found) in enumerate(run(asked), 1):
        progress(f"[{i}/{len(asked)}] {job}{': FAILED' if isinstance(found, Refusal) else ''}")
        yield job, found


def pack(
    asked: Sequence[Job],
    folder: Path,
    toolchain: Mapping[str, str],
    sources: Mapping[str, str],
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Refusal, ...]:
    """Compile into the folder, and say what could not be: with any of that, it has no manifest."""
    clear(folder)
    written: list[Written] = []
    refused: list[Refusal] = []
    for job, found in told(asked, progress):
        if isinstance(found, Refusal):
            refused.append(found)
        else:
            written.append(write(folder, job, found))
    if not refused:
        seal(folder, written, toolchain, sources)
    return tuple(refused)


def seal(
    folder: Path,
    written: Sequence[Written],
    toolchain: Mapping[str, str],
    sources: Mapping[str, str],
) -> Path:
    """The manifest, written last: what each file is, its sha256, and what made it of which sources."""
    path = folder / MANIFEST
    value = {"kernels": list(written), "toolchain": dict(toolchain), "sources": dict(sources)}
    with disk.guarded(folder):
        disk.write(path, manifest.document("kernels-build", value) + "\n")
    return path
