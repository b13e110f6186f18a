"""Sums of two uint8 x int8 products do not fit in int16: processors without VNNI saturate there.

(vpmaddubsw: Intel SDM, volume 2; ONNX Runtime's documentation, Quantize ONNX Models, "reduce_range".) On a
processor that has VNNI the very same file is exact, so this is told from the weights, not from a run.
"""

from __future__ import annotations

import numpy as np

from accel.causes._cause import Cause
from accel.explaining.evidence import Evidence
from accel.measure import machine

INT16_MOST = 32767
VNNI = {"avx512_vnni", "avx_vnni", "asimddp"}
SAFE = 64  # |weight| up to which 2 x 255 x weight fits


def judge(e: Evidence) -> Cause | None:
    """Where the activation is uint8 and weights use their eighth bit."""
    if e.part.kind != "weight" or e.quantized is None or not e.unsigned:
        return None
    if e.quantized.dtype != np.int8 or e.quantized.ndim < 2 or VNNI & set(machine.isa()):
        return None
    large = int((np.abs(e.quantized.astype(np.int16)) > SAFE).sum())
    if not large:
        return None
    return Cause(
        "int8 pair-sum saturation",
        f"{100 * large / e.quantized.size:.1f} % of its integers are beyond {SAFE}: without VNNI, sums of two "
        f"products may pass {INT16_MOST}",
        "quantize for that target: accel quantize --target PROFILE takes 7 bits where there is no VNNI",
        0.1,
    )
