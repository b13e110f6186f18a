"""kernels/ledger.json is true: what each kernel costs on each GPU, from the source that is here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from accel import catalog
from accel.cuda import building, ledger, occupancy, toolchain
from accel.cuda.building import Built, Job
from accel.cuda.ledger import Cell, Ledger, Row
from accel.errors import UsageError
from accel.values import Options, Refusal

PATH = catalog.ROOT / "kernels" / "ledger.json"
FOUND = ledger.read(PATH)
NAMES = catalog.names("kernels")
GPUS = building.gpus()
KINDS = ledger.kinds(GPUS)
ASKED = {"7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "11.0", "12.0"}
MEND = "Run `make ledger`, look at what changed in kernels/ledger.json, and commit it."


def _build(jobs: list[Job]) -> list[tuple[Job, Built]]:
    made = list(building.run(jobs, 1 if len(jobs) == 1 else building.PROCESSES))
    refused = [f"{f.what}: {f.reason}" for _, f in made if isinstance(f, Refusal)]
    assert refused == []
    return [(job, f) for job, f in made if isinstance(f, Built)]


def test_every_kernel_is_in_it_for_every_gpu() -> None:
    """Each op, dtype and variant once, for every kind of GPU that a profile has; each is named."""
    want = [(job.kernel, job.dtype, _text(job.baked)) for job in building.jobs(NAMES, GPUS[:1])]
    assert [(r.kernel, r.dtype, _text(r.baked)) for r in FOUND.rows] == want, MEND
    assert {gpu.compute_capability for gpu in GPUS} >= ASKED
    for row in FOUND.rows:
        assert list(row.cells) == [ledger.label(gpu) for gpu in KINDS], MEND
    assert FOUND.targets == {gpu.name: ledger.label(gpu) for gpu in GPUS}, MEND


def test_gpus_of_one_kind_have_the_same_limits() -> None:
    """Capability and PTX version decide what a kernel costs: one of a kind stands for the others."""
    assert len(KINDS) < len(GPUS)
    for gpu in GPUS:
        [kind] = [k for k in KINDS if ledger.label(k) == ledger.label(gpu)]
        assert gpu.sm == kind.sm, gpu.name


def test_nothing_is_worse_than_it_says() -> None:
    """Kernels that changed since are compiled again: no new spills or stack, no occupancy lost.

    Where none did, one cell, which one following from the sources, is compiled to the same bytes."""
    changed = ledger.stale(FOUND, toolchain.versions(), NAMES, GPUS)
    if changed:
        built = _build(list(building.jobs(changed, KINDS)))
        worse = ledger.worse(FOUND, ledger.rows(built))
        assert not worse, "\n".join([*worse, MEND])
        return
    jobs = list(building.jobs(NAMES, KINDS))
    turn = hashlib.sha256(json.dumps(FOUND.sources).encode()).digest()
    [(job, made)] = _build([jobs[int.from_bytes(turn) % len(jobs)]])
    [row] = [r for r in FOUND.rows if _is_of(r, job)]
    assert ledger.cell(job, made, row.threads) == row.cells[ledger.label(job.target)], (
        f"{job}. {MEND}"
    )


def _is_of(row: Row, job: Job) -> bool:
    return (row.kernel, row.dtype, _text(row.baked)) == (job.kernel, job.dtype, _text(job.baked))


def _text(baked: Options) -> str:
    """Comparable: JSON has no tuples."""
    return json.dumps(dict(baked))


def test_nothing_spills_and_everything_can_be_launched() -> None:
    """No byte of a thread's own in memory; a block fits on a multiprocessor of each GPU."""
    for row in FOUND.rows:
        for name, cell in row.cells.items():
            assert cell.spill_bytes == cell.stack_bytes == 0, (row.kernel, row.dtype, name)
            assert 0 < cell.occupancy <= 1, (row.kernel, row.dtype, name)


LARGEST = {  # blocks larger than any case has: a simulator's thousand threads take too long
    "nms": {"boxes": (1, 32_768, 4), "scores": (1, 1, 32_768), "iou_threshold": (1,), "score_threshold": (1,)},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_case_can_be_launched_on_every_gpu(name: str) -> None:
    """With the registers and shared memory that it has there, a block of the case's size fits, and
    the largest that the kernel asks for."""
    member = catalog.load("kernels", name)
    for row in (r for r in FOUND.rows if r.kernel == name):
        own = [
            {n: a.shape for n, a in case.inputs.items()}
            for case in member.cases(row.dtype)
            if _text(case.baked or member.VARIANTS[0]) == _text(row.baked)
        ]
        for shapes in (*own, *([LARGEST[name]] if name in LARGEST else [])):
            x, y, z = member.launch(shapes, row.dtype, row.baked).block
            for gpu in GPUS:
                cell = row.cells[ledger.label(gpu)]
                costs = (cell.registers, x * y * z, cell.shared_bytes)
                fit = occupancy.blocks(*costs, gpu.sm, str(gpu.compute_capability))
                assert fit > 0, (shapes, row.dtype, gpu.name)


def test_occupancy_follows_from_its_own_figures() -> None:
    """Recomputed with the limits that the profiles give today."""
    for row in FOUND.rows:
        for gpu in GPUS:
            cell = row.cells[ledger.label(gpu)]
            costs = (cell.registers, row.threads, cell.shared_bytes)
            share = occupancy.occupancy(*costs, gpu.sm, str(gpu.compute_capability))
            assert cell.occupancy == round(share, 4), (row.kernel, row.dtype, gpu.name, MEND)


def test_it_is_small_and_written_the_one_way() -> None:
    """A row a line, under 300 lines; what was read is written as the same bytes."""
    text = PATH.read_text(encoding="utf-8")
    assert ledger.dump(FOUND) == text
    assert len(text.splitlines()) < 300


COSTS = Cell(40, 0, 0, 512, 0.75, "0123456789abcdef")
ROW = Row("one", "float32", {"epsilon": 1e-5}, 128, {"sm_75": COSTS})
LEDGER = Ledger({"ptxas": "13"}, {"one": "00"}, {"t4": "sm_75"}, (ROW,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"registers": 64, "ptx_sha256": "changed"}, []),
        ({"occupancy": 0.875}, []),
        ({"spill_bytes": 8}, ["spill_bytes 0 -> 8"]),
        ({"stack_bytes": 16}, ["stack_bytes 0 -> 16"]),
        ({"occupancy": 0.5}, ["occupancy 75% -> 50%"]),
        ({"occupancy": 0.5, "spill_bytes": 4}, ["spill_bytes 0 -> 4", "occupancy 75% -> 50%"]),
    ],
)
def test_what_is_worse_is_told(change: dict[str, float], said: list[str]) -> None:
    """Spills, stack and occupancy count; registers that cost no occupancy do not."""
    cell = dataclasses.replace(COSTS, **change)
    found = ledger.worse(LEDGER, [dataclasses.replace(ROW, cells={"sm_75": cell})])
    assert list(found) == [f"one float32 {{'epsilon': 1e-05}} on sm_75: {text}".replace("'", '"') for text in said]  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        dataclasses.replace(ROW, baked={"epsilon": 1e-6}),
        dataclasses.replace(ROW, dtype="float16"),
        dataclasses.replace(ROW, cells={"sm_89": COSTS}),
    ],
)
def test_what_is_not_in_it_is_told(row: Row) -> None:
    """A new variant, dtype or GPU has no figures to be compared with."""
    [said] = ledger.worse(LEDGER, [row])
    assert said.endswith("is not in the ledger")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two kernels, one with a helper of its own, for digests to be taken of."""
    files = {
        "kernels/one.py": "from accel.cuda.geometry import cdiv\nfrom accel.kernels import _help",
        "kernels/two.py": "import accel.kernels._device",
        "kernels/_help.py": "from accel.kernels._device import get",
        "kernels/_device.py": "from accel.errors import AccelError",
        "cuda/ptx.py": "from accel import catalog",
        "cuda/geometry.py": "",
        "cuda/simulator.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(catalog, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("kernels/one.py", ("one",)),
        ("kernels/two.py", ("two",)),
        ("kernels/_help.py", ("one",)),
        ("kernels/_device.py", ("one", "two")),
        ("cuda/geometry.py", ("one",)),
        ("cuda/ptx.py", ("one", "two")),
        ("cuda/simulator.py", ()),
    ],
)
def test_a_changed_file_makes_stale_who_imports_it(
    sources: Path, file: str, changed: tuple[str, ...]
) -> None:
    """Directly or through another file of kernels/ and accel/cuda; nobody else."""
    digests = {name: ledger.source_digest(name) for name in ("one", "two")}
    before = Ledger({}, digests, {}, ())
    assert ledger.stale(before, {}, ("one", "two"), ()) == ()
    with (sources / file).open("a") as stream:
        stream.write("\n# changed\n")
    assert ledger.stale(before, {}, ("one", "two"), ()) == changed


def test_another_toolchain_or_gpu_makes_everything_stale() -> None:
    """A compiler's version, a profile's PTX version: every kernel's code may differ."""
    facts = dict(FOUND.toolchain)
    older = tuple(dataclasses.replace(gpu, ptx_version="8.0") for gpu in GPUS)
    assert ledger.stale(FOUND, {**facts, "ptxas": "12.0.1"}, NAMES, GPUS) == NAMES
    assert ledger.stale(FOUND, facts, NAMES, older) == NAMES
    assert ledger.stale(FOUND, facts, NAMES, GPUS[1:]) == NAMES
    twin = dataclasses.replace(GPUS[0], name="twin")
    same = ledger.stale(FOUND, facts, NAMES, GPUS)  # nothing, or what was edited since
    assert ledger.stale(FOUND, facts, NAMES, (*GPUS, twin)) == same != NAMES


def test_one_kernel_is_renewed_beside_the_others() -> None:
    """Its rows are replaced, the others stay, those of kernels that are gone are dropped."""
    [first, *_] = NAMES
    row = dataclasses.replace(ROW, kernel=first)
    gone = dataclasses.replace(ROW, kernel="gone")
    old = dataclasses.replace(LEDGER, sources={"gone": "11", first: "00"}, rows=(gone, row))
    cell = dataclasses.replace(COSTS, registers=41)
    new = dataclasses.replace(
        LEDGER, sources={first: "22"}, rows=(dataclasses.replace(row, cells={"sm_75": cell}),)
    )
    found = ledger.merged(old, new)
    assert found.sources == {first: "22"}
    assert [r.cells["sm_75"].registers for r in found.rows] == [41]
    assert ledger.merged(None, new) == new


def test_rows_of_two_compilers_are_not_mixed() -> None:
    """The kernels that are not built again would carry the wrong compiler's name."""
    old = dataclasses.replace(LEDGER, rows=(dataclasses.replace(ROW, kernel=NAMES[0]),))
    new = dataclasses.replace(LEDGER, toolchain={"ptxas": "14"}, rows=())
    with pytest.raises(UsageError, match=f"other rows \\({NAMES[0]} ...\\).*Run: make ledger"):
        ledger.merged(old, new)


@pytest.mark.parametrize("text", ["{}", '{"rows": [1]}', "[]", "", '{"rows": [{"cells": {}}]}'])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, text: str) -> None:
    """The file, and the command that makes a new one or what is wrong with the JSON."""
    path = tmp_path / "ledger.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"ledger\.json is not"):
        ledger.read(path)
