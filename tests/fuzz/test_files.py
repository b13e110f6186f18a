"""Text files that strangers wrote: each is read, or refused with one AccelError in a printable line."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import release, target, workload
from accel.errors import AccelError
from accel.gating import baselines, budgets, verdicts
from accel.gating import settings as gate_settings
from tests.fuzz.effort import effort
from tests.fuzz.values import changed, json_values, scalars, texts, toml, written

ROOT = Path(__file__).parents[2]
QUICK = effort(300)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Whatever is wrong, it is an AccelError that says so; anything else is a finding."""
    said: AccelError | None = None
    try:
        yield
    except AccelError as error:
        said = error
    assert said is None or str(said).strip(), "it does not say"
    assert type(said) is not AccelError, "a bare one is a bug"


@pytest.fixture(scope="module")
def manifest(digits_run: SimpleNamespace) -> Any:
    """The manifest of a real release."""
    return json.loads((digits_run.folder / "release" / release.MANIFEST).read_text())


@pytest.mark.alone  # the release that it changes is timed: beside other tests it may be unfit
@QUICK
@given(data=st.data(), sealed=st.booleans())
def test_a_changed_manifest(manifest: Any, data: st.DataObject, sealed: bool) -> None:
    """Also one whose own digest is right: that seal keeps accidents out, not strangers."""
    with tempfile.TemporaryDirectory() as name:
        root, made = Path(name), data.draw(changed(manifest))
        if sealed:
            with contextlib.suppress(Exception):
                made["digest"] = release.seal(made)
        (root / release.MANIFEST).write_text(written(made))
        for question in (release.read, release.differences, release.requests, release.intact):
            with refused():
                question(root)


@QUICK
@given(document=json_values)
def test_a_manifest_of_anything(document: Any) -> None:
    """Any JSON at all under that name, in all that reads one."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for file in (release.MANIFEST, "verdict.json", "accel.baselines.json"):
            (root / file).write_text(written(document))
        asked: tuple[Callable[[], Any], ...] = (
            lambda: release.read(root),
            lambda: release.differences(root),
            lambda: verdicts.read(root / "verdict.json"),
            lambda: baselines.read(root / "accel.baselines.json"),
        )
        for question in asked:
            with refused():
                question()


def _baselines() -> Any:
    pointer = {"digest": "0" * 64, "place": "release"}
    entry = {"release": pointer, "budgets": ["p50=3%"], "reference": pointer}
    return {"schema": baselines.KIND, "schema_version": 1, "baselines": {"minilm": entry}}


@QUICK
@given(document=changed(_baselines()))
def test_a_changed_baselines_file(document: Any) -> None:
    """Names, digests, places and budgets."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "accel.baselines.json"
        file.write_text(written(document))
        with refused():
            baselines.read(file)


@pytest.fixture(scope="module")
def profiles() -> list[dict[str, Any]]:
    """Every target that comes with accel."""
    files = sorted((ROOT / "accel" / "profiles").glob("*.toml"))
    return [tomllib.loads(file.read_text()) for file in files]


@QUICK
@given(data=st.data())
def test_a_changed_target(profiles: list[dict[str, Any]], data: st.DataObject) -> None:
    """Keys, rates, limits, names of engines."""
    made = data.draw(changed(data.draw(st.sampled_from(profiles))))
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "mine.toml"
        file.write_text(toml(made), encoding="utf-8", errors="surrogateescape")
        with refused():
            target.load(str(file))


@QUICK
@given(content=st.one_of(st.binary(max_size=80), texts.map(lambda t: t.encode("utf-8", "replace"))))
def test_a_toml_file_of_anything(content: bytes) -> None:
    """A target, and the table of budgets."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "accel.toml"
        file.write_bytes(content)
        for question in (
            lambda: target.load(str(file)),
            lambda: gate_settings.tables(file, "minilm"),
            lambda: gate_settings.rules(file, "minilm"),
        ):
            with refused():
                question()


GATE = {
    "gate": {
        "p50": "3%",
        "p50/batch 8x128": "5% watch",
        "cold_start": "off",
        "rules": {"max_epochs": 60, "alpha_pass": 0.05, "block_s": 0.05},
        "minilm": {"drop": "0.5pt", "rules": {"rounds": 12}},
    }
}


@QUICK
@given(made=changed(GATE))
def test_changed_budgets_and_rules(made: dict[str, Any]) -> None:
    """accel.toml, as the gate of one workload reads it."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "accel.toml"
        file.write_text(toml(made), encoding="utf-8", errors="surrogateescape")
        with refused():
            gate_settings.rules(file, "minilm")
        with refused():
            budgets.load(file, "minilm")


@QUICK
@given(text=st.one_of(texts, st.from_regex(r"[a-z0-9_]+(@[a-z]+)?(/.*)?=[0-9.]+(%|pt)?(:watch)?")))
def test_a_budget_of_anything(text: str) -> None:
    """A line of one."""
    with refused():
        budgets.parse(text)


MEMBERS = ("model", "inputs", "calibration", "samples", "row", "metric", "clusters", "requests")
PLAIN = ("dynamic", "padding", "noise", "outputs", "metric_name", "metric_unit", "higher_is_better")
literals = st.recursive(
    st.one_of(
        scalars.filter(lambda v: v is not None).map(repr),
        st.sampled_from(("None", "float('nan')", "object()", "b'x'", "np.zeros(3)", "np.zeros(3, 'M8[s]')",
                         "np.array([None])", "np.float32(1)", "1 / 0", "exit(0)", "type('T', (), {})")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]"),
        st.tuples(inner, inner).map(lambda v: f"({v[0]}, {v[1]})"),
        st.dictionaries(texts.map(repr), inner, max_size=2).map(lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"),
    ),
    max_leaves=5,
)  # fmt: skip


@st.composite
def workloads(draw: Callable[[Any], Any]) -> str:
    """A Python file with members of accel's names and anything in them."""
    lines = ["import numpy as np"]
    for name in draw(st.lists(st.sampled_from((*MEMBERS, *PLAIN)), unique=True, min_size=1)):
        body, parameters = draw(literals), draw(st.sampled_from(("", "*a", "a", "a, b")))
        if name in MEMBERS and draw(st.integers(0, 9)):
            word = draw(st.sampled_from(("return", "return", "yield", "raise")))
            lines.append(f"def {name}({parameters}):\n    {word} {body}")
        else:
            lines.append(f"{name} = {body}")
    return "\n".join(lines) + "\n"


def _asked(found: Any) -> None:
    """All that accel takes from a workload, one by one."""
    questions: tuple[Callable[[], Any], ...] = (
        lambda: workload.example(found),
        lambda: workload.requests(found),
        lambda: list(workload.calibration(found) or ()),
        lambda: workload.samples(found, "certify"),
        lambda: workload.clusters(found, "certify", 2),
        lambda: workload.rows(found, [[{"y": 0}], [{"y": 1}]], [0, 1]),
    )
    for question in questions:
        with refused():
            question()


@QUICK
@given(source=workloads())
def test_a_workload_of_anything(source: str) -> None:
    """Whatever its members are, give or raise."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "mine.py"
        file.write_text(source, encoding="utf-8", errors="surrogatepass")
        with refused():
            _asked(workload.load(str(file)))
        shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)
