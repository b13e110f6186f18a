"""The digest of a graph under every edit there is: the semantic ones change it, the cosmetic ones do not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from accel import graph, testing


def mlp(folder: Path) -> Any:
    return onnx.load(testing.mlp(folder / "m.onnx", width=2, classes=2).path)


def convnet(folder: Path) -> Any:
    return onnx.load(testing.convnet(folder / "m.onnx", channels=1, classes=2).path)


def attention(folder: Path) -> Any:
    return onnx.load(testing.attention(folder / "m.onnx", words=2, width=2).path)


def rich(_: Path) -> Any:
    return mutations.rich()


MODELS = [mlp, convnet, attention, rich]
LEAST = {"mlp": 120, "convnet": 400, "attention": 600, "rich": 750}  # edits, so that none is lost


def edited(model: Any, mutation: mutations.Mutation) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    mutation.apply(copy)
    return copy


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_every_semantic_edit_changes_the_digest_and_no_cosmetic_one_does(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Each field of each part is changed alone; what cannot be a graph any more is refused."""
    model = make(tmp_path)
    before, text = graph.digest(model), model.SerializeToString(deterministic=True)
    counts: Counter[str] = Counter()
    seen: dict[str, bytes] = {}
    for mutation in mutations.mutations(model):
        made = edited(model, mutation)
        stored = made.SerializeToString(deterministic=True)
        if stored == text:  # an explicit default, which says the same
            counts["no edit"] += 1
            continue
        try:
            found = graph.digest(made)
        except (ValueError, TypeError, KeyError, RuntimeError):
            counts["refused"] += 1
            continue
        assert (found == before) == mutation.cosmetic, mutation.name
        counts["cosmetic" if mutation.cosmetic else "semantic"] += 1
        if not mutation.cosmetic:
            assert seen.setdefault(found, stored) == stored, f"{mutation.name} collides"
    print(f"{make.__name__}: {dict(counts)}")
    assert counts["semantic"] >= LEAST[make.__name__]
    assert counts["cosmetic"] > 20
    assert counts["refused"] < counts["semantic"] / 5


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_words_in_every_part_change_nothing(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """A doc string and metadata wherever ONNX lets one stand, all at once."""
    model = make(tmp_path)
    before, told = graph.digest(model), 0
    for _, part in list(mutations.parts(model)):
        fields = part.DESCRIPTOR.fields_by_name
        if "doc_string" in fields:
            part.doc_string = "words"
            told += 1
        if "metadata_props" in fields:
            part.metadata_props.add(key="author", value="someone else")
            told += 1
    model.producer_name, model.producer_version, model.domain = "someone", "2.0", "com.example"
    print(f"{make.__name__}: {told} parts with words")
    assert graph.digest(model) == before


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_how_a_tensor_is_stored_changes_nothing(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Raw bytes or typed fields, one tensor after another, in subgraphs and attributes too."""
    model = make(tmp_path)
    before = graph.digest(model)
    tensors = [
        (path, part)
        for path, part in mutations.parts(model)
        if isinstance(part, TensorProto) and part.data_type == TensorProto.FLOAT
    ]
    for path, tensor in tensors:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        held, values = mutations.at(copy, path), numpy_helper.to_array(tensor)
        raw = held.HasField("raw_data")
        held.ClearField("raw_data")
        held.ClearField("float_data")
        if raw:
            held.float_data.extend(values.ravel().tolist())
        else:
            held.raw_data = values.tobytes()
        assert copy.SerializeToString() != model.SerializeToString()
        assert graph.digest(copy) == before, path
    assert tensors


def test_where_a_file_lies_and_when_it_was_written_change_nothing(tmp_path: Path) -> None:
    """Another path, another time, and weights beside the file: the same model."""
    model = mlp(tmp_path)
    digests = set()
    for i, extra in enumerate(({}, {"save_as_external_data": True, "size_threshold": 0})):
        path = tmp_path / f"place {i}" / "other name.onnx"
        path.parent.mkdir()
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        onnx.save(copy, path, **extra)
        os.utime(path, (0, 0))
        digests.add(graph.describe(path).digest)
    assert digests == {graph.digest(model)}


def test_a_bit_of_the_weights_beside_a_file_counts(tmp_path: Path) -> None:
    """External data belongs to the graph, every bit of it."""
    path = tmp_path / "m.onnx"
    onnx.save(mlp(tmp_path), path, save_as_external_data=True, location="w", size_threshold=0)
    weights, found = (tmp_path / "w").read_bytes(), {graph.describe(path).digest}
    for i in range(len(weights)):
        (tmp_path / "w").write_bytes(weights[:i] + bytes([weights[i] ^ 1]) + weights[i + 1 :])
        found.add(graph.describe(path).digest)
    assert len(found) == 1 + len(weights)


def test_hashes_that_pass_over_attributes_collide_and_ours_does_not(tmp_path: Path) -> None:
    """A counter-example: operators, edges and shapes alone, as some engine caches hash them, take a
    padded convolution for one with other strides, another softmax axis, another Gemm."""

    def blind(model: Any) -> str:
        nodes = [(n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node]
        shapes = [(t.name, t.data_type, tuple(t.dims)) for t in model.graph.initializer]
        return repr((nodes, shapes, [str(v) for v in model.graph.input]))

    collided = 0
    for make in MODELS:
        model = make(tmp_path)
        for mutation in mutations.mutations(model):
            if "node" not in mutation.name or "/attribute[" not in mutation.name:
                continue
            made = edited(model, mutation)
            if mutation.cosmetic or made == model or blind(made) != blind(model):
                continue
            try:
                assert graph.digest(made) != graph.digest(model), mutation.name
            except (ValueError, TypeError, KeyError, RuntimeError):
                continue
            collided += 1
    print(f"{collided} edits of attributes that such a hash does not see")
    assert collided > 300
