"""What a placement says: coverage of each device, nodes that fell, copies. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from accel.values import Placed, Placement


def coverage(placement: Placement) -> Mapping[str, float]:
    """Device -> the share of the nodes that run there, 0.0 to 1.0."""
    total = sum(p.count for p in placement.placed) or 1
    devices = dict.fromkeys(p.device for p in placement.placed)
    return {d: sum(p.count for p in placement.placed if p.device == d) / total for d in devices}


def fallen(placement: Placement) -> tuple[Placed, ...]:
    """Nodes that run on another device than the plan asked for."""
    return tuple(p for p in placement.placed if p.planned_device not in ("", p.device))


def copies(placement: Placement) -> int:
    """Tensors that cross between devices at each call, inputs and outputs apart."""
    return sum(c.count for c in placement.copied)
