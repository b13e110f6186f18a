"""Feeds on disk."""

from pathlib import Path

import numpy as np
import pytest

from accel import arrays
from accel.errors import UsageError


def test_feeds_survive_in_order(tmp_path: Path) -> None:
    """More than ten feeds of varying shape come back in order, bit for bit."""
    feeds = [{"ids": np.arange(i + 1), "mask": np.ones((1, i), np.int8)} for i in range(12)]
    assert arrays.save(tmp_path / "f.npz", feeds) == 12
    back = arrays.load(tmp_path / "f.npz")
    assert arrays.digest(back) == arrays.digest(feeds)
    assert [len(f["ids"]) for f in back] == list(range(1, 13))


def test_plain_port_names_are_one_feed(tmp_path: Path) -> None:
    """An .npz written by hand is a single feed."""
    np.savez(tmp_path / "f.npz", x=np.ones(3))
    assert list(arrays.load(tmp_path / "f.npz")[0]) == ["x"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not a zip", b"\x80\x04."])
def test_what_is_not_an_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, cut and foreign files are one clear error."""
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"f\.npz is not an \.npz"):
        arrays.load(tmp_path / "f.npz")


def test_objects_are_refused(tmp_path: Path) -> None:
    """An array that would need pickle is never loaded."""
    np.savez(tmp_path / "f.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UsageError, match="Object arrays"):
        arrays.load(tmp_path / "f.npz")


def test_the_digest_sees_dtype_shape_and_order() -> None:
    """Equal bytes under another type, shape or order are other data."""
    a = np.arange(4, dtype=np.int32)
    cases = [[{"x": a}], [{"x": a.view(np.uint32)}], [{"x": a.reshape(2, 2)}], [{"y": a}]]
    cases += [[{"x": a}, {"x": a + 1}], [{"x": a + 1}, {"x": a}], [{"x": a, "y": a}], []]
    assert len({arrays.digest(c) for c in cases}) == len(cases)


def test_feeds_are_read_one_at_a_time(tmp_path: Path) -> None:
    """The same feeds in the same order as all at once, and counted without being read."""
    feeds = [{"b": np.arange(i + 1), "a": np.ones((2, i))} for i in range(12)]
    assert arrays.save(tmp_path / "x.npz", iter(feeds)) == 12
    assert arrays.digest(arrays.stream(tmp_path / "x.npz")) == arrays.digest(feeds)
    assert arrays.count(tmp_path / "x.npz") == 12


def test_a_plain_file_is_one_feed_when_streamed(tmp_path: Path) -> None:
    """Port names alone, as a person writes them."""
    np.savez(tmp_path / "x.npz", a=np.ones(3), b=np.zeros(2))
    (feed,) = arrays.stream(tmp_path / "x.npz")
    assert set(feed) == {"a", "b"}


def test_what_is_no_npz_cannot_be_streamed(tmp_path: Path) -> None:
    """A missing file, text, a single array."""
    (tmp_path / "t.npz").write_text("no")
    np.save(tmp_path / "one.npy", np.ones(3))
    for name in ("none.npz", "t.npz", "one.npy"):
        with pytest.raises(UsageError):
            list(arrays.stream(tmp_path / name))


def test_the_same_feeds_are_the_same_bytes(tmp_path: Path) -> None:
    """No clock is in the file."""
    for name in ("a", "b"):
        arrays.save(tmp_path / name, [{"x": np.ones(4)}])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_digest_sees_an_axis_of_one() -> None:
    """A number and a list of one number are two shapes."""
    assert (
        len({arrays.digest([{"x": np.float32(1)}]), arrays.digest([{"x": np.ones(1, np.float32)}])})
        == 2
    )
