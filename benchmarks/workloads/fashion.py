"""Fashion-MNIST for the workloads beside this file: its splits, its metric, and training with a cache.

    python benchmarks/workloads/fashion.py depthwise     # train now, and tell the test accuracy

Of the 10,000 test images 5,000 are searched on and 5,000 certify. Weights are trained once, with a fixed
seed, and kept in ACCEL_TRAINED (default: .benchmarks/trained of this checkout).
"""

from __future__ import annotations

import functools
import gzip
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 128
TRAINED = Path(__file__).resolve().parents[2] / ".benchmarks" / "trained"
dynamic = {"image": {0: "batch"}}
outputs = ("logits",)
PARTS = {"search": slice(0, 5000), "certify": slice(5000, 10000)}


@functools.cache
def data(split: str) -> tuple[Any, Any]:
    """Images [N, 1, 28, 28] in [-1, 1], labels [N]: of "train" or "test"."""
    folder = Path(os.environ.get("ACCEL_DATA", "")) / "fashion-mnist"
    if not folder.is_dir():
        raise FileNotFoundError("Set ACCEL_DATA to the folder that holds fashion-mnist/.")
    name = "train" if split == "train" else "t10k"
    x = _idx(folder / f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    y = _idx(folder / f"{name}-labels-idx1-ubyte.gz", 8).astype(np.int64)
    return x.astype(np.float32) / 127.5 - 1, y


def _idx(path: Path, offset: int) -> Any:
    with gzip.open(path) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=offset)


def samples(split: str) -> Iterator[tuple[dict[str, Any], int]]:
    """One image a sample."""
    x, y = data("test")
    part = PARTS[split]
    for i in range(part.start, part.stop):
        yield {"image": x[i : i + 1]}, int(y[i])


def calibration() -> Iterator[dict[str, Any]]:
    """300 training images, one a feed."""
    x, _ = data("train")
    for i in range(300):
        yield {"image": x[i : i + 1]}


def requests() -> list[tuple[str, float, dict[str, Any]]]:
    """Single images, and batches."""
    x, _ = data("test")
    return [("single", 0.5, {"image": x[:1]}), ("batch 32", 0.5, {"image": x[:32]})]


def inputs() -> dict[str, Any]:
    """Two images: dynamic axes at 2 or more."""
    return {"image": data("test")[0][:2]}


def row(result: Any, label: int) -> float:
    """Right or wrong."""
    return float(result["logits"].argmax() == label)


def metric(rows: Any) -> float:
    """Percent."""
    return 100 * float(rows.mean())


def trained(name: str, make: Callable[[], Any], epochs: int, rate: float) -> Any:
    """The network with its weights: from the cache, else trained now (AdamW, one cycle of the rate)."""
    import torch

    path = Path(os.environ.get("ACCEL_TRAINED", TRAINED)) / f"{name}.pt"
    torch.manual_seed(0)
    net = make()
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    _train(net, epochs, rate)
    net = net.cpu()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    torch.save(net.state_dict(), draft)
    draft.replace(path)
    return net.eval()


def _train(net: Any, epochs: int, rate: float) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = (torch.from_numpy(a).to(device) for a in data("train"))
    # A step of the depthwise network takes 0.24 s so, and 0.31 s with the channels first.
    net.to(device, memory_format=torch.channels_last)
    steps = epochs * (len(x) // BATCH)
    descent = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(descent, rate, steps)
    for epoch in range(epochs):
        started, total = time.monotonic(), torch.zeros((), device=device)
        order = torch.randperm(len(x)).to(device)
        for i in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[i : i + BATCH]
            images = _moved(x[batch])
            loss = torch.nn.functional.cross_entropy(net(images), y[batch], label_smoothing=0.05)
            descent.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            descent.step()
            cycle.step()
            total += loss.detach()
        print(f"epoch {epoch + 1} of {epochs}: loss {float(total) / (len(x) // BATCH):.3f}, "
              f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)  # fmt: skip


def _moved(images: Any) -> Any:
    """Mirrored by a coin, and moved by up to two pixels."""
    import torch

    if torch.rand(()) < 0.5:
        images = images.flip(3)
    dx, dy = (int(v) for v in torch.randint(-2, 3, (2,)))
    return torch.roll(images, (dy, dx), (2, 3))


def main(name: str) -> None:
    """Train, and score the test images."""
    import torch

    net = importlib.import_module(name).model()
    x, y = data("test")
    with torch.no_grad():
        best = np.concatenate([net(torch.from_numpy(p)).argmax(1).numpy() for p in np.split(x, 50)])
    print(f"{name}: {100 * (best == y).mean():.2f} % of 10,000 test images")


if __name__ == "__main__":
    main(sys.argv[1])
