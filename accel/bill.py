"""A release's bill of materials: sbom.cdx.json, in CycloneDX 1.6.

It names the files of the release by their sha256, and what it was made with by name and version.
All of it stands in the manifest too, so that the two can be held against each other.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel import manifest, release
from accel.errors import AccelError, MissingExtra, UsageError
from accel.plain import seen

NOTED = "accel:installed-sha256"  # of a library: see provenance.installed
MOST_BYTES = release.LARGEST_BYTES  # some 500 a component: far beyond any environment
KINDS = {".onnx": "machine-learning-model", ".npz": "data"}  # CycloneDX's names, by suffix


@dataclass(frozen=True, order=True)
class Part:
    """A component, as far as the manifest and the bill must agree on it."""

    kind: str
    name: str
    version: str = ""
    sha256: str = ""  # of a file
    noted: str = ""


def parts(data: Mapping[str, Any]) -> tuple[Part, ...]:
    """What a manifest tells of: the release's files, the libraries, accel, the interpreter.

    A release of an older accel tells of some libraries' versions only."""
    try:
        return tuple(sorted(map(_texts, _parts(data))))
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__} {error}"
        raise UsageError(f"{release.MANIFEST} is not complete: {what}. Pack it again.") from None


def _texts(part: Part) -> Part:
    if not all(isinstance(word, str) for word in dataclasses.astuple(part)):
        raise TypeError(f"a part of {seen(part)}")
    return part


def _parts(data: Mapping[str, Any]) -> Iterator[Part]:
    for name, digest in release.files(data).items():
        yield Part(KINDS.get(Path(name).suffix, "file"), name, sha256=digest)
    made = data.get("provenance")
    if not made:
        for name, version in data["versions"].items():
            if version:
                yield Part("library", name, version)
        return
    for name, one in made["distributions"].items():
        yield Part("library", name, one["version"], noted=one["digest"])
    accel, python = made["accel"], made["python"]
    yield Part("application", "accel-inference", accel["version"], noted=accel["source"])
    yield Part("platform", python["implementation"], python["version"])


def text(data: Mapping[str, Any]) -> str:
    """The bill of a release, from its manifest. Raises MissingExtra without the library."""
    require()
    from cyclonedx.model import bom, component
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    subject = component.Component(
        name="accel release",
        version=release.seal(data),
        type=component.ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="release",
    )
    components = [_component(one) for one in parts(data)]
    made = bom.Bom(
        components=components,
        metadata=bom.BomMetaData(component=subject),
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, f"accel release {release.seal(data)}"),
    )
    made.register_dependency(subject, components)
    out = make_outputter(made, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    if why := invalid(out):
        raise AccelError(f"accel made a bill of materials that is not CycloneDX: {why}")
    return f"{out}\n"


def _component(one: Part) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType, Property, component
    from packageurl import PackageURL

    library = one.kind in ("library", "application")
    return component.Component(
        name=one.name,
        version=one.version or None,
        type=component.ComponentType(one.kind),
        bom_ref=f"{one.kind}:{one.name}",
        purl=PackageURL("pypi", name=one.name, version=one.version) if library else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)] if one.sha256 else [],
        properties=[Property(name=NOTED, value=one.noted)] if one.noted else [],
    )


def wrong(root: Path, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the bill in a release tells other than its manifest, a line each."""
    path = root / release.BILL
    if path.stat().st_size > MOST_BYTES:
        return (f"{release.BILL}: {path.stat().st_size} bytes, {MOST_BYTES} are the most",)
    try:
        found = manifest.read(path)
        told = {_read(one) for one in found["components"]}
        subject = found["metadata"]["component"]["version"]
    except (UsageError, KeyError, TypeError, AttributeError, IndexError) as error:
        return (f"{release.BILL}: no bill of materials: {type(error).__name__} {error}",)
    known = set(parts(data))
    lines = [f"does not name {_line(one)}" for one in sorted(known - told)]
    lines += [f"names {_line(one)}, the manifest does not" for one in sorted(told - known)]
    lines += ["is of another release"] if subject != release.seal(data) else []
    return tuple(f"{release.BILL}: {line}" for line in lines)


def _read(one: Mapping[str, Any]) -> Part:
    hashes = {h["alg"]: h["content"] for h in one.get("hashes", ())}
    noted = {p["name"]: p["value"] for p in one.get("properties", ())}
    told = (one["type"], one["name"], one.get("version", ""))
    words = (*told, hashes.get("SHA-256", ""), noted.get(NOTED, ""))
    if not all(isinstance(word, str) for word in words):
        raise TypeError(f"a component of {words}")
    return Part(*words)


def _line(one: Part) -> str:
    return " ".join(word for word in (one.kind, one.name, one.version, one.sha256[:12]) if word)


def invalid(written: str) -> str:
    """What CycloneDX's own schema has against a bill; "": nothing. Raises MissingExtra."""
    require()
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)
    except (ValueError, RecursionError) as error:
        return str(error)
    return "" if found is None else str(found).partition("\n")[0][:300]


def require() -> None:
    """Raise MissingExtra without the library and what its validator needs."""
    import importlib.util

    for name in ("cyclonedx", "jsonschema"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtra(
                f"Bills of materials need {name}, which is not installed. "
                f"Run: pip install 'accel-inference[sbom]'"
            )
