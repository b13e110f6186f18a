"""accel doctor: what can run here, why not, and the one line that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accel import catalog
from accel import target as targets
from accel.errors import AccelError
from accel.measure import child, here, machine
from accel.protocols import Probe
from accel.scratch import scratch
from accel.values import Options

LIMIT_S = 120.0


@dataclass(frozen=True)
class Diagnosis:
    """The machine, which targets it is, a probe of every engine, and one of what compiles kernels."""

    machine: Options
    targets: Mapping[str, str]  # profile -> why this machine is another; "" where it is the one
    engines: Mapping[str, Probe]
    kernels: Probe  # Numba, its compiler and ptxas: no GPU is asked for
    healthy: bool  # at least one engine that can be chosen is usable


def doctor() -> Diagnosis:
    """Probe every engine, and the compiler, in child processes; a crash is an answer too."""
    ask = "accel.questions.doctor:ask"
    found = {name: _probe(ask, {"engine": name}) for name in catalog.names("engines")}
    chosen = [p for n, p in found.items() if n not in ("reference", "torch_eager")]
    kernels = _probe("accel.cuda.toolchain:probe", {})
    healthy = any(p.usable for p in chosen)
    return Diagnosis(machine.fingerprint(), _targets(), found, kernels, healthy)


def _targets() -> Mapping[str, str]:
    return {name: here.elsewhere(targets.load(name)) for name in catalog.names("profiles")}


def _probe(function: str, words: Options) -> Probe:
    try:
        with scratch() as folder:
            log = folder / "probe.log"
            return child.call(function, words, Probe, log=log, timeout_s=LIMIT_S)
    except AccelError as error:
        reason, _, fix = str(error).partition(" Run: ")
        return Probe(False, reason=reason, fix=fix)


def ask(engine: str) -> Probe:
    """The probe itself, in the child."""
    found: Probe = catalog.load("engines", engine).probe()
    return found
