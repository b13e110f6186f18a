"""How many samples a claim on right or wrong answers needs, and what is said before it is tried.

Two models are compared on the same n samples. `discordance` is the share of samples that just one
of them gets right, `drop` the true loss of right answers, both as shares of 1. All chances are
those of Tango's one-sided limits (`intervals.tango_score`), summed over the trinomial of lost, won
and equal answers: exact, nothing is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accel.errors import UsageError
from accel.intervals import tango_score

ALPHA, POWER = 0.05, 0.9
# Of a candidate before it was seen: nothing to go by but what is common. Assumed, not measured.
DISCORDANCE = (0.01, 0.08)
EXACT_BELOW = 200_000  # above it the normal approximation and the sum differ by less than 2 %
TAIL_SD = 9.0  # of a binomial, on either side: what lies beyond is under 1e-17


@dataclass(frozen=True)
class Alphas:
    """The probabilities that are allowed of a false PASS and a false FAIL, each one-sided."""

    passing: float = ALPHA
    fail: float = ALPHA


BOTH = Alphas()


def unsure(alphas: Alphas) -> str:
    """What is told where the lower limit lies beyond the budget at the level of a PASS alone."""
    passing, fail = (f"{100 * (1 - alpha):.4g}" for alpha in (alphas.passing, alphas.fail))
    return f"it is beyond the budget at {passing} %, and a FAIL is claimed at {fail} %"


def chances(
    n: int, margin: float, discordance: float, drop: float = 0.0, alpha: float = ALPHA
) -> tuple[float, float]:
    """P(PASS), P(FAIL): that the upper limit is at most the margin; that the lower one is above it,
    with one answer fewer lost (`drops`).

    Raises UsageError for shares that cannot be."""
    _possible(margin, discordance, drop)
    import numpy as np
    from scipy.stats import binom, norm

    z = float(norm.ppf(1 - alpha))
    lost_p, won_p = (discordance + drop) / 2, (discordance - drop) / 2
    won = _likely(n, won_p)
    most = np.array([_most_lost(n, w, margin, -z) for w in won])
    least = np.array([_most_lost(n, w, margin, z) for w in won])
    weight = binom.pmf(won, n, won_p)
    rest, share = n - np.array(won), lost_p / (1 - won_p)
    passes = weight @ binom.cdf(most, rest, share)
    fails = weight @ binom.sf(least + 1, rest, share)
    return float(passes), float(fails)


def needed(margin: float, discordance: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Samples on which a candidate as accurate as the baseline passes with this chance.

    Raises UsageError for a margin of 0, which no number of samples can prove."""
    _possible(margin, discordance, 0.0)
    low, high = 0, _by_normal(margin, discordance, power, alpha)
    if high > EXACT_BELOW:
        return high
    while chances(high, margin, discordance, alpha=alpha)[0] < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = chances(middle, margin, discordance, alpha=alpha)[0] >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def beforehand(n: int, margin: float, discordance: float | None = None) -> str | None:
    """What is to be said before n samples are evaluated for this margin; None where they may do.

    Without a known discordance it is said for the range of DISCORDANCE."""
    if margin <= 0:
        return f"{n:,} samples cannot prove a drop of at most 0; only a gain would pass"
    few, many = DISCORDANCE if discordance is None else (discordance, discordance)
    likely, unlikely = (chances(n, margin, p)[0] for p in (few, many))
    if likely >= POWER:
        return None
    least, most = needed(margin, few), needed(margin, many)
    of = _range(f"{100 * few:g}", f"{100 * many:g}")
    return (
        f"{n:,} samples cannot prove a drop of at most {100 * margin:g} pt of right answers: with "
        f"{of} % of the answers changed, a candidate as good as the baseline passes in "
        f"{_range(f'{100 * unlikely:.0f}', f'{100 * likely:.0f}')} % of runs; about "
        f"{_range(rounded(least), rounded(most))} samples would do"
    )


def more(n: int, value: float, low: float, high: float, margin: float) -> int | None:
    """Samples that would tell on which side of the margin a value like this one lies, by the width
    of its interval (one-sided limits at ALPHA); None where it lies on the margin itself."""
    from scipy.stats import norm

    away = abs(margin - value)
    z = float(norm.ppf(1 - ALPHA))
    sigma = (high - low) / (2 * z)  # shrinks with the root of n
    if away == 0 or not math.isfinite(sigma):
        return None
    return math.ceil(n * ((z + float(norm.ppf(POWER))) * sigma / away) ** 2)


def unchanged(n: int, part: float) -> int:
    """Equal answers that prove this part of the limit that n of them prove, which is z2 / (n + z2)."""
    from scipy.stats import norm

    z2 = float(norm.ppf(1 - ALPHA)) ** 2
    share = part * z2 / (n + z2)
    return math.ceil(z2 * (1 - share) / share - 1e-9) if share > 0 else n


def rounded(n: int) -> str:
    """A number of samples with two digits that count: "about 3,400"."""
    digits = max(0, len(str(n)) - 2)
    return f"{math.ceil(n / 10**digits) * 10**digits:,}"


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _possible(margin: float, discordance: float, drop: float) -> None:
    if not 0 < margin < 1:
        raise UsageError(
            f"A margin of {100 * margin:g} pt cannot be proved by any number of samples; it must "
            "lie between 0 and 100 pt. Set one like: drop=0.5pt"
        )
    if not abs(drop) <= discordance <= 1:
        raise UsageError(f"A drop of {drop:g} needs as many changed answers, not {discordance:g}.")


def _by_normal(margin: float, discordance: float, power: float, alpha: float) -> int:
    """Sample size of a paired non-inferiority test at no difference: variance discordance / n
    (Liu et al., Statistics in Medicine 21:231, 2002; from memory)."""
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha) + norm.ppf(power))
    return max(2, math.ceil(z * z * discordance / margin**2))


def _likely(n: int, share: float) -> range:
    """The counts that a binomial takes with any chance worth counting."""
    mean, sd = n * share, math.sqrt(n * share * (1 - share))
    reach = TAIL_SD * sd + TAIL_SD**2  # the second: a Poisson's tail where the mean is small
    return range(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)


def _most_lost(n: int, won: int, margin: float, z: float) -> int:
    """The most lost answers at which the score at the margin is at most z; -1 where none is.

    The score grows with every answer lost."""
    low, high = -1, n - won
    while low < high:
        middle = (low + high + 1) // 2
        within = tango_score(n, middle, won, margin) <= z
        low, high = (middle, high) if within else (low, middle - 1)
    return low
