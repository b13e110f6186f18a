"""From the first baseline over gates to the next one, by the commands alone, on real releases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from accel.cli import cli
from accel.errors import NoBaseline, UsageError
from accel.gating import baselines, history
from accel.values import Release

TOML = """
[gate]
p50 = "900%"
peak_memory = "100%"
size = "100%"
"p50@reference" = "900%"
[gate.rules]
rounds = 3
block_s = 0.004
warmup_calls = 2
shadow_every = 3
"""


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(w) for w in words])


@pytest.mark.alone
def test_a_release_is_gated_blessed_and_remembered(
    tmp_path: Path, packed: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No baseline (5), the first one, a gate (0), its blessing, a gate against both that one and
    the last release; the history has them in one series, for they count from one artefact."""
    first, second = packed("first").path, packed("second", external=True).path
    third = packed("third", portable=False).path
    monkeypatch.chdir(tmp_path)
    Path("accel.toml").write_text(TOML)
    gate = ["--baseline", baselines.FILE, "--name", "tiny", "--out", "out", "--quiet"]
    gate += ["--history", history.FILE]
    bless = ["bless", "tiny", "--reason", "smaller", "--author", "A. N.", "--release"]
    assert invoke("gate", second, *gate).exit_code == NoBaseline.exit_code
    assert not Path(history.FILE).exists()
    assert invoke(*bless, first, "--init").exit_code == 0

    passed = invoke("gate", second, *gate)
    assert passed.exit_code == 0, passed.output
    refused = invoke(*bless, third, "--verdict", "out/verdict.json")
    assert isinstance(refused.exception, UsageError)
    found = invoke(*bless, second, "--verdict", "out/verdict.json")
    assert found.exit_code == 0, found.exception
    entry = baselines.read(baselines.FILE)["tiny"]
    assert entry.blessed is not None
    assert entry.blessed.outcome == "pass"
    assert entry.blessed.ratio["p50"] > 0

    assert invoke("gate", third, *gate).exit_code == 0
    verdict = json.loads(Path("out", "verdict.json").read_text())["data"]
    assert verdict["baseline"]["digest"] == entry.release.digest
    assert entry.reference is not None
    assert verdict["reference"]["digest"] == entry.reference.digest
    assert invoke(*bless, third, "--verdict", "out/verdict.json").exit_code == 0

    kept = [one for one in history.series(history.read(history.FILE)) if one.metric == "p50"]
    assert [len(one.entries) for one in kept] == [2]
    assert kept[0].fixed == entry.reference.digest
    short = invoke("creep")
    assert short.exit_code == 0
    assert "too short to tell: p50 of tiny" in short.output
