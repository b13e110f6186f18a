"""MiniLM with the kernels on and off: where a kernel's gain, or its loss, meets a whole model.

engines/torch_inductor.py runs the model both ways; its rows belong into the same report as the
kernels' own, since a kernel that wins alone may lose what torch.compile fuses around it.
"""

from __future__ import annotations


def lines() -> list[str]:
    """The rows as text: kernels off, kernels on, at batch 1 and 8, medians of interleaved calls.

    It is filled in with the engine; until then the report says that they are not there."""
    return ["MiniLM, kernels on and off: not timed, the torch_inductor engine is not there yet"]
