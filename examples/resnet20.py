"""The published CIFAR-10 ResNet-20 (He et al. 2016, option A): 932 of 1,017 test images right.

    ACCEL_DATA=... accel optimize examples/resnet20.py --target cpu-local --max-drop 0.5pt

Calibration and search use images of the training set, certify the 1,017 test images at hand: so few
that half a point is certified only where hardly an answer changes.
"""

import functools
import os
from pathlib import Path

dynamic = {"image": {0: "batch"}}
outputs = ("logits",)
metric_name = "top-1 accuracy"
metric_unit = "pt"


def _folder():
    found = Path(os.environ.get("ACCEL_DATA", "")) / "cifar10-resnet20"
    if not os.environ.get("ACCEL_DATA") or not found.is_dir():
        raise FileNotFoundError("set ACCEL_DATA to the folder that holds cifar10-resnet20")
    return found


@functools.cache
def _images(name):
    import numpy as np

    with np.load(_folder() / name) as data:
        x, y = data["x"], data["y"]
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    x = (x.astype(np.float32) / 255 - mean) / deviation
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y  # [N, 3, 32, 32], [N]


def _train():
    return _images("cifar10_train_first10000_lossless.npz")


def model():
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, wide_in, wide, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(wide_in, wide, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(wide)
            self.conv2 = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(wide)
            self.more = wide - wide_in

        def forward(self, x):
            y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
            if self.more:  # option A: every second pixel, new channels are zero
                side = self.more // 2
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, side, side))
            return functional.relu(y + x)

    class ResNet20(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(3)])
            self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
            self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
            self.linear = nn.Linear(64, 10)

        def forward(self, image):
            x = functional.relu(self.bn1(self.conv1(image)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean((2, 3)))

    path = _folder() / "resnet20-12fca82f.th"
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net = ResNet20()
    net.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return net.eval()


def inputs():
    return {"image": _train()[0][:4]}


def calibration():
    return [{"image": x[None]} for x in _train()[0][:500]]


def samples(split):
    x, y = _images("cifar10_test_first1017_lossless.npz")
    if split == "search":
        x, y = (part[8000:] for part in _train())
    return [({"image": a[None]}, int(b)) for a, b in zip(x, y, strict=True)]


def row(result, label):
    return result["logits"].argmax() == label


def metric(rows):
    return 100 * rows.mean()


def requests():
    x, _ = _train()
    return [("single", 0.9, {"image": x[500:501]}), ("batch 32", 0.1, {"image": x[500:532]})]
