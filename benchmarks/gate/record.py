"""Record one long stream of epochs on a real model; everything else here is replay.

    python benchmarks/gate/record.py --workload minilm --condition idle --kind aa --epochs 3000
    python benchmarks/gate/record.py --workload minilm --condition idle --kind power --minutes 60

`aa`: baseline, candidate and shadow are copies of one artefact. `power`: lag0 is such a copy, lag1 to
lag10 are stretched by 1 to 10 % with a spin after each call, and nodes, one_thread and unfused are
real regressions (see arms.py). With --release every arm is that release, also one for a GPU, and of
the slowdowns there are the spins; so it is with an .onnx, of --engine at the requests of --source.
`neighbour`: a process of ours works on the same cores at random.

The stream is the gate's own evidence, in OUT/<workload>-<condition>-<kind>. Run again it goes on, also
after kill -9; stop it with Ctrl-C. The machine should do nothing else. Then: stream.py, for text.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import arms
import neighbour
import noise
import numpy as np
import stream
import told

from accel import disk
from accel.evidence import BASELINE, CANDIDATE, SHADOW, Budget, Epoch, Rules, Subject
from accel.gating import chain, rounds, sampler
from accel.steps import _subject
from accel.values import Request

LAGS = (0, 1, 2, 3, 5, 10)  # percent
CONTROLS = ("nodes", "one_thread", "unfused")
TELL_EVERY = 10  # epochs
RECENT = 20  # epochs of the stream that the next one's rounds follow from, as in a gate of so many
BUDGETS = (Budget("p50", 0.03),)


def main() -> None:
    """Prepare once, then add epochs until there are enough or the time is up."""
    asked = arguments()
    variants, requests = loaded(asked)
    team, lag = cast(asked.kind, variants, asked.arms)
    rules = Rules(
        rounds=asked.rounds,
        block_s=asked.block_s,
        shadow_every=asked.shadow_every,
        seed=asked.seed,
    )
    folder = asked.out / f"{asked.workload}-{asked.condition}-{asked.kind}"
    chain.create(folder, header(asked, team, lag, requests, rules))
    about(folder)
    noisy = asked.condition == "neighbour"
    with (
        chain.alone(folder),
        neighbour.running(asked.seed) if noisy else contextlib.nullcontext(),
        contextlib.suppress(KeyboardInterrupt),
    ):
        record(folder, team, lag, requests, rules, asked.epochs, 60 * asked.minutes)


def arguments() -> argparse.Namespace:
    """The command line."""
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=first, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    place = Path(".benchmarks/gate")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workload", choices=tuple(arms.MODELS))
    what.add_argument(
        "--release", type=Path, help="a packed release, or an .onnx, for a model made here"
    )
    parser.add_argument("--engine", help="of an .onnx")
    parser.add_argument("--source", help="the workload whose requests an .onnx is timed at")
    parser.add_argument("--condition", choices=("idle", "neighbour"), default="idle")
    parser.add_argument("--kind", choices=("aa", "power"), default="aa")
    parser.add_argument("--epochs", type=int, default=3000, help="of the whole stream")
    parser.add_argument("--minutes", type=float, default=600.0, help="of this run")
    parser.add_argument(
        "--arms", default="", help="of a power stream: lag0,lag5,nodes; all if empty"
    )
    parser.add_argument("--rounds", type=int, default=Rules().rounds)
    parser.add_argument("--block-s", type=float, default=Rules().block_s)
    parser.add_argument("--shadow-every", type=int, default=Rules().shadow_every)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=place / "work", help="models, made once")
    parser.add_argument("--out", type=Path, default=place)
    asked = parser.parse_args()
    asked.workload = asked.workload or asked.release.stem
    return asked


def loaded(asked: argparse.Namespace) -> tuple[dict[str, Subject], tuple[Request, ...]]:
    """The subjects by their variant, and the requests."""
    if asked.release:
        words = {"engine": asked.engine, "source": asked.source}
        plain = _subject.subject(str(asked.release), asked.work / asked.workload, **words)
        if plain.trouble:
            raise SystemExit(plain.trouble)
        return {"plain": plain}, plain.requests
    work = asked.work / asked.workload
    prepared(asked.workload, work)
    return arms.load(work)


def prepared(workload: str, work: Path) -> None:
    """Make the models in a process of their own, unless they are there: torch stays out of here."""
    if (work / arms.ARMS).exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    script = Path(__file__).with_name("arms.py")
    subprocess.run([sys.executable, str(script), workload, str(work)], check=True)


def cast(
    kind: str, variants: Mapping[str, Subject], only: str = ""
) -> tuple[dict[str, Subject], dict[str, float]]:
    """Arm -> subject, and arm -> the share by which its calls are stretched."""
    plain = variants["plain"]
    if kind == "aa":
        return dict.fromkeys((BASELINE, CANDIDATE, SHADOW), plain), {}
    lag = {f"lag{percent}": percent / 100 for percent in LAGS}
    controls = {c: variants[c] for c in CONTROLS if c in variants}
    team = {BASELINE: plain, **dict.fromkeys(lag, plain), **controls}
    names = [BASELINE, *only.split(",")] if only else list(team)
    unknown = sorted({*names} - {*team})
    if unknown:
        raise SystemExit(f"No arms named {', '.join(unknown)}. Known: {', '.join(team)}.")
    return {n: team[n] for n in names}, {n: share for n, share in lag.items() if n in names}


def header(
    asked: argparse.Namespace,
    team: Mapping[str, Subject],
    lag: Mapping[str, float],
    requests: tuple[Request, ...],
    rules: Rules,
) -> dict[str, Any]:
    """What must be the same for epochs to be of one stream."""
    here = told.here()
    return {
        "workload": asked.workload,
        "condition": asked.condition,
        "kind": asked.kind,
        "arms": {arm: subject.digest for arm, subject in team.items()},
        "lag": dict(lag),
        "requests": len(requests),
        "rules": {"rounds": rules.rounds, "block_s": rules.block_s, "seed": rules.seed,
                  "warmup_calls": rules.warmup_calls, "timed_s": rules.timed_s,
                  "shadow_every": rules.shadow_every},
        "harness": sampler.harness(),
        "machine_class": here["machine_class"],
        "machine": here["machine"],
        "versions": here["versions"],
    }  # fmt: skip


def about(folder: Path) -> None:
    """With what it was begun; beside the chain, since a later commit may go on with it."""
    path = folder / stream.ABOUT
    if not path.exists():
        when = time.strftime("%Y-%m-%d", time.gmtime())
        disk.write(path, json.dumps({"commit": told.here()["commit"], "began": when}))


def record(
    folder: Path,
    team: Mapping[str, Subject],
    lag: Mapping[str, float],
    requests: tuple[Request, ...],
    rules: Rules,
    epochs: int,
    seconds: float,
) -> None:
    """Append epochs; what is there already is gone on from."""
    found = list(chain.read(folder)[1])
    print(f"{folder}: {len(found)} epochs are there", flush=True)
    end = time.monotonic() + seconds
    while len(found) < epochs and time.monotonic() < end:
        arms_now = turn(team, len(found), rules.shadow_every)
        paced = dataclasses.replace(rules, rounds=paced_rounds(found[-RECENT:], team, rules))
        found.append(sampler.epoch(len(found), arms_now, requests, paced, folder, lag))
        chain.append(folder, found[-1])
        if len(found) % TELL_EVERY == 0 or len(found) == epochs:
            print(_line(found), flush=True)


def paced_rounds(recent: list[Epoch], team: Mapping[str, Subject], rules: Rules) -> int:
    """As many as a gate would have of the first arm beside the baseline, which nothing was done to."""
    candidate = CANDIDATE if CANDIDATE in team else next(arm for arm in team if arm != BASELINE)
    return rounds.planned(stream.cast(recent, candidate, None), BUDGETS, rules)


def turn(team: Mapping[str, Subject], number: int, shadow_every: int) -> dict[str, Subject]:
    """The arms of an epoch: as in a gate, the shadow is not in each of them."""
    with_shadow = shadow_every and number % shadow_every == 0
    return {arm: subject for arm, subject in team.items() if arm != SHADOW or with_shadow}


def _line(found: list[Epoch]) -> str:
    arm = next(arm for arm in found[-1].logs)
    y = noise.logs(found, arm)
    seconds = np.median([e.seconds for e in found])
    foreign = np.mean([e.covariates.get("foreign_cores", 0.0) for e in found[-TELL_EVERY:]])
    return (
        f"{len(found)} epochs, {seconds:.2f} s each, {arm}: median {100 * np.median(y):+.2f} %, "
        f"robust sigma {100 * noise.robust(y):.2f} %, lately {foreign:.2f} foreign cores"
    )


if __name__ == "__main__":
    main()
