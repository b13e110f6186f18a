"""Evidence on disk: a header, then a line an epoch, each sealed with the hash of the one before.

A re-run appends; nothing is ever taken out. The chain shows an edited value, a dropped or moved
epoch. Lines cut off its end it cannot show by itself: `head` beside it holds the length and the
last hash, and whoever holds an earlier verdict.json has a witness that does not lie here at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accel import disk, manifest, store
from accel.errors import EnvironmentProblem, UsageError
from accel.evidence import Epoch

KIND = "accel/evidence"
FILE, HEAD, CRASHES = "evidence.jsonl", "head", "crashes.jsonl"
PAIR = ("candidate", "baseline")
MOST = 3  # folders that a note names


def key(header: Mapping[str, Any]) -> str:
    """A short name of what is compared and how: evidence of one key may be added together."""
    return store.digest_json(dict(header))[:20]


def create(folder: Path, header: Mapping[str, Any]) -> None:
    """Begin a chain, or find one of the same header and leave it as it is.

    Raises UsageError when another chain, or a broken one, lies there."""
    with disk.guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / FILE).exists():
            found, _, _ = read(folder)
            if key(found) != key(header):
                raise UsageError(
                    f"{folder} holds the evidence of another comparison ({_differing(found, header)} "
                    f"differ). Choose another folder with --work."
                )
            return
        told = {"schema": KIND, "schema_version": manifest.SCHEMA, "header": manifest.dump(header)}
        disk.write(folder / FILE, json.dumps(told, sort_keys=True) + "\n")


def append(folder: Path, epoch: Epoch) -> str:
    """Add an epoch; the chain's new last hash. It is on disk when this returns."""
    with disk.guarded(folder):
        lines = _lines(folder)
        previous = _hash(lines[-1])
        body = json.dumps({"epoch": manifest.dump(epoch), "previous": previous}, sort_keys=True)
        with (folder / FILE).open("r+b") as stream:
            stream.seek(
                sum(len(line) for line in lines)
            )  # over what a killed run left half written
            stream.truncate()
            stream.write(body.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        head = _hash(body.encode() + b"\n")
        disk.write(folder / HEAD, f"{len(lines)} {head}\n")
        return head


def read(
    folder: Path, witnesses: Sequence[tuple[int, str]] = ()
) -> tuple[Mapping[str, Any], tuple[Epoch, ...], str]:
    """The header, the epochs in their order, and the last hash.

    `witnesses`: (epochs, hash) of earlier verdicts, which must lie on this chain. A line that a
    killed run left half written is no epoch. Raises UsageError for a chain that was altered."""
    lines = _lines(folder)
    hashes = [_hash(line) for line in lines]
    try:
        first = json.loads(lines[0])
        header, rows = first["header"], [json.loads(line) for line in lines[1:]]
        epochs = tuple(manifest.load(Epoch, row["epoch"]) for row in rows)
        before = [row["previous"] for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as error:
        raise _altered(folder, f"a line cannot be read ({type(error).__name__})") from None
    if first.get("schema") != KIND or first.get("schema_version") != manifest.SCHEMA:
        raise UsageError(
            f"{folder / FILE} is not evidence that this accel reads. Use another --work."
        )
    for i, (found, wanted) in enumerate(zip(before, hashes, strict=False)):
        if found != wanted:
            raise _altered(folder, f"epoch {i + 1} does not follow from what stands before it")
    for count, head in (*_remembered(folder), *witnesses):
        if not 0 <= count < len(hashes) or hashes[count] != head:
            raise _altered(folder, f"an earlier run ended with {count} epochs and hash {head[:12]}")
    return header, epochs, hashes[-1]


def beside(folder: Path, header: Mapping[str, Any]) -> tuple[str, ...]:
    """A note on epochs of the same pair in the folders beside this one, which are not added to its
    own, for each reason why. Nothing that is broken there hinders the gate here."""
    found: dict[str, list[tuple[str, int]]] = {}
    with suppress(OSError):
        for file in sorted(folder.parent.glob(f"*/{FILE}")):
            why, epochs = ("", 0) if file.parent == folder else _apart(file, header)
            if epochs:
                found.setdefault(why, []).append((file.parent.name, epochs))
    return tuple(_beside(folder.parent, why, rows) for why, rows in found.items())


def _apart(file: Path, header: Mapping[str, Any]) -> tuple[str, int]:
    """In what a chain of the same pair differs from this one, and its epochs; else ("", 0)."""
    broken = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
    with suppress(*broken), file.open("rb") as stream:
        told = json.loads(stream.readline())["header"]
        if all(told[side] == header[side] for side in PAIR):
            return _differing(told, header), sum(1 for line in stream if line.endswith(b"\n"))
    return "", 0


def _beside(place: Path, why: str, rows: Sequence[tuple[str, int]]) -> str:
    names = ", ".join(name for name, _ in rows[:MOST])
    more = f" and {len(rows) - MOST} more" if len(rows) > MOST else ""
    drawn = "; requests() that draws should be seeded" if "requests" in why.split(", ") else ""
    return (
        f"{sum(n for _, n in rows)} epochs of this pair lie in {place}: {names}{more}. They are not "
        f"counted, since {why} differ{drawn}"
    )


def note_crash(folder: Path, number: int, reason: str) -> None:
    """Keep that an epoch ended in a crash: no epoch, and not to be forgotten either."""
    with disk.guarded(folder), (folder / CRASHES).open("a", encoding="utf-8") as stream:
        stream.write("\n" + json.dumps({"epoch": number, "reason": reason}) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def crashes(folder: Path) -> tuple[str, ...]:
    """A line for each crash of an earlier run."""
    try:
        rows = (folder / CRASHES).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    found = [told for row in rows if (told := _crash(row))]
    return tuple(f"an earlier run crashed in epoch {c['epoch'] + 1}: {c['reason']}" for c in found)


def _crash(row: str) -> Mapping[str, Any]:
    """A line of it; of two of which a full disk kept half and half, nothing."""
    try:
        told = json.loads(row)
        return told if {"epoch", "reason"} <= told.keys() else {}
    except (ValueError, AttributeError):
        return {}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder of evidence: a second gate would be disturbed by the first, and disturb it.

    Raises UsageError when another process holds it."""
    with disk.guarded(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        _hold(handle, folder)
        yield
    finally:
        os.close(handle)


def _hold(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"Another gate is at work in {folder}, and would be timed beside this one. Wait for it, "
            f"then run again."
        ) from None


def _lines(folder: Path) -> list[bytes]:
    """Whole lines, their ends included."""
    try:
        data = (folder / FILE).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no {FILE}. Make it with: accel gate") from None
    except OSError as error:
        raise EnvironmentProblem(f"{folder / FILE} cannot be read: {error.strerror}.") from None
    lines = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
    if not lines:
        raise _altered(folder, "it has no header")
    return lines


def _remembered(folder: Path) -> list[tuple[int, str]]:
    try:
        count, _, head = (folder / HEAD).read_text(encoding="ascii").strip().partition(" ")
        return [(int(count), head)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        raise _altered(folder, f"its {HEAD} cannot be read") from None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    one, two = _flat(a), _flat(manifest.dump(b))
    return ", ".join(sorted(k for k in {*one, *two} if one.get(k) != two.get(k))) or "nothing"


def _flat(header: Mapping[str, Any]) -> dict[str, Any]:
    """Libraries one by one: which of them is another is what a reader looks for."""
    found = {k: v for k, v in header.items() if not isinstance(v, Mapping)}
    tables = ((k, v) for k, v in header.items() if isinstance(v, Mapping))
    return found | {f"{k}.{name}": v for k, table in tables for name, v in table.items()}


def _altered(folder: Path, what: str) -> UsageError:
    return UsageError(
        f"The evidence in {folder} was altered: {what}. No verdict can stand on it. Restore it from "
        f"a backup, or begin anew in another folder with --work."
    )
