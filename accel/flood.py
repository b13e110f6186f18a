"""How many messages does a file hold? Counted before protobuf makes objects of them.

An empty message is two bytes of a file, and a hundred or two of memory. Tags alone are read: weights,
texts and whatever else has a length are stepped over. What is not whole is left to the parser, which
stops at the same place. (protobuf.dev, "Encoding")
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

MOST_MESSAGES = 3_000_000  # of 100,000 nodes, all their values typed and noted: 2 million
TEXTS = 8  # weigh as much as a message: sixteen bytes of memory each
DEEPEST = 100  # levels that protobuf reads
VARINT, LONG, SIZED, BEGIN, END, SHORT = range(6)  # kinds of a field, in the low bits of its tag
Table = Mapping[
    int, tuple[int, Any]
]  # tag -> what the field weighs, and the table of what is in it


def beyond(content: bytes) -> str:
    """What is more than any model has, in one line; empty for what may be parsed."""
    if len(content) < 2 * MOST_MESSAGES or weight(content) <= MOST_MESSAGES * TEXTS:
        return ""
    return f"over {MOST_MESSAGES:,} messages are in it (nodes, attributes, tensors, sizes); so many are read at most"


def weight(content: bytes) -> int:
    """Of a ModelProto's messages, `TEXTS` each, and of their texts, 1 each; more than may be is not counted."""
    most = MOST_MESSAGES * TEXTS
    try:
        return _weight(content, most)
    except IndexError:  # the file ends within a field
        return 0


def _weight(content: bytes, most: int) -> int:
    """One loop without a call in it: it runs once for each field of a file."""
    found, at, end, table = 0, 0, len(content), _table()
    outer: list[tuple[int, int, Table]] = []
    while found <= most:
        if at >= end:
            if at > end or not outer or outer[-1][0] < 0:
                break
            at, end, table = outer.pop()
            continue
        tag = content[at]
        at += 1
        if tag > 127:
            tag, at = _number(content, at - 1)
        kind = tag & 7
        if kind == SIZED:
            size = content[at]
            at += 1
            if size > 127:
                size, at = _number(content, at - 1)
            known = table.get(tag)
            if known is not None:
                found += known[0]
                if size and known[1]:
                    if at + size > end or len(outer) > DEEPEST:
                        break
                    outer.append((at + size, end, table))
                    end, table = at + size, known[1]
                    continue
            at += size
        elif kind == VARINT:
            while content[at] > 127:
                at += 1
            at += 1
        elif kind == SHORT:
            at += 4
        elif kind == LONG:
            at += 8
        elif (
            kind == BEGIN and len(outer) <= DEEPEST
        ):  # a group: ONNX has none, and none is looked into
            outer.append((-1, end, table))
            table = {}
        elif kind == END and outer and outer[-1][0] < 0:
            table = outer.pop()[2]
        else:
            break
    return found


def _number(content: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends. Raises IndexError beyond the ten bytes that protobuf reads."""
    found = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
        shift += 7
    raise IndexError


@functools.cache
def _table() -> Table:
    """Of onnx's own descriptors: what may hold many things is looked into, what holds few is counted."""
    import onnx

    made: dict[str, dict[int, tuple[int, Any]]] = {}

    def of(kind: Any) -> Table:
        if kind.full_name in made:
            return made[kind.full_name]
        table = made[kind.full_name] = {}
        for field in kind.fields:
            tag = field.number << 3 | SIZED
            if field.message_type is not None:
                table[tag] = TEXTS, of(field.message_type)
            elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
                table[tag] = 1, None
        if not any(f.message_type is not None or _repeated(f) for f in kind.fields):
            table.clear()
        return table

    return of(onnx.ModelProto.DESCRIPTOR)


def _repeated(field: Any) -> bool:
    """Older protobuf does not say: what is looked into for nothing costs time alone."""
    return bool(getattr(field, "is_repeated", True))
