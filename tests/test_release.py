"""Reading, verifying and loading a release: what differs is named, nothing wrong is answered."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accel import arrays, catalog, golden, release, store
from accel.errors import CandidateBroken, EnvironmentProblem, UsageError
from accel.measure import machine
from accel.values import Release

Pack = Callable[..., Release]


def rewrite(root: Path, **changes: Any) -> None:
    """Change the manifest and every digest with it, as someone who wants to go unseen would."""
    data = release.document(root) | changes
    for kind in release.KINDS_OF_FILE:
        data[kind] = {name: store.digest_file(root / name) for name in data[kind]}
    data["digest"] = release.seal(data)
    (root / "accel.json").write_text(json.dumps(data))


def test_loads_and_answers(packed: Pack) -> None:
    """A release just packed is intact, loads, and gives the reference's outputs."""
    root = packed().path
    assert release.differences(root) == ()
    session = release.load(root)
    inputs, outputs = golden.read(root)
    for feed, wanted in zip(inputs, outputs, strict=True):
        np.testing.assert_allclose(session(feed)["y"], wanted["y"], rtol=1e-5)
    session.close()


def test_closes_at_the_end_of_with(packed: Pack) -> None:
    """`with accel.load(...)` answers inside, also bound to its inputs, and is closed after."""
    root = packed().path
    feed = golden.read(root)[0][0]
    with release.load(root) as run:
        np.testing.assert_array_equal(run.bind(feed)()[0], run(feed)["y"])
    with pytest.raises(CandidateBroken):
        run(feed)


def test_flipped_byte_is_named(packed: Pack) -> None:
    """One flipped byte is found, the file named, and nothing is loaded."""
    root = packed().path
    data = bytearray((root / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (root / "model.onnx").write_bytes(data)
    (line,) = release.differences(root)
    assert line.startswith("model.onnx: sha256 ")
    with pytest.raises(CandidateBroken, match=r"model\.onnx.*accel verify"):
        release.load(root)


def test_missing_extra_and_linked_files_are_named(packed: Pack) -> None:
    """A file that is gone, one that was added and one that became a link are each named."""
    root = packed().path
    (root / "summary.md").unlink()
    (root / "note.txt").write_text("mine")
    (root / "reproduce.sh").rename(root.parent / "elsewhere.sh")
    (root / "reproduce.sh").symlink_to(root.parent / "elsewhere.sh")
    assert release.differences(root) == (
        "note.txt: not in the manifest",
        "reproduce.sh: a link, not a file",
        "summary.md: missing",
    )


def test_edited_manifest_is_named(packed: Pack) -> None:
    """A number changed in the manifest is found; a signature added to it is not an edit."""
    root = packed().path
    data = release.document(root)
    (root / "accel.json").write_text(json.dumps(data | {"signatures": ["later"]}))
    assert release.differences(root) == ()
    (root / "accel.json").write_text(json.dumps(data | {"target": "elsewhere"}))
    assert release.differences(root) == (
        "accel.json: edited after packing (its own digest differs)",
    )


@pytest.mark.parametrize("value", [1e3, np.nan])
def test_wrong_golden_outputs_are_refused(packed: Pack, value: float) -> None:
    """An engine that does not give the stored outputs is refused, though every digest is right."""
    root = packed().path
    feeds = arrays.load(root / "golden.npz")
    arrays.save(
        root / "golden.npz", [{**f, "out/y": f["out/y"] + np.float32(value)} for f in feeds]
    )
    rewrite(root)
    assert release.differences(root) == ()
    with pytest.raises(
        CandidateBroken, match=r"output 'y' is off by .* was allowed.*reproduce\.sh"
    ):
        release.load(root)


def test_another_machine_class(packed: Pack) -> None:
    """On another class of machine the engine is refused and the portable graph still loads."""
    root = packed(portable=False).path
    rewrite(root, machine_class="something else")
    with pytest.raises(EnvironmentProblem, match=r"'something else'.*reproduce\.sh.*portable=True"):
        release.load(root)
    session = release.load(root, portable=True)
    assert session({"x": np.ones((2, 4), np.float32)})["y"].shape == (2, 3)


def test_a_portable_graph_asks_for_no_more_threads_than_there_are(
    packed: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is built for this machine, whatever the one that packed it had."""
    root = packed(portable=False).path
    packed_with = release.document(root)["portable"]
    rewrite(root, portable={**packed_with, "options": {**packed_with["options"], "threads": 4096}})
    engine = catalog.load("engines", "onnxruntime_cpu")
    real, asked = engine.build, []

    def build(model: Any, target: Any, options: Any, *rest: Any) -> Any:
        asked.append(options["threads"])
        return real(model, target, options, *rest)

    monkeypatch.setattr(engine, "build", build)
    release.load(root, portable=True).close()
    assert asked == [machine.cores()]


def test_where_the_reference_is_not_a_number_an_engine_need_not_be(tmp_path: Path) -> None:
    """An empty mask's 0/0 in both is no difference; in one of them it is."""
    wanted = np.array([1.0, np.nan], np.float32)
    arrays.save(tmp_path / "golden.npz", [{"in/x": np.ones(2, np.float32), "out/y": wanted}])
    assert golden.errors(lambda _: {"y": wanted}, tmp_path) == {"y": {"error": 0.0, "scale": 1.0}}
    for other in ([np.nan, np.nan], [1.0, 1.0]):
        found = golden.errors(lambda _, y=other: {"y": np.array(y, np.float32)}, tmp_path)  # type: ignore[misc]
        assert np.isnan(found["y"]["error"])


def test_not_a_release(tmp_path: Path, packed: Pack) -> None:
    """A folder without a manifest, with a foreign one or a newer one is refused by name."""
    with pytest.raises(UsageError, match=r"no accel\.json"):
        release.read(tmp_path)
    (tmp_path / "accel.json").write_text("{}")
    with pytest.raises(UsageError, match="schema 'accel/release'"):
        release.read(tmp_path)
    root = packed().path
    rewrite(root, schema_version=99)
    with pytest.raises(UsageError, match="has release schema 99"):
        release.read(root)


def test_paths_outside_are_refused(packed: Pack) -> None:
    """A manifest that points out of the release is refused before anything is opened."""
    root = packed().path
    data = release.document(root)
    data["winner"]["plan"]["path"] = "./../elsewhere.onnx"
    rewrite(root, winner=data["winner"])
    with pytest.raises(UsageError, match="points outside the release"):
        release.load(root)
    data["artefacts"]["../elsewhere.onnx"] = "0"
    (root / "accel.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"'\.\./elsewhere\.onnx', which lies outside"):
        release.differences(root)


def test_contents_come_back(packed: Pack) -> None:
    """Requests, rows and samples are read back as they were packed."""
    found = packed()
    (request,) = release.requests(found.path)
    assert (request.group, request.weight, request.inputs["x"].shape) == ("only", 1.0, (2, 4))
    assert arrays.load(found.path / "rows.npz")[0]["fast"].tolist() == [1.0] * 5
    assert len(arrays.load(found.path / "samples.npz")[0]["plain/seconds"]) == 3


def test_what_production_sent_is_read_for_a_portable_graph_alone(
    packed: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be gigabytes, and the winner needs none of it."""
    root = packed().path
    monkeypatch.setattr(release, "requests", lambda _: pytest.fail("it was read"))
    release.load(root).close()


def test_without_a_place_for_what_passes_the_variable_is_named(
    packed: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose file system is read-only."""
    root = packed().path
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(EnvironmentProblem, match="TMPDIR"):
        release.load(root, portable=True)
