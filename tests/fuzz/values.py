"""Values as strangers write them, and documents with one thing changed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "../x",
    "/etc/passwd",
    "a" * 500,
    "\x1b[31m",
    "\x00",
    "nan",
    "-1",
    "été",
    "%s",
    "{}",
    "\ud800",
)
ODD_NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 1e308, -0.0, 5e-324)
texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=12))
scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), st.floats(allow_nan=False), texts
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
Place = tuple[Any, ...]


def places(document: Any, at: Place = ()) -> Iterator[Place]:
    """The way to every value in a JSON document."""
    inner = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()  # fmt: skip
    for key, value in inner:
        yield (*at, key)
        yield from places(value, (*at, key))


@st.composite
def changed(draw: Callable[[Any], Any], document: Any) -> Any:
    """A copy with one to three values replaced, taken out, or put where none belongs."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(list(places(made))))
        inside = made
        for key in way:
            inside = inside[key]
        how = draw(st.sampled_from(("replace", "take out", "add", "nest")))
        if how == "replace":
            inside[last] = draw(json_values)
        elif how == "take out" and len(inside) > 1:
            del inside[last]
        elif how == "add" and isinstance(inside, dict):
            inside[draw(texts)] = draw(json_values)
        else:
            inside[last] = [inside[last]]
    return made


def written(document: Any) -> str:
    """As JSON, which has no lone surrogates: they are spelled out."""
    return json.dumps(document)


def toml(table: dict[str, Any]) -> str:
    """As TOML, one table in one line: enough for a parser, and no library for it is among ours."""
    return "\n".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in table.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps("null" if value is None else value)
