"""The steps of action.yml that think: `gate.py key` names the evidence, `gate.py run` gates.

What a user wrote in a workflow comes by the environment alone, never as text of a script.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

# of a release: they differ at each packing, or come after it
MEASURED = ("accel.json", "samples.npz", "summary.md", "model.sig", "sbom.cdx.json")
# [cpu]: the extra of the release's engine; vendor/ is where your wheel of accel lies, as in README
INSTALL = 'python -m pip install "$(ls vendor/accel_inference-*.whl)[cpu]"'
FORMAT = "accel-gate-1"  # of the cache's content: another number, and old caches are not taken up


def main(words: list[str]) -> int:
    """The exit code of the step."""
    try:
        import accel  # noqa: F401
    except ImportError as error:
        print(f"::error title=accel gate::{sys.executable} cannot import accel ({error}).")
        print(f"Install your wheel of it in an earlier step: {INSTALL}")
        return 7
    return {"key": key, "run": run}[words[0]]()


def key() -> int:
    """Where the gate works, and the cache's key: machine class, what is gated, this very try."""
    from accel.measure import machine

    kind = machine.machine_class(machine.fingerprint())
    what = digest()
    prefix = f"{FORMAT}-{kind}-{what}-"
    env = os.environ
    turn = f"{env['GITHUB_RUN_ID']}-{env['GITHUB_RUN_ATTEMPT']}-{uuid.uuid4().hex[:8]}"
    name = re.sub(r"[^\w.-]+", "-", asked("NAME") or Path(asked("CANDIDATE")).stem, flags=re.ASCII)
    tell("folder", f"accel-gate/{what}")
    tell("prefix", prefix)
    tell("key", prefix + turn)
    tell(
        "artifact", f"accel-gate-{name[:80]}-{turn}"
    )  # its names are unique in a run, tries and all
    return 0


def digest() -> str:
    """Of the candidate's bytes, what was measured when it was packed left out, and of what tells this gate from another beside it.

    Coarser than what accel adds evidence up by: a cache may hold more than one comparison."""
    words = (asked("NAME"), asked("BASELINE"), *filter(None, [asked("STREAM")]))
    total = hashlib.sha256(repr(words).encode())
    place = Path(asked("CANDIDATE"))
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    for file in files:
        if place.is_dir() and file.name in MEASURED:
            continue  # the same artefacts packed again are the same candidate
        total.update(file.relative_to(place).as_posix().encode())
        if file.is_file():  # else accel gate says what is missing
            with file.open("rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:16]


def run() -> int:
    """accel gate, whose outputs, annotation and summary are its own."""
    folder = Path(asked("FOLDER"))
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)  # a verdict that is there at the end is of this run
    words = ["gate", asked("CANDIDATE"), "--baseline", asked("BASELINE")]
    words += ["--work", str(folder / "evidence"), "--out", str(out)]
    words += ["--on-inconclusive", asked("ON_INCONCLUSIVE")]
    words += ["--name", asked("NAME")] if asked("NAME") else []
    words += ["--workload", asked("WORKLOAD")] if asked("WORKLOAD") else []
    try:
        words += shlex.split(asked("ARGS"))
    except ValueError as error:
        print(f"::error title=accel gate::args: {error}.")
        return not_run(2)
    command = [sys.executable, "-P", "-m", "accel", *words]  # -P: not the checkout's own modules
    print(shlex.join(command), flush=True)
    code = subprocess.run(command, check=False).returncode
    if (out / "verdict.json").exists():
        return code
    return not_run(code or 2)  # nothing was gated: never green


def not_run(code: int) -> int:
    """The outputs of a step that came to no verdict; its exit code."""
    tell("verdict", "not run")
    tell("line", f"NOT RUN: accel gate ended with {code}; the log of the step says why")
    tell("exit-code", str(code))
    return code


def asked(name: str) -> str:
    """An input of the action."""
    return os.environ.get(f"ACCEL_{name}", "")


def tell(name: str, value: str) -> None:
    """An output of the step; on one line, so that no value adds another."""
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as stream:
        stream.write(f"{name}={' '.join(value.split())}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
