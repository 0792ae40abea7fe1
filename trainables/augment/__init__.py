"""Random changes of training rows, whole batches at a time, drawn from (seed, epoch, row) alone.

Place in the flow: `training.epoch_batches` applies what `augmentation` gives to each batch of an epoch. A row is
changed in the same way whichever batch it is in, whichever process has it, and whether or not the trial was interrupted
before: so a resumed trial is bit-identical, and several workers see the rows that one sees. Nothing is drawn from the
trial's own generators.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trainables.augment.draws import Draws
from trainables.augment.images import LEVELS, changed
from trainables.contract import TrainableError


@dataclass(frozen=True)
class Augmentation:
    """Changes rows at a level, from 1."""

    level: int
    seed: int

    def __call__(self, epoch: int, rows: Tensor, x: Tensor) -> Tensor:
        """The inputs `x` of the training rows of the numbers `rows`, as they are seen in an epoch.

        Raises TrainableError for inputs of a kind that has no levels.
        """
        if x.ndim != 4 or not x.is_floating_point():
            raise TrainableError(
                f"config: augment is {self.level}, but a batch is of shape {tuple(x.shape)}, {x.dtype}: no images. "
                "Give floats of (rows, channels, height, width), or set augment: 0"
            )
        return changed(x, LEVELS[self.level], Draws(self.seed, epoch, rows.to(x.device)))
