"""Every graph that the onnx wheel carries or can make: what accel accepts, and what ONNX Runtime loads.

    .venv/bin/python -m benchmarks.onnx_graphs

The data of onnx/backend/test/data (light, simple, pytorch-converted, pytorch-operator) as files,
and the cases of onnx/backend/test/case/node, a graph or several an operator. ONNX Runtime loads each
without optimisation, on one thread; it runs none.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime

from accel.errors import AccelError
from accel.questions.inspect import inspect

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def graphs(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """(family, name, file): of each, `folder` is for those that are made."""
    for path in sorted((*DATA.glob("*/*/model.onnx"), *DATA.glob("light/*.onnx"))):
        family, *rest = path.relative_to(DATA).parts
        yield family, rest[0], path
    from onnx.backend.test.case.node import collect_testcases

    made = folder / "m.onnx"
    for case in collect_testcases(None):
        if case.model is not None:
            onnx.save(case.model, made)
            yield "node", case.name, made


def accepted(path: Path) -> str:
    """Why accel refuses it; empty where it does not."""
    try:
        inspect(path)
    except AccelError as error:
        return str(error)
    return ""


def loaded(path: Path) -> str:
    """Why ONNX Runtime refuses it; empty where it does not."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        return str(error)
    return ""


def main() -> int:
    """1 where accel refuses a graph that ONNX Runtime loads."""
    warnings.simplefilter("ignore")  # onnx's cases divide by zero on purpose
    began, counts, lost = time.monotonic(), Counter[tuple[str, bool, bool]](), 0
    with tempfile.TemporaryDirectory() as folder:
        for family, name, path in graphs(Path(folder)):
            why, also = accepted(path), loaded(path)
            counts[family, not why, not also] += 1
            if why:
                lost += not also
                print(f"{family}/{name}: accel: {why}; ONNX Runtime: {also or 'loads it'}")
    for (family, ours, theirs), count in sorted(counts.items()):
        words = ("accepted" if ours else "refused", "loads" if theirs else "does not load")
        print(f"{family}: {count} {words[0]} by accel that ONNX Runtime {words[1]}")
    versions = f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"{sum(counts.values())} graphs, {time.monotonic() - began:.0f} s, {versions}")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
