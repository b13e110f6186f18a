"""What a person can do to get another verdict, and what becomes of the error rate.

    python benchmarks/gate/adversary.py benchmarks/gate/traces/minilm-idle-aa.csv

Files: evidence is written from the trace's first epochs, altered on disk, and read again. Chances: the
worst case for either verdict is a candidate exactly at its budget, where each epoch lies beyond it by
the toss of a fair coin, whatever the noise: so epochs are coins here, and no noise is assumed. A
false FAIL is wanted, or a false PASS; runs have 40 epochs, and there are up to ten. Figures with +-
are simulated (their 95 % interval), the others exact, by dynamic programming.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import stream
import told
from told import percent

from accel import manifest
from accel.errors import UsageError
from accel.evidence import Epoch, Rules
from accel.gating import chain, signs

EPOCHS = 12  # of the evidence that is altered
RUNS, LENGTH = 10, 40  # re-runs, and epochs of each
SIMULATED = 20_000

Lines = list[bytes]
Alteration = Callable[[Lines], Lines]


def main() -> None:
    """Alter files, toss coins, print."""
    parser = told.parser(__doc__)
    parser.add_argument("trace", type=Path)
    asked = parser.parse_args()
    recorded = stream.read(asked.trace)
    results = {"files": files(recorded.epochs[:EPOCHS]), "chances": chances()}
    on = told.provenance({recorded.name: recorded.header})
    told.show(asked.json, on, results, text(results))


def files(epochs: Sequence[Epoch]) -> list[dict[str, Any]]:
    """Each alteration, and whether chain.read refuses it: with the head beside it, with a witness
    (the last line of an earlier verdict) alone, and with neither."""
    with tempfile.TemporaryDirectory(prefix="accel-") as place:
        whole = Path(place, "whole")
        chain.create(whole, {"what": "adversary"})
        head = [chain.append(whole, epoch) for epoch in epochs][-1]
        witness = [(len(epochs), head)]
        rows = []
        for what, alter in alterations(epochs).items():
            folder = Path(place, "altered")
            shutil.copytree(whole, folder)
            lines = (folder / chain.FILE).read_bytes().splitlines(keepends=True)
            (folder / chain.FILE).write_bytes(b"".join(alter(lines)))
            row = {"what": what, "head": refused(folder)}
            (folder / chain.HEAD).unlink()
            rows.append({**row, "witness": refused(folder, witness), "neither": refused(folder)})
            shutil.rmtree(folder)
    return rows


def refused(folder: Path, witnesses: Sequence[tuple[int, str]] = ()) -> bool:
    """Does chain.read refuse?"""
    try:
        chain.read(folder, witnesses)
    except UsageError:
        return True
    return False


def alterations(epochs: Sequence[Epoch]) -> dict[str, Alteration]:
    """Line 0 is the header, line i the i-th epoch."""
    worst = 1 + max(range(len(epochs)), key=lambda i: epochs[i].logs["candidate"]["p50"])
    last = len(epochs)
    return {
        "nothing": lambda lines: lines,
        "a value edited": lambda lines: _edited(lines, worst),
        "the worst epoch dropped": lambda lines: lines[:worst] + lines[worst + 1 :],
        "two epochs swapped": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
        "all epochs reordered": lambda lines: [lines[0], *reversed(lines[1:])],
        "an epoch doubled": lambda lines: [*lines[:4], lines[3], *lines[4:]],
        "the header edited": lambda lines: [
            lines[0].replace(b"adversary", b"ADVERSARY"),
            *lines[1:],
        ],
        "the last epoch edited": lambda lines: _edited(lines, last),
        "the tail cut off": lambda lines: lines[: last // 2],
        "the worst dropped, all hashes made anew": lambda lines: _resealed(
            lines[:worst] + lines[worst + 1 :]
        ),
    }


def _edited(lines: Lines, i: int) -> Lines:
    row = json.loads(lines[i])
    row["epoch"]["logs"]["candidate"]["p50"] = 0.0
    return [*lines[:i], json.dumps(row, sort_keys=True).encode() + b"\n", *lines[i + 1 :]]


def _resealed(lines: Lines) -> Lines:
    """What somebody does who has read chain.py."""
    with tempfile.TemporaryDirectory(prefix="accel-") as place:
        chain.create(Path(place), json.loads(lines[0])["header"])
        for line in lines[1:]:
            chain.append(Path(place), manifest.load(Epoch, json.loads(line)["epoch"]))
        return Path(place, chain.FILE).read_bytes().splitlines(keepends=True)


def chances(simulated: int | None = None) -> list[dict[str, Any]]:
    """The chance of the wanted wrong verdict for a candidate exactly at its budget."""
    rules, simulated = Rules(), simulated or SIMULATED
    alphas = {"FAIL": rules.alpha_fail, "PASS": rules.alpha_pass}
    rows = [
        _row("a test at 5 %, once", {"FAIL": 0.05, "PASS": 0.05}),
        _row(f"a test at 5 %, run {RUNS} times", dict.fromkeys(alphas, 1 - 0.95**RUNS)),
        _row(
            "accel, one run", {w: signs.crossing_probability(LENGTH, a) for w, a in alphas.items()}
        ),
        _row(
            f"accel, run {RUNS} times: the evidence goes on",
            {w: signs.crossing_probability(RUNS * LENGTH, a) for w, a in alphas.items()},
        ),
    ]
    cut = {w: signs.crossing_probability(LENGTH, a) for w, a in alphas.items()}  # as one run: Ville
    rows.append(_row("unseen: the tail cut where it looked best", cut))
    for what, tosses in ATTACKS.items():
        found = {w: _simulated(tosses, a, simulated) for w, a in alphas.items()}
        rows.append(_row(what, found, simulated))
    anew = {w: 1 - (1 - signs.crossing_probability(LENGTH, a)) ** RUNS for w, a in alphas.items()}
    rows.append(_row(f"unseen: all evidence deleted, begun anew {RUNS} times", anew))
    return rows


def _row(what: str, found: dict[str, float], simulated: int = 0) -> dict[str, Any]:
    spread = {
        w: 1.96 * (p * (1 - p) / simulated) ** 0.5 if simulated else 0 for w, p in found.items()
    }
    return {"what": what, **found, "spread": spread}


def _simulated(attack: Attack, alpha: float, count: int) -> float:
    coin = np.random.default_rng(7)
    return sum(attack(coin, alpha) for _ in range(count)) / count


Attack = Callable[[np.random.Generator, float], bool]


def _reached(wins: int, n: int, alpha: float) -> bool:
    bar = signs.needed(n, alpha)
    return bar is not None and wins >= bar


def _dropping(dropped: int) -> Attack:
    """After every epoch, look at the evidence without its `dropped` most unwelcome epochs."""

    def attack(coin: np.random.Generator, alpha: float) -> bool:
        wins = np.cumsum(coin.integers(0, 2, LENGTH))
        for n, won in enumerate(wins, 1):
            gone = min(dropped, n - int(won))
            if n > gone and _reached(int(won), n - gone, alpha):
                return True
        return False

    return attack


def _cutting(coin: np.random.Generator, alpha: float) -> bool:
    """After each run, cut the evidence back to where it looked best, and run again from there."""
    won = n = 0
    for _ in range(RUNS):
        best = (signs.e_value(won, n) if n else 1.0, won, n)
        for toss in coin.integers(0, 2, LENGTH):
            won, n = won + int(toss), n + 1
            if _reached(won, n, alpha):
                return True
            best = max(best, (signs.e_value(won, n), won, n))
        _, won, n = best
    return False


ATTACKS: dict[str, Attack] = {
    "unseen: the worst epoch dropped": _dropping(1),
    "unseen: the three worst dropped": _dropping(3),
    f"unseen: the same after each of {RUNS} runs, each going on from there": _cutting,
}


def text(results: dict[str, Any]) -> str:
    """Two tables."""
    said = {True: "refused", False: "read"}
    first = told.table(
        ("evidence altered on disk", "head beside it", "an earlier verdict", "neither"),
        [
            (r["what"], *(said[r[k]] for k in ("head", "witness", "neither")))
            for r in results["files"]
        ],
    )
    second = told.table(
        ("a candidate exactly at its budget", "false FAIL", "false PASS"),
        [(r["what"], *(_chance(r, w) for w in ("FAIL", "PASS"))) for r in results["chances"]],
    )
    unseen = "`unseen`: what the chance would be if the chain did not refuse it."
    return f"{first}\n\n{second}\n\n{unseen}"


def _chance(row: dict[str, Any], wanted: str) -> str:
    spread = row["spread"][wanted]
    return percent(row[wanted], 2) + (f" +-{100 * spread:.2f}" if spread else "")


if __name__ == "__main__":
    main()
