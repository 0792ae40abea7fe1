"""How right a classifier's probabilities are: rows in bins by how sure it is of them, and how often it is right there.

Place in the flow: `watch` sums them in each epoch's validation, `error_analysis` those of a winner, by the same bins:
the `val/ece` of a trial's last epoch and the one of its error analysis are one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BINS = 15
"""Of equal width, as in C. Guo et al., On Calibration of Modern Neural Networks, 2017."""
BEYOND_CHANCE = 2.0
"""Standard errors by which mean probability and accuracy differ where a model is said to be too sure, or not enough."""


@dataclass(frozen=True)
class Bin:
    """The rows whose likeliest class has a probability from `low` to `high`."""

    low: float
    high: float
    rows: int
    confidence: float
    """Mean probability of the likeliest class."""
    accuracy: float
    """Share of the rows that are of that class."""


@dataclass(frozen=True)
class Calibration:
    """How sure a model is of rows, and how right."""

    ece: float
    """Expected calibration error: the mean over rows of how far confidence and accuracy of their bin are apart."""
    confidence: float
    accuracy: float
    leaning: Literal["overconfident", "underconfident", ""]
    """Whether confidence and accuracy differ by more than chance makes them of so many rows, and to which side."""
    bins: list[Bin]
    """Those that have rows, the least sure first."""


def binned(sure: Tensor, right: Tensor) -> Tensor:
    """Sums over rows in each bin, of shape (3, BINS): rows, probabilities of the likeliest class, how many are right.

    `sure` and `right` are of shape (rows,): the likeliest class's probability, and whether it is the row's.
    """
    values, place = sure.new_ones((3, len(sure)), dtype=torch.float64), (sure * BINS).long().clamp_(0, BINS - 1)
    values[1], values[2] = sure, right
    # Not by index_add_, which adds in any order on a GPU: a trial that is trained again says the same.
    return torch.stack([torch.where(place == number, values, 0.0).sum(1) for number in range(BINS)], 1)


def ece(sums: Tensor) -> Tensor:
    """The expected calibration error of summed bins."""
    return (sums[1] - sums[2]).abs().sum() / sums[0].sum()


def calibration(sums: Tensor) -> Calibration:
    """What summed bins, of at least one row, say of a model."""
    rows, sure, right = sums.tolist()
    total = sum(rows)
    bins = [
        Bin(number / BINS, (number + 1) / BINS, int(count), sure[number] / count, right[number] / count)
        for number, count in enumerate(rows)
        if count
    ]
    # Were the probabilities right, each row would be so by a throw of a coin with its own.
    by_chance = math.sqrt(sum(one.rows * one.confidence * (1 - one.confidence) for one in bins)) / total
    gap = (sum(sure) - sum(right)) / total
    beyond = abs(gap) > BEYOND_CHANCE * by_chance
    leaning: Literal["overconfident", "underconfident", ""] = ""
    if beyond:
        leaning = "overconfident" if gap > 0 else "underconfident"
    return Calibration(float(ece(sums)), sum(sure) / total, sum(right) / total, leaning, bins)
