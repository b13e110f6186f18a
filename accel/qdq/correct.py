"""Bias correction: rounding moved the weights, and with them the mean of what a product gives.

    b' = b + (W - Wq) E[x]

E[x] is the mean of each channel over the calibration data. (Nagel et al., Data-Free Quantization, ICCV 2019,
arXiv 1906.04721; for a convolution the mean is taken to be the same under all of a kernel.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.qdq.sites import Site
from accel.sketch import Sketch


def shift(
    node: Any, site: Site, lost: NDArray[Any], sketch: Sketch | None
) -> NDArray[np.float32] | None:
    """(W - Wq) E[x], [output channels]; None where the channels' means are not known.

    `lost`: W - Wq, of the weight's own shape."""
    if sketch is None or sketch.channel_sum is None or not sketch.channel_count:
        return None
    options = {a.name: a for a in node.attribute}
    if any(k in options and options[k].f != 1 for k in ("alpha", "beta")) or (
        "transA" in options and options["transA"].i
    ):
        return None
    mean = sketch.channel_sum / sketch.channel_count
    if node.op_type == "Conv":
        return _of_convolution(node, lost, mean)
    if site.weight is None or site.weight.slot != 1 or lost.ndim != 2:
        return None
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    flat = lost.T if turned else lost
    return (mean @ flat).astype(np.float32) if len(mean) == len(flat) else None


def _of_convolution(
    node: Any, lost: NDArray[Any], mean: NDArray[Any]
) -> NDArray[np.float32] | None:
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    out, inside = lost.shape[:2]
    if len(mean) != groups * inside or out % groups:
        return None
    taps = lost.reshape(groups, out // groups, inside, -1).sum(
        axis=-1
    )  # [groups, out/groups, inside]
    found = np.einsum("goi,gi->go", taps, mean.reshape(groups, inside))
    flat: NDArray[np.float32] = found.reshape(-1).astype(np.float32)
    return flat
