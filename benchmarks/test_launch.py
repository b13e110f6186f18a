"""What starting a kernel costs in Python: the real bindings on a fake driver that does nothing.

Run by `make bench`; benchmarks/README.md says how to read it. The driver's own share of a launch, some
2 us, is not in it: `make gpu-bench` measures the whole on a GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "tests" / "cuda" / "fake_driver.c"
ROUNDS = 3
CHILD = """
import ctypes, sys, timeit
import torch
from accel.cuda import launch, loading, plans, views
from cuda import core

class Array:
    def __init__(self, address, *shape):
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "version": 3,
                                         "data": ((0xD0 << 40) + address, False), "strides": None}

# tensors of the host pass for a device's: what is timed is the same, but for the memory behind them
views.refusal = lambda _: ""
plans._device = lambda *_: 0
loading.machine_code = lambda *_: b"\\177ELF"
torch._C._cuda_getCurrentRawStream = lambda _: 0
core.Device(0).set_current()
sizes = {"x": (8, 384), "residual": (8, 384), "gamma": (384,), "beta": (384,), "y": (8, 384), "s": (8, 384)}
def arrays(make):
    made = {n: make(i, s) for i, (n, s) in enumerate(sizes.items())}
    return {n: made[n] for n in list(sizes)[:4]}, {n: made[n] for n in list(sizes)[4:]}
tensors = arrays(lambda _, s: torch.zeros(s))
foreign = arrays(lambda i, s: Array(4096 * (i + 1), *s))
op = "residual_layernorm"
bound = launch.bind(op, *tensors)
plan = bound.plan
kernel = plan.loaded.keep.get_kernel(plan.loaded.entry)
config = core.LaunchConfig(grid=plan.geometry[:3], block=plan.geometry[3:])
stream = core.Stream.from_handle(0x77)
numbers = [ctypes.c_int32(v) for v in plan.scalars]
pointers = [value.value for value in bound._values if isinstance(value, ctypes.c_void_p)]
own = (*pointers[:4], *numbers, *pointers[4:])
arms = {
    "bound": bound,
    "run, tensors": lambda: launch.run(op, *tensors),
    "run, __cuda_array_interface__": lambda: launch.run(op, *foreign),
    "cuda.core.launch by itself": lambda: core.launch(stream, config, kernel, *own),
}
for name, arm in arms.items():
    arm()
    print(name, min(timeit.repeat(arm, number=50, repeat=1000)) / 50, sep="\\t")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where libcuda.so.1 is the fake."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler to build the fake driver with: make gpu-bench times a real one")
    folder = tmp_path_factory.mktemp("fake-driver")
    words = [compiler, "-shared", "-fPIC", "-O2", "-Wl,-soname,libcuda.so.1", str(SOURCE)]
    subprocess.run([*words, "-o", str(folder / "libcuda.so.1"), "-ldl"], check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}


@pytest.mark.benchmark(group="launch: Python's share, on a fake driver")
def test_launch(benchmark: Any, environment: dict[str, str], capsys: Any) -> None:
    """A process a round; per arm the quickest of 1,000 times 50 starts, short enough for one time slice of
    a busy machine; then the rounds' median and range."""

    def child() -> dict[str, float]:
        words = [sys.executable, "-c", CHILD]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = (line.split("\t") for line in done.stdout.splitlines())
        return {name: float(seconds) for name, seconds in lines}

    found: list[dict[str, float]] = []
    benchmark.pedantic(lambda: found.append(child()), rounds=ROUNDS)
    with capsys.disabled():
        print()
        for name in found[0]:
            times = sorted(one[name] * 1e6 for one in found)
            print(f"  {name}: {times[len(times) // 2]:.2f} us ({times[0]:.2f} to {times[-1]:.2f})")
