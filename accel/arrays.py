"""Feeds on disk: a list of name -> array mappings in one .npz, without pickle.

Keys are "<index>/<port name>"; an .npz written by hand may also hold plain port names (one feed).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import store
from accel.errors import UsageError

if TYPE_CHECKING:
    from accel.values import Feed, Port

LARGEST_BYTES = 8 << 30  # refused before anything is allocated


def save(path: Path, feeds: Iterable[Mapping[str, Any]]) -> int:
    """Write feeds in order; returns how many."""
    import numpy as np

    arrays = {f"{i}/{k}": np.asarray(v) for i, feed in enumerate(feeds) for k, v in feed.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    store.write(path, buffer.getvalue())
    return len({key.partition("/")[0] for key in arrays})


def digest(feeds: Iterable[Mapping[str, Any]]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in order."""
    import numpy as np

    total = hashlib.sha256()
    for feed in feeds:
        for name in sorted(feed):
            array = np.ascontiguousarray(feed[name])
            total.update(f"{name} {array.dtype.str} {array.shape};".encode())
            total.update(array.tobytes())
        total.update(b"|")
    return total.hexdigest()


def load(path: Path) -> list[Feed]:
    """The feeds that `save` wrote, or one feed from an .npz of plain port names.

    Raises UsageError for anything that is not an .npz of numeric arrays of sane size."""
    import numpy as np

    if not Path(path).is_file():
        raise UsageError(f"{path} is not a file. An .npz of numeric arrays is needed.")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > LARGEST_BYTES:
            raise UsageError(f"{path} unpacks to {size / 1e9:.1f} GB; at most 8 GB are read.")
        with np.load(path, allow_pickle=False) as found:
            arrays = {key: found[key] for key in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not an .npz of plain arrays: {error}") from None
    return _group(arrays)


def _group(arrays: dict[str, Any]) -> list[Feed]:
    if not all(key.partition("/")[0].isdigit() and "/" in key for key in arrays):
        return [arrays] if arrays else []
    feeds: dict[int, dict[str, Any]] = {}
    for key, value in arrays.items():
        index, _, name = key.partition("/")
        feeds.setdefault(int(index), {})[name] = value
    return [feeds[i] for i in sorted(feeds)]


def fit(feed: Feed, ports: Sequence[Port], what: str = "the feed") -> None:
    """Raise UsageError unless the feed has just these ports' names, dtypes and shapes.

    A symbol is one size in the whole feed; "?" is any. Runtimes differ in what they let pass: some
    cast another dtype, or pad a short axis, without a word."""
    differing = {port.name for port in ports} ^ set(feed)
    if differing:
        raise UsageError(
            f"{what} and the model differ in {', '.join(sorted(differing))}: "
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
    return ", ".join(sorted(names)) or "nothing"


def _axes(dims: Iterable[int | str]) -> str:
    return f"[{', '.join(map(str, dims))}]"
