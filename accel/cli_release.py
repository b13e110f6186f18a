"""`accel verify`, `accel sign` and `accel sbom`: can a release be trusted, and by what?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from accel.errors import ConstraintError
from accel.shell import emit, output_options
from accel.words import PLACE

if TYPE_CHECKING:
    from accel.questions.verify import Verified

PASSWORD = "ACCEL_KEY_PASSWORD"


@click.command()
@click.argument("path", type=PLACE)
@click.option("--key", type=PLACE, help="the signer's public key, PEM: the signature is demanded")
@output_options
def verify(path: Path, key: Path | None, as_json: bool, **_: object) -> None:
    """Recompute a release's digests, and tell what nobody can verify. Exit 0: intact, 1: it
    differs or the signature does not hold, 2: not a release."""
    from accel.questions import verify as question

    found = question.verify(path, key)
    lines = list(found.differences) or [f"{path}: intact"]
    lines += [f"verified: {line}" for line in found.verified]
    lines += [f"not verified: {line}" for line in found.unverified]
    emit("verify", found, lines, as_json, _bad(found))


def _bad(found: Verified) -> ConstraintError | None:
    if found.intact:
        return None
    if all(line.startswith("model.sig: ") for line in found.differences):
        return ConstraintError(f"{found.path}: its signature is not verified.")
    return ConstraintError(f"{found.path} differs from what was packed.")


@click.command()
@click.argument("release", type=PLACE)
@click.option("--key", type=PLACE, required=True, help="a private key of an elliptic curve, PEM")
@click.option("--sbom", is_flag=True, help="with a bill of materials, which is signed too")
@output_options
def sign(release: Path, key: Path, sbom: bool, as_json: bool, **_: object) -> None:
    """Sign every file of RELEASE: model.sig, for accel verify --key. No network is used. The
    password of an encrypted key is read from ACCEL_KEY_PASSWORD."""
    from accel.steps import sign as step

    made = step.sign(release, key, password=os.environ.get(PASSWORD) or None, sbom=sbom)
    emit("signed", made, [f"{made.file}: signed by the key {made.key[:12]}"], as_json)


@click.command()
@click.argument("release", type=PLACE)
@click.option("--out", type=PLACE, help="default: in the release, as sbom.cdx.json")
@output_options
def sbom(release: Path, out: Path | None, as_json: bool, **_: object) -> None:
    """Write the bill of materials of RELEASE, in CycloneDX: its files and what it was made with."""
    from accel.steps import sbom as step

    made = step.sbom(release, out)
    emit("sbom", {"path": made}, [str(made)], as_json)
