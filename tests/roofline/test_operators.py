"""Every operator of onnx's own test cases: a cost, or a reason why there is none."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import pytest

from accel import roofline
from accel.roofline import _ops, _products

LOOKED_AFTER = ("Conv", "MatMul", "Gemm", "Attention", "LSTM", "Softmax", "Resize", "TopK")


@pytest.mark.slow
def test_no_case_of_onnx_is_too_odd(tmp_path: Path) -> None:
    """Some 1,900 graphs, empty sizes, strings and sequences among them: nothing is raised, a node of
    unknown cost says why, and the operators that models are made of are known in every case
    of their own."""
    import onnx
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, on the infinities of the cases
        models = [c.model for c in collect_testcases(None) if c.model is not None]
    unknown: Counter[str] = Counter()
    for model in models:
        onnx.save(model, tmp_path / "m.onnx")
        opened = roofline.opened(tmp_path / "m.onnx")
        sizes = dict.fromkeys(roofline.axes(opened.ports), 2)
        nodes = roofline.work(opened, sizes).nodes
        for node in nodes:
            unknown[node.operator] += bool(node.unknown) and len(nodes) == 1
            assert node.operations >= 0
        assert roofline.peak(opened, sizes).total_bytes >= 0
    assert len(models) > 1000
    assert not {name: unknown[name] for name in LOOKED_AFTER if unknown[name]}


def test_an_operator_stands_in_one_table() -> None:
    """Two costs for one operator: the second would never be seen."""
    tables = (_products.PRODUCTS, _ops.OF_OUTPUT, _ops.OF_INPUT)
    counts = Counter(name for table in tables for name in table)
    assert [name for name, count in counts.items() if count > 1] == []
