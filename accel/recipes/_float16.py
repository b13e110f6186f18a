"""What of a graph can be float16, by the largest magnitude of each of its values, and what must be exact.

float16 holds 65504 at most and 2^-24 at least (IEEE 754); below 2^-14 it loses bits. Of integers it
holds those to 2048: what leads to one, or to an angle, fits its range and is wrong nevertheless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from accel.recipes import _halves, _kept
from accel.recipes._halves import Floats

LARGEST = 65504.0
HEADROOM = 4.0  # what was not calibrated on may be larger than what was
LEAST_NORMAL = 2.0**-14
VANISHED_SHARE = 0.01  # of a constant's values


def judged(
    found: Floats, tops: Mapping[str, float], vanishing: set[str], sensitive: tuple[str, ...]
) -> tuple[dict[int, frozenset[str]], Counter[str]]:
    """The nodes in float16 (by index) with their values, and how many are kept, by reason."""
    halves: dict[int, frozenset[str]] = {}
    kept: Counter[str] = Counter()
    floats, opset = frozenset(tops), _halves.opset(found.proto)
    exact = _kept.exact(found)
    for i, node in found.nodes:
        names = _halves.ports(node, floats, opset)
        if names is None:
            kept["no float16"] += 1
        elif any(leaves(tops[n]) for n in names):
            kept["range"] += 1
        elif vanishing & names:
            kept["weights"] += 1
        elif i in exact:
            kept["exact"] += 1
        elif node.op_type in sensitive and node.domain in _halves.STANDARD:
            kept["sensitive"] += 1
        else:
            halves[i] = names
    for i in _kept.between(found, halves):
        del halves[i]
        kept["between"] += 1
    return halves, kept


def leaves(top: float) -> bool:
    """Would a value of this largest magnitude overflow, or be subnormal as a whole?"""
    return top > LARGEST / HEADROOM or 0 < top < LEAST_NORMAL


def vanishing(constants: Mapping[str, tuple[float, float]]) -> set[str]:
    """Constants (largest magnitude, share that float16 rounds to 0) that would lose too much."""
    return {name for name, (_, share) in constants.items() if share > VANISHED_SHARE}
