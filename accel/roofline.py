"""The least time that a target's peak rates allow for a model, node by node."""

from __future__ import annotations
