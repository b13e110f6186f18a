"""Six small networks, trained here on Fashion-MNIST, each as an ONNX graph with its test data.

    python benchmarks/faults/nets.py .benchmarks/faults     # faults.py calls this

A CNN, a depthwise CNN, a transformer encoder, an LSTM over rows, an MLP whose hidden channels differ by a
hundred times (the same function, rescaled), and a detector's head: which item, and where on a canvas.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workloads"))

import fashion  # it lies there

TRAINED, BATCH, TESTED = 24_000, 64, 2_000
RATE = 2e-3
CANVAS = 48  # pixels, of the detector's
Data = tuple[Any, Any]  # images [N, 1, H, W] float32, labels [N] or [N, 3]


def placed(data: Data, seed: int) -> Data:
    """Each item somewhere on a canvas: labels are [class, x, y]."""
    images, labels = data
    draw = np.random.default_rng(seed)
    room = CANVAS - 28
    at = draw.integers(0, room + 1, (len(images), 2))
    made = np.full((len(images), 1, CANVAS, CANVAS), -1.0, np.float32)
    for i, (x, y) in enumerate(at):
        made[i, 0, y : y + 28, x : x + 28] = images[i, 0]
    return made, np.column_stack([labels, at / room]).astype(np.float32)


class Encoder(nn.Module):
    """Two blocks over 16 patches of 7 x 7."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.patch = nn.Linear(49, width)
        self.place = nn.Parameter(torch.randn(16, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, 4, 128) for _ in range(2))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Any) -> Any:
        n = x.shape[0]
        x = x.reshape(n, 4, 7, 4, 7).permute(0, 1, 3, 2, 4).reshape(n, 16, 49)
        x = self.patch(x) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class Block(nn.Module):
    """Pre-norm attention and a feed-forward."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def _split(self, x: Any) -> Any:
        return x.reshape(x.shape[0], -1, self.heads, self.size).transpose(1, 2)

    def forward(self, x: Any) -> Any:
        h = self.one(x)
        q, k, v = self._split(self.query(h)), self._split(self.key(h)), self._split(self.value(h))
        weights = torch.softmax(q @ k.transpose(2, 3) / self.size**0.5, -1)
        joined = (weights @ v).transpose(1, 2).reshape(x.shape[0], -1, self.heads * self.size)
        x = x + self.out(joined)
        return x + self.down(torch.relu(self.up(self.two(x))))


class Rows(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, 64, batch_first=True)
        self.up, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        out, _ = self.lstm(x.squeeze(1))
        return self.head(torch.relu(self.up(out[:, -1])))


class Detector(nn.Module):
    """A small backbone with two heads: scores of ten classes, and a place in [0, 1] x [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(1, 16), conv(16, 32, 2), conv(32, 32), conv(32, 48, 2), conv(48, 48, 2)
        )
        self.classes = nn.Sequential(
            nn.Flatten(), nn.Linear(48 * 36, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        self.place = nn.Sequential(
            nn.Flatten(), nn.Linear(48 * 36, 64), nn.ReLU(), nn.Linear(64, 2)
        )

    def forward(self, x: Any) -> Any:
        x = self.body(x)
        return torch.cat([self.classes(x), self.place(x)], 1)


def conv(inside: int, out: int, stride: int = 1, groups: int = 1, kernel: int = 3) -> Any:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def depthwise(inside: int, out: int, stride: int = 1) -> Any:
    """A channel each, then a mix of channels."""
    return nn.Sequential(conv(inside, inside, stride, inside), conv(inside, out, 1, 1, 1))


def end(width: int) -> Any:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


NETS: dict[str, Callable[[], nn.Module]] = {
    "cnn": lambda: nn.Sequential(
        conv(1, 16), conv(16, 32, 2), conv(32, 32), conv(32, 48, 2), end(48)
    ),
    "depthwise": lambda: nn.Sequential(
        conv(1, 16), depthwise(16, 32, 2), depthwise(32, 32), depthwise(32, 64, 2), end(64)
    ),
    "encoder": Encoder,
    "lstm": Rows,
    "mlp": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    ),
    "detector": Detector,
}


def right(name: str, outputs: Any, labels: Any) -> Any:
    """[N] of a network's answers: right or wrong; a detector's place may be off by 3 pixels."""
    best = outputs[:, :10].argmax(1)
    if name != "detector":
        return best == labels
    room = CANVAS - 28
    near = np.abs(outputs[:, 10:] - labels[:, 1:]).max(1) * room <= 3
    return (best == labels[:, 0]) & near


def trained(name: str, data: Data, path: Path) -> nn.Module:
    """The network with the weights at `path`, which are made first where they are not there."""
    torch.manual_seed(0)
    net = NETS[name]()
    if not path.exists():
        _train(name, net, data)
        torch.save(net.cpu().state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()


def _train(name: str, net: nn.Module, data: Data) -> None:
    """Adam, one cycle of the rate, a few epochs: good enough to lose something."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net.to(device)
    images, labels = data
    epochs = 4 if name in ("encoder", "lstm", "detector") else 3
    steps = epochs * (len(images) // BATCH)
    descent = torch.optim.AdamW(net.parameters(), RATE)
    rate = torch.optim.lr_scheduler.OneCycleLR(descent, RATE, steps)
    x, y = (torch.from_numpy(a).to(device) for a in (images, labels))
    for _ in range(epochs):
        order = torch.randperm(len(x)).to(device)
        for i in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[i : i + BATCH]
            loss = _loss(name, net(x[batch]), y[batch])
            descent.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            descent.step()
            rate.step()


def _loss(name: str, out: Any, label: Any) -> Any:
    if name != "detector":
        return nn.functional.cross_entropy(out, label)
    place = nn.functional.smooth_l1_loss(out[:, 10:], label[:, 1:], beta=0.05)
    return nn.functional.cross_entropy(out[:, :10], label[:, 0].long()) + 4 * place


def rescaled(net: Any) -> None:
    """The MLP's function with hidden channels that differ by a hundred times: what ReLU lets pass."""
    draw = torch.Generator().manual_seed(1)
    for one, two in ((net[1], net[3]), (net[3], net[5])):
        scale = 10 ** (torch.rand(one.out_features, generator=draw) * 2 - 1)
        with torch.no_grad():
            one.weight *= scale[:, None]
            one.bias *= scale
            two.weight /= scale


def main(folder: Path) -> None:
    """Train what is not there yet, and write graphs and test data."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        path = folder / f"{name}.onnx"
        if path.exists():
            continue
        train, test = fashion.data("train"), fashion.data("test")
        train = (train[0][:TRAINED], train[1][:TRAINED])
        if name == "detector":
            train, test = placed(train, 0), placed(test, 1)
        net = trained(name, train, folder / f"{name}.pt")
        if name == "mlp":
            rescaled(net)
        with torch.no_grad():
            out = np.concatenate(
                [net(torch.from_numpy(part)).numpy() for part in np.split(test[0], 20)]
            )
        print(
            f"{name}: {100 * right(name, out, test[1]).mean():.1f} % of the test images", flush=True
        )
        np.savez(
            folder / f"{name}.npz",
            x=test[0][:TESTED],
            y=test[1][:TESTED],
            calibration=train[0][:256],
        )
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the tracer keeps LSTM one node; torch would rather not
            torch.onnx.export(
                net, (torch.from_numpy(test[0][:2]),), str(folder / "part.onnx"), dynamo=False,
                opset_version=17, input_names=["x"], output_names=["y"],
                dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            )  # fmt: skip
        (folder / "part.onnx").replace(path)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except FileNotFoundError as error:
        sys.exit(str(error))
