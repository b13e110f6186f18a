"""`make gpu-bench`: every kernel beside torch eager, torch.compile, and a copy of its bytes.

benchmarks/README.md says how to read it. Nothing is asserted on a time; what is wrong fails.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from accel import catalog, disk, manifest
from accel.errors import AccelError
from accel.measure import child

HERE = Path(__file__).parent
OUT = Path(os.environ.get("ACCEL_BENCH_OUT", ".benchmarks/gpu"))
MINILM_S = 300.0
BUDGET_S = 180.0  # after which torch compiles no more peers; the whole is to fit in six minutes


def _beside(name: str) -> Any:
    """A file of this folder: its own name is not a package's."""
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def _apart(minilm: Any) -> Any:
    """MiniLM's rows, from a process of their own: a package that crashes when it is loaded takes
    none of the kernels' rows with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        try:
            words = {"log": OUT / "minilm.log", "timeout_s": MINILM_S}
            return child.call("minilm:measured", {}, minilm.Whole, **words)
        except AccelError as error:
            return minilm.Whole(refused={"all arms": str(error)})


def _write(document: dict[str, Any], lines: list[str]) -> None:
    """What is known so far, whole: who is killed later leaves it behind."""
    OUT.mkdir(parents=True, exist_ok=True)
    disk.write(OUT / "bench.json", manifest.document("kernels-bench", document).encode())
    disk.write(OUT / "bench.txt", ("\n".join(lines) + "\n").encode())


@pytest.mark.gpu
def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    """One table and one JSON file; ACCEL_BENCH_KERNELS=nms,bias_gelu takes a few, and no MiniLM."""
    from accel.cuda import machine

    try:
        machine.require()
    except AccelError as error:
        pytest.skip(f"{str(error).split(': ')[0]}; instead: tests/cuda/test_bench.py")
    from accel.cuda import bench, bench_table

    asked = os.environ.get("ACCEL_BENCH_KERNELS", "")
    names = asked.split(",") if asked else catalog.names("kernels")
    peers = _beside("peers")
    with capsys.disabled():
        found = bench.bench(
            names,
            machine.facts(),
            {name: getattr(peers, name) for name in names if hasattr(peers, name)},
            peers.UNCOMPILED,
            BUDGET_S,
            lambda line: print(f"  {line}", flush=True),
        )
        _write({"figures": bench_table.figures(found), "bench": found}, bench_table.lines(found))
        minilm = _beside("minilm")
        whole = minilm.Whole() if asked else _apart(minilm)
        document = {"figures": bench_table.figures(found), "bench": found, "minilm": whole}
        lines = [*bench_table.lines(found), *([] if asked else ["", *minilm.lines(whole)])]
        _write(document, lines)
        print("\n" + "\n".join(lines), flush=True)
    assert not found.refused
    assert not whole.wrong
    wrong = [row for row in found.rows if any("WRONG" in note for note in row.notes)]
    assert not wrong, [(row.kernel, row.dtype, row.load, row.notes) for row in wrong]
