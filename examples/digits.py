"""A small CNN on scikit-learn's digits: needs no download, trains in seconds.

accel optimize examples/digits.py --target cpu-local --max-drop 2pt --out release
"""

import functools

dynamic = {"image": {0: "batch"}}
outputs = ("logits",)
metric_name = "top-1 accuracy"
metric_unit = "pt"


@functools.cache
def _data():
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = __import__("numpy").random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order] / 16).astype("float32")[:, None]  # [N, 1, 8, 8]
    return x, digits.target[order]


def _split(name):
    x, y = _data()
    part = {"train": slice(0, 900), "search": slice(900, 1300), "certify": slice(1300, None)}[name]
    return x[part], y[part]


@functools.cache
def model():
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    x, y = (torch.from_numpy(a) for a in _split("train"))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(12):
        for i in range(0, len(x), 64):
            loss = nn.functional.cross_entropy(net(x[i : i + 64]), y[i : i + 64].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def inputs():
    return {"image": _split("train")[0][:4]}


def calibration():
    return [{"image": x[None]} for x in _split("train")[0][:200]]


def samples(split):
    x, y = _split(split)
    return [({"image": a[None]}, int(b)) for a, b in zip(x, y, strict=True)]


def row(result, label):
    return result["logits"].argmax() == label


def metric(rows):
    return 100 * rows.mean()


def requests():
    x, _ = _split("train")
    return [("single", 0.9, {"image": x[:1]}), ("batch 16", 0.1, {"image": x[:16]})]
