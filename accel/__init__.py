"""accel: the fastest engine that provably keeps its accuracy on a given device.

import accel

release = accel.optimize(
    "examples/digits.py",
    target="cpu-local",
    constraints=accel.Constraints(max_drop=2.0),
    out="release",
)
print(release.winner.name, release.certificate.grade)

with accel.load("release") as run:
    logits = run({"image": image})["logits"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accel.version import VERSION

if TYPE_CHECKING:
    from accel.constraints import Constraints
    from accel.errors import AccelError
    from accel.pipeline import finish, optimize, pack
    from accel.questions.explain import explain
    from accel.questions.inspect import inspect
    from accel.questions.verify import verify
    from accel.release import load
    from accel.steps.bench import bench
    from accel.steps.build import build
    from accel.steps.calibrate import calibrate
    from accel.steps.check import check
    from accel.steps.evaluate import evaluate
    from accel.steps.export import export
    from accel.steps.gate import gate
    from accel.steps.quantize import quantize
    from accel.steps.sbom import sbom
    from accel.steps.sign import sign
    from accel.steps.swap import swap
    from accel.values import Release

__version__ = VERSION
__all__ = [
    "AccelError",
    "Constraints",
    "Release",
    "bench",
    "build",
    "calibrate",
    "check",
    "evaluate",
    "explain",
    "export",
    "finish",
    "gate",
    "inspect",
    "load",
    "optimize",
    "pack",
    "quantize",
    "sbom",
    "sign",
    "swap",
    "verify",
]

_WHERE = {
    "AccelError": "errors",
    "Constraints": "constraints",
    "Release": "values",
    "explain": "questions.explain",
    "finish": "pipeline",
    "inspect": "questions.inspect",
    "load": "release",
    "optimize": "pipeline",
    "pack": "pipeline",
    "verify": "questions.verify",
}


def __getattr__(name: str) -> Any:
    """Public names are imported on first use (PEP 562): start-up stays quick."""
    if name not in __all__:
        raise AttributeError(f"module 'accel' has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"accel.{_WHERE.get(name, f'steps.{name}')}")
    return getattr(module, name)
