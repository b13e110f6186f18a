"""A transformer classifier (6 blocks, 128 wide, 16 patches) on Fashion-MNIST; needs ACCEL_DATA."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fashion  # it lies beside this file
from fashion import calibration, inputs, metric, requests, row, samples  # noqa: F401

dynamic, outputs = fashion.dynamic, fashion.outputs
metric_name, metric_unit = "top-1 accuracy", "pt"
WIDTH, HEADS, BLOCKS = 128, 4, 6


def _net():
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
            self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):  # [N, 16, WIDTH]
            h = self.one(x)
            q, k, v = (
                layer(h).reshape(x.shape[0], -1, HEADS, WIDTH // HEADS).transpose(1, 2)
                for layer in (self.query, self.key, self.value)
            )
            weights = torch.softmax(q @ k.transpose(2, 3) / (WIDTH // HEADS) ** 0.5, -1)
            x = x + self.out((weights @ v).transpose(1, 2).reshape(x.shape[0], -1, WIDTH))
            return x + self.down(nn.functional.gelu(self.up(self.two(x))))

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Linear(49, WIDTH)
            self.place = nn.Parameter(torch.randn(16, WIDTH) * 0.02)
            self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

        def forward(self, image):  # [N, 1, 28, 28]
            n = image.shape[0]
            x = image.reshape(n, 4, 7, 4, 7).permute(0, 1, 3, 2, 4).reshape(n, 16, 49)
            x = self.patch(x) + self.place
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x).mean(1))

    return Classifier()


def model():
    return fashion.trained("transformer", _net, epochs=16, rate=1.5e-3)
