"""What can be read off a curve of losses, and what a loss of so many classes can mean.

Place in the flow: pure functions of numbers; `runs` and the rules of `diagnose` are made of them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MOST_NATS = 12.0
"""The loss of knowing nothing among more classes than anyone has."""


def uncertainty(accuracy: float) -> float:
    """The entropy, in nats, of being right with this probability."""
    if not 0 < accuracy < 1:
        return 0.0
    return -accuracy * math.log(accuracy) - (1 - accuracy) * math.log(1 - accuracy)


def loss_at(accuracy: float, classes: float) -> float:
    """The highest loss of a network that is right so often, and knows how often, and nothing of which other class."""
    return uncertainty(accuracy) + (1 - accuracy) * math.log(max(classes - 1, 1.0))


def nats_of_classes(losses: Values, accuracies: Values) -> Values:
    """ln K for so many classes as make each loss usual of a network that is right so often and knows how often; of one
    that is too sure more, of one that knows between which few classes to choose less. `MOST_NATS` at most."""
    wrong, entropy = 1 - accuracies, np.array([uncertainty(float(share)) for share in accuracies])
    others = np.divide(losses - entropy, wrong, out=np.full(len(losses), MOST_NATS), where=wrong > 0)
    return np.asarray(np.log1p(np.exp(np.minimum(others, MOST_NATS))))


def end(values: Values) -> float:
    """The level at the end: the median of the last tenth, or of up to three values as long as they are a third."""
    return float(np.median(values[-max(1, min(len(values) // 3, 3), len(values) // 10) :]))


def smooth(values: Values) -> Values:
    """The running median over a twentieth of the values: of up to 40 the values themselves, of a thousand steps what an
    eye sees."""
    reach = len(values) // 40
    if not reach:
        return values
    padded = np.pad(values, reach, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1))


def falls(values: Values) -> float:
    """By how much a loss falls an epoch over the last fifth, relative to itself; negative where it rises."""
    tail = values[-max(3, len(values) // 5) :]
    if len(tail) < 2 or tail.min() <= 0:
        return 0.0
    slope = np.polyfit(np.arange(len(tail)), np.log(tail), 1)[0]
    return float(-slope)


def swings(values: Values) -> float:
    """How much a loss goes up and down in its last half: the mean step up, or down where that is less, relative to the
    median level, or to a tenth of all that it fell."""
    half = values[len(values) // 2 :]
    if len(half) < 4:
        return 0.0
    return float(up_and_down(half) / max(np.median(half), 0.1 * (values[0] - values.min()), 1e-12))


def up_and_down(values: Values) -> float:
    """The mean step up, or down where that is less: what only rises or falls has none."""
    steps = np.diff(values)
    return float(min(steps.clip(0, None).mean(), -steps.clip(None, 0).mean()))
