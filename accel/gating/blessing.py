"""Make a release the baseline: only with the verdict of a gate against the one that it replaces.

What was judged must be what is blessed, against what is still the baseline, by budgets no wider
than the entry's. A regression may be accepted, in so many words; what it costs is then on record.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from accel import release, sources
from accel.errors import (
    AccelError,
    CandidateBroken,
    ConstraintError,
    InstrumentUnfit,
    NoBaseline,
    Unmeasured,
    UsageError,
)
from accel.evidence import REFERENCE, Budget
from accel.gating import baselines, budgets, pointers, settings, verdicts
from accel.gating.baselines import Baseline, Blessing
from accel.gating.pointers import Pointer
from accel.gating.verdicts import Judged


@dataclass(frozen=True)
class Wish:
    """What `accel bless` was asked for."""

    name: str
    release: Path
    reason: str
    verdict: Path | None = None
    accept_regression: bool = False
    init: bool = False  # there is no baseline yet, so no verdict
    reference: bool = False  # a release was made of it: the cumulative budget counts from here
    place: str = ""  # where others find it; empty: where it lies here
    workload: str = ""
    budgets: Sequence[str] | None = None  # None: as they are
    author: str = ""
    config: Path | None = None  # None: the accel.toml beside the file, where there is one


def bless(file: Path, wish: Wish) -> tuple[Baseline, tuple[str, ...]]:
    """The new entry, written, and notes for people.

    Raises UsageError for a wish that does not hold together or a verdict on something else,
    ConstraintError for a regression that was not accepted, Unmeasured, InstrumentUnfit or
    CandidateBroken where the gate did not come to a pass, NoBaseline before the first one."""
    if not wish.reason.strip():
        raise UsageError("--reason is empty: say in a line why this becomes the baseline.")
    if wish.init and (wish.verdict is not None or wish.accept_regression):
        raise UsageError(
            "--init is of the first baseline, which nothing was judged against: leave out --verdict "
            "and --accept-regression."
        )
    release.outside(file, "--file")
    workload = sources.parted(wish.workload)[0]
    for word, path in (("--workload", workload), ("--config", wish.config)):
        if path and not Path(path).is_file():
            raise UsageError(f"{word} {path}: there is no such file.")
    for line in wish.budgets or ():
        budgets.parse(line)
    root = file.resolve().parent
    lies = pointers.point(wish.release, root)
    pointer = dataclasses.replace(lies, place=wish.place or lies.place)
    pointers.check(pointer)
    for word in (wish.name, wish.reason, wish.author, pointer.place, wish.workload):
        _encodable(word)
    judged = None if wish.verdict is None else verdicts.read(wish.verdict)
    notes: list[str] = []

    def change(found: Mapping[str, Baseline]) -> Mapping[str, Baseline]:
        old = found.get(wish.name)
        made = _first(wish, pointer, root, file) if old is None else _next(old, wish, pointer, judged, file)  # fmt: skip
        notes.extend(_notes(old, made, wish, file))
        return {**found, wish.name: made}

    return baselines.update(file, change)[wish.name], tuple(notes)


def _encodable(word: str) -> None:
    """A file name that is not UTF-8 comes as lone surrogates, which no JSON file can hold."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{word!r} is not UTF-8, and cannot be recorded.") from None


def author(folder: Path) -> str:
    """Who git says commits there, else who is logged in; empty where nobody knows."""
    command = ["git", "config", "user.name"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return _logged_in()
    return done.stdout.strip() or _logged_in()


def _logged_in() -> str:
    return next((os.environ[k] for k in ("LOGNAME", "USER") if os.environ.get(k)), "")


def _first(wish: Wish, pointer: Pointer, root: Path, file: Path) -> Baseline:
    if not wish.init:
        raise NoBaseline(
            f"{file} has no baseline {wish.name!r} yet. If this is the first one, add --init."
        )
    if not wish.name.strip() or not wish.name.isprintable():
        raise UsageError(f"{wish.name!r} is no name for a baseline: it must be printable.")
    blank = Baseline(wish.name, pointer, root)
    return _changed(blank, wish, pointer, pointer, _grounds(wish, Blessing("", "")))


def _next(
    old: Baseline, wish: Wish, pointer: Pointer, judged: Judged | None, file: Path
) -> Baseline:
    if wish.init:
        raise UsageError(f"{file} has a baseline {wish.name!r} already: leave out --init.")
    words = ("accel", "gate", str(wish.release), "--baseline", str(file), "--name", wish.name)
    again = shlex.join(words)
    grounds = _grounds(wish, old.blessed or Blessing("", ""))
    if judged is None and pointer.digest != old.release.digest:
        raise UsageError(
            f"{wish.name!r} has a baseline: --verdict must name the verdict.json of a gate of "
            f"this release against it. Make it with: {again} --out DIR"
        )
    if judged is None and wish.accept_regression:
        raise UsageError(
            "--accept-regression goes with --verdict: name the verdict.json of the FAIL."
        )
    if judged is not None:
        _same(judged, pointer, old, again)
        _good(judged, wish, again)
        _strict(judged, old, wish, file, again)
        judgement = Blessing("", "", "", judged.outcome, judged.digest, judged.ratio, judged.failed)
        grounds = _grounds(wish, judgement)
    return _changed(old, wish, pointer, _reference(old, wish, pointer), grounds)


def _changed(
    old: Baseline, wish: Wish, pointer: Pointer, reference: Pointer | None, grounds: Blessing
) -> Baseline:
    kept = old.budgets if wish.budgets is None else _texts(wish.budgets)
    file, name = sources.parted(wish.workload)
    where = pointers.relative(Path(file), old.root) if file else ""
    source = f"{where}:{name}" if name else where or old.workload
    return Baseline(wish.name, pointer, old.root, source, kept, reference, grounds)


def _reference(old: Baseline, wish: Wish, pointer: Pointer) -> Pointer | None:
    """The last release stays what it is, until --reference says that this is a release."""
    if wish.reference:
        return pointer
    kept = old.reference or old.release
    if kept.place == pointer.place and kept.digest != pointer.digest:
        raise UsageError(
            f"The last release of {wish.name!r} lay at {kept.place}, where this one lies now, so the "
            f"cumulative budget would have nothing to count from. Pack into another folder, say where "
            f"it is kept with --place, or let it count from here with --reference."
        )
    return kept


def _same(judged: Judged, pointer: Pointer, old: Baseline, again: str) -> None:
    if judged.candidate != pointer.digest:
        raise UsageError(
            f"The verdict is on {judged.candidate[:12]}, this release is {pointer.digest[:12]}. "
            f"Gate it: {again}"
        )
    if judged.baseline != old.release.digest:
        raise UsageError(
            f"The verdict is against {judged.baseline[:12]}, the baseline of {old.name!r} is "
            f"{old.release.digest[:12]} by now. Gate again: {again}"
        )


def _good(judged: Judged, wish: Wish, again: str) -> None:
    """Only a pass, or a regression that was accepted in so many words."""
    if judged.outcome == "pass":
        if wish.accept_regression:
            raise UsageError("The verdict is a pass: there is no regression. Leave out the option.")
        return
    if judged.outcome == "fail":
        if not wish.accept_regression:
            raise ConstraintError(
                f"The gate failed: {judged.line} If that is the price of something else, take it with "
                f"--accept-regression; the ratios and the reason are recorded."
            )
        return
    kinds: Mapping[str, tuple[type[AccelError], str]] = {
        "cannot tell": (Unmeasured, f"Run it once more, it goes on where it stopped: {again}"),
        "unfit": (InstrumentUnfit, f"Gate again on a quieter machine: {again}"),
        "no baseline": (NoBaseline, f"Bring the baseline back, then: {again}"),
    }
    kind, what = kinds.get(
        judged.outcome, (CandidateBroken, "Mend it before it becomes a baseline.")
    )
    raise kind(f"The gate ended with {judged.outcome!r}: {judged.line} {what}")


def _strict(judged: Judged, old: Baseline, wish: Wish, file: Path, again: str) -> None:
    """Budgets never widen by themselves: those of accel.toml and of the entry must have been judged."""
    told = wish.config or _beside(file)
    lines = old.budgets if wish.budgets is None else wish.budgets
    own = set(budgets.own(told, old.name, lines))
    spared = {dataclasses.replace(b, mode="gate") for b in judged.untold} & own  # as the gate does
    asked = tuple(one for one in _held(old, told, lines) if one not in spared)
    if baselines.same_reference(old):  # no arm of its own, so no cell
        asked = tuple(one for one in asked if one.arm != REFERENCE)
    usual = settings.rules(told, old.name)
    looser = {
        "alpha_pass": judged.alpha_pass > usual.alpha_pass,
        "alpha_unfit": judged.alpha_unfit < usual.alpha_unfit,
        "shadow_every": usual.shadow_every > 0
        and not 0 < judged.shadow_every <= usual.shadow_every,
    }
    for rule in (name for name, is_looser in looser.items() if is_looser):
        raise UsageError(
            f"The verdict passed at {rule} = {getattr(judged, rule):g}; {getattr(usual, rule):g} is what "
            f"{old.name!r} is held to. Gate again: {again}"
        )
    if wider := budgets.wider(asked, judged.budgets):
        raise UsageError(
            f"The verdict does not stand on the budgets of {old.name!r}: {'; '.join(wider)}. A budget "
            f"is changed in {told or file.resolve().parent / settings.FILE}, or with --budget. Gate again: {again}"
        )
    _counted(judged, old, asked, again)


def _counted(judged: Judged, old: Baseline, asked: Sequence[Budget], again: str) -> None:
    """The cumulative budget counts from the last release on file, not from any that a gate was given."""
    last = old.reference.digest if old.reference else ""
    cumulative = any(one.arm == REFERENCE and one.mode == "gate" for one in asked)
    if cumulative and judged.reference != last:
        raise UsageError(
            f"The verdict counts from {judged.reference[:12] or 'no last release'}, the last release of "
            f"{old.name!r} is {last[:12]}. Gate again: {again}"
        )


def _beside(file: Path) -> Path | None:
    """The accel.toml that goes with a baselines file."""
    found = file.resolve().parent / settings.FILE
    return found if found.is_file() else None


def _held(entry: Baseline, config: Path | None, lines: Sequence[str]) -> tuple[Budget, ...]:
    """All that an entry is held to: of the common budgets, then its own."""
    common = budgets.load(config, entry.name, scored=bool(entry.workload))
    return budgets.merged(common, (budgets.parse(line) for line in lines))


def _notes(old: Baseline | None, made: Baseline, wish: Wish, file: Path) -> list[str]:
    """What a reviewer should see first."""
    if old is None:
        return []
    before = _held(old, _beside(file), old.budgets)
    after = _held(made, wish.config or _beside(file), made.budgets)
    return [f"note: a budget was widened: {line}" for line in budgets.wider(before, after)]


def _texts(lines: Sequence[str]) -> tuple[str, ...]:
    found = budgets.merged((), (budgets.parse(line) for line in lines))
    return tuple(sorted(budgets.text(one) for one in found))


def _grounds(wish: Wish, judgement: Blessing) -> Blessing:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    said = wish.reason.strip()
    return dataclasses.replace(judgement, reason=said, when=when, author=wish.author)
