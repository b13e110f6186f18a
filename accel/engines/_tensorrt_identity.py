"""Which machine a plan is for: its GPU, TensorRT and driver; and why it does not load on another one.

A plan is for one kind of GPU and one version of TensorRT, to the last number, unless it was built to be
compatible (TensorRT documentation, Engine Compatibility; NVIDIA/TensorRT #564, #2176; retinanet-examples
#314: 8.0.0 against 8.0.1).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accel.engines._tensorrt_names import number
from accel.errors import EnvironmentProblem
from accel.measure import here as machines

NONE, AMPERE_PLUS, SAME = "NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"  # compatibility levels
AMPERE = (8, 0)


@dataclass(frozen=True)
class Identity:
    """Of a machine as a plan sees it."""

    sm: str  # compute capability: "9.0"
    gpu: str  # "NVIDIA H200"
    tensorrt: str  # "11.4.0.106"
    driver: str  # the newest CUDA that the driver runs: "13.0"
    architecture: str  # of the processor: "aarch64"


def here(version: str) -> Identity:
    """This machine with that TensorRT. Raises EnvironmentProblem where the driver shows no GPU."""
    found = machines.gpus()
    if not found:
        raise EnvironmentProblem(
            "TensorRT builds and runs on an NVIDIA GPU only, and the driver shows none here. "
            "Run: nvidia-smi; what is missing: accel doctor"
        )
    first = found[0]
    processor = platform.machine()
    return Identity(first.compute_capability, first.name, version, first.driver, processor)


def engine_name(stem: str, identity: Identity) -> str:
    """ "model.sm90.NVIDIA-H200.trt11.4.0.106.cuda13.0.engine": whom the file is for."""
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", identity.gpu).strip("-")
    sm = identity.sm.replace(".", "")
    return f"{stem}.sm{sm}.{gpu}.trt{identity.tensorrt}.cuda{identity.driver}.engine"


def mismatch(facts: Mapping[str, Any], identity: Identity) -> str:
    """Why a plan with these facts cannot run on that machine; empty where it can.

    A plan that is compatible with hardware or versions is held to what that promises: Ampere and
    newer, or the same compute capability; this TensorRT or a newer one. No level reaches another
    processor (TensorRT documentation, Engine Compatibility)."""
    compatible = facts.get("compatible", {})
    return (
        _processor(facts, identity)
        or _hardware(facts, identity, str(compatible.get("hardware", NONE)))
        or _version(facts, identity, bool(compatible.get("version", False)))
        or _driver(facts, identity)
    )


def _processor(facts: Mapping[str, Any], identity: Identity) -> str:
    """Plans of an older accel do not tell theirs: they load where they did."""
    built, found = str(facts.get("architecture") or identity.architecture), identity.architecture
    return "" if built == found else f"it was built on {built}; this machine's processor is {found}"


def _hardware(facts: Mapping[str, Any], identity: Identity, level: str) -> str:
    built, found = str(facts["sm"]), identity.sm
    if level == AMPERE_PLUS:
        if number(found) >= AMPERE:
            return ""
        return f"it needs a GPU of compute capability 8.0 or newer; this one's is {found}"
    if built != found:
        return (
            f"it was built for compute capability {built} ({facts['gpu']}); this machine's "
            f"{identity.gpu} has {found}"
        )
    if level != SAME and facts["gpu"] != identity.gpu:
        return f"it was built and timed on an {facts['gpu']}; this machine has an {identity.gpu}"
    return ""


def _version(facts: Mapping[str, Any], identity: Identity, compatible: bool) -> str:
    built, found = str(facts["tensorrt"]), identity.tensorrt
    if built == found or (compatible and number(built) <= number(found)):
        return ""
    kind = "or a newer one, " if compatible else "to the last number, "
    return f"it needs TensorRT {built} {kind}and {found} is installed"


def _driver(facts: Mapping[str, Any], identity: Identity) -> str:
    """A newer driver runs what an older one did, not the reverse (CUDA Compatibility guide)."""
    built, found = str(facts["driver"]), identity.driver
    if number(built) <= number(found):
        return ""
    return f"it was built under a driver for CUDA {built}; this machine's runs CUDA {found} at most"


def require(facts: Mapping[str, Any], identity: Identity, model: str) -> None:
    """Raise EnvironmentProblem, with the reason and the way out, where the plan is for another
    machine."""
    why = mismatch(facts, identity)
    if why:
        raise EnvironmentProblem(
            f"{facts['engine_file']} does not run here: {why}. Build it for this machine: accel build "
            f"{model} --engine tensorrt --out NEW; of a release: accel finish RELEASE, or take its "
            "portable graph as it is: accel.load(RELEASE, portable=True)"
        )
