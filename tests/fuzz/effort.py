"""How far hypothesis goes: the same examples in every run of the suite, new and more of them at night."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("ACCEL_FUZZ", "1"))  # as many examples as the suite has
ALLOWED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def effort(examples: int) -> settings:
    """Settings for a property that the suite tries on so many."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        suppress_health_check=ALLOWED,
    )
