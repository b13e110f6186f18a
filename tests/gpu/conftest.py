"""What is only true on a GPU. Elsewhere each test is skipped, with the reason and what stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.errors import AccelError

STANDS_IN = "tests/contracts/test_kernel.py (simulator) and tests/cuda/test_launch.py (fake driver)"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The marker, and the skip where there is nothing to run on."""
    own = [item for item in items if HERE in item.path.parents]
    reason = _reason() if own else ""
    for item in own:
        item.add_marker(pytest.mark.gpu)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def _reason() -> str:
    from accel.cuda import machine

    try:
        machine.require()
    except AccelError as error:
        return f"{str(error).split(': ')[0]}; instead: {STANDS_IN}"
    return ""
