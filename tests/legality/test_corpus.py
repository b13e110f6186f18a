"""Graphs with known answers: each quotes what its thread reports; fixes keep the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from accel import legality
from tests.legality.building import Known, feed, requests
from tests.legality.corpus_operators import OPERATORS
from tests.legality.corpus_pairs import PAIRS
from tests.legality.corpus_types import TYPES

CORPUS = (*OPERATORS, *TYPES, *PAIRS)
FIXED = tuple(k for k in CORPUS if k.fixed)
TOLERANCE = {"float64": 1e-5, "float32": 1e-5, "float16": 2e-3}  # relative; by what the outputs are


def _found(known: Known, path: Path) -> Any:
    given = requests(known.proto) if known.requests else []
    return legality.check(path, known.target, given)


def _saved(known: Known, folder: Path) -> Path:
    path = folder / f"{known.name}.onnx"
    onnx.save(known.proto, path)
    return path


@pytest.mark.parametrize("known", CORPUS, ids=lambda k: k.name)
def test_what_is_found_is_what_is_known(known: Known, tmp_path: Path) -> None:
    """The rules and levels of its thread, and nothing else; each finding has its source."""
    found = _found(known, _saved(known, tmp_path))
    assert {(f.rule, f.level) for f in found} == known.expected, found
    assert all(f.source and f.message for f in found)
    assert known.thread
    assert known.quote


def test_the_corpus_is_large_and_its_names_differ() -> None:
    """At least 25 graphs have a finding, and some have none: a rule that always speaks would show."""
    assert len({k.name for k in CORPUS}) == len(CORPUS)
    assert sum(bool(k.expected) for k in CORPUS) >= 25
    assert sum(not k.expected for k in CORPUS) >= 8


def test_every_rule_has_an_entry() -> None:
    """A rule without a graph that it speaks of is not tested."""
    from accel import catalog

    spoken = {rule for k in CORPUS for rule, _ in k.expected}
    assert set(catalog.names("legality")) - spoken == {"files"}  # test_files has its graphs


@pytest.mark.parametrize("known", FIXED, ids=lambda k: k.name)
def test_the_fix_mends_it_and_keeps_the_outputs(known: Known, tmp_path: Path) -> None:
    """Nothing is left to find, and ONNX Runtime gives the same numbers as before."""
    path, out = _saved(known, tmp_path), tmp_path / "fixed.onnx"
    before = path.read_bytes()
    lines = legality.fix(path, known.target, out)
    assert lines
    assert path.read_bytes() == before
    assert not [f for f in _found(known, out) if f.level in ("error", "unknown")]
    given = feed(known.proto)
    wanted = _before(known, given)
    answers = _after(out, given)
    for name, value in answers.items():
        bound = TOLERANCE.get(_coarsest(known.proto), 0.0)
        np.testing.assert_allclose(value, wanted[name], rtol=bound, atol=bound)


def _coarsest(proto: Any) -> str:
    """float16 where any value of the graph is one."""
    casts = {a.i for n in proto.graph.node for a in n.attribute if a.name == "to"}
    return "float16" if onnx.TensorProto.FLOAT16 in casts else "float32"


MEANT = {  # graphs that no runtime takes as they are: what they mean, in numpy, which promotes
    "add_half_float": lambda x, w: np.maximum(x.astype(np.float16) + w["b"], 0),
    "concat_int64_int32": lambda x, w: np.concatenate([np.int64(x.shape), w["n"]]),
    "matmul_half_float": lambda x, w: x.astype(np.float16).astype(np.float32) @ w["w"],
    "named_alike": lambda x, _: np.abs(np.maximum(x, 0)),
}


def _before(known: Known, given: Any) -> dict[str, Any]:
    """ONNX Runtime's own answer; numpy's where it refuses the graph."""
    names = [v.name for v in known.proto.graph.output]
    if known.name in MEANT:
        with pytest.raises(Exception, match=r"different types|same node name"):  # onnxruntime's own
            _session(known.proto.SerializeToString())
        weights = {t.name: numpy_helper.to_array(t) for t in known.proto.graph.initializer}
        return {names[0]: MEANT[known.name](given["x"], weights)}
    outputs = _session(known.proto.SerializeToString()).run(None, dict(given))
    return dict(zip(names, outputs, strict=True))


def _session(model: str | bytes) -> Any:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _after(path: Path, given: Any) -> dict[str, Any]:
    session = _session(str(path))
    kinds = {
        i.name: np.float32 if i.type == "tensor(float)" else None for i in session.get_inputs()
    }
    fed = {k: v.astype(kinds[k]) if kinds[k] else v for k, v in given.items()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, fed), strict=True))


@pytest.mark.parametrize(
    "known", [k for k in CORPUS if not k.expected and not k.fixed], ids=lambda k: k.name
)
def test_a_clean_graph_is_left_alone(known: Known, tmp_path: Path) -> None:
    """Nothing to mend: no line, no file."""
    out = tmp_path / "fixed.onnx"
    assert legality.fix(_saved(known, tmp_path), known.target, out) == ()
    assert not out.exists()
