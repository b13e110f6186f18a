"""A recorded epoch stream as text: what the repository keeps of hours on a machine.

    python benchmarks/gate/stream.py .benchmarks/gate/minilm-idle-aa --out benchmarks/gate/traces

One row an epoch and arm: the weighted p50 of every round in units of 10 ns, cold start, peak memory;
on the baseline's row also the order in which arms were started, the foreign load and the wall clock.
The ratios of p50, cold start and peak memory are rebuilt from it. Every single call stays in the
.npz files of the recording, which are not kept here: p99 and throughput cannot be replayed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import UsageError
from accel.evidence import BASELINE, CANDIDATE, SHADOW, Epoch

FORMAT = "accel gate stream 1"
ABOUT = "about.json"  # beside a recording: the commit and the day it was begun
UNIT_S = 1e-8  # of a round's p50: an error of 5 ns, 1e-5 of the quickest model here
COLUMNS = "epoch,arm,started,cold_us,peak_kib,calls,foreign_pct,wall_ms,rounds_10ns"


@dataclass(frozen=True)
class Stream:
    """What was recorded, and on what."""

    name: str
    header: Mapping[str, Any]
    epochs: tuple[Epoch, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that some epoch has, the baseline first."""
        seen = dict.fromkeys(arm for e in self.epochs for arm in e.rounds_s)
        return (BASELINE, *(a for a in seen if a != BASELINE))


def write(path: Path, header: Mapping[str, Any], epochs: Sequence[Epoch]) -> None:
    """Two comment lines (format, header as JSON), the columns' names, the rows."""
    rows = [row for epoch in epochs for row in _rows(epoch)]
    text = "\n".join([f"# {FORMAT}", "# " + json.dumps(header, sort_keys=True), COLUMNS, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")


def _rows(epoch: Epoch) -> Iterator[str]:
    for arm, rounds in epoch.rounds_s.items():
        values, base = epoch.values.get(arm, {}), arm == BASELINE
        foreign = epoch.covariates.get("foreign_cores", math.nan)
        yield ",".join(
            (
                str(epoch.number),
                arm,
                str(epoch.order.index(arm)) if arm in epoch.order else "",
                _whole(values.get("cold_start"), 1e6),
                _whole(values.get("peak_memory"), 1 / 1024),
                str(epoch.calls.get(arm, "")),
                _whole(foreign, 100) if base else "",
                _whole(epoch.seconds, 1e3) if base else "",
                " ".join(str(round(r / UNIT_S)) for r in rounds),
            )
        )


def _whole(value: float | None, scale: float) -> str:
    return "" if value is None or math.isnan(value) else str(round(value * scale))


def read(path: Path) -> Stream:
    """Raises UsageError for a file that is no stream."""
    try:
        first, header, names, *rows = path.read_text(encoding="ascii").splitlines()
        if first != f"# {FORMAT}" or names != COLUMNS:
            raise ValueError(f"it begins with {first[:40]!r} and its columns are {names[:40]!r}")
        return Stream(path.stem, json.loads(header.removeprefix("# ")), tuple(_epochs(rows)))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is no stream ({error}); expected {FORMAT!r}. "
            f"Make one: python benchmarks/gate/stream.py EVIDENCE_FOLDER --out traces"
        ) from None


def to_epochs(path: Path) -> list[Epoch]:
    """The stream's epochs, with the ratios of p50, cold_start and peak_memory."""
    return list(read(path).epochs)


def _epochs(rows: Sequence[str]) -> Iterator[Epoch]:
    grouped: dict[int, list[list[str]]] = {}
    for row in rows:
        words = row.split(",")
        if len(words) != len(COLUMNS.split(",")):
            raise ValueError(f"a row has {len(words)} columns: {row[:60]!r}")
        grouped.setdefault(int(words[0]), []).append(words)
    for number, arms in grouped.items():
        yield _epoch(number, arms)


def _epoch(number: int, arms: Sequence[Sequence[str]]) -> Epoch:
    rounds = {w[1]: tuple(int(r) * UNIT_S for r in w[8].split()) for w in arms}
    values = {w[1]: _values(rounds[w[1]], w[3], w[4]) for w in arms}
    base = next((w for w in arms if w[1] == BASELINE), None)
    if base is None:
        raise ValueError(f"epoch {number} has no baseline")
    return Epoch(
        number=number,
        logs={arm: ratios(arm, BASELINE, rounds, values) for arm in rounds if arm != BASELINE},
        values=values,
        rounds_s=rounds,
        calls={w[1]: int(w[5]) for w in arms if w[5]},
        order=tuple(w[1] for w in sorted(arms, key=lambda w: int(w[2] or 0))),
        seconds=int(base[7] or 0) / 1e3,
        covariates={"foreign_cores": int(base[6]) / 100} if base[6] else {},
    )


def _values(rounds: Sequence[float], cold_us: str, peak_kib: str) -> dict[str, float]:
    found = {"p50": statistics.median(rounds)}
    if cold_us:
        found["cold_start"] = int(cold_us) / 1e6
    if peak_kib:
        found["peak_memory"] = int(peak_kib) * 1024.0
    return found


def ratios(
    arm: str,
    base: str,
    rounds: Mapping[str, Sequence[float]],
    values: Mapping[str, Mapping[str, float]],
) -> dict[str, float]:
    """ln(arm / base): of p50 the median over rounds, as the gate's own epochs have it."""
    pairs = zip(rounds[arm], rounds[base], strict=True)
    found = {"p50": statistics.median(math.log(a / b) for a, b in pairs)}
    for key in ("cold_start", "peak_memory"):
        if key in values[arm] and key in values[base]:
            found[key] = math.log(values[arm][key] / values[base][key])
    return found


def cast(
    epochs: Sequence[Epoch], candidate: str, shadow: str | None, baseline: str = BASELINE
) -> list[Epoch]:
    """The same epochs with other arms in the gate's parts; the ratios are computed anew.

    Epochs without the baseline or the candidate are left out. The wall clock is the share that the
    arms in use have of it: an epoch of ten arms takes longer than a gate's would."""
    found = []
    for epoch in epochs:
        if candidate not in epoch.rounds_s or baseline not in epoch.rounds_s:
            continue
        parts = {BASELINE: baseline, CANDIDATE: candidate}
        if shadow is not None and shadow in epoch.rounds_s:
            parts[SHADOW] = shadow
        found.append(_recast(epoch, parts))
    return found


def _recast(epoch: Epoch, parts: Mapping[str, str]) -> Epoch:
    rounds = {part: epoch.rounds_s[arm] for part, arm in parts.items()}
    values = {part: epoch.values[arm] for part, arm in parts.items()}
    names = {arm: part for part, arm in parts.items()}
    return dataclasses.replace(
        epoch,
        logs={p: ratios(p, BASELINE, rounds, values) for p in parts if p != BASELINE},
        values=values,
        rounds_s=rounds,
        calls={p: epoch.calls[a] for p, a in parts.items() if a in epoch.calls},
        order=tuple(names[a] for a in epoch.order if a in names),
        seconds=epoch.seconds * len(parts) / len(epoch.rounds_s),
    )


def shifted(epochs: Sequence[Epoch], share: float, arm: str = CANDIDATE) -> list[Epoch]:
    """`arm` slower by exactly `share` in every round: no real slowdown, an exact one."""
    return [_slower(epoch, 1 + share, arm) for epoch in epochs]


def _slower(epoch: Epoch, factor: float, arm: str) -> Epoch:
    rounds = {**epoch.rounds_s, arm: tuple(r * factor for r in epoch.rounds_s[arm])}
    values = {**epoch.values, arm: {**epoch.values[arm], "p50": epoch.values[arm]["p50"] * factor}}
    logs = {
        **epoch.logs,
        arm: {**epoch.logs[arm], "p50": epoch.logs[arm]["p50"] + math.log(factor)},
    }
    return dataclasses.replace(epoch, rounds_s=rounds, values=values, logs=logs)


def main() -> None:
    """Turn a recording into text, and say how near the rebuilt ratios are."""
    from accel.gating import chain

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path, help="a folder that record.py wrote")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("traces"))
    asked = parser.parse_args()
    header, epochs, head = chain.read(asked.recording)
    about = asked.recording / ABOUT
    header = {**header, **(json.loads(about.read_text()) if about.exists() else {})}
    path = asked.out / f"{asked.recording.name}.csv"
    write(path, {**header, "evidence_head": head}, epochs)
    pairs = zip(epochs, read(path).epochs, strict=True)
    worst = max((abs(_p50(a, arm) - _p50(b, arm)) for a, b in pairs for arm in a.logs), default=0.0)
    rows = sum(len(e.rounds_s) for e in epochs)
    print(
        f"{path}: {len(epochs)} epochs, {path.stat().st_size / max(1, rows):.0f} bytes a row, "
        f"rebuilt ln ratios of p50 are off by {worst:.1e} at most"
    )


def _p50(epoch: Epoch, arm: str) -> float:
    return epoch.logs[arm]["p50"]


if __name__ == "__main__":
    main()
