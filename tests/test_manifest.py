"""Values survive JSON; what is not sound JSON is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from accel import manifest
from accel.errors import UsageError
from accel.values import Candidate, Certificate, Model, Plan, Port


def _candidate(base: Path) -> Candidate:
    model = Model(base / "model.onnx", "d", (Port("x", "float32", (1, "n")),), (), ("a", "b"))
    plan = Plan("openvino", model, base / "engine", {"threads": 2, "buckets": [{"n": 8}]})
    return Candidate("c", "onnx", "fp32", "openvino", plan=plan, screen_s=0.5)


def test_a_value_survives_the_round_trip(tmp_path: Path) -> None:
    """Nested values, tuples, options and paths come back equal, also from another place."""
    data = manifest.dump(_candidate(tmp_path / "a"), tmp_path / "a")
    assert manifest.load(Candidate, data, tmp_path / "b") == _candidate(tmp_path / "b")


def test_not_a_number_becomes_an_absence() -> None:
    """NaN is written as null and read as NaN, so that no reader takes it for a number."""
    proof = Certificate("violated", "m", "pt", 1, 2, float("nan"), 0, (0, 1), 0, 3, "x", "search")
    data = manifest.dump(proof)
    assert data["drop"] is None
    back = manifest.load(Certificate, data)
    assert back.drop != back.drop
    assert back.interval == (0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": Infinity}', "Infinity is not JSON"),
        ('{"a": -1e999}', "-1e999 is larger than any number"),
        ("{", "not readable JSON"),
        ("\udcff", "not readable JSON"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ("[" * 300 + "]" * 300, "nested more than 100 levels deep"),
        ('{"\\u001b[31m": 1, "\\u001b[31m": 2}', r"key '\\x1b\[31m' stands twice"),
    ],
)
def test_unsound_json_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Duplicate keys, NaN, cut and absurdly deep files are one clear error."""
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=said):
        manifest.read(path)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    """Its size is looked at first."""
    path = tmp_path / "x.json"
    with path.open("wb") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(UsageError, match="3221 MB; at most 268 MB are read"):
        manifest.read(path)


def test_an_unknown_field_is_refused() -> None:
    """A field that this version does not know is named, with the nearest that it does."""
    with pytest.raises(UsageError, match=r"unknown fields flavour$"):
        manifest.load(Port, {"name": "x", "dtype": "f", "shape": [], "flavour": 1})


PORT = {"name": "x", "dtype": "f", "shape": []}
PROOF = {
    "grade": "certified", "metric": "m", "unit": "pt", "baseline": 1, "value": 2, "drop": 0, "bound": 0,
    "interval": [0, 1], "budget": 0, "samples": 3.0, "method": "x", "split": "search",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (
            Port,
            {**PORT, "shape": "abc"},
            r"Port\.shape cannot be read: a list was expected, not 'abc'",
        ),
        (Port, {**PORT, "name": 5}, r"Port\.name cannot be read: a text was expected, not 5"),
        (Port, {**PORT, "shape": [True]}, "a text was expected, not True"),
        (Port, {**PORT, "\x1b[31m": 1}, r"unknown fields '\\x1b\[31m'"),
        (Certificate, {**PROOF, "drop": 10**400}, r"Certificate\.drop cannot be read"),
        (
            Certificate,
            {**PROOF, "grade": "good"},
            "one of 'certified', .* was expected, not 'good'",
        ),
        (Certificate, {**PROOF, "samples": 2.5}, "a number was expected, not 2.5"),
        (
            Model,
            {"path": "a\0b"},
            r"Model\.path cannot be read: a path was expected, not 'a\\x00b'",
        ),
        (Model, {"path": "\ud800"}, r"Model\.path cannot be read"),
        (
            Plan,
            {"versions": [["onnx", "1"]]},
            r"Plan\.versions cannot be read: an object was expected",
        ),
        (
            Mapping[str, float],
            {"a": "b"},
            "the data cannot be read: a number was expected, not 'b'",
        ),
    ],
)
def test_data_of_another_kind_is_refused(kind: Any, data: Any, said: str) -> None:
    """The field, what was seen in one printable line, and what is allowed; no kind is stretched."""
    with pytest.raises(UsageError, match=said) as error:
        manifest.load(kind, data)
    assert str(error.value).isprintable()


def test_one_kind_of_number_is_read_as_the_field_has_it() -> None:
    """JSON's 3.0 is a count, its 1 a float; a size and a symbol stay apart in a shape."""
    found = manifest.load(Certificate, PROOF)
    assert (type(found.samples), type(found.baseline)) == (int, float)
    assert manifest.load(Port, {**PORT, "shape": [3, "n"]}).shape == (3, "n")
