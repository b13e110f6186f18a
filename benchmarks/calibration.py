"""Peak memory and time of calibration, by the number of samples: accel's one pass beside ONNX Runtime's.

    python benchmarks/calibration.py --feeds 64 256 1024 4096

MiniLM on the calibration sentences of its workload, at their real lengths, in a fresh
process each. ONNX Runtime's MinMax calibrator is asked for the same feeds; its histogram ones (Entropy,
Percentile) keep every activation and stop on varying lengths, so theirs are padded to 32 tokens, 64 at most.
`peak` is the process's, with the libraries and the graph in it; `growth` beside its smallest run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "minilm.py"
MOST_OTHERS = 64  # feeds of a histogram calibrator: 1.5 GB already
LENGTH = 32
WAYS = ("accel", "ort MinMax", "ort Entropy")


def main() -> None:
    """A process a way and a number, then a table."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feeds", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--out", type=Path, default=Path(".benchmarks/calibration"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one[0], int(asked.one[1]), asked.out)))
        return
    rows = [row(way, n, asked.out) for way in asked.ways for n in asked.feeds if fits(way, n)]
    print(json.dumps(rows, indent=1) if asked.json else table(rows))


def fits(way: str, count: int) -> bool:
    """A histogram calibrator's memory is the number of feeds times all activations."""
    return way != "ort Entropy" or count <= MOST_OTHERS


def row(way: str, count: int, out: Path) -> dict[str, Any]:
    """One run, in a process of its own."""
    command = [sys.executable, __file__, "--one", way, str(count), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"way": way, "feeds": count, "trouble": done.stderr.strip().splitlines()[-1]}
    return {"way": way, "feeds": count, **json.loads(done.stdout.splitlines()[-1])}


def one(way: str, count: int, out: Path) -> dict[str, Any]:
    """Calibrate, and read this process's peak."""
    model = exported(out)
    started = time.perf_counter()
    facts = by_accel(model, count) if way == "accel" else by_ort(model, count, way.split()[1], out)
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM"))
    return {"seconds": round(seconds, 2), "peak_bytes": peak * 1024, **facts}


def exported(out: Path) -> Path:
    """MiniLM as a graph, made once by a process of its own: torch stays out of here."""
    path = out.absolute() / "minilm.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "accel", "export", str(EXAMPLE), "--out", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def feeds(count: int) -> Iterator[dict[str, Any]]:
    """Sentences of the workload, one a feed, again from the start where more are asked for."""
    spec = importlib.util.spec_from_file_location("minilm", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = list(module.calibration())
    for i in range(count):
        yield given[i % len(given)]


def by_accel(model: Path, count: int) -> dict[str, Any]:
    """All values' sketches: four methods' ranges come from them."""
    from accel.calibration.collect import collect

    found = collect(model, feeds(count), stop=False)
    return {"values": len(found.sketches)}


def by_ort(model: Path, count: int, method: str, out: Path) -> dict[str, Any]:
    """Its own calibrator, on the same feeds; padded to one length where it demands that."""
    import numpy as np
    from onnxruntime import quantization as q
    from onnxruntime.quantization.calibrate import create_calibrator

    given = feeds(count)

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]  # it has no types
        def get_next(self) -> Any:
            feed = next(given, None)
            if feed is None or method == "MinMax":
                return feed
            return {k: np.resize(v[:, :LENGTH], (1, LENGTH)) for k, v in feed.items()}

    kind = getattr(q.CalibrationMethod, method)
    calibrator = create_calibrator(
        str(model),
        augmented_model_path=str(out / f"augmented-{method}.onnx"),
        calibrate_method=kind,
    )
    calibrator.set_execution_providers(["CPUExecutionProvider"])
    calibrator.collect_data(Reader())
    return {"values": len(calibrator.compute_data().data)}


def table(rows: list[dict[str, Any]]) -> str:
    """Text."""
    least: dict[str, int] = {}
    lines = ["way          feeds  values  seconds  peak MB  growth"]
    for r in rows:
        if "trouble" in r:
            lines.append(f"{r['way']:<12} {r['feeds']:>5}  {r['trouble'][:80]}")
            continue
        first = least.setdefault(r["way"], r["peak_bytes"])
        lines.append(
            f"{r['way']:<12} {r['feeds']:>5}  {r['values']:>6}  {r['seconds']:>7.1f}  "
            f"{r['peak_bytes'] / 1e6:>7.0f}  {100 * (r['peak_bytes'] / first - 1):+.1f} %"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
