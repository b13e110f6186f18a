"""Where kernels fit in exported programs, and where they are refused, each with its true reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  torch's own examples call it so

from accel import catalog
from accel.engines import _torch_sites
from accel.engines._torch_program import quiet

ALL = _torch_sites.chosen(True)
GAMMA, BETA = torch.linspace(0.5, 2, 8), torch.linspace(-1, 1, 8)


class Net(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *tensors: Any) -> Any:
        return self._function(*tensors)


def _program(function: Callable[..., Any], *tensors: Any) -> Any:
    """Exported with a dynamic first axis."""
    axes = tuple({0: torch.export.Dim.DYNAMIC} for _ in tensors)
    with torch.no_grad(), quiet():
        return torch.export.export(
            Net(function).eval(), tensors, dynamic_shapes=(axes,), strict=False
        )


def _x(*sizes: int) -> Any:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(sum(sizes)))


def _norm(s: Any) -> Any:
    return F.layer_norm(s, [8], GAMMA, BETA, 1e-5)


def _pool(x: Any, mask: Any, most: float | None = None, expanded: bool = False) -> Any:
    seen = mask.unsqueeze(-1).float()
    seen = seen.expand(x.shape) if expanded else seen
    return F.normalize((x * seen).sum(1) / seen.sum(1).clamp(1e-9, most), dim=-1)


MASK = torch.ones(3, 5, dtype=torch.int64)
TAKEN: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "the sum read elsewhere": (
        lambda x, r: (_norm(x + r), (x + r).relu(), x),
        (_x(3, 8), _x(3, 8)),
    ),
    "the sum read before": (
        lambda x, r: [s := x + r, s.relu(), _norm(s)][1:],
        (_x(3, 8), _x(3, 8)),
    ),
    "a residual that repeats": (lambda x: _norm(BETA.expand(5, 8) + x), (_x(3, 5, 8),)),
    "the tanh form": (
        lambda x: F.gelu(F.linear(x, _x(8, 8), BETA), approximate="tanh"),
        (_x(3, 8),),
    ),
    "a bias added apart": (lambda x: F.gelu(BETA + x @ _x(8, 8)), (_x(3, 8),)),
    "a pooling head": (_pool, (_x(3, 5, 8), MASK)),
    "the mask expanded": (lambda x, m: _pool(x, m, expanded=True), (_x(3, 5, 8), MASK)),
    "two in a row": (
        lambda x, r: _norm(F.gelu(_norm(x + r) @ _x(8, 8) + BETA) + x),
        (_x(3, 8), _x(3, 8)),
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_site_is_taken_and_the_outputs_stay(name: str) -> None:
    """The program with kernels answers as the one before, and refuses nothing."""
    function, tensors = TAKEN[name]
    program = _program(function, *tensors)
    found = _torch_sites.swap(program, ALL)
    assert sum(found.sites.values()) == (3 if name == "two in a row" else 1)
    assert found.refused == ()
    got, want = program.module()(*tensors), function(*tensors)
    torch.testing.assert_close(got, type(got)(want) if isinstance(got, tuple) else want)


def test_every_matcher_has_its_kernel() -> None:
    """A file _torch_<kernel>.py whose kernel is not there would be passed over in silence."""
    files = {p.stem for p in (catalog.ROOT / "kernels").glob("_torch_*.py")}
    assert files == {f"_torch_{name}" for name in ALL}


def _elsewhere(x: Any) -> Any:
    s = F.linear(x, _x(8, 8), BETA)
    return F.gelu(s), s


def _late(x: Any, r: Any) -> Any:
    s = x + r
    return F.layer_norm(s, [8], s.relu().mean(0), BETA, 1e-5)


REFUSED: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "no sum": (_norm, (_x(3, 8),), "it normalises an input [s"),
    "a product": (lambda x: _norm(x * x), (_x(3, 8),), "it normalises mul ["),
    "a scaled sum": (lambda x, r: _norm(torch.add(x, r, alpha=2)), (_x(3, 8),) * 2, "not a sum"),
    "a number": (lambda x: _norm(x + 3), (_x(3, 8),), "and 3: one must be as large"),
    "no beta": (lambda x, r: F.layer_norm(x + r, [8], GAMMA), (_x(3, 8),) * 2, "no beta"),
    "two axes": (
        lambda x, r: F.layer_norm(x + r, [5, 8], torch.ones(5, 8), torch.ones(5, 8)),
        (_x(3, 5, 8),) * 2,
        "over 2 axes, not one",
    ),
    "a middle axis repeats": (
        lambda x, r: _norm(x + r),
        (_x(3, 5, 8), _x(3, 1, 8)),
        "may repeat over leading axes",
    ),
    "a long row": (
        lambda x, r: F.layer_norm(x + r, [8193], torch.ones(8193), torch.ones(8193)),
        (_x(2, 8193),) * 2,
        "8192",
    ),
    "float64": (
        lambda x, r: F.layer_norm(x + r, [8], GAMMA.double(), BETA.double()),
        (_x(3, 8).double(),) * 2,
        "does not take float64",
    ),
    "its inputs come late": (_late, (_x(3, 8),) * 2, "comes after its first use"),
    "gelu of no sum": (lambda x: F.gelu(x.relu()), (_x(3, 8),), "to which no bias was added"),
    "gelu without bias": (lambda x: F.gelu(F.linear(x, _x(8, 8))), (_x(3, 8),), "has no bias"),
    "its sum elsewhere": (_elsewhere, (_x(3, 8),), "is used elsewhere"),
    "two activations": (lambda x, r: F.gelu(x + r), (_x(3, 8),) * 2, "neither is a bias"),
    "no mean": (lambda x: F.normalize(x * 2, dim=1), (_x(3, 8),), "not a mean over tokens"),
    "a plain mean": (
        lambda x: F.normalize(x.sum(1) / x.shape[1], dim=1),
        (_x(3, 5, 8),),
        "not the clamped number of tokens",
    ),
    "another mask": (
        lambda x, m: F.normalize(
            (x * m.unsqueeze(-1)).sum(1) / m.unsqueeze(-1).add(0).float().sum(1).clamp(min=1), dim=1
        ),
        (_x(3, 5, 8), MASK),
        "not a product with what is counted",
    ),
    "a mask of floats": (_pool, (_x(3, 5, 8), MASK.float()), "does not take float32, float32"),
    "a mask that wraps": (
        lambda x, m: _pool(x, m.to(torch.int8)),
        (_x(3, 5, 8), MASK * 256),
        "does not take float32, int8",
    ),
    "a bounded clamp": (
        lambda x, m: _pool(x, m, 4.0),
        (_x(3, 5, 8), MASK),
        "has an upper bound",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_quite_a_site_is_refused(name: str) -> None:
    """One refusal, with the node and the reason, and a program that answers as before."""
    function, tensors, said = REFUSED[name]
    program = _program(function, *tensors)
    found = _torch_sites.swap(program, ALL)
    assert not any(found.sites.values())
    (refusal,) = found.refused
    assert said in refusal.reason, refusal
    assert refusal.what.partition(" at ")[0] in ALL
    torch.testing.assert_close(program.module()(*tensors), function(*tensors))
