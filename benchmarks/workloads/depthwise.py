"""A depthwise CNN (MobileNet-like) on Fashion-MNIST, trained on first use; needs ACCEL_DATA."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fashion  # it lies beside this file
from fashion import calibration, inputs, metric, requests, row, samples  # noqa: F401

dynamic, outputs = fashion.dynamic, fashion.outputs
metric_name, metric_unit = "top-1 accuracy", "pt"


def _net():
    from torch import nn

    def conv(inside, out, stride=1, groups=1, kernel=3):
        return nn.Sequential(
            nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        )

    def block(inside, out, stride=1):
        return nn.Sequential(conv(inside, inside, stride, inside), conv(inside, out, kernel=1))

    return nn.Sequential(
        conv(1, 32), block(32, 64), block(64, 128, 2), block(128, 128), block(128, 128),
        block(128, 256, 2), block(256, 256),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def model():
    return fashion.trained("depthwise", _net, epochs=8, rate=4e-3)
