"""What is large is looked at in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.case import Answer, Case, complaints, dense
from tests.hostile.external import outside
from tests.hostile.server import Server

ROWS = 525_000_000  # of four bytes: 2.1 GB


@pytest.fixture
def server() -> Iterator[Server]:
    """One of its own."""
    made = Server()
    yield made
    made.close()


def _two_gigabytes(folder: Path) -> Path:
    """relu(x @ w), and a weight that is a hole in its file but for its last value."""
    made = dense()
    made.graph.node[0].input[1] = "h_w"
    made.graph.initializer[0].name = "h_w"
    large = made.graph.initializer.add(name="large", data_type=1, dims=[ROWS])
    outside(large, "large.bin", offset=0, length=4 * ROWS)
    with (folder / "large.bin").open("wb") as stream:
        stream.seek(4 * ROWS - 4)
        stream.write(np.float32("nan").tobytes())
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return folder / "m.onnx"


@pytest.mark.alone
@pytest.mark.parametrize("words", [("inspect", "{}"), ("inspect", "--for", "cpu-local", "{}")])
def test_two_gigabytes_of_weights(server: Server, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Accepted, digested to the last value, and never in memory: not once, so not twice."""
    said = "large holds 1 NaN" if len(words) == 2 else "cpu-local"
    case = Case("two gigabytes", _two_gigabytes, "accept", (said,), words)
    made = case.make(tmp_path)
    answer = Answer(**server.ask(tmp_path, case.words(made)))
    answer = replace(answer, seconds=answer.cpu_s)  # 4 s, and thrice that beside other work
    assert complaints(case, tmp_path, answer) == []
    assert answer.rss_bytes < 4 * ROWS / 8
