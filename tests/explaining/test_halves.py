"""Weights of products that run in 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from accel.explaining.parts import parts
from accel.explaining.revert import MARK, reverted
from accel.explaining.view import View
from accel.questions.explain import explain
from accel.recipes import bf16, fp16, int8_mixed
from accel.values import Model, QuantStyle
from tests.explaining.planted import U8S8, changed

S8S8 = QuantStyle(True, True, True, True, True, pairs="inputs")
ISLANDS = {"ranges": "minmax", "rest": "float16"}


def stale(proto: Any) -> None:
    """k1's scales, in whatever type they are, are three times what they were."""
    tensor = next(t for t in proto.graph.initializer if "k1__scale" in t.name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((3 * values).astype(values.dtype), tensor.name))


def test_a_stale_weight_scale_is_told_between_float16(
    model: Model, feeds: Any, tmp_path: Path
) -> None:
    """The product around it is in 16 bits, too, which is not what is wrong."""
    (tmp_path / "q").mkdir()
    made = int8_mixed.apply(model, feeds, S8S8, ISLANDS, tmp_path / "q").model.path
    halves = [t for t in onnx.load(made).graph.initializer if "k1__scale" in t.name]
    assert [t.data_type for t in halves] == [onnx.TensorProto.FLOAT16]
    found = explain(changed(made, tmp_path, stale), model.path, feeds)
    assert found.untold == ()
    first = found.suspects[0]
    assert (first.value, first.kind) == ("p1", "wrong or stale scale")
    assert first.part.startswith("weight (input 1)")
    assert first.recovered > 0.9


@pytest.mark.parametrize(("recipe", "name"), [(fp16, "k1__half"), (bf16, "w__half")])
def test_a_weight_that_is_only_rounded_to_16_bits_is_its_nodes_part(
    recipe: Any, name: str, model: Model, feeds: Any, tmp_path: Path
) -> None:
    """One that is another as well is a part of its own."""
    made = onnx.load(recipe.apply(model, feeds, U8S8, {}, tmp_path).model.path)
    one = View(onnx.load(model.path))
    assert {p.kind for p in parts(one, View(made))} == {"node"}
    tensor = next(t for t in made.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((3 * values).astype(values.dtype), name))
    (told,) = (p for p in parts(one, View(made)) if p.kind == "weight")
    assert told.value == ("p1" if recipe is fp16 else "y")
    back = reverted(one, View(made), [told])
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    assert {t.data_type for t in back.graph.initializer if MARK in t.name} == {kinds[name]}
