"""A release on disk: read it, verify it, load it.

A release is a folder with `accel.json`, which names every other file by its sha256. Artefacts are
the same bytes whenever the same inputs, versions and machine class are packed again; measurements
are not, and are digested apart. `load` answers only with an engine that is what was packed, on a
machine of the class that it was built for, and that gives the stored reference outputs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from accel import arrays, disk, golden, manifest, starting, store
from accel.errors import (
    CandidateBroken,
    EnvironmentProblem,
    Unmeasured,
    UsageError,
)
from accel.loaded import Loaded
from accel.plain import flat, shown
from accel.values import Candidate, Plan, Release, Request

T = TypeVar("T")
MANIFEST, KIND = "accel.json", "accel/release"
KINDS_OF_FILE = ("artefacts", "measurements")
BILL, SIGNATURE = "sbom.cdx.json", "model.sig"  # names by which others' tools know them
UNSIGNED = ("digest", "signatures", "attached")  # what the manifest's own digest leaves out
STRANGE = "not in the manifest"
UNTOLD = f"{BILL}: {STRANGE}"  # between the two writes of `accel sbom`: nothing that runs reads it
LARGEST_BYTES = 16 << 20  # of a manifest; three bytes of JSON may become 64 of memory


def read(path: str | Path) -> Release:
    """The release in a folder, paths made absolute.

    Raises UsageError when the folder is not a release that this accel can read."""
    root = Path(path).absolute()
    data = document(root)
    with complete(root):
        found = {k: data[k] for k in ("winner", "baselines", "table", "certificate", "verdict")}
        return part(Release, {"path": "./.", "files": files(data), **found}, root)


def part(kind: type[T], data: Any, root: Path) -> T:
    """A value that a manifest holds. Raises UsageError, which names the file, for what is another's."""
    try:
        return manifest.load(kind, data, root)
    except UsageError as error:
        raise UsageError(f"{root / MANIFEST}: {error}") from None


@contextmanager
def complete(root: Path) -> Iterator[None]:
    """Raise UsageError for what a manifest leads to that lacks a part, or holds another kind of thing there."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__} {flat(error)}"
        raise UsageError(f"{root / MANIFEST} is not complete: {what}. Pack it again.") from None


def document(root: Path) -> dict[str, Any]:
    """The manifest as JSON data, its schema checked.

    Raises UsageError for a folder without one, another schema, or a newer version."""
    path = root / MANIFEST
    try:
        there = path.is_file()
    except PermissionError as error:
        raise manifest.unreadable(path, error) from None
    if not there:
        raise UsageError(f"{root} is not a release: no {MANIFEST}. Make one with: accel optimize")
    data = manifest.read(path, LARGEST_BYTES)
    if not isinstance(data, dict) or data.get("schema") != KIND:
        raise UsageError(f"{root} is not a release: {MANIFEST} does not have the schema {KIND!r}.")
    if data.get("schema_version") != manifest.SCHEMA:
        raise UsageError(
            f"{root} has release schema {data.get('schema_version')!r}; this accel reads "
            f"{manifest.SCHEMA}. Install the accel that packed it, or pack it again."
        )
    for name in files(data):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UsageError(f"{path} names {name!r}, which lies outside the release.")
    return data


def rewrite(root: Path, data: Mapping[str, Any], draft: Path | None = None) -> None:
    """Write the manifest anew, with its own digest, as a whole or not at all; `draft` as in disk.write."""
    sealed = {**data, "digest": seal(data)}
    disk.write(root / MANIFEST, manifest.text(sealed) + "\n", draft)


def is_release(root: Path) -> bool:
    """Whether a folder was packed by accel, by this version or another."""
    try:
        data = manifest.read(root / MANIFEST, LARGEST_BYTES)
    except UsageError:
        return False
    return isinstance(data, dict) and data.get("schema") == KIND


def outside(place: Path, option: str) -> None:
    """Raise UsageError for a place in a release, which differs from what was packed once anything is
    written there. `option`: what chose the place."""
    whole = Path(os.path.realpath(place))
    for root in (whole, *whole.parents):
        if is_release(root):
            raise UsageError(
                f"{place} lies in the release {root}, which holds nothing but what was packed. Choose "
                f"another folder with {option}."
            )


def files(data: Mapping[str, Any]) -> dict[str, str]:
    """Relative path -> sha256, of artefacts and measurements together."""
    try:
        return {str(k): str(v) for kind in KINDS_OF_FILE for k, v in data[kind].items()}
    except (KeyError, AttributeError):
        raise UsageError(f"{MANIFEST} lists no {' and '.join(KINDS_OF_FILE)}.") from None


def attached(data: Mapping[str, Any]) -> dict[str, str]:
    """Relative path -> sha256 of what came after packing: a bill of materials, and nothing else."""
    found = data.get("attached")
    return {BILL: str(found[BILL])} if isinstance(found, Mapping) and BILL in found else {}


def seal(data: Mapping[str, Any]) -> str:
    """sha256 of the manifest itself; what may be added later does not break it."""
    return store.digest_json({k: v for k, v in data.items() if k not in UNSIGNED})


def differences(path: str | Path) -> tuple[str, ...]:
    """What differs from what was packed, a line a file, by name; empty when intact.

    Raises UsageError when the folder is not a release."""
    root = Path(path).absolute()
    data = document(root)
    actual = {p.relative_to(root).as_posix(): p for p in _every(root)}
    actual.pop(MANIFEST)
    signed = {SIGNATURE: None} if SIGNATURE in actual else {}  # no digest, but a key vouches for it
    expected: dict[str, str | None] = {**signed, **attached(data), **files(data)}
    lines = [f"{name}: missing" for name in expected if name not in actual]
    lines += [f"{name}: {STRANGE}" for name in actual if name not in expected]
    lines += [
        f"{name}: {wrong}"
        for name, digest in expected.items()
        if name in actual and (wrong := _wrong(actual[name], digest))
    ]
    if data.get("digest") != seal(data):
        lines.append(f"{MANIFEST}: edited after packing (its own digest differs)")
    return tuple(sorted(shown(line, keep="") for line in lines))


def _every(root: Path) -> Iterator[Path]:
    def shut(error: OSError) -> None:
        raise error

    try:
        for folder, folders, names in os.walk(root, onerror=shut):
            found = (Path(folder, name) for name in (*folders, *names))
            # a link to a folder is a stranger too
            yield from (p for p in found if p.is_symlink() or not p.is_dir())
    except PermissionError as error:  # not missing: nobody can tell
        raise manifest.unreadable(Path(error.filename), error) from None


def _wrong(path: Path, digest: str | None) -> str:
    if path.is_symlink():
        return "a link, not a file"
    if not path.is_file():
        return "not a plain file"  # reading a pipe would wait for ever
    try:
        found = store.digest_file(path)
    except PermissionError as error:  # altered or not: nobody can tell
        raise manifest.unreadable(path, error) from None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if digest is None or digest == found:
        return ""
    return f"sha256 {found[:12]}, packed as {digest[:12]}"


def load(path: str | Path, *, portable: bool = False) -> Loaded:
    """The winner, ready to be called with a dict of arrays; `portable` takes model.onnx instead.

    Raises CandidateBroken when a file differs or the golden outputs do not come back,
    EnvironmentProblem on a machine of another class, Unmeasured when nothing was built yet."""
    root = Path(path).absolute()
    data = document(root)
    require_intact(root, (UNTOLD,))
    which = "portable" if portable else "winner"
    with complete(root):
        candidate = part(Candidate, data[which], root)
        _built(root, candidate)
        if not portable:
            _same_class(root, data)
        allowed = _tolerance(data["tolerance"].get(which, {}))
        asked = requests(root) if portable else ()  # gigabytes, at times
    session = starting.portable(candidate, asked) if portable else starting.start(candidate)
    try:
        golden.smoke(root, session, allowed)
    except BaseException:
        session.close()
        raise
    return Loaded(session)


def _tolerance(told: Any) -> dict[str, float]:
    return {str(name): float(most) for name, most in told.items()}


def intact(path: str | Path) -> Plan:
    """The winner's plan of a release whose every digest holds: what may be timed.

    Raises CandidateBroken when a file differs, Unmeasured when nothing was built yet."""
    root = Path(path).absolute()
    found = read(root)
    require_intact(root, (UNTOLD,))
    return _built(root, found.winner)


def _built(root: Path, candidate: Candidate) -> Plan:
    if candidate.plan is None:
        raise Unmeasured(
            f"{root} was packed unmeasured: nothing is built. Run: accel finish {root}"
        )
    _inside(root, candidate.plan)
    starting.refuse_code(candidate.plan.options)
    return candidate.plan


def requests(path: str | Path) -> tuple[Request, ...]:
    """What latency was measured at, with groups and weights."""
    root = Path(path)
    feeds = arrays.load(root / "requests.npz")
    with complete(root):
        rows = document(root)["requests"]
        return tuple(Request(r["group"], r["weight"], f) for r, f in zip(rows, feeds, strict=True))


def require_intact(root: Path, but: Collection[str] = ()) -> None:
    """Raise CandidateBroken where anything differs from what was packed; `but`: files to be replaced,
    or lines of `differences` that do not count."""
    lines = differences(root)
    found = [line for line in lines if not {line, line.partition(": ")[0]}.intersection(but)]
    if found:
        first = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
        raise CandidateBroken(
            f"{root} is not as it was packed: {first}. Copy it again; see: accel verify {root}"
        )


def _same_class(root: Path, data: Mapping[str, Any]) -> None:
    from accel.measure import machine

    here = machine.machine_class(machine.fingerprint())
    if here != data["machine_class"]:
        raise EnvironmentProblem(
            f"{root} was built and measured on a machine of class {data['machine_class']!r}; this "
            f"one is {here!r}. Rebuild here, where you trust who packed it: sh {root / 'reproduce.sh'}; or "
            f"take the portable graph as it is: accel.load({str(root)!r}, portable=True)"
        )


def _inside(root: Path, plan: Plan) -> None:
    for path in (plan.path, plan.model.path):
        if not path.resolve().is_relative_to(root.resolve()):
            raise UsageError(
                f"{root / MANIFEST} points outside the release: {shown(path, keep='')}"
            )
