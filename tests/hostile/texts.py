"""JSON and TOML: numbers that are none, keys that stand twice or nowhere, and nesting without end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, Made, relu

VERIFY = ("verify", "release")
PLACEMENT = ("inspect", "release", "--placement")
FOR = ("inspect", "m.onnx", "--for", "{}")
GATE = ("gate", "m.onnx", "--baseline", "m.onnx", "--config", "{}", "--quiet")
POINTED = ("gate", "m.onnx", "--baseline", "{}", "--quiet")
HISTORY = ("creep", "--history", "{}")
DEEP = 50_000
TARGET = 'description = "made up"\nengines = ["onnxruntime_cpu"]\nlocal = false\n'
CANDIDATE = {
    "name": "c", "root": "onnx", "recipe": "fp32", "engine": "onnxruntime_cpu", "screen_s": 0.5,
}  # fmt: skip
RELEASE = {
    "schema": "accel/release", "schema_version": 1, "artefacts": {}, "measurements": {},
    "winner": CANDIDATE, "baselines": [], "table": [], "certificate": None, "verdict": {"outcome": "pass"},
}  # fmt: skip


def _release(content: bytes | str | dict[str, Any]) -> Made:
    """release/accel.json."""
    text = json.dumps(content) if isinstance(content, dict) else content

    def make(folder: Path) -> Path:
        (folder / "release").mkdir()
        path = folder / "release" / "accel.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def _beside(name: str, content: bytes | str) -> Made:
    """The file, and a good graph."""

    def make(folder: Path) -> Path:
        (folder / "m.onnx").write_bytes(relu().SerializeToString())
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder / name

    return make


def _winner(**changes: Any) -> Made:
    return _release({**RELEASE, "winner": {**CANDIDATE, **changes}})


def cases() -> Iterator[Case]:
    """Each is refused with the file's name and the first thing that is wrong."""
    yield from _json()
    yield from _manifests()
    yield from _targets()
    yield from _settings()


def _json() -> Iterator[Case]:
    whole = json.dumps(RELEASE)
    said = ("accel.json is not readable JSON",)
    for name, content in (
        ("JSON with NaN", whole.replace("0.5", "NaN")),
        ("JSON with Infinity", whole.replace("0.5", "-Infinity")),
        ("JSON beyond all numbers", whole.replace("0.5", "1e999")),
        ("JSON with a number of 5,000 digits", whole.replace("0.5", "9" * 5000)),
        ("JSON with a key twice", whole.replace('"table"', '"baselines"')),
        ("JSON that nests", '{"a":' * DEEP),
        ("JSON that nests:lists", "[" * DEEP),
        ("JSON that is empty", ""),
        ("JSON that is not UTF-8", b'{"a": "\xff"}'),
        ("JSON in UTF-16", whole.encode("utf-16")),
        ("JSON with a byte order mark", b"\xef\xbb\xbf" + whole.encode()),
        ("JSON truncated:0.3", whole[: len(whole) // 3]),
        ("JSON truncated:0.9", whole[: -len(whole) // 10]),
        ("JSON with something behind it", whole + "{}"),
    ):
        yield Case(name, _release(content), says=said, command=VERIFY)
    for content in ("[]", "null", '"text"', "1", "true"):
        yield Case(f"JSON that is no object:{content}", _release(content), says=("is not a release",), command=VERIFY)  # fmt: skip


def _manifests() -> Iterator[Case]:
    for field, value, said in (
        ("screen_s", True, "Candidate.screen_s cannot be read: a number was expected, not True"),
        ("screen_s", "0.5", "a number was expected, not '0.5'"),
        ("name", 7, "a text was expected, not 7"),
        ("name", None, "a text was expected, not None"),
        ("plan", [], "an object was expected, found list"),
        ("portable", 1, "unknown fields portable"),
        ("recpie", "fp32", "Did you mean 'recipe'?"),
        ("\x1b[2J", 1, "unknown fields '\\x1b[2J'"),
        ("\ud800", 1, "unknown fields '\\ud800'"),
    ):
        name = f"JSON value of another kind:{field!a} {value!r}"
        name = name.replace("value of another kind", "unknown key") if "fields" in said or "?" in said else name  # fmt: skip
        yield Case(name, _winner(**{field: value}), says=("accel.json: ", said), command=PLACEMENT)
    outside = {**RELEASE, "artefacts": {"../../m.onnx": "0"}}
    yield Case("manifest that names files outside", _release(outside), says=("outside the release",), command=VERIFY)  # fmt: skip
    yield Case("manifest of a version to come", _release({**RELEASE, "schema_version": 99}), says=("99",), command=VERIFY)  # fmt: skip
    yield Case("manifest without files", _release({**RELEASE, "artefacts": 3}), says=("lists no",), command=VERIFY)  # fmt: skip
    yield Case("manifest without a winner", _release({k: v for k, v in RELEASE.items() if k != "winner"}), says=("not complete",), command=PLACEMENT)  # fmt: skip


def _targets() -> Iterator[Case]:
    peaks = TARGET + "[peaks]\nfp32_ops_per_s = {}\n"
    for name, content, said in (
        ("TOML with NaN", peaks.format("nan"), "peaks must be a table of rates above 0"),
        ("TOML with inf", peaks.format("inf"), "peaks must be"),
        ("TOML beyond all numbers", peaks.format("9" * 400), "peaks must be"),
        (
            "TOML with true for a number",
            TARGET + "threads = true\n",
            "threads must be a whole number",
        ),
        (
            "TOML with a text for a number",
            TARGET + 'threads = "2"\n',
            "threads must be a whole number",
        ),
        (
            "TOML with a number for a text",
            TARGET.replace('"made up"', "3"),
            "description must be a text",
        ),
        ("TOML with a key twice", TARGET + "local = true\n", "x.toml is not a readable target"),
        ("TOML with an unknown key", TARGET + "thread = 2\n", "Did you mean 'threads'?"),
        ("TOML with an unknown key:that steers", TARGET + '"\\u001b[2J" = 2\n', "unknown key"),
        ("TOML without a key", TARGET.replace("local = false", ""), "local must be given"),
        ("TOML that nests", "a = " + "[" * DEEP, "x.toml is not a readable target"),
        ("TOML that nests:tables", "a = " + "{b = " * 3000, "x.toml is not a readable target"),
        ("TOML truncated", TARGET[:30], "x.toml is not a readable target"),
        ("TOML that is empty", "", "must be given"),
        ("TOML that is not UTF-8", b'description = "\xff"', "x.toml is not a readable target"),
        (
            "TOML with control characters",
            TARGET + 'gpu = "\x1b[2J"\n',
            "x.toml is not a readable target",
        ),
        (
            "TOML of an unknown engine",
            TARGET.replace("runtime_cpu", "runtime_cp"),
            "onnxruntime_cpu",
        ),
    ):
        yield Case(name, _beside("x.toml", content), says=(said,), command=FOR)


def _settings() -> Iterator[Case]:
    for name, content, said in (
        ("budget that is no number", "[gate]\np50 = nan\n", "p50"),
        ("budget of an unknown metric", '[gate]\np5O = "3%"\n', "p50"),
        (
            "rule that is true",
            "[gate.rules]\nrounds = true\n",
            "rounds = True is not a whole number",
        ),
        ("rule that is unknown", "[gate.rules]\nround = 3\n", "Did you mean 'rounds'?"),
        ("rules that are no table", "[gate]\nrules = 3\n", "is not a table"),
        ("settings that nest", "a = " + "[" * DEEP, "is not TOML"),
    ):
        yield Case(name, _beside("accel.toml", content), says=(said,), command=GATE)
    for name, content, said in (
        ("baselines with a key twice", '{"schema": 1, "schema": 2}', "stands twice"),
        ("baselines of another schema", "{}", "does not have the schema"),
        ("baselines that are a list", _baselines([]), "alone"),
        ("baselines with an unknown key", _baselines({"m": {"relase": 1}}), "relase"),
    ):
        yield Case(name, _beside("b.json", content), says=(said,), command=POINTED)

    for name, content, said in (
        ("history that nests", "[" * DEEP + "\n", "line 1: it is not JSON"),
        ("history with an unknown key", '{"nmae": "m"}\n', "Did you mean 'name'?"),
        ("history of another kind", "3\n", "line 1: it is not JSON: not an object"),
    ):
        yield Case(name, _beside("h.jsonl", content), says=(said,), command=HISTORY)


def _baselines(entries: Any) -> str:
    return json.dumps({"schema": "accel/baselines", "schema_version": 1, "baselines": entries})
