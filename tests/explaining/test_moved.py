"""Weights that a recipe scaled before it rounded them: no factor of its own is a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from accel import graph, testing
from accel.questions.explain import explain
from accel.recipes import int8_mixed
from accel.values import Model
from tests.explaining.planted import U8S8, changed, scaled

SOUND = {"", "int8 pair-sum saturation"}


@pytest.fixture(scope="module")
def uneven(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network with channels of the first convolution from 1/16 to 16 times as large: the same function."""
    proto, factor = onnx.load(model.path), np.logspace(-4, 4, 16, base=2).astype(np.float32)
    for name, by in (("k0", factor[:, None, None, None]), ("c0", factor), ("k1", 1 / factor[None, :, None, None])):  # fmt: skip
        tensor = next(t for t in proto.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * by, name))
    path = tmp_path_factory.mktemp("uneven") / "m.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def equalized(uneven: Path, feeds: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"ranges": "minmax", "equalize": True}
    folder = tmp_path_factory.mktemp("equalized")
    return int8_mixed.apply(graph.describe(uneven), feeds, U8S8, options, folder).model.path


def test_a_sound_equalised_graph_has_no_fault(uneven: Path, equalized: Path, feeds: Any) -> None:
    """Each part taken back stands beside the equalised ones that stay."""
    found = explain(equalized, uneven, feeds)
    assert found.sqnr_db > 25
    assert {s.kind for s in found.suspects} <= SOUND
    assert not any(s.alone for s in found.suspects)


def test_a_stale_scale_of_an_equalised_weight_is_named_first(
    uneven: Path, equalized: Path, feeds: Any, tmp_path: Path
) -> None:
    """By what it mends, which is all."""
    stale = changed(equalized, tmp_path, scaled("k1__scale", 3))
    first = explain(stale, uneven, feeds).suspects[0]
    assert (first.value, first.kind) == ("p1", "wrong or stale scale")
    assert first.recovered > 0.9


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """Two products, of which the first reads a channel that is far larger than the rest."""
    folder, draw = tmp_path_factory.mktemp("migrated"), np.random.default_rng(5)
    model = testing.mlp(folder / "m.onnx", width=32)
    feeds = [{"x": draw.normal(size=(16, 32)).astype(np.float32)} for _ in range(4)]
    for feed in feeds:
        feed["x"][:, 3] *= 50
    (folder / "q").mkdir()
    options = {"ranges": "minmax", "migrate": 0.8}
    made = int8_mixed.apply(model, feeds, U8S8, options, folder / "q").model.path
    return made, model.path, feeds


def test_a_sound_migrated_graph_has_no_fault(migrated: tuple[Path, Path, Any]) -> None:
    """The divided activations and the multiplied weights are its parts, none of them a node."""
    found = explain(*migrated)
    assert found.sqnr_db > 25
    assert {s.kind for s in found.suspects} <= SOUND
    assert {s.part.split()[0] for s in found.suspects} == {"activation", "weight"}
    assert {s.value for s in found.suspects} <= {"x", "p0", "r0", "y"}


@pytest.mark.parametrize(
    ("name", "factor", "value", "kind"),
    [
        ("r0__smooth__scale", 1 / 8, "r0", "clipped range"),
        ("w0__scale", 3, "p0", "wrong or stale scale"),
    ],
    ids=["divided activation", "multiplied weight"],
)
def test_a_fault_of_a_migrated_graph_is_named_first(
    migrated: tuple[Path, Path, Any],
    tmp_path: Path,
    name: str,
    factor: float,
    value: str,
    kind: str,
) -> None:
    """By the reference's names."""
    made, reference, feeds = migrated
    first = explain(changed(made, tmp_path, scaled(name, factor)), reference, feeds).suspects[0]
    assert (first.value, first.kind) == (value, kind)
    assert first.recovered > 0.8
