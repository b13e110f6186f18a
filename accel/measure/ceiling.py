"""Measured ceilings: the highest rates that this machine was seen to reach, where no data sheet tells.

    operations   a product of two [N, N] matrices, 2 N^3 operations, in ONNX Runtime and in OpenVINO
    bytes        the maximum of as many arrays as threads, together as large as the working set

The best of many short runs counts: whatever else runs on the machine only lowers them. Neighbours
leave one thread alone more often than all of them, so one thread's rate times the threads counts too:
too high where a processor slows down when all cores are busy, and then the floor is only lower. A
ceiling may be beaten by a few percent, as a data sheet's peak never is: a share above 100 % says so. A
model whose weights fit into a cache reads them from there, call after call, so bandwidth is taken for
several working sets.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from accel.measure import here
from accel.values import Target

# A small product fits between two turns of a neighbour on the same core (some milliseconds); on many
# cores it is over before it has begun, and the large one tells.
SIDES = (512, 1536)
LEAST_RUNS, BUDGET_S, PAUSE_S = 5, 0.2, 0.005  # of each; pauses let neighbours come and go
SETS_BYTES = (1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20)
# Of one run: a small set is read again and again, a large one part after part, so that a part has left
# the caches when its turn comes again. It takes about a millisecond, for the neighbours' sake.
WINDOW_BYTES = 16 << 20


VERB, LIMIT_S = "accel.measure.ceiling:measure", 120.0  # it runs in a process of its own
MEASURED, GIVEN = "measured ceilings of this machine", "the profile's peak rates"
Product = tuple[str, str, Callable[[], object]]  # type, library, one run


@dataclass(frozen=True)
class Ceilings:
    """Rates of this machine, and how each was reached."""

    operations_per_s: Mapping[str, float]  # "float32", "bfloat16", "int8"
    bandwidth: tuple[tuple[int, float], ...]  # (working set in bytes, bytes per second), ascending
    how: Mapping[str, str] = field(default_factory=dict)  # type -> the library; "failed" -> why
    threads: int = 1

    def peaks(self, working_set_bytes: int) -> dict[str, float]:
        """As a target has them, for a model that moves that many bytes a call: the bandwidth of the
        largest set below, so that the floor is not too high."""
        below = [rate for size, rate in self.bandwidth if size <= working_set_bytes]
        rates = {f"{dtype}_ops_per_s": rate for dtype, rate in self.operations_per_s.items()}
        if self.bandwidth:
            rates["bytes_per_s"] = (below or [self.bandwidth[0][1]])[-1]
        return rates


def wanted(target: Target) -> bool:
    """Is it a processor, this machine's, whose profile tells no rate of operations?"""
    told = any(name.endswith("_ops_per_s") for name in target.peaks)
    return not (told or target.compute_capability or here.elsewhere(target))


def measure(threads: int) -> Ceilings:
    """Some seconds of work, on that many threads. Meant for a process of its own.

    Where neither ONNX Runtime nor OpenVINO is installed, there is no rate of operations."""
    best: dict[str, float] = {}
    how: dict[str, str] = {}
    for side, used in ((SIDES[0], 1), *((side, threads) for side in SIDES)):
        for dtype, library, run in _products(side, used):
            rate = threads / used * 2 * side**3 / _quickest(run)
            if rate > best.get(dtype, 0.0):
                best[dtype] = rate
                how[dtype] = f"{library}, N = {side}, {used} of {threads} threads"
    return Ceilings(best, tuple(_bandwidths(threads)), how, threads)


def _quickest(run: Callable[[], object]) -> float:
    """Seconds of the quickest of many runs."""
    run()  # the first one packs, allocates, and wakes threads
    times: list[float] = []
    end = time.perf_counter() + BUDGET_S
    while len(times) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        time.sleep(PAUSE_S)
    return min(times)


def _products(side: int, threads: int) -> Iterator[Product]:
    yield from _onnxruntime(side, threads)
    yield from _openvino(side, threads)


def _onnxruntime(side: int, threads: int) -> Iterator[Product]:
    try:
        import onnxruntime
    except ImportError:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for dtype, text in (("float32", FLOAT), ("int8", INTEGER)):
        graph = _graph(text, dtype, side)
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        feed = {"x": _matrix("uint8" if dtype == "int8" else dtype, side)}
        yield dtype, "ONNX Runtime", functools.partial(session.run, None, feed)


def _openvino(side: int, threads: int) -> Iterator[Product]:
    try:
        import openvino
    except ImportError:
        return
    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    wanted = [("float32", FLOAT, "f32"), ("int8", QUANTIZED, "f32")]
    if "BF16" in able:  # elsewhere it takes the hint and is slow without a word
        wanted.append(("bfloat16", FLOAT, "bf16"))
    for dtype, text, hint in wanted:
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        model = core.read_model(_graph(text, "int8" if text is QUANTIZED else "float32", side))
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(_matrix("float32", side)))
        yield dtype, "OpenVINO", request.infer


FLOAT = "(float[{n}, {n}] x) => (float[{n}, {n}] y) { y = MatMul(x, w) }"
INTEGER = "(uint8[{n}, {n}] x) => (int32[{n}, {n}] y) { y = MatMulInteger(x, w) }"
QUANTIZED = """(float[{n}, {n}] x) => (float[{n}, {n}] y)
<float s = {0.05}, int8 z = {0}, float t = {0.05}>
{
    q = QuantizeLinear(x, s, z)
    a = DequantizeLinear(q, s, z)
    b = DequantizeLinear(w, t, z)
    y = MatMul(a, b)
}"""


def _graph(text: str, dtype: str, side: int) -> bytes:
    """A product by a weight, as a serialized model."""
    import onnx

    head = '<ir_version: 8, opset_import: ["": 17]> product '
    model = onnx.parser.parse_model(head + text.replace("{n}", str(side)))
    model.graph.initializer.append(onnx.numpy_helper.from_array(_matrix(dtype, side), "w"))
    return bytes(model.SerializeToString())


def _matrix(dtype: str, side: int) -> Any:
    """[N, N] of small numbers: time must not depend on denormals or zeros."""
    import numpy as np

    draw = np.random.default_rng(0)
    if dtype == "float32":
        return draw.standard_normal((side, side), np.float32)
    return draw.integers(0, 100, (side, side)).astype(dtype)


def _bandwidths(threads: int) -> Iterator[tuple[int, float]]:
    """A set is read at least as fast as a larger one: that its own run was slower was a neighbour's."""
    rates = list(_read_rates(threads))
    for i, (size_bytes, _) in enumerate(rates):
        yield size_bytes, max(rate for _, rate in rates[i:])


def _read_rates(threads: int) -> Iterator[tuple[int, float]]:
    import numpy as np

    with ThreadPoolExecutor(threads) as pool:
        for size_bytes in SETS_BYTES:
            parts = [np.ones(size_bytes // threads // 8, np.int64) for _ in range(threads)]
            width = min(len(parts[0]), WINDOW_BYTES // threads // 8)
            # whole windows only: the quickest run counts, and that would be a shorter last one
            starts = range(0, len(parts[0]) - width + 1, width)
            windows = [[p[i : i + width] for p in parts] for i in starts]
            passes = max(1, WINDOW_BYTES // size_bytes)
            run = functools.partial(_read_next, pool, itertools.cycle(windows), passes)
            yield size_bytes, threads * width * 8 * passes / _quickest(run)


def _read_next(pool: ThreadPoolExecutor, windows: Iterator[list[Any]], passes: int) -> None:
    list(pool.map(functools.partial(_read, passes=passes), next(windows)))


def _read(part: Any, passes: int) -> None:
    """numpy's maximum of integers is vectorized, and lets go of its lock; BLAS has own threads."""
    for _ in range(passes):
        part.max()
