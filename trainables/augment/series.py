"""Random changes of series: floats of shape (rows, channels, time).

The transforms of Um et al., Data Augmentation of Wearable Sensor Data, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.augment.draws import Draws

KNOTS = 4
"""A warp bends the time at so many places."""


@dataclass(frozen=True)
class Strength:
    """How far each transform may go; 0 leaves it out."""

    noise: float = 0.0
    """Standard deviation of Gaussian noise (jitter), in those of the channel."""
    scaling: float = 0.0
    """Share by which each channel is scaled, up or down."""
    shift: float = 0.0
    """Share of the length by which the series moves in time, either way; what comes in repeats the border."""
    warp: float = 0.0
    """Share of its length by which each quarter of the time is stretched or squeezed, below 1."""
    crop: float = 0.0
    """Share of the length that a crop may leave out, below 1; what is left fills the series."""


LEVELS = (
    Strength(),
    Strength(noise=0.02, scaling=0.05, shift=0.05),
    Strength(noise=0.05, scaling=0.1, shift=0.1, warp=0.1, crop=0.1),
    Strength(noise=0.1, scaling=0.2, shift=0.15, warp=0.2, crop=0.2),
)


def changed(x: Tensor, strength: Strength, draws: Draws) -> Tensor:
    """The series, each changed by its own draws; the same shape and dtype."""
    series = x
    if strength.shift or strength.warp or strength.crop:
        series = sampled(series, times(x.shape[2], strength, draws))
    if strength.scaling:
        series = series * (1 + strength.scaling * (2 * draws.uniform(x.shape[1]) - 1))[:, :, None]
    if strength.noise:
        series = series + strength.noise * x.std(dim=2, keepdim=True) * draws.normal(*x.shape[1:])
    return series.to(x.dtype)


def times(length: int, strength: Strength, draws: Draws) -> Tensor:
    """Where in the series each point of the new one is taken from: (rows, time), in [0, length - 1]."""
    even = torch.linspace(0, 1, length, device=draws.keys.device)
    bent = warped(even, strength.warp, draws) if strength.warp else even
    size = 1 - draws.between(0.0, strength.crop)[:, None]
    start = (1 - size) * draws.uniform()[:, None] + draws.between(-strength.shift, strength.shift)[:, None]
    return ((start + size * bent) * (length - 1)).clamp(0, length - 1)


def warped(even: Tensor, warp: float, draws: Draws) -> Tensor:
    """The times from 0 to 1, running faster in some parts and slower in others: (rows, time), never backwards."""
    lengths = 1 + warp * (2 * draws.uniform(KNOTS) - 1)
    ends = torch.cat((torch.zeros_like(lengths[:, :1]), (lengths / lengths.sum(1, keepdim=True)).cumsum(1)), dim=1)
    place = even * KNOTS
    part = place.floor().clamp(max=KNOTS - 1).long()
    return ends[:, part] + (place - part) * (ends[:, part + 1] - ends[:, part])


def sampled(series: Tensor, at: Tensor) -> Tensor:
    """The series at those times, with linear interpolation."""
    before = at.floor().long().clamp(max=series.shape[2] - 2)
    share = (at - before).to(series.dtype)[:, None]
    index = before[:, None].expand(-1, series.shape[1], -1)
    return series.gather(2, index) * (1 - share) + series.gather(2, index + 1) * share
