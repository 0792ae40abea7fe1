"""What the loop does when the validation loss no longer falls: a lower learning rate, an end, the best weights back.

Place in the flow: `trainables.loop` shows each epoch's validation loss to both classes here. Their state is part of the
checkpoint; all ranks have the same losses, and so decide alike.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from trainables import shards

THRESHOLD = 1e-3
"""A gain below this share of the best loss is none."""


class Stall:
    """Counts the epochs since the loss was last better than ever."""

    def __init__(self) -> None:
        self.best, self.epochs = math.inf, 0

    def observe(self, loss: float) -> bool:
        """Take an epoch's loss; whether it is the best so far."""
        better = loss < self.best - THRESHOLD * abs(self.best) if math.isfinite(self.best) else loss < self.best
        self.best, self.epochs = (loss, 0) if better else (self.best, self.epochs + 1)
        return better


class Plateau:
    """The schedule `plateau`: lowers the learning rate when the loss stalls, ends the training when it is lowest."""

    def __init__(self, factor: float, patience: int, floor: float) -> None:
        """`factor` for each stall of more than `patience` epochs, never below `floor`, both as shares of the peak."""
        self.factor, self.patience, self.floor = factor, patience, floor
        self.multiplier = 1.0
        self.stall = Stall()

    def observe(self, loss: float) -> bool:
        """Take an epoch's loss; whether the training has come to its end."""
        self.stall.observe(loss)
        if self.stall.epochs <= self.patience:
            return False
        if self.multiplier <= self.floor:
            return True
        self.multiplier = max(self.multiplier * self.factor, self.floor)
        self.stall.epochs = 0
        return False

    def capture(self) -> Tensor:
        """The state, as a tensor of always the same size."""
        return torch.tensor([self.stall.best, self.stall.epochs, self.multiplier], dtype=torch.float64)

    def restore(self, saved: Tensor) -> None:
        """Go on with what `capture` gave."""
        self.stall.best, epochs, self.multiplier = saved.tolist()
        self.stall.epochs = int(epochs)


class Patience:
    """Early stopping, and the weights of the best epoch."""

    def __init__(self, patience: int, keep_best: bool) -> None:
        """Ends after `patience` epochs without a better loss (0: never); `keep_best`: keeps the weights of the best."""
        self.patience, self.keep_best = patience, keep_best
        self.stall = Stall()
        self.weights: dict[str, Any] = {}

    def observe(self, loss: float, model: nn.Module) -> bool:
        """Take the loss of a model; whether the training is to end."""
        if self.stall.observe(loss) and self.keep_best:
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return 0 < self.patience <= self.stall.epochs

    def put_back(self, model: nn.Module) -> bool:
        """Give the model its best weights; whether they are others than it has."""
        if not self.weights or self.stall.epochs == 0:
            return False
        model.load_state_dict(self.weights)
        return True

    def capture(self) -> dict[str, Any]:
        """The state; the weights are those kept, not a copy."""
        return {
            "stall": torch.tensor([self.stall.best, self.stall.epochs], dtype=torch.float64),
            "weights": self.weights,
        }

    def restore(self, saved: dict[str, Any], model: nn.Module) -> None:
        """Go on with what `capture` gave, which stays as it is; `model` is the one whose weights are kept."""
        self.stall.best, epochs = saved["stall"].tolist()
        self.stall.epochs = int(epochs)
        own = model.state_dict()
        self.weights = {name: shards.like(own[name], value).clone() for name, value in saved["weights"].items()}
