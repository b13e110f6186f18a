"""Made-up machines: what noise does to the epochs of two arms that are the same program.

A run is [epochs] ln ratios, as the gate's sampler would form them: in each of ROUNDS rounds a coin
decides which arm goes first; an epoch's value is the median over rounds of ln(candidate / baseline).
The noise of a call is not simulated: a slot is an arm's block in a round. Its standard deviation is
about 1 throughout, since signs do not depend on the scale. What an epoch re-rolls (a process and
where its memory lies) is drawn once an epoch and arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8
SECOND = 0.5  # what the second slot of a round costs, in standard deviations, where it costs

Array: TypeAlias = NDArray[np.float64]
Draw: TypeAlias = np.random.Generator
Slots: TypeAlias = tuple[int, int, int, int]  # runs, epochs, rounds, the two slots of a round


def normal(draw: Draw, slots: Slots) -> Array:
    """Independent and normal."""
    return draw.standard_normal(slots)


def t3(draw: Draw, slots: Slots) -> Array:
    """Student's t with 3 degrees of freedom: heavy tails."""
    return draw.standard_t(3, slots)


def lognormal(draw: Draw, slots: Slots) -> Array:
    """Skewed: most blocks are quick, some are slow."""
    return np.exp(draw.standard_normal(slots))


def bimodal(draw: Draw, slots: Slots) -> Array:
    """Three blocks in ten are five standard deviations slow."""
    return draw.standard_normal(slots) + 5.0 * (draw.random(slots) < 0.3)


def autoregressive(draw: Draw, slots: Slots) -> Array:
    """AR(0.9) from slot to slot within an epoch, and the second slot of a round is slower."""
    runs, epochs, rounds, two = slots
    steps = draw.standard_normal((runs, epochs, rounds * two))
    for k in range(1, rounds * two):
        steps[..., k] = 0.9 * steps[..., k - 1] + np.sqrt(1 - 0.9**2) * steps[..., k]
    found = steps.reshape(slots)
    found[..., 1] += SECOND
    return found


def steps(draw: Draw, slots: Slots) -> Array:
    """A neighbour comes or goes once an epoch: five standard deviations from then on."""
    runs, epochs, rounds, two = slots
    when = draw.integers(rounds * two + 1, size=(runs, epochs, 1))
    up = draw.choice([-5.0, 5.0], size=(runs, epochs, 1))
    level = np.where(np.arange(rounds * two) >= when, up, 0.0).reshape(slots)
    return draw.standard_normal(slots) + level


BLOCKS: Mapping[str, Callable[[Draw, Slots], Array]] = {
    f.__name__: f for f in (normal, t3, lognormal, bimodal, autoregressive, steps)
}


def paired(blocks: Array, draw: Draw, process: float = 0.0) -> Array:
    """[runs, epochs] ln ratios of blocks [runs, epochs, rounds, 2], their order by a coin.

    `process`: the standard deviation of what a process draws at its start, an arm and epoch."""
    first = draw.integers(2, size=blocks.shape[:3])  # which arm the first slot of a round is
    ratio = np.where(first == 0, blocks[..., 0] - blocks[..., 1], blocks[..., 1] - blocks[..., 0])
    found: Array = np.median(ratio, axis=-1)
    return found + process * (draw.standard_normal(found.shape) - draw.standard_normal(found.shape))


def fixed_order(blocks: Array) -> Array:
    """The same without the coin: the candidate always goes second."""
    found: Array = np.median(blocks[..., 1] - blocks[..., 0], axis=-1)
    return found


def modes(draw: Draw, runs: int, epochs: int) -> Array:
    """Each arm's process falls into a slow mode three times in ten, small noise around it."""
    slow = 5.0 * (draw.random((2, runs, epochs)) < 0.3)
    return slow[0] - slow[1] + 0.3 * draw.standard_normal((runs, epochs))


def skewed(draw: Draw, runs: int, epochs: int) -> Array:
    """The ratio itself is skewed, its median exactly at the budget: a mean lies beyond it."""
    found: Array = np.exp(draw.standard_normal((runs, epochs))) - 1.0
    return found


def dependent(draw: Draw, runs: int, epochs: int) -> Array:
    """AR(0.5) from epoch to epoch: what the gate assumes away, to show what that would cost."""
    found = draw.standard_normal((runs, epochs))
    for k in range(1, epochs):
        found[:, k] = 0.5 * found[:, k - 1] + np.sqrt(0.75) * found[:, k]
    return found


def student(draw: Draw, sigma: float, shape: tuple[int, ...]) -> Array:
    """Student's t with 3 degrees of freedom whose robust standard deviation is sigma."""
    quartiles = 0.764892, 0.674490  # of t3 and of the normal law
    return sigma * quartiles[1] / quartiles[0] * draw.standard_t(3, shape)
