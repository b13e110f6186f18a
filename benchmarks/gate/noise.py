"""How noisy a stream is: an epoch's ratio, a round within an epoch, and what rounds are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.evidence import BASELINE, CANDIDATE, Epoch

MAD_TO_SIGMA = 1.4826  # of a normal distribution: 1 / Phi^-1(3/4)
RESAMPLES = 2000
LEAST_ROUNDS, MOST_ROUNDS = 3, 30


def logs(epochs: Sequence[Epoch], arm: str = CANDIDATE, metric: str = "p50") -> NDArray[Any]:
    """[N] ln(arm / baseline) of the epochs that have it."""
    return np.asarray([e.logs[arm][metric] for e in epochs if metric in e.logs.get(arm, {})])


def robust(y: NDArray[Any]) -> Any:
    """1.4826 MAD along the last axis."""
    centre = np.median(y, axis=-1, keepdims=True)
    return MAD_TO_SIGMA * np.median(np.abs(y - centre), axis=-1)


def described(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """Of the candidate's p50; shares, since a small ln ratio is one."""
    y = logs(epochs)
    if len(y) < 3:
        return {"epochs": len(y)}
    draws = np.random.default_rng(0).choice(y, (RESAMPLES, len(y)))
    low, high = np.quantile(robust(draws), (0.025, 0.975))  # percentile bootstrap
    return {
        "epochs": len(y),
        "median": float(np.median(y)),
        "sigma_robust": float(robust(y)),
        "sigma_interval": [float(low), float(high)],
        "sigma_plain": float(y.std(ddof=1)),
        "largest": float(np.abs(y).max()),
        "autocorrelation": _autocorrelation(y),
        "autocorrelation_noise": 1.96 / math.sqrt(len(y)),
        **_rounds(epochs),
    }


def _autocorrelation(y: NDArray[Any]) -> float | None:
    """Lag 1, of ranks: one wild epoch would decide the usual one."""
    ranks = y.argsort().argsort().astype(float)
    ranks -= ranks.mean()
    total = float(ranks @ ranks)
    return float(ranks[1:] @ ranks[:-1]) / total if total else None


def _rounds(epochs: Sequence[Epoch]) -> dict[str, Any]:
    """Variances by the robust sigma: rounds are heavy-tailed.

    An epoch's value is a median over r rounds, whose variance is about (pi / 2) s2_round / r; what
    is left of the epochs' variance is theirs."""
    whole = [e for e in epochs if CANDIDATE in e.rounds_s]
    ratios = [np.log(np.divide(e.rounds_s[CANDIDATE], e.rounds_s[BASELINE])) for e in whole]
    # differences of neighbours: no centre to estimate from few rounds, and slow drift drops out
    within = np.concatenate([np.diff(ratio) for ratio in ratios]) / math.sqrt(2)
    share = float(np.mean([1 / len(ratio) for ratio in ratios]))  # epochs differ in their rounds
    round_s2 = float(robust(within)) ** 2
    epoch_s2 = max(0.0, float(robust(logs(epochs))) ** 2 - math.pi / 2 * round_s2 * share)
    return {
        "rounds": round(1 / share),
        "sigma_round": math.sqrt(round_s2),
        "sigma_round_plain": float(within.std()),
        "sigma_between_epochs": math.sqrt(epoch_s2),
    }


def best_rounds(found: dict[str, Any], epoch_s: float, round_s: float) -> int | None:
    """Rounds an epoch that give the most precision a second: sqrt of cost ratio x variance ratio.

    `epoch_s`: what an epoch costs without its rounds; `round_s`: a round of all arms. (Kalibera and
    Jones, "Rigorous benchmarking in reasonable time", ISMM 2013; from memory.)"""
    between, within = found.get("sigma_between_epochs"), found.get("sigma_round")
    if within is None or round_s <= 0 or epoch_s <= 0:
        return None
    if not between:
        return MOST_ROUNDS
    best = math.ceil(math.sqrt(epoch_s / round_s) * within / between)
    return min(MOST_ROUNDS, max(LEAST_ROUNDS, best))
