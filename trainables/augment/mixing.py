"""Mixing of pairs of training rows, inputs and targets alike: MixUp and CutMix.

A row's partner is drawn from (seed, epoch, row) among all training rows, not from its batch: so that several workers
and a resumed trial mix the same pairs. It costs a second row fetched for each.

Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018; Yun et al., CutMix, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.augment.draws import Draws
from trainables.augment.images import box
from trainables.contract import Batch, TrainableError

MIXES = ("mixup", "cutmix")
_STREAM = 2**32
"""Added to the epoch, so that these draws are none of those that change rows."""


class Mixed(NamedTuple):
    """Targets of mixed rows: one class or value, another, and the weight of the first, each of shape (rows,)."""

    first: Tensor
    second: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Mixing:
    """Which share of the rows is mixed, and how; of rows that both would take, CutMix has the first."""

    mixup: float = 0.0
    """Share of the rows that are a weighted mean with another one."""
    cutmix: float = 0.0
    """Share of the rows, images only, of which a box is another one's."""
    seed: int = 0

    def partners(self, epoch: int, rows: Tensor, chosen: Tensor) -> Tensor:
        """The row that each of `rows` is mixed with, among those `chosen`."""
        place = Draws(self.seed, epoch + _STREAM, rows).uniform() * len(chosen)
        return chosen[place.long().clamp(max=len(chosen) - 1)]

    def __call__(self, epoch: int, rows: Tensor, x: Tensor, y: Tensor, other: Batch) -> tuple[Tensor, Mixed]:
        """The rows mixed with their partners `other`, and the targets. Raises TrainableError for what cannot be."""
        if not x.is_floating_point() or (self.cutmix and x.ndim != 4):
            what = "augment_cutmix mixes images" if self.cutmix else "augment_mixup mixes inputs that are floats"
            raise TrainableError(f"config: {what}, and a batch is of shape {tuple(x.shape)}, {x.dtype}. Leave it at 0")
        draws = Draws(self.seed, epoch + _STREAM, rows.to(x.device))
        draws.uniform()  # the partner's
        kind, weight = draws.uniform(), draws.uniform()  # Beta(1, 1), CutMix's own and common for MixUp
        across = (-1, *(1,) * (x.ndim - 1))
        mixed = x
        if self.cutmix:
            cut = kind < self.cutmix
            area = box(x, (1 - weight).sqrt() * cut, draws)
            mixed = torch.where(area, other[0], mixed)
            weight = torch.where(cut, 1 - area.float().mean(dim=(1, 2, 3)), weight)
        faded = (kind >= self.cutmix) & (kind < self.cutmix + self.mixup)
        share = torch.where(faded, weight, 1.0).reshape(across).to(x.dtype)
        mixed = share * mixed + (1 - share) * other[0]
        changed = faded | (kind < self.cutmix)
        return mixed, Mixed(y, other[1], torch.where(changed, weight, 1.0))
