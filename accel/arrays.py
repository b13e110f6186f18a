"""Feeds on disk: a list of name -> array mappings in one .npz, without pickle.

Keys are "<index>/<port name>"; an .npz written by hand may also hold plain port names (one feed).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import disk, manifest
from accel.errors import UsageError
from accel.plain import shown

if TYPE_CHECKING:
    from accel.values import Feed, Port

LARGEST_BYTES = 8 << 30  # refused before anything is allocated
LARGE_BYTES, DENSEST = 1 << 28, 100  # data of this size is never a hundredth of it when packed


def save(path: Path, feeds: Iterable[Mapping[str, Any]]) -> int:
    """Write feeds in order, one at a time, whole or not at all; returns how many."""
    import numpy as np

    done = 0
    with disk.writing(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for done, feed in enumerate(feeds, 1):
            for name, value in feed.items():
                key = zipfile.ZipInfo(
                    f"{done - 1}/{name}.npy"
                )  # of 1980: the same bytes every time
                with archive.open(key, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
    return done


def digest(feeds: Iterable[Mapping[str, Any]]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in order."""
    import numpy as np

    total = hashlib.sha256()
    for feed in feeds:
        for name in sorted(feed):
            array = np.asarray(feed[name], order="C")
            total.update(f"{name} {array.dtype.str} {array.shape};".encode())
            total.update(array.tobytes())
        total.update(b"|")
    return total.hexdigest()


def load(path: Path) -> list[Feed]:
    """The feeds that `save` wrote, or one feed from an .npz of plain port names.

    Raises UsageError for anything that is not an .npz of numeric arrays of sane size."""
    import numpy as np

    with _reading(path):
        _sizes(path)
        with np.load(path, allow_pickle=False) as found:
            arrays = {key: found[key] for key in found.files}
        return _group(arrays)


def stream(path: Path) -> Iterator[Feed]:
    """The feeds that `save` wrote, read one at a time: memory holds one of them.

    Raises UsageError for anything that is not an .npz of numeric arrays."""
    import numpy as np

    with _reading(path):
        sizes = _sizes(path, whole=False)
        with np.load(path, allow_pickle=False) as found:
            for names in _feed_keys(found.files):
                _sane(path, sum(sizes[key] for key in names.values()))
                yield {name: found[key] for name, key in names.items()}


def count(path: Path) -> int:
    """How many feeds are in it; none of them is read. Raises UsageError like `stream`."""
    with _reading(path):
        return len(_feed_keys(list(_sizes(path, whole=False))))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """One UsageError for what zipfile, its decompressors and numpy raise over a broken file: nearly
    anything, a MemoryError for a header that claims too much among it. Raises EnvironmentProblem for
    one that may not be read."""
    try:
        if not Path(path).is_file():
            raise UsageError(f"{path} is not a file. An .npz of numeric arrays is needed.")
        yield
    except UsageError:
        raise
    except PermissionError as error:
        raise manifest.unreadable(path, error) from None
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"{path} is not an .npz of plain arrays: {why}") from None


def _sizes(path: Path, whole: bool = True) -> dict[str, int]:
    """Bytes of each array, by key. Raises UsageError for a bomb, and with `whole` where all of them
    together are more than is read."""
    with zipfile.ZipFile(path) as archive:
        items = archive.infolist()
    sizes = {item.filename.removesuffix(".npy"): item.file_size for item in items}
    total, packed = sum(sizes.values()), sum(item.compress_size for item in items)
    if total > max(LARGE_BYTES, DENSEST * packed):
        raise UsageError(
            f"{path} unpacks to {total / 1e9:.1f} GB from {packed / 1e6:.1f} MB: a bomb?"
        )
    if whole:
        _sane(path, total)
    return sizes


def _sane(path: Path, size: int) -> None:
    if size > LARGEST_BYTES:
        raise UsageError(f"{path} unpacks to {size / 1e9:.1f} GB; at most 8 GB are read.")


def _feed_keys(keys: Sequence[str]) -> list[dict[str, str]]:
    """For each feed, port name -> key in the file."""
    if not all(key.partition("/")[0].isdecimal() and "/" in key for key in keys):
        return [{key: key for key in keys}] if keys else []
    feeds: dict[int, dict[str, str]] = {}
    for key in keys:
        index, _, name = key.partition("/")
        feeds.setdefault(int(index), {})[name] = key
    return [feeds[i] for i in sorted(feeds)]


def _group(arrays: dict[str, Any]) -> list[Feed]:
    return [{n: arrays[k] for n, k in names.items()} for names in _feed_keys(list(arrays))]


def fit(feed: Feed, ports: Sequence[Port], what: str = "the feed") -> None:
    """Raise UsageError unless the feed has just these ports' names, dtypes and shapes.

    A symbol is one size in the whole feed; "?" is any. Runtimes differ in what they let pass: some
    cast another dtype, or pad a short axis, without a word."""
    differing = {port.name for port in ports} ^ set(feed)
    if differing:
        raise UsageError(
            f"{what} and the model differ in {_listed(differing)}: "
            f"given {_listed(feed)}, needed {_listed(p.name for p in ports)}. "
            "See: accel inspect"
        )
    sizes: dict[str, int] = {}
    for port in ports:
        _fit_one(feed[port.name], port, sizes, what)


def _fit_one(array: Any, port: Port, sizes: dict[str, int], what: str) -> None:
    """`sizes` holds what each symbol stood for in the ports before, and learns this one's."""
    kind, shape = getattr(array, "dtype", None), getattr(array, "shape", None)
    if kind is None or shape is None:
        raise UsageError(f"{what}: {port.name!r} is a {type(array).__name__}, not an array.")
    if str(kind) != port.dtype:
        raise UsageError(f"{what}: {port.name!r} is {kind}; the model takes {port.dtype}.")
    wanted = tuple(sizes.get(d, d) if isinstance(d, str) else d for d in port.shape)
    pairs = zip(wanted, shape, strict=False)
    if len(wanted) != len(shape) or any(isinstance(d, int) and d != n for d, n in pairs):
        raise UsageError(
            f"{what}: {port.name!r} has shape {tuple(shape)}; the model takes {_axes(wanted)}."
        )
    sizes |= {
        d: n for d, n in zip(port.shape, shape, strict=True) if isinstance(d, str) and d != "?"
    }


def _listed(names: Iterable[str]) -> str:
    return shown(", ".join(sorted(names)), keep="") or "nothing"


def _axes(dims: Iterable[int | str]) -> str:
    return f"[{shown(', '.join(map(str, dims)), keep='')}]"
