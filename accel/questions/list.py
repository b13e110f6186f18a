"""accel list: the members of a family, by name; nothing is loaded."""

from __future__ import annotations

from accel import catalog

FAMILIES = {"targets": "profiles", "engines": "engines", "recipes": "recipes", "kernels": "kernels"}


def members(family: str) -> tuple[str, ...]:
    """Names in a family: targets, engines, recipes or kernels."""
    return catalog.names(FAMILIES[family])
