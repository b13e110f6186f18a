"""The auditor: data that no range should be read from is refused, what is doubtful is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from accel.calibration import audit, randomness
from accel.calibration.audit import Auditor
from accel.errors import UsageError
from accel.sketch import Sketch
from accel.values import Feed, Finding, Port

DRAW = np.random.default_rng(5)
IMAGE = Port("x", "float32", ("batch", 3, 32, 32))
IDS, MASK = (Port(n, "int64", ("batch", "sequence")) for n in ("ids", "mask"))
Z = Port("z", "float32", ("batch", 64))


def smooth(count: int) -> list[Feed]:
    """Images whose pixels resemble the ones beside them."""
    y, x = np.mgrid[0:32, 0:32] / 32
    made = []
    for _ in range(count):
        a, b, c = DRAW.normal(size=(3, 3, 1, 1))
        made.append({"x": (np.sin(3 * a * x + b) * np.cos(3 * c * y))[None].astype("float32")})
    return made


def words(count: int) -> list[Feed]:
    """Ids as texts have them: a few are frequent."""
    made = []
    for _ in range(count):
        n = int(DRAW.integers(8, 64))
        ids = np.minimum(DRAW.zipf(1.3, (1, n)), 29999).astype(np.int64)
        made.append({"ids": ids, "mask": np.ones_like(ids)})
    return made


def found(ports: Iterable[Port], feeds: Iterable[Feed], **words: Any) -> tuple[Finding, ...]:
    auditor = Auditor(list(ports), **words)
    for feed in feeds:
        auditor.add(feed)
    return auditor.findings()


def levels(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(f.level, f.where) for f in findings]


def test_real_looking_data_passes() -> None:
    """Images and texts: nothing to say."""
    assert not found([IMAGE], smooth(40))
    assert not found([IDS, MASK], words(200))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: DRAW.normal(size=(4, 3, 32, 32)),
        lambda: DRAW.random((4, 3, 32, 32)),
        lambda: DRAW.random((4, 3, 32, 32)) * 2 - 1,
        lambda: DRAW.integers(0, 256, (4, 3, 32, 32)) / 255,
        lambda: DRAW.normal(size=(4, 3, 32, 32)) * 0.1 + 3,
    ],
    ids=["normal", "even", "even around 0", "even bytes", "normal, shifted"],
)
def test_random_numbers_are_refused(draw: Any) -> None:
    """Whatever generator they come from."""
    made = found([IMAGE], [{"x": draw().astype("float32")} for _ in range(4)])
    assert levels(made) == [("error", "x")]
    with pytest.raises(UsageError, match="random numbers"):
        audit.require(made)


def test_random_ids_are_refused() -> None:
    """No text has every word equally often; the mask of ones beside it changes nothing."""
    made = [
        {"ids": DRAW.integers(0, 30000, (2, 64)), "mask": np.ones((2, 64), int)} for _ in range(60)
    ]
    assert ("error", "ids") in levels(found([IDS, MASK], made))


def test_noise_beside_real_data_is_a_warning_and_declared_noise_is_none() -> None:
    """A diffuser's latent is random by its nature: the workload says so."""
    made = [{**f, "z": DRAW.normal(size=(4, 64)).astype("float32")} for f in smooth(40)]
    assert levels(found([IMAGE, Z], made)) == [("warning", "z")]
    assert not found([IMAGE, Z], made, noise=("z",))


def test_few_numbers_are_not_judged() -> None:
    """Of a few thousand nobody can tell."""
    assert not found([Z], [{"z": DRAW.normal(size=(4, 64)).astype("float32")} for _ in range(8)])


def test_zeros_are_refused_and_a_constant_is_told() -> None:
    """No range can be read from nothing."""
    zeros = found([IMAGE], [{"x": np.zeros((1, 3, 32, 32), "float32")}] * 3)
    assert ("error", "x") in levels(zeros)
    half = np.full((1, 64), 0.5, "float32")
    beside = found([IMAGE, Z], [{**f, "z": half} for f in smooth(3)])
    assert levels(beside) == [("warning", "z")]
    alone = found([IMAGE], [{"x": np.full((1, 3, 32, 32), 0.5, "float32")}] * 3)
    assert ("error", "x") in levels(alone)
    same = found(
        [IDS, MASK], [{"ids": np.full((1, n), 7), "mask": np.full((1, n), 1)} for n in (3, 5)]
    )
    assert ("error", "ids, mask") in levels(same)


def test_nan_is_refused_with_its_feed() -> None:
    """And the number of the first feeds that have it."""
    feeds = smooth(6)
    feeds[4]["x"][0, 1, 2, 3] = np.nan
    made = found([IMAGE], feeds)
    assert levels(made) == [("error", "x")]
    assert "1 of 6 feeds: 4" in made[0].message


def test_copies_are_counted() -> None:
    """The same feed again teaches nothing."""
    feeds = smooth(5)
    made = found([IMAGE], [*feeds, feeds[0], feeds[3]])
    assert levels(made) == [("warning", "")]
    assert "2 of 7" in made[0].message


def test_shapes_that_are_evaluated_must_be_covered() -> None:
    """Calibrated on short texts, timed on long ones: told, with both; the batch does not matter."""
    auditor = Auditor([IDS, MASK])
    for feed in words(50):
        auditor.add(feed)
    assert not auditor.findings({"ids": [[1, 8], [20, 40]]})
    made = auditor.findings({"ids": [[64], [20, 512]]})
    assert levels(made) == [("warning", "ids")]
    assert "512" in made[0].message


def test_outlier_channels_are_named() -> None:
    """The few that make one step for all of them useless."""
    values = DRAW.normal(size=(64, 32)).astype("float32")
    values[:, 7] *= 100
    made = Sketch(axis=-1)
    made.add(values)
    (told,) = audit.outliers({"hidden": made})
    assert (told.level, told.where) == ("note", "hidden")
    assert "1 of 32" in told.message
    assert " 7 (" in told.message


def test_what_is_kept_does_not_grow() -> None:
    """Of the values, only a part of the first feeds."""
    auditor = Auditor([IMAGE])
    for feed in smooth(100):
        auditor.add(feed)
    assert auditor._inputs["x"].sample.kept < 100 * 3 * 32 * 32


@pytest.mark.parametrize("shape", [(1, 3, 512, 512), (1, 1, 1 << 20), (300, 300, 300)])
def test_of_a_large_array_no_more_is_kept_than_of_many(shape: tuple[int, ...]) -> None:
    """Whichever of its axes are long; noise is told by that, and a picture is not taken for it."""
    draw, sample = np.random.default_rng(9), randomness.Sample()
    sample.add(draw.normal(size=shape).astype(np.float32))
    assert randomness.KEPT // 2 < sum(p.size for p in sample.parts) <= randomness.KEPT
    assert all(p.base is None for p in sample.parts)
    assert sample.looks().startswith("normal")
    walks = randomness.Sample()
    walks.add(np.cumsum(draw.normal(size=shape), axis=-1).astype(np.float32))
    assert not walks.looks()
