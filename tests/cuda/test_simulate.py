"""accel.testing.simulate: one case of a kernel, in the simulator, from a test of one's own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from accel import catalog, testing
from accel.cuda.comparing import excess
from accel.errors import UsageError
from accel.protocols import Case

NAME = "residual_layernorm"


def test_a_case_of_ones_own_is_run_and_right() -> None:
    """Warp shuffles and all: every output by its name, and how many threads it took."""
    member = catalog.load("kernels", NAME)
    draw = np.random.default_rng(7)
    shapes = {"x": (2, 40), "residual": (2, 40), "gamma": (40,), "beta": (40,)}
    case = Case("mine", {n: draw.normal(size=s).astype("float32") for n, s in shapes.items()})
    found = testing.simulate(NAME, "float32", case)
    want = member.reference(case.inputs, member.VARIANTS[0])
    assert set(found.outputs) == {"y", "s"}
    for name, values in want.items():
        assert excess(found.outputs[name], values, member.TOLERANCE["float32"]) <= 1
    assert found.threads == 128


def test_an_unknown_kernel_is_refused_with_the_nearest_name() -> None:
    """The simulator's process answers as this one would."""
    with pytest.raises(UsageError, match="Did you mean 'residual_layernorm'"):
        testing.simulate("residual_layernrom", "float32", Case("any", {}))


RACE = """
import sys, threading
from accel.cuda import simulator
simulator._become_one()
from numba.cuda import types
from numba.cuda.simulator.kernelapi import FakeCUDAShared

sys.setswitchinterval(1e-6)

def block():
    shared, meet, seen = FakeCUDAShared(0), threading.Barrier(32), []
    def lane():
        meet.wait()
        array = shared.array(64, types.float32)
        seen.append(id(array))
    lanes = [threading.Thread(target=lane) for _ in range(32)]
    for one in lanes: one.start()
    for one in lanes: one.join()
    return len(set(seen))

print(max(block() for _ in range(200)))
"""


def test_all_threads_of_a_block_get_one_shared_array() -> None:
    """However they are interleaved; Numba's own simulator gave some of them an array of their own."""
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
