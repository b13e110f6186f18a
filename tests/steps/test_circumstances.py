"""The line that runs a gate again, and where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from accel.evidence import Budget, Rules
from accel.steps import _circumstances


def test_rules_that_have_an_option_are_in_the_command() -> None:
    """With their units; a work folder that is the usual one is left out."""
    rules = {"max_epochs": 5, "max_s": 60.0, "shadow_every": 0, "seed": 3}
    budgets = [Budget("p50", 0.03)]
    found = _circumstances.command("a.onnx", "my base", {"out": None}, budgets, rules)
    assert found == (
        "accel gate a.onnx --baseline 'my base' --budget p50=3% --epochs 5 --limit 60.0s "
        "--shadow-every 0 --seed 3"
    )


@pytest.mark.parametrize("rules", [{"rounds": 20}, {"seed": 1, "alpha_pass": 0.1}, Rules()])
def test_rules_that_have_none_leave_no_command(rules: Any) -> None:
    """A line without them would begin other evidence, or judge it by other rules."""
    assert _circumstances.command("a.onnx", "b.onnx", {}, None, rules) == ""
