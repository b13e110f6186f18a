"""Arrays and checkpoints: what would run as code, unpack to no end, or claim what is not there."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.case import EXECUTED, Case, Made, relu
from tests.hostile.strangers import CUTS, Bomb, bomb, zipped

DATA = ("inspect", "m.onnx", "--for", "cpu-local", "--data", "{}")
TIB, BOMB_BYTES = 1 << 40, 300 << 20
CODE = f"(__import__('os').system('touch {EXECUTED}'))"
PLAIN = {"descr": "<f4", "fortran_order": False, "shape": (2, 4)}
LOADS = """
def model():
    {line}
def inputs():
    return {{"x": 0}}
"""
TORCH = "import torch; return torch.load({name!r}, weights_only=True)"
SAFE = "from safetensors.numpy import load_file; return load_file({name!r})"


def npy(header: Any = PLAIN, data: bytes = bytes(32), version: int = 1) -> bytes:
    """An array's file with this header, right or wrong."""
    text = header if isinstance(header, bytes) else repr(header).encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes((version, 0)) + size + text + data


def npz(*members: tuple[str, bytes], packed: bool = False) -> bytes:
    """An archive of such files."""
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def _feed(content: bytes) -> Made:
    """x.npz, and the graph that it is for."""

    def make(folder: Path) -> Path:
        (folder / "m.onnx").write_bytes(relu().SerializeToString())
        (folder / "x.npz").write_bytes(content)
        return folder / "x.npz"

    return make


def _saved(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def cases() -> Iterator[Case]:
    """Each is refused, and nothing of it runs."""
    found = (*_npz(), *_headers(), *_archives())
    for name, content, says in found:
        yield Case(name, _feed(content), says=says, command=DATA)
    yield Case("zip bomb", _bomb, says=("unpacks to 0.3 GB", "a bomb?"), command=DATA)
    yield from _pth()
    yield from _safetensors()


def _npz() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    good, ragged = np.ones((2, 4), np.float32), np.array([Bomb()], object)
    holed = good.copy()
    holed[0, 0] = np.nan
    yield "npz of objects", _saved(x=ragged), ("allow_pickle=False",)
    yield "npz of a pickle", npz(("x.npy", bomb())), ("x.npz",)
    yield "npz of another dtype", _saved(x=good.astype("f8")), ("'x' is float64",)
    yield "npz of another dtype:byte order", _saved(x=good.astype(">f4")), ("'x' is >f4",)
    yield "npz of another dtype:text", _saved(x=np.full((2, 4), "a")), ("'x' is <U1",)
    yield "npz of another dtype:dates", _saved(x=np.zeros((2, 4), "M8[s]")), ("'x' is datetime64",)
    yield "npz of records", _saved(x=np.zeros((2, 4), [("a", "f4")])), ("'x' is",)
    yield "npz with NaN", _saved(x=holed), ("'x' holds 1 NaN",)
    yield "npz of another shape", _saved(x=good[:, :3]), ("(2, 3)",)
    yield "npz without the port", _saved(z=good), ("differ in x, z",)
    yield "npz without arrays", npz(), ("no arrays",)


def _headers() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    said = ("is not an .npz of plain arrays",)
    huge = {**PLAIN, "shape": (TIB,)}
    yield "header that is code", npz(("x.npy", npy(CODE.encode()))), said
    yield "header that is code:in the type", npz(("x.npy", npy({**PLAIN, "descr": CODE}))), said
    yield "header that nests", npz(("x.npy", npy(b"(" * 9000))), said
    yield "header that nests:signs", npz(("x.npy", npy(b"-" * 9000 + b"1"))), said
    yield "header of 60 kB", npz(("x.npy", npy(b"{" + b" " * 60_000 + b"}"))), said
    yield "header of 4 GB", npz(("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff")), said
    yield "header cut", npz(("x.npy", npy()[:30])), said
    yield "header without a shape", npz(("x.npy", npy({"descr": "<f4"}))), said
    yield "array of 4 TiB", npz(("x.npy", npy(huge))), said
    yield "array of 2^124 elements", npz(("x.npy", npy({**PLAIN, "shape": (2**62, 2**62)}))), said
    yield "array below zero", npz(("x.npy", npy({**PLAIN, "shape": (-2, 4)}))), said
    yield "array cut", npz(("x.npy", npy(data=bytes(20)))), said
    yield "array of a version to come", npz(("x.npy", npy(version=9))), said


def _archives() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    said = ("is not an .npz of plain arrays",)
    whole = npz(("x.npy", npy(data=np.random.default_rng(0).bytes(32))), packed=True)
    at = whole.index(b"PK\x01\x02")
    for part in CUTS:
        yield f"npz truncated:{part}", whole[: int(part * len(whole))], said
    yield "npy in place of npz", npy(), said
    yield "npz with a damaged stream", whole[:60] + b"\xff" * 9 + whole[69:], said
    yield "npz with another checksum", whole[: at + 16] + bytes(4) + whole[at + 20 :], said
    locked = bytearray(whole)
    locked[6] |= 1
    locked[at + 8] |= 1
    yield "npz with a password", bytes(locked), said
    odd = bytearray(whole)
    odd[8:10] = odd[at + 10 : at + 12] = (99).to_bytes(2, "little")
    yield "npz packed in an unknown way", bytes(odd), said
    large = bytearray(whole)
    large[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    yield "npz that claims 4 GB", bytes(large), ("a bomb?",)
    yield "feeds of strange numbers", npz(("²/x.npy", npy())), ("²/x",)
    yield "feeds of endless numbers", npz((f"{'9' * 5000}/x.npy", npy())), ("x.npz",)
    yield "npz with names that climb", npz(("../../x.npy", npy())), ("../../x",)
    yield "npz with names that steer", npz(("\x1b[2Jx.npy", npy())), ("\\x1b[2Jx",)
    yield "npz with names that forge", npz(("x\naccel: intact.npy", npy())), ("x\\naccel: intact",)


def _bomb(folder: Path) -> Path:
    """A member of zeros: a thousandth of it in the file."""
    made = _feed(b"")(folder)
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        member = archive.open("x.npy", "w", force_zip64=True)
        member.write(npy({**PLAIN, "shape": (BOMB_BYTES // 4,)}, b""))
        for _ in range(BOMB_BYTES >> 20):
            member.write(bytes(1 << 20))
        member.close()
    return made


def _workload(line: str, content: bytes, name: str) -> Made:
    """A workload whose model() loads that file as it should."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        (folder / "w.py").write_text(LOADS.format(line=line.format(name=name)))
        return folder / "w.py"

    return make


def _pth() -> Iterator[Case]:
    archive = zipped(bomb())
    given = (("pth given as a model", archive), ("pth given as a model:pickle", bomb()))
    for name, content in given:
        made = _plain("m.pth", content)
        yield Case(name, made, says=("m.pth",))
        yield Case(f"{name} to optimize", made, says=("a workload is a .py or an .onnx, not .pth",), command=("optimize", "{}"))  # fmt: skip
    export = ("export", "{}", "--out", "out.onnx")
    for name, content in (
        ("pth that is a bomb", _torch(bomb(2))),
        ("pth that is a bomb:without a zip", bomb(2)),
        ("pth of 4 TiB", _torch(_tensor(TIB))),
        ("pth cut", _torch(_tensor(4))[:-40]),
    ):
        made = _workload(TORCH, content, "m.pth")
        yield Case(name, made, says=("model() failed at w.py:3 in model",), command=export)


def _plain(name: str, content: bytes) -> Made:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _torch(data: bytes) -> bytes:
    """A checkpoint with one storage of 16 bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (("data.pkl", data), ("version", b"3\n"), ("data/0", bytes(16))):
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def _tensor(elements: int) -> bytes:
    """torch._utils._rebuild_tensor_v2 of so many floats, by opcodes: torch need not be imported."""
    size = b"\x8a\x08" + elements.to_bytes(8, "little")
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + size + b"tQK\x00(" + size + b"t(K\x01t"
        b"\x89ccollections\nOrderedDict\n)RtR."
    )


def _safetensors() -> Iterator[Case]:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    found: Sequence[tuple[str, bytes]] = (
        ("safetensors header bomb", (2**62).to_bytes(8, "little") + b"{}"),
        ("safetensors header cut", _safe({"w": entry})[:20]),
        ("safetensors header that nests", _length(b'{"w":' + b"[" * 90_000) + bytes(16)),
        ("safetensors of 4 TiB", _safe({"w": {**entry, "shape": [TIB]}})),
        ("safetensors out of range", _safe({"w": {**entry, "data_offsets": [0, 1 << 40]}})),
        ("safetensors that overlap", _safe({"w": entry, "v": entry})),
        ("safetensors of an unknown type", _safe({"w": {**entry, "dtype": "F99"}})),
    )
    export = ("export", "{}", "--out", "out.onnx")
    for name, content in found:
        made = _workload(SAFE, content, "m.safetensors")
        yield Case(name, made, says=("model() failed at w.py:3 in model",), command=export)


def _length(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def _safe(header: dict[str, Any]) -> bytes:
    return _length(json.dumps(header).encode()) + bytes(16)
