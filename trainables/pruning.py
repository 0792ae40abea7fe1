"""Magnitude pruning while training: a rising share of each matrix's smallest weights is held at zero.

Zhu and Gupta, To prune, or not to prune, 2017: the share rises as 1 - (1 - t)^3 over the first half of the training, so
that most is pruned while much is left to recover with. Norms, biases and other vectors are not pruned.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from trainables import shards

RAMP = 0.5
"""Share of the epochs over which the pruned share rises."""


class Pruner:
    """Holds pruned weights at zero.

    What is pruned in an epoch follows from the weights at its beginning, so there is no state to save: those that were
    pruned before are zero, and zeros are the smallest.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, epochs: int) -> None:
        """Prune the matrices among the parameters to `rate`, in [0, 1), in a training of so many epochs."""
        self.matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        self.rate, self.epochs = rate, epochs
        self.masks: list[torch.Tensor] = []

    def begin(self, epoch: int) -> None:
        """Choose what is pruned from the beginning of an epoch (from 1) on."""
        progress = min(1.0, (epoch - 1) / max(1.0, RAMP * self.epochs))
        share = self.rate * (1 - (1 - progress) ** 3)
        self.masks = []
        for matrix in self.matrices:
            pruned = shards.whole(matrix.detach()).abs().flatten().argsort(stable=True)[: int(share * matrix.numel())]
            mask = torch.ones(matrix.numel(), dtype=matrix.dtype, device=matrix.device)
            mask[pruned] = 0
            self.masks.append(mask.reshape(matrix.shape))
        self.apply(self.matrices)

    def apply(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set to zero what is pruned, in these parameters or in the same ones of another copy of the model."""
        for matrix, mask in zip((p for p in parameters if p.ndim > 1), self.masks, strict=True):
            matrix.data.mul_(shards.like(matrix, mask))
