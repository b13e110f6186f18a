"""accel bless: a baseline changes on the grounds of a verdict on that very pair, or not at all."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from accel import errors, store
from accel.cli import cli
from accel.evidence import REFERENCE, Budget, Cell, Fitness, Judgement, Report, Rules, Subject
from accel.gating import baselines, blessing, budgets
from accel.report import verdict_json
from accel.values import Release

OTHER = "0" * 64


class House:
    """A folder with an old and a new release, a baselines file, and verdicts as they are wanted."""

    def __init__(self, folder: Path, packed: Callable[..., Release]) -> None:
        self.folder, self.packed = folder, packed
        self.file = folder / baselines.FILE
        self.old, self.new = packed("old").path, packed("new", external=True).path

    def bless(self, release: Path, *words: str) -> Result:
        said = ["bless", "minilm", "--release", str(release), "--file", str(self.file)]
        said += [] if "--reason" in words else ["--reason", "why not"]
        return CliRunner().invoke(cli, [*said, *words])

    def first(self, *words: str) -> None:
        assert self.bless(self.old, "--init", *words).exception is None

    def verdict(
        self,
        outcome: Any = "pass",
        ratio: float = 1.01,
        cells: Sequence[Budget] = budgets.DEFAULT,
        pair: tuple[str, str] | None = None,
        rules: Rules | None = None,
        values: tuple[float, float] | None = None,
        last: str = "",
    ) -> str:
        """A verdict.json on (candidate, baseline): on new against old, where nothing else is said.
        `last`: digest of the last release that was timed beside them."""
        path = self.folder / "verdict.json"
        ours, base = pair or (digest(self.new), digest(self.old))
        base_value, value = values or (None, None)
        told = tuple(Cell(b, outcome, ratio=ratio, value=value, baseline=base_value) for b in cells)
        judgement = Judgement(outcome, told, Fitness(True), True)
        sides = (Subject("new", self.new, ours), Subject("old", self.old, base))
        report = Report(
            "minilm", outcome, f"{outcome.upper()} minilm", judgement, *sides, rules or Rules(),
            reference=Subject("last", self.folder / "last", last) if last else None,
        )  # fmt: skip
        path.write_text(verdict_json.text(report))
        return str(path)

    @property
    def entry(self) -> baselines.Baseline:
        return baselines.read(self.file)["minilm"]


def digest(release: Path) -> str:
    found: str = json.loads((release / "accel.json").read_text())["digest"]
    return found


@pytest.fixture
def house(tmp_path: Path, packed: Callable[..., Release]) -> House:
    return House(tmp_path, packed)


def refused(found: Result, kind: type[Exception], said: str) -> None:
    assert type(found.exception) is kind, found.exception or found.output
    assert said in str(found.exception)


def test_the_first_one_needs_init_and_no_verdict(house: House) -> None:
    """Without --init there is no baseline (5); with it, it is its own last release."""
    refused(house.bless(house.old), errors.NoBaseline, "add --init")
    assert not house.file.exists()
    (house.folder / "minilm.py").touch()
    house.first("--author", "A. N.", "--workload", str(house.folder / "minilm.py:problem"))
    entry = house.entry
    assert entry.release == entry.reference
    assert (entry.release.digest, entry.release.place) == (digest(house.old), "old")
    assert entry.workload == "minilm.py:problem"
    assert entry.blessed is not None
    assert (entry.blessed.reason, entry.blessed.author, entry.blessed.outcome) == ("why not", "A. N.", "")  # fmt: skip
    assert baselines.resolve(entry) == house.old
    refused(house.bless(house.old, "--init"), errors.UsageError, "leave out --init")


def test_the_workload_of_an_entry_may_lie_behind_a_colon(house: House) -> None:
    """Recorded from the file's folder on, and found again: the colon of a folder splits nothing."""
    source = str(house.folder / "t:1" / "minilm.py:problem")
    (house.folder / "t:1").mkdir()
    (house.folder / "t:1" / "minilm.py").touch()
    house.first("--workload", source)
    assert house.entry.workload == "t:1/minilm.py:problem"
    assert baselines.workload(house.entry) == source


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--accept-regression",), "leave out --verdict"),
        (("--verdict", "v.json"), "leave out --verdict"),
        (("--workload", "nosuch.py"), "--workload nosuch.py: there is no such file"),
        (("--config", "nosuch.toml"), "--config nosuch.toml: there is no such file"),
    ],
)
def test_no_word_of_a_first_one_is_passed_over(
    house: House, words: tuple[str, ...], said: str
) -> None:
    """What would do nothing, or be recorded and lead nowhere, is refused."""
    refused(house.bless(house.old, "--init", *words), errors.UsageError, said)
    assert not house.file.exists()


def test_a_pass_makes_it_the_baseline(house: House) -> None:
    """The verdict, its ratios and the reason are on record; the last release stays what it was."""
    house.first()
    verdict = house.verdict()
    found = house.bless(house.new, "--verdict", verdict, "--reason", " fused attention ")
    assert found.exception is None
    assert "after a pass" in found.output
    entry = house.entry
    assert entry.release.digest == digest(house.new)
    assert entry.reference is not None
    assert entry.reference.digest == digest(house.old)
    assert baselines.resolve_reference(entry) == house.old
    grounds = entry.blessed
    assert grounds is not None
    assert (grounds.outcome, grounds.reason) == ("pass", "fused attention")
    assert grounds.verdict == store.digest_file(Path(verdict))
    assert grounds.ratio == dict.fromkeys(
        ("p50", "peak_memory", "size", "nodes_fallen", "copies"), 1.01
    )


def test_a_verdict_is_needed_and_must_be_one(house: House) -> None:
    """None at all, a release's manifest, half a verdict: nothing is blessed on it."""
    house.first()
    before = house.file.read_bytes()
    refused(house.bless(house.new), errors.UsageError, "--verdict must name")
    words = ["--verdict", str(house.new / "accel.json")]
    refused(house.bless(house.new, *words), errors.UsageError, "is not a verdict")
    half = house.folder / "half.json"
    half.write_text('{"schema": "accel/verdict", "data": {"outcome": "pass"}}')
    refused(
        house.bless(house.new, "--verdict", str(half)), errors.UsageError, "not a whole verdict"
    )
    refused(
        house.bless(house.new, "--verdict", str(house.folder / "nothing.json")),
        errors.UsageError,
        "nothing.json",
    )
    assert house.file.read_bytes() == before


@pytest.mark.parametrize(
    ("outcome", "kind", "code", "said"),
    [
        ("fail", errors.ConstraintError, 1, "--accept-regression"),
        ("cannot tell", errors.Unmeasured, 3, "it goes on where it stopped: accel gate"),
        ("unfit", errors.InstrumentUnfit, 4, "quieter machine"),
        ("no baseline", errors.NoBaseline, 5, "Bring the baseline back"),
        ("broken", errors.CandidateBroken, 6, "Mend it"),
    ],
)
def test_nothing_but_a_pass_will_do(
    house: House, outcome: str, kind: type[errors.AccelError], code: int, said: str
) -> None:
    """Each other outcome keeps its exit code and says what to do; the file stays as it was."""
    house.first()
    before = house.file.read_bytes()
    found = house.bless(house.new, "--verdict", house.verdict(outcome))
    refused(found, kind, said)
    assert kind.exit_code == code
    assert house.file.read_bytes() == before
    if outcome != "fail":
        words = ["--verdict", house.verdict(outcome), "--accept-regression"]
        refused(house.bless(house.new, *words), kind, said)


def test_a_regression_is_accepted_in_so_many_words(house: House) -> None:
    """What it costs is on record; for a pass the words are refused."""
    house.first()
    words = ["--verdict", house.verdict("fail", 1.0523456789), "--accept-regression"]
    assert house.bless(house.new, *words).exception is None
    grounds = house.entry.blessed
    assert grounds is not None
    assert (grounds.outcome, grounds.ratio["p50"]) == ("fail", 1.05235)
    house.file.unlink()
    house.first()
    words = ["--verdict", house.verdict("pass"), "--accept-regression"]
    refused(house.bless(house.new, *words), errors.UsageError, "there is no regression")


def test_no_word_on_the_baseline_itself_is_passed_over(house: House) -> None:
    """A verdict that is given counts, also where the release is the baseline already; nothing is
    accepted without one."""
    house.first()
    before, aa = house.file.read_bytes(), (digest(house.old), digest(house.old))
    words = ["--verdict", house.verdict("fail", pair=aa)]
    refused(house.bless(house.old, *words), errors.ConstraintError, "The gate failed")
    words = ["--verdict", house.verdict()]
    refused(house.bless(house.old, *words), errors.UsageError, "The verdict is on")
    said = "--accept-regression goes with --verdict"
    refused(house.bless(house.old, "--accept-regression"), errors.UsageError, said)
    assert house.file.read_bytes() == before
    assert house.bless(house.old, "--verdict", house.verdict(pair=aa)).exception is None
    assert house.entry.blessed is not None
    assert house.entry.blessed.outcome == "pass"


def test_the_verdict_is_on_this_release_against_this_baseline(house: House) -> None:
    """Another candidate's, or one against a baseline that was replaced meanwhile, is stale."""
    house.first()
    words = ["--verdict", house.verdict(pair=(OTHER, digest(house.old)))]
    refused(house.bless(house.new, *words), errors.UsageError, "The verdict is on 000000000000")
    words = ["--verdict", house.verdict(pair=(digest(house.new), OTHER))]
    refused(house.bless(house.new, *words), errors.UsageError, "by now. Gate again")
    (house.new / "model.onnx").write_bytes(b"x")
    words = ["--verdict", house.verdict()]
    refused(house.bless(house.new, *words), errors.CandidateBroken, "not as it was packed")


def test_budgets_do_not_widen_by_themselves(house: House) -> None:
    """Neither an entry's, nor accel.toml's, nor a default is stretched by how a gate was called."""
    wide = [Budget("p50", 0.5), *budgets.DEFAULT[1:]]
    house.first()
    words = ["--verdict", house.verdict(cells=wide)]
    refused(house.bless(house.new, *words), errors.UsageError, "p50=3% was judged as p50=50%")
    words = ["--verdict", house.verdict(cells=budgets.DEFAULT[:1])]
    refused(house.bless(house.new, *words), errors.UsageError, "size=5% was not gated")
    (house.folder / "accel.toml").write_text('[gate]\np50 = "1%"\n')
    words = ["--verdict", house.verdict()]
    refused(house.bless(house.new, *words), errors.UsageError, "p50=1% was judged as p50=3%")
    (house.folder / "accel.toml").write_text('[gate]\np50 = "50%"\n')
    assert house.bless(house.new, "--verdict", house.verdict(cells=wide)).exception is None


def test_an_entrys_own_budgets_are_changed_in_sight(house: House) -> None:
    """They are kept from one blessing to the next; a wider one is set by hand, and told."""
    house.first("--budget", "p50=1%", "--budget", "p99 = 5 % watch")
    assert house.entry.budgets == ("p50=1%", "p99=5%:watch")
    words = ["--verdict", house.verdict()]
    refused(house.bless(house.new, *words), errors.UsageError, "p50=1% was judged as p50=3%")
    narrow = [Budget("p50", 0.01), *budgets.DEFAULT[1:]]
    found = house.bless(house.new, "--verdict", house.verdict(cells=narrow))
    assert found.exception is None
    assert "widened" not in found.output
    assert house.entry.budgets == ("p50=1%", "p99=5%:watch")
    found = house.bless(house.new, "--budget", "p50=4%")
    assert "note: a budget was widened: p50=1% was judged as p50=4%" in found.output
    assert house.entry.budgets == ("p50=4%",)
    refused(house.bless(house.new, "--budget", "p50=4"), errors.UsageError, "the unit is missing")


def test_the_cumulative_budget_counts_from_the_last_release(house: House) -> None:
    """--reference moves it, without a verdict where the release is the baseline already."""
    house.first("--budget", "p50@reference=5%")
    assert house.bless(house.new, "--verdict", house.verdict()).exception is None
    grounds = house.entry.blessed
    found = house.bless(house.new, "--reference", "--reason", "release 1.2")
    assert found.exception is None
    entry = house.entry
    assert entry.reference == entry.release
    assert entry.blessed is not None
    assert grounds is not None
    assert (entry.blessed.reason, entry.blessed.outcome) == ("release 1.2", "pass")
    assert entry.blessed.verdict == grounds.verdict


def test_with_a_last_release_the_cumulative_budget_must_have_been_judged(house: House) -> None:
    """Once there is one besides the baseline, a verdict without that cell does not do, nor one that
    counts from another release."""
    house.first("--budget", "p50@reference=5%")
    assert house.bless(house.new, "--verdict", house.verdict()).exception is None
    third = house.packed("third", portable=False).path
    pair = (digest(third), digest(house.new))
    words = ["--verdict", house.verdict(pair=pair)]
    refused(house.bless(third, *words), errors.UsageError, "p50@reference=5% was not gated")
    cells = [*budgets.DEFAULT, Budget("p50", 0.05, arm=REFERENCE)]
    for last, said in ((OTHER, "counts from 000000000000"), ("", "counts from no last release")):
        words = ["--verdict", house.verdict(pair=pair, cells=cells, last=last)]
        refused(house.bless(third, *words), errors.UsageError, said)
    words = ["--verdict", house.verdict(pair=pair, cells=cells, last=digest(house.old))]
    assert house.bless(third, *words).exception is None


def test_the_last_release_is_not_lost_under_the_new_one(house: House) -> None:
    """One that was packed over it needs another place, or to be the last release itself."""
    house.first()
    words = ["--verdict", house.verdict()]
    kept = house.folder / "kept"
    house.old.rename(kept)
    house.new.rename(house.old)
    refused(house.bless(house.old, *words), errors.UsageError, "lay at old, where this one lies")
    found = house.bless(house.old, *words, "--place", "oci://registry.example/m@sha256:1")
    assert found.exception is None
    assert house.entry.release.place == "oci://registry.example/m@sha256:1"


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_is_given(house: House, reason: str) -> None:
    """An empty one is none."""
    refused(house.bless(house.old, "--init", "--reason", reason), errors.UsageError, "--reason")


def test_what_is_no_release_is_not_blessed(house: House) -> None:
    """A folder without a manifest, and a name that cannot be printed."""
    refused(house.bless(house.folder, "--init"), errors.UsageError, "is not a release")
    words = ["bless", "mini\nlm", "--release", str(house.old), "--reason", "x", "--init"]
    refused(CliRunner().invoke(cli, [*words, "--file", str(house.file)]), errors.UsageError, "printable")  # fmt: skip


def test_the_answer_is_one_document(house: House) -> None:
    """With --json: the entry as the file has it, and the notes on stderr."""
    found = house.bless(house.old, "--init", "--json")
    data = json.loads(found.stdout)
    assert data["schema"] == "accel/baseline"
    assert data["data"]["release"]["digest"] == digest(house.old)
    assert "commit it for review" in found.stderr


def test_the_author_is_gits_or_who_is_logged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody where neither is known, or where there is no git."""
    for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_DIR", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "LOGNAME", "USER"):
        monkeypatch.delenv(name, raising=False)
    assert blessing.author(tmp_path) == ""
    monkeypatch.setenv("USER", "someone")
    assert blessing.author(tmp_path) == "someone"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "config", "user.name", "A. N. Other"], check=True)
    assert blessing.author(tmp_path) == "A. N. Other"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert blessing.author(tmp_path) == "someone"


def test_a_verdict_of_looser_rules_is_no_grounds(house: House) -> None:
    """The budgets are those on file, the probability of a false PASS is not."""
    house.first()
    loose = house.verdict(rules=Rules(alpha_pass=0.5))
    refused(house.bless(house.new, "--verdict", loose), errors.UsageError, "alpha_pass")


def test_what_was_accepted_is_on_record_by_name(house: House) -> None:
    """A count that was 0 has no ratio: its values say what it was."""
    house.first()
    verdict = house.verdict("fail", values=(0.0, 5.0))
    found = house.bless(house.new, "--verdict", verdict, "--accept-regression")
    assert found.exception is None
    assert house.entry.blessed is not None
    assert "copies: 0 -> 5" in house.entry.blessed.failed


def test_a_place_that_no_gate_could_read_is_refused(house: House) -> None:
    """One entry must not make the whole file unreadable."""
    refused(house.bless(house.old, "--init", "--place", " "), errors.UsageError, "place")
    assert not house.file.exists()


def test_a_pass_that_its_own_cells_deny_was_edited(house: House) -> None:
    """One word changed in a verdict is no grounds."""
    house.first()
    path = Path(house.verdict("fail"))
    told = json.loads(path.read_text())
    told["data"]["outcome"] = "pass"
    path.write_text(json.dumps(told))
    refused(house.bless(house.new, "--verdict", str(path)), errors.UsageError, "it was altered")


def test_a_limit_that_is_no_number_is_wider_than_any(house: House) -> None:
    """null in a verdict's budget."""
    house.first()
    path = Path(house.verdict())
    told = json.loads(path.read_text())
    told["data"]["cells"][0]["budget"]["limit"] = None
    path.write_text(json.dumps(told))
    refused(house.bless(house.new, "--verdict", str(path)), errors.UsageError, "p50=3% was judged")


def test_common_budgets_are_not_widened_unseen(house: House) -> None:
    """By a budget of the entry's own, or by another accel.toml: a reviewer reads of both."""
    house.first()
    (house.folder / "accel.toml").write_text('[gate]\np50 = "3%"\n')
    wide = [Budget("p50", 0.5), *budgets.DEFAULT[1:]]
    words = ["--verdict", house.verdict(cells=wide)]
    loose = house.folder / "loose.toml"
    loose.write_text('[gate]\np50 = "50%"\n')
    told = "note: a budget was widened: p50=3% was judged as p50=50%"
    assert told in house.bless(house.new, *words, "--config", str(loose)).output
    assert told in house.bless(house.old, "--budget", "p50=50%", "--verdict", house.verdict(
        cells=wide, pair=(digest(house.old), digest(house.new))
    )).output  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "rules"),
    [
        ("shadow_every", Rules(shadow_every=0)),
        ("shadow_every", Rules(shadow_every=1000)),
        ("alpha_unfit", Rules(alpha_unfit=1e-9)),
    ],
)
def test_an_instrument_that_was_not_watched_is_no_grounds(
    house: House, rule: str, rules: Rules
) -> None:
    """A pass without the baseline beside itself, or hardly ever, or that nothing could have called
    unfit."""
    house.first()
    words = ["--verdict", house.verdict(rules=rules)]
    refused(house.bless(house.new, *words), errors.UsageError, f"passed at {rule}")


def test_what_was_left_open_is_on_record_too(house: House) -> None:
    """A fail ends a gate early: of the other cells nobody knows."""
    house.first()
    path = Path(house.verdict("fail"))
    told = json.loads(path.read_text())
    told["data"]["cells"][1]["outcome"] = "cannot tell"
    path.write_text(json.dumps(told))
    assert house.bless(house.new, "--verdict", str(path), "--accept-regression").exception is None
    assert house.entry.blessed is not None
    assert any(line.endswith("(cannot tell)") for line in house.entry.blessed.failed)


def test_what_neither_engine_tells_need_not_have_been_gated(house: House) -> None:
    """As the gate only watches it; but not where it was written down, or one side tells."""
    house.first()
    watched = [b if b.unit else replace(b, mode="watch") for b in budgets.DEFAULT]
    path = Path(house.verdict(cells=watched))
    told = json.loads(path.read_text())
    refused(
        house.bless(house.new, "--verdict", str(path)),
        errors.UsageError,
        "nodes_fallen=0 was not gated; copies=0 was not gated",
    )
    for cell in told["data"]["cells"]:
        if not cell["budget"]["unit"]:
            cell.update(outcome="cannot tell", ratio=None)
    path.write_text(json.dumps(told))
    (house.folder / "accel.toml").write_text('[gate]\ncopies = "0"\n')
    refused(
        house.bless(house.new, "--verdict", str(path)),
        errors.UsageError,
        "of 'minilm': copies=0 was not gated",
    )
    (house.folder / "accel.toml").unlink()
    one_side = json.loads(path.read_text())
    one_side["data"]["cells"][3]["baseline"] = 0
    path.write_text(json.dumps(one_side))
    refused(
        house.bless(house.new, "--verdict", str(path)),
        errors.UsageError,
        "of 'minilm': nodes_fallen=0 was not gated",
    )
    path.write_text(json.dumps(told))
    assert house.bless(house.new, "--verdict", str(path)).exception is None
