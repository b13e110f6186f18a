"""What is only true on a GPU. Elsewhere each test is skipped, with the reason and what stands in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from accel import catalog
from accel.errors import AccelError

STANDS_IN = "tests/contracts/test_kernel.py (simulator) and tests/cuda/test_launch.py (fake driver)"
ENGINES = "test_engines.py"
STANDS_IN_OF_ENGINES = "tests/engines (the CPU provider fed by pointers, a fake driver)"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The marker, and the skip where there is nothing to run on."""
    own = [item for item in items if HERE in item.path.parents]
    reason = _reason() if own else ""
    for item in own:
        item.add_marker(pytest.mark.gpu)
        if reason:
            stands_in = STANDS_IN_OF_ENGINES if item.path.name == ENGINES else STANDS_IN
            item.add_marker(pytest.mark.skip(reason=f"{reason}; instead: {stands_in}"))


def _reason() -> str:
    from accel.cuda import machine

    try:
        machine.require()
    except AccelError as error:
        return str(error).split(": ")[0]
    return ""


@pytest.fixture(scope="session", autouse=True)
def _warm(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Everything that the cases need, compiled side by side, in a folder of this run's own."""
    if all(item.path.name == ENGINES for item in request.session.items):
        yield  # none of them starts a kernel of ours
        return
    import torch

    from accel.cuda import loading, warming

    members = {name: catalog.load("kernels", name) for name in catalog.names("kernels")}
    keys = [
        (name, dtype, case.baked or member.VARIANTS[0])
        for name, member in members.items()
        for dtype in member.DTYPES
        for case in member.cases(dtype)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCEL_CUBINS", str(tmp_path_factory.mktemp("cubins")))
        warming.warm(keys, loading.compute_capability(torch.cuda.current_device()))
        yield
