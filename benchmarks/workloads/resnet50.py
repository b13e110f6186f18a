"""ResNet-50 from its configuration in transformers, random weights: latency and fidelity, no accuracy."""

import functools

dynamic = {"image": {0: "batch"}}
outputs = ("logits",)


@functools.cache
def model():
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    net = ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()
    with torch.no_grad():  # a fresh batch norm lets values grow with depth: fit it to a few images
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
                module.momentum = None
        net(torch.from_numpy(_images(0, 16)))

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net.eval()

        def forward(self, image):
            return self.net(image).logits

    return Plain().eval()


def _images(seed, count):
    """Smooth shapes of random colours: not photographs, but no noise either. [N, 3, 224, 224]"""
    import numpy as np

    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:224, 0:224].astype("float32") / 224
    made = np.zeros((count, 3, 224, 224), "float32")
    for i in range(count):
        for _ in range(12):
            fx, fy, phase = draw.normal(size=3) * (9, 9, 3)
            made[i] += draw.normal(size=(3, 1, 1)).astype("float32") * np.sin(
                fx * x + fy * y + phase
            )
    return (made / made.std()).astype("float32")


def inputs():
    return {"image": _images(1, 2)}


def calibration():
    for i in range(32):
        yield {"image": _images(100 + i, 1)}


def requests():
    return [("single", 0.5, {"image": _images(2, 1)}), ("batch 8", 0.5, {"image": _images(3, 8)})]
