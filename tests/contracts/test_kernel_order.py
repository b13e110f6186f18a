"""Warps of a block run in any order: where a barrier is missing, one that is ahead spoils the others.

The emulator takes all threads in step, and so does not see it. Here one warp at a time runs as far as
the next barrier, which warp being drawn; memory that two of them share is then seen at its worst.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from accel import catalog
from accel.cuda import emulator
from accel.cuda.comparing import excess
from accel.cuda.geometry import WARP
from accel.protocols import Case

KERNELS = {name: catalog.load("kernels", name) for name in catalog.names("kernels")}
SHARING = [name for name, member in KERNELS.items() if "cuda.shared" in inspect.getsource(member)]
ORDERS = 2
MOST = 512  # threads of a case: larger ones take seconds


@pytest.fixture(params=range(ORDERS))
def order(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator's choice of who runs next, narrowed to one warp."""
    draw, lockstep = random.Random(request.param), emulator._next
    turn: list[int] = []

    def alone(program: Any, lanes: Any, at: Any, runnable: Any) -> Any:
        if not turn or not runnable[lanes.warp == turn[0]].any():
            turn[:] = [draw.choice(np.unique(lanes.warp[runnable]).tolist())]
        return lockstep(program, lanes, at, runnable & (lanes.warp == turn[0]))

    monkeypatch.setattr(emulator, "_next", alone)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("name", SHARING)
def test_it_is_right_in_any_order_of_warps(name: str) -> None:
    """A case of each geometry, one dtype: what differs is how values are held."""
    member, dtype = KERNELS[name], KERNELS[name].DTYPES[0]
    for case in _geometries(member, dtype):
        baked = case.baked or member.VARIANTS[0]
        found = emulator.run(name, dtype, case).outputs
        want = member.reference(case.inputs, baked)
        for output, kind in member.signature(dtype, baked).outputs:
            assert excess(found[output], want[output], member.TOLERANCE[kind]) <= 1, case.name


def _geometries(member: Any, dtype: str) -> Iterator[Case]:
    """Cases whose blocks have several warps, each geometry once."""
    seen = set()
    for case in member.cases(dtype):
        shapes = {n: a.shape for n, a in case.inputs.items()}
        launch = member.launch(shapes, dtype, case.baked or member.VARIANTS[0])
        block, kind = math.prod(launch.block), (launch.grid, launch.block, case.offset)
        if WARP < block <= block * math.prod(launch.grid) <= MOST and kind not in seen:
            seen.add(kind)
            yield case
