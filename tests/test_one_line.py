"""Names in other people's files: an error that tells of one stays one line, so that no name forges another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel import arrays, cli, release, sparse, starting, tensors, testing
from accel.calibration import audit
from accel.errors import AccelError, UsageError
from accel.gating import accuracy, pointers
from accel.measure import here
from accel.questions import roofline
from accel.recipes import _calibration
from accel.stages import Event
from accel.values import Candidate, Finding, Model, Port, Release, Target

NAME = "a\n::error::b\r\x85\u2028##[error]c"


def one_line(text: object) -> bool:
    """One, that no runner of a CI takes for a command."""
    return len(str(text).splitlines()) == 1 and not str(text).lstrip().startswith("::")


def _beside(**told: str) -> Callable[[Path], None]:
    """A weight of 16 bytes in a file of 8."""

    def ask(folder: Path) -> None:
        (folder / "w.bin").write_bytes(bytes(8))
        tensor = TensorProto(name=NAME, data_type=TensorProto.FLOAT, dims=[4])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": "w.bin", **told}.items():
            tensor.external_data.add(key=key, value=value)
        tensors.place(tensor, folder / "m.onnx")

    return ask


def _sparse(at: int, size: int) -> Callable[[Path], None]:
    def ask(_: Path) -> None:
        values = numpy_helper.from_array(np.ones(1, np.float32), NAME)
        places = numpy_helper.from_array(np.array([at]), "at")
        graph = onnx.GraphProto()
        graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [size]))
        sparse.expand(graph)

    return ask


def _ports(_: Path) -> None:
    arrays.fit({NAME: np.ones(2, np.float32)}, [Port("x", "float32", (2,))])


def _axes(_: Path) -> None:
    arrays.fit({"x": np.ones((2, 3), np.float32)}, [Port("x", "float32", (NAME, 4))])


def _open_axis(folder: Path) -> None:
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [NAME, 4]) for n in "xy"]
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, folder / "m.onnx")
    roofline.ask(folder / "m.onnx", "cpu-local", {"nowhere": 2})


def _nan(_: Path) -> None:
    model = Model(Path("m.onnx"), "d", (Port(NAME, "float32", (1,)),), ())
    _calibration.checked("int8_static", [{NAME: np.full(1, np.nan, np.float32)}], model)


def _unlike(folder: Path) -> None:
    model = testing.mlp(folder / "m.onnx")
    other = dataclasses.replace(model, outputs=(Port(NAME, "float32", (1,)),))
    accuracy._require_alike(testing.plan(model), testing.plan(other))


def _never_built(_: Path) -> None:
    starting.start(Candidate(NAME, "any", "any", "onnxruntime_cpu"))


def _elsewhere(_: Path) -> None:
    here.require(Target("x", NAME, (), local=False, architecture=NAME))


def _pointed(folder: Path) -> None:
    pointers.follow(pointers.Pointer("0" * 64, NAME), folder, "The baseline of x")


def _fetched(folder: Path) -> None:
    pointers.follow(pointers.Pointer("0" * 64, f"oci://{NAME}"), folder, "The baseline of x")


ASKED = {
    "a weight beside, of another length": _beside(length="3"),
    "a weight beside, cut": _beside(),
    "a sparse weight outside": _sparse(9, 4),
    "a sparse weight too large": _sparse(0, 1 << 30),
    "ports": _ports,
    "axes": _axes,
    "open axes": _open_axis,
    "calibration": _nan,
    "other outputs": _unlike,
    "a candidate": _never_built,
    "a target": _elsewhere,
    "a place": _pointed,
    "an address": _fetched,
}


@pytest.mark.parametrize("what", ASKED)
def test_a_name_stays_in_its_line(what: str, tmp_path: Path) -> None:
    """Of a tensor, a port, an axis, a candidate, a target, a baseline's place."""
    with pytest.raises(AccelError) as found:
        ASKED[what](tmp_path)
    assert one_line(found.value)


def _lists(data: dict[str, Any]) -> None:
    data["artefacts"][NAME] = "0" * 64


def _leads_away(data: dict[str, Any]) -> None:
    data["winner"]["plan"]["path"] = f"/{NAME}"


@pytest.mark.parametrize("edit", [_lists, _leads_away])
def test_a_name_in_a_manifest_stays_in_its_line(
    packed: Callable[..., Release], edit: Callable[[dict[str, Any]], None]
) -> None:
    """Sealed again: what a manifest lists, and where it points."""
    root = packed().path
    data = release.document(root)
    edit(data)
    (root / release.MANIFEST).write_text(json.dumps(data | {"digest": release.seal(data)}))
    with pytest.raises(AccelError) as found:
        release.load(root)
    assert one_line(found.value)
    assert all(map(one_line, release.differences(root)))


def test_a_stranger_in_a_release_stays_in_its_line(packed: Callable[..., Release]) -> None:
    """A file may be called so, too; its name begins the line that verify prints."""
    root = packed().path
    (root / "::error::x\ny").touch()
    [told] = release.differences(root)
    assert one_line(told)


def test_an_error_of_several_lines_has_none_of_a_names(tmp_path: Path) -> None:
    """The auditor's: a line a finding, and no more."""
    wrong = Finding("calibration", "error", NAME, NAME)
    with pytest.raises(UsageError) as found:
        audit.require([wrong, wrong])
    assert len(str(found.value).splitlines()) == 4
    assert all(map(one_line, str(found.value).splitlines()))


def test_progress_is_a_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Roots are called what a manifest calls them, and an error may be in what is told."""
    cli._plain_line(Event("note", f"calibration: {NAME}"))
    cli._plain_line(Event("candidate", "", Candidate(f"ort fp32 @{NAME}", NAME, "fp32", "x")))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(map(one_line, lines))
