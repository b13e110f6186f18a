"""Which baked constants a kernel's code hangs on: the others are arguments of a launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accel import catalog
from accel.cuda import constants, loading

NMS = [{"max_output_boxes_per_class": n, "center_point_box": c} for n, c in ((100, 0), (7, 1))]
IMAGE = [{"height": n, "width": n, "letterbox": 0, "to": 1} for n in (224, 640)]
EPSILON = [{"epsilon": e} for e in (1e-12, 1e-5)]


@pytest.mark.parametrize("kernel", catalog.names("kernels"))
def test_all_of_them_or_none(kernel: str) -> None:
    """The sizes of an image and the number of boxes are arguments; every other kernel is compiled for
    all of its constants."""
    member = catalog.load("kernels", kernel)
    for dtype in member.DTYPES:
        for baked in member.VARIANTS:
            free = kernel in ("nms", "preprocess_image")
            assert constants.of_code(kernel, dtype, baked) == ({} if free else baked)


def test_of_what_no_source_takes_everything_counts() -> None:
    """A constant that is absent, or a dtype: where it is compiled, the trouble is told."""
    assert constants.of_code("residual_layernorm", "float32", {"of": "x"}) == {"of": "x"}
    strange = {"epsilon": 1e-5}
    assert constants.of_code("residual_layernorm", "float64", strange) == strange


@pytest.mark.parametrize(
    ("kernel", "several", "files"),
    [("nms", NMS, 1), ("preprocess_image", IMAGE, 1), ("residual_layernorm", EPSILON, 2)],
)
def test_one_code_is_one_file(
    kernel: str, several: Any, files: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Constants that it does not hang on compile nothing again; another epsilon does."""
    monkeypatch.setenv("ACCEL_CUBINS", str(tmp_path))
    monkeypatch.setattr(loading, "_compiled", lambda *_: b"made up")
    for baked in several:
        assert loading.machine_code(kernel, "float32", baked, "9.0") == b"made up"
    assert len(list(tmp_path.iterdir())) == files
