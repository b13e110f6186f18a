"""Messages are counted as protobuf would make them, before it does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from accel import flood, graph, testing
from accel.errors import BadModel
from tests.hostile.case import relu
from tests.hostile.corpus import CORPUS
from tests.hostile.floods import sized

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
GRAPHS = sorted(DATA.glob("*/*/model.onnx"))[::5]
LEGAL = [c for c in CORPUS if c.verdict == "accept" and c.command == ("inspect", "{}")]
TEXT = b"\x0a\x00"  # NodeProto.input


def walked(message: Any) -> int:
    """What `flood.weight` counts, of the objects that protobuf made."""
    fields = message.DESCRIPTOR.fields
    if not any(f.message_type is not None or f.is_repeated for f in fields):
        return 0  # one of few things is not looked into
    total = 0
    for field, value in message.ListFields():
        many = list(value) if field.is_repeated else [value]
        if field.message_type is not None:
            total += sum(flood.TEXTS + walked(one) for one in many)
        elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
            total += len(many)
    return total


def test_the_graphs_of_the_onnx_wheel_are_counted_to_the_message() -> None:
    """Old graphs and new, with weights of each kind."""
    assert len(GRAPHS) > 20
    for path in GRAPHS:
        content = path.read_bytes()
        assert flood.weight(content) == walked(onnx.load_model_from_string(content)), path


@pytest.mark.parametrize("case", LEGAL, ids=lambda case: case.name)
def test_legal_graphs_are_counted_to_the_message(case: Any, tmp_path: Path) -> None:
    """Subgraphs, functions, sequences, sparse weights."""
    content = case.make(tmp_path).read_bytes()
    assert flood.weight(content) == walked(onnx.load_model_from_string(content))


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\xf3\x01\xf4\x01",  # a group
        b"\xf3\x01\x3a\x05\xff\xf4\x01\x3a\x05\xf4\x01",  # in which a graph would be broken
        b"\xf3\x01\xfb\x01\xfc\x01\xf4\x01",  # in a group
        b"\xba\x80\x00\x80\x00",  # an empty graph, its tag and its length written long
        b"\xf1\x01" + bytes(8) + b"\xf5\x01" + bytes(4) + b"\xf0\x01\xff\x01",  # numbers
        b"\x38\x01",  # a graph that is a number
    ],
)
def test_what_onnx_does_not_know_hides_nothing(before: bytes) -> None:
    """protobuf passes over unknown fields, and so does the count."""
    content = relu().SerializeToString() + before
    content += b"\x3a" + sized(b"\x6a\x00" * 1000)
    made = onnx.load_model_from_string(content)
    assert len(made.graph.value_info) == 1000
    assert 1000 * flood.TEXTS <= flood.weight(content) - walked(relu()) <= 1003 * flood.TEXTS


@pytest.mark.parametrize(
    "end", [b"\x3a", b"\x3a\x09\x0a", b"\xf3\x01", b"\xf4\x01", b"\x0f", b"\xff"]
)
def test_what_is_broken_is_left_to_the_parser(end: bytes, tmp_path: Path) -> None:
    """It has the better message."""
    (tmp_path / "m.onnx").write_bytes(relu().SerializeToString() + end)
    with pytest.raises(BadModel, match="not a whole ONNX model"):
        graph.skeleton(tmp_path / "m.onnx")


def test_a_number_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    """Erased flash: six million bytes of one number would take hours. (protobuf reads ten)"""
    (tmp_path / "m.onnx").write_bytes(b"\xff" * (2 * flood.MOST_MESSAGES))
    with pytest.raises(BadModel, match="not a whole ONNX model"):
        graph.skeleton(tmp_path / "m.onnx")


def test_texts_count_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight of a list weigh as much as a message."""
    monkeypatch.setattr(flood, "MOST_MESSAGES", 1000)
    few, many = (b"\x3a" + sized(b"\x0a" + sized(TEXT * n)) for n in (7000, 9000))
    assert flood.beyond(few) == ""
    assert "over 1,000 messages" in flood.beyond(many)


def test_a_long_chain_is_not_counted_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file cannot hold more than may be."""
    monkeypatch.setattr(flood, "weight", lambda _: pytest.fail("it was looked at"))
    assert flood.beyond(bytes(2 * flood.MOST_MESSAGES - 1)) == ""


def rich(nodes: int) -> bytes:
    """Nodes as torch's exporter writes them: notes, attributes, and every value typed and sized."""
    notes = b"".join(b"\x4a" + sized(b"\x0a\x04note\x12\x04text") for _ in range(5))
    attribute = b"\x2a" + sized(b"\x0a\x04axis\x18\x01\xa0\x01\x02")
    dims = b"".join(b"\x0a\x02\x08\x40" for _ in range(4))
    parts = []
    for i in range(nodes):
        name = sized(f"v{i}".encode())
        node = b"\x0a" + name + b"\x12" + sized(f"v{i + 1}".encode()) + b"\x22\x04Relu"
        kind = b"\x12" + sized(b"\x0a" + sized(b"\x08\x01\x12" + sized(dims)))
        parts.append(b"\x0a" + sized(node + attribute * 3 + notes))
        parts.append(b"\x6a" + sized(b"\x0a" + name + kind))
    return b"\x08\x08\x3a" + sized(b"".join(parts))


@pytest.mark.alone
def test_a_hundred_thousand_nodes_are_counted_soon_and_accepted() -> None:
    """1.8 million messages: under two seconds, and fewer than may be."""
    content = rich(100_000)
    begin = time.process_time()
    found = flood.weight(content)
    spent = time.process_time() - begin
    assert flood.beyond(content) == ""
    assert 1_500_000 < found / flood.TEXTS < 0.9 * flood.MOST_MESSAGES
    assert spent < 2.0


def test_weights_are_stepped_over(tmp_path: Path) -> None:
    """A hundred megabytes of them cost nothing."""
    testing.mlp(tmp_path / "m.onnx")
    made = onnx.load(tmp_path / "m.onnx")
    made.graph.initializer.add(
        name="large", data_type=2, dims=[100 << 20], raw_data=bytes(100 << 20)
    )
    content = made.SerializeToString()
    begin = time.process_time()
    assert flood.beyond(content) == ""
    assert time.process_time() - begin < 0.1
