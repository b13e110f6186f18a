"""accel.baselines.json: pointers that lead to the release that they name, or nowhere."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import jsonschema
import pytest

from accel import release
from accel.errors import CandidateBroken, EnvironmentProblem, NoBaseline, UsageError
from accel.gating import baselines, pointers
from accel.gating.baselines import Baseline, Blessing
from accel.gating.pointers import Pointer
from accel.values import Release

OTHER = "0" * 64
FULL = Blessing("faster", "2026-11-26T08:00:00+00:00", "A. N.", "fail", OTHER, {"p50": 1.052})


@pytest.fixture
def entry(packed: Callable[..., Release], tmp_path: Path) -> Baseline:
    """A baseline whose release lies beside the file."""
    made = packed("minilm").path
    return Baseline("minilm", pointers.point(made, tmp_path), tmp_path)


def at(entry: Baseline, place: str) -> Baseline:
    """The same, said to lie elsewhere."""
    return dataclasses.replace(entry, release=Pointer(entry.release.digest, place))


def written(folder: Path, text: str) -> Path:
    path = folder / baselines.FILE
    path.write_text(text)
    return path


def test_what_is_written_is_read(entry: Baseline, tmp_path: Path) -> None:
    """Every field of an entry; a bare one too."""
    whole = dataclasses.replace(
        entry,
        workload="minilm.py:problem",
        budgets=("p50=3%", "p50@reference=5%"),
        reference=Pointer(OTHER, "oci://registry.example/minilm@sha256:00"),
        blessed=FULL,
    )
    path = written(tmp_path, baselines.text({"minilm": whole, "bare": entry}))
    found = baselines.read(path)
    assert found == {"minilm": whole, "bare": dataclasses.replace(entry, name="bare")}
    assert baselines.workload(found["minilm"]) == f"{tmp_path}/minilm.py:problem"
    assert baselines.workload(found["bare"]) is None


def test_the_text_is_one_for_the_same_entries(entry: Baseline) -> None:
    """Order does not matter, keys are sorted, lines are short, the last one ends."""
    a, b = (dataclasses.replace(entry, name=name, blessed=FULL) for name in ("a", "ö"))
    text = baselines.text({"ö": b, "a": a})
    assert text == baselines.text({"a": a, "ö": b})
    assert text.endswith("}\n")
    assert '"ö"' in text
    assert str(entry.root) not in text
    assert json.loads(text)["schema"] == "accel/baselines"


def test_the_published_schema_takes_what_is_written(entry: Baseline) -> None:
    """And its properties are the fields of the values, so none is added in one place alone."""
    schema = json.loads(Path(baselines.__file__).with_name("baselines.schema.json").read_text())
    kinds = schema["$defs"]
    for kind, value in (("pointer", Pointer), ("blessing", Blessing), ("baseline", Baseline)):
        names = {f.name for f in dataclasses.fields(value)} - {"name", "root"}
        assert kinds[kind]["properties"].keys() == names
        assert kinds[kind]["additionalProperties"] is False
    text = json.loads(baselines.text({"minilm": dataclasses.replace(entry, blessed=FULL)}))
    assert text.keys() == set(schema["required"])
    jsonschema.validate(text, schema)


def test_a_relative_an_absolute_and_a_file_place_lead_to_the_release(
    entry: Baseline, tmp_path: Path
) -> None:
    """A relative one from the folder of the file, wherever the process stands."""
    folder = tmp_path / "minilm"
    assert entry.release.place == "minilm"
    with pytest.raises(NoBaseline, match="is not at"):
        baselines.resolve(at(entry, f"file://elsewhere{folder}"))
    spaced = tmp_path / "a b"
    shutil.copytree(folder, spaced)
    for place, wanted in (
        ("minilm", folder), (str(folder), folder), (f"file://{folder}", folder),
        (f"file://{tmp_path}/a%20b", spaced), ("../" + tmp_path.name + "/minilm", folder),
    ):  # fmt: skip
        assert baselines.resolve(at(entry, place)) == wanted


def test_another_release_at_the_place_is_no_baseline(
    entry: Baseline, packed: Callable[..., Release], tmp_path: Path
) -> None:
    """Whole as it may be, its digest is not the one that was blessed."""
    packed("other", external=True)
    with pytest.raises(NoBaseline, match=f"is release {entry.release.digest[:12]}, but at other"):
        baselines.resolve(at(entry, "other"))


def test_a_changed_or_missing_release_is_no_baseline(entry: Baseline, tmp_path: Path) -> None:
    """A byte of a file, the manifest's own, the whole folder: each is noticed and named."""
    graph = tmp_path / "minilm" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(NoBaseline, match=r"not as it was packed: .*model\.onnx"):
        baselines.resolve(entry)
    graph.write_bytes(whole)
    baselines.resolve(entry)
    told = tmp_path / "minilm" / release.MANIFEST
    told.write_text(told.read_text().replace('"winner"', '"winer"'))
    with pytest.raises(NoBaseline, match="The baseline of minilm"):
        baselines.resolve(entry)
    shutil.rmtree(tmp_path / "minilm")
    with pytest.raises(NoBaseline, match=f"is not at {tmp_path}/minilm"):
        baselines.resolve(entry)


def test_an_address_is_refused_with_the_line_that_fetches_it(
    entry: Baseline, tmp_path: Path
) -> None:
    """What that line fetches is then found; an address of another kind says where it is wanted."""
    there = at(entry, "oci://registry.example/minilm@sha256:00")
    folder = tmp_path / ".accel" / "baselines" / entry.release.digest[:12]
    line = f"oras pull --output {folder} registry.example/minilm@sha256:00"
    with pytest.raises(NoBaseline) as error:
        baselines.resolve(there)
    assert line in str(error.value)
    with pytest.raises(NoBaseline, match=f"into this folder: {folder}"):
        baselines.resolve(at(entry, "https://host.example/minilm.zip"))
    shutil.copytree(tmp_path / "minilm", folder)
    assert baselines.resolve(there) == folder


def test_the_last_release_is_found_unless_it_is_the_baseline(
    entry: Baseline, packed: Callable[..., Release], tmp_path: Path
) -> None:
    """The cumulative budget has nothing to count from when it is the same."""
    last = pointers.point(packed("last", external=True).path, tmp_path)
    assert baselines.resolve_reference(entry) is None
    same = dataclasses.replace(entry, reference=entry.release)
    assert baselines.resolve_reference(same) is None
    other = dataclasses.replace(entry, reference=last)
    assert baselines.resolve_reference(other) == tmp_path / "last"
    gone = dataclasses.replace(entry, reference=Pointer(OTHER, "gone"))
    with pytest.raises(NoBaseline, match="The last release of minilm"):
        baselines.resolve_reference(gone)


def test_one_is_found_by_its_name(entry: Baseline, tmp_path: Path) -> None:
    """Without a name where there is but one; else the names are told."""
    path = tmp_path / baselines.FILE
    with pytest.raises(NoBaseline, match="--init"):
        baselines.named(path, None)
    path.write_text(baselines.text({"minilm": entry}))
    assert baselines.named(path, None) == baselines.named(path, "minilm") == entry
    with pytest.raises(NoBaseline, match="Did you mean 'minilm'"):
        baselines.named(path, "minilmm")
    path.write_text(baselines.text({"minilm": entry, "b": entry}))
    with pytest.raises(UsageError, match="name one of b, minilm"):
        baselines.named(path, None)
    path.write_text(baselines.text({}))
    with pytest.raises(NoBaseline, match="It has: none"):
        baselines.named(path, None)


def changed(**fields: object) -> str:
    data = {"release": {"digest": OTHER, "place": "x"}, **fields}
    return json.dumps(
        {"schema": "accel/baselines", "schema_version": 1, "baselines": {"minilm": data}}
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "not readable JSON"),
        ("<<<<<<< HEAD\n{}", "not readable JSON"),
        ("[]", "does not have the schema"),
        ('{"schema": "accel/release"}', "does not have the schema"),
        ('{"schema": "accel/baselines", "schema_version": 2}', "schema version 2"),
        ('{"schema": "accel/baselines", "schema_version": 1}', "'baselines' alone"),
        (
            '{"schema": "accel/baselines", "schema_version": 1, "baselines": {"a": 3}}',
            "an entry is an object",
        ),
        (changed(relase=3), "unknown fields relase"),
        (changed(root="/etc"), "unknown fields: root or name"),
        (changed(release={"digest": "ab", "place": "x"}), "is not the sha256"),
        (changed(release={"digest": OTHER, "place": " "}), "is no path"),
        (changed(release={"digest": OTHER}), "place"),
        (changed(reference={"digest": 3, "place": "x"}), "a text was expected, not 3"),
        (changed(budgets=["p50=3"]), "the unit is missing"),
        (changed(budgets=[3]), "a text was expected, not 3"),
        (changed(workload=3), "a text was expected, not 3"),
        (changed(blessed={"reason": 3, "when": "now"}), "a text was expected, not 3"),
        (changed(blessed={"reason": "x"}), "when"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str, named: str) -> None:
    """One error of code 2 with the path and what is wrong in it."""
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as error:
        baselines.read(path)
    assert str(path) in str(error.value)
    assert named in str(error.value)


def test_what_is_not_a_whole_release_cannot_be_pointed_to(
    packed: Callable[..., Release], tmp_path: Path
) -> None:
    """A folder without a manifest, and a release that was changed."""
    with pytest.raises(UsageError, match="is not a release"):
        pointers.point(tmp_path, tmp_path)
    made = packed("made").path
    (made / "model.onnx").write_bytes(b"x")
    with pytest.raises(CandidateBroken, match="not as it was packed"):
        pointers.point(made, tmp_path)


def test_two_writers_at_once_lose_nothing(entry: Baseline, tmp_path: Path) -> None:
    """Each adds an entry of its own: all of them are there, and nothing else lies about."""
    path = tmp_path / baselines.FILE

    def add(name: str) -> None:
        def change(found: Mapping[str, Baseline]) -> Mapping[str, Baseline]:
            return {**found, name: dataclasses.replace(entry, name=name)}

        baselines.update(path, change)

    threads = [threading.Thread(target=add, args=(f"m{i}",)) for i in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert baselines.read(path).keys() == {f"m{i}" for i in range(8)}
    assert [p.name for p in tmp_path.iterdir() if "baselines" in p.name] == [path.name]


def test_a_failed_change_leaves_the_file(entry: Baseline, tmp_path: Path) -> None:
    """The old text to the byte."""
    path = written(tmp_path, baselines.text({"minilm": entry}))

    def change(_: Mapping[str, Baseline]) -> Mapping[str, Baseline]:
        raise UsageError("no")

    before = path.read_bytes()
    with pytest.raises(UsageError, match="no"):
        baselines.update(path, change)
    assert path.read_bytes() == before


def test_a_link_to_the_file_stays_a_link(entry: Baseline, tmp_path: Path) -> None:
    """What it leads to is what changes."""
    (tmp_path / "kept").mkdir()
    link = tmp_path / baselines.FILE
    link.symlink_to(tmp_path / "kept" / "file.json")
    baselines.update(link, lambda _: {"minilm": entry})
    assert link.is_symlink()
    assert (tmp_path / "kept" / "file.json").is_file()
    assert baselines.read(link)["minilm"].root == (tmp_path / "kept").resolve()  # as bless has it


def test_a_folder_that_takes_no_file_is_an_environment_problem(entry: Baseline) -> None:
    """/sys takes none, from root either."""
    with pytest.raises(EnvironmentProblem):
        baselines.update(Path("/sys/kernel") / baselines.FILE, lambda _: {"minilm": entry})
