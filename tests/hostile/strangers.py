"""Files that are no ONNX graph, whatever they are called, and graphs of which a part is missing."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.hostile.case import EXECUTED, Case, dense, file, relu

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
DEEP = 60_000  # levels of a nested text
CUTS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)  # of a file's length
GIGABYTES = 5


class Bomb:
    """What it is loaded as is the touching of a file."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {EXECUTED}",)


def bomb(protocol: int = 4) -> bytes:
    """A pickle that runs a command where it is loaded."""
    return pickle.dumps(Bomb(), protocol=protocol)


def zipped(content: bytes, name: str = "archive/data.pkl") -> bytes:
    """As torch.save lays out a checkpoint."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def numpied() -> bytes:
    """An array's file."""
    stream = io.BytesIO()
    np.save(stream, np.ones(4))
    return stream.getvalue()


def cases() -> Iterator[Case]:
    """Each is refused, most of them by name."""
    whole = dense(64).SerializeToString()
    tensor = onnx.numpy_helper.from_array(np.ones(4), "w").SerializeToString()
    yield Case("empty", file("m.onnx", b""), says=("m.onnx is empty",))
    yield Case("html", file("m.onnx", "<!DOCTYPE html><html>404</html>"), says=("an HTML page",))
    yield Case("html:bare", file("m.onnx", "<html><body>"), says=("an HTML page",))
    yield Case("git-lfs pointer", file("m.onnx", LFS), says=("git lfs pull",))
    for protocol in (0, 2, 4, 5):
        said = ("a Python pickle",) if protocol else ("is not a whole ONNX model",)
        yield Case(f"pickle named .onnx:{protocol}", file("m.onnx", bomb(protocol)), says=said)
    yield Case("checkpoint named .onnx", file("m.onnx", zipped(bomb())), says=("a zip archive",))
    yield Case("array named .onnx", file("m.onnx", numpied()), says=("a NumPy array",))
    yield Case("safetensors named .onnx", file("m.onnx", _safe()), says=("a safetensors file",))
    yield Case("gzip named .onnx", file("m.onnx", gzip.compress(whole)), says=("not a whole",))
    yield Case("text", file("m.onnx", "import torch\n"), says=("is not",))
    yield Case("zeros", file("m.onnx", bytes(1000)), says=("not a whole",))
    for seed in range(5):
        content = random.Random(seed).randbytes(5000)
        yield Case(f"random bytes:{seed}", file("m.onnx", content), says=("m.onnx",))
    for part in CUTS:
        content = whole[: int(part * len(whole))]
        yield Case(f"truncated:{part}", file("m.onnx", content), says=("m.onnx",))
    yield Case("a tensor's file", file("m.onnx", tensor), says=("m.onnx",))
    yield Case("one byte too many", file("m.onnx", whole + b"\x0a"), says=("not a whole",))
    yield Case("python", file("m.py", "raise SystemExit"), says=("accel export m.py",))
    nested = '{"graph":' * DEEP
    yield Case("json that nests", file("m.json", nested), says=("not a whole",))
    yield Case("text format that nests", file("m.textproto", "graph{node{" * DEEP), says=("not a whole",))  # fmt: skip
    yield from _places()


def _safe() -> bytes:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return len(header).to_bytes(8, "little") + header + bytes(4)


def _places() -> Iterator[Case]:
    """What is not even a file of its own."""

    def sparse(folder: Path) -> Path:
        with (folder / "m.onnx").open("wb") as stream:
            stream.write(relu().SerializeToString())
            stream.truncate(GIGABYTES << 30)
        return folder / "m.onnx"

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "m.onnx")
        return folder / "m.onnx"

    def directory(folder: Path) -> Path:
        (folder / "m.onnx").mkdir()
        (folder / "m.onnx" / "model.onnx").write_bytes(relu().SerializeToString())
        return folder / "m.onnx"

    def linked(to: str) -> Any:
        def make(folder: Path) -> Path:
            (folder / "m.onnx").symlink_to(to)
            return folder / "m.onnx"

        return make

    yield Case("five gigabytes in one file", sparse, says=("5.37 GB in one file",))
    yield Case("a pipe", pipe, says=("is not a file",))
    yield Case("a folder", directory, says=("Did you mean m.onnx/model.onnx",))
    yield Case("absent", lambda folder: folder / "m.onnx", says=("is not a file",))
    yield Case("a link to nothing", linked("nowhere"), says=("is not a file",))
    yield Case("a link to itself", linked("m.onnx"), says=("m.onnx",))
    yield Case("an endless device", linked("/dev/zero"), says=("is not a file",))
