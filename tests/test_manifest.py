"""Values survive JSON; what is not sound JSON is refused."""

from pathlib import Path

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
        ("[" * 100_000, "not readable JSON"),
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
    with pytest.raises(UsageError, match=r"unknown fields dtpye. Did you mean 'dtype'\?"):
        manifest.load(Port, {"name": "x", "dtpye": "f", "shape": []})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("screen_s", True, "Candidate.screen_s cannot be read: a number was expected, not True"),
        ("screen_s", "0.5", "a number was expected, not '0.5'"),
        ("name", 3, "Candidate.name cannot be read: a text was expected, not 3"),
        ("kernels", "abc", "a list was expected, not 'abc'"),
    ],
)
def test_a_value_of_another_kind_is_refused(field: str, value: object, said: str) -> None:
    """A truth is no number, and a text no list of letters; the field is named."""
    data = {"name": "c", "root": "onnx", "recipe": "fp32", "engine": "openvino", field: value}
    with pytest.raises(UsageError, match=said):
        manifest.load(Candidate, data)


@pytest.mark.parametrize("size", [4, "batch"])
def test_a_field_of_several_kinds_takes_each(size: int | str) -> None:
    """A dimension is a size or a symbol."""
    found = manifest.load(Port, {"name": "x", "dtype": "f", "shape": [size]})
    assert found.shape == (size,)
