"""What integer targets have to be, told with split and row before a step is taken.

Place in the flow: `training.prepare` checks the splits, the default loss the outputs of the model. A trainable with a
loss of its own may mean anything by whole numbers, and is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.contract import TrainableError


@dataclass(frozen=True)
class Highest:
    """The highest label that any split has, and where."""

    split: str
    row: int
    label: int

    def fits(self, output: Tensor) -> None:
        """Raises TrainableError for an output with too few classes; asks for its shape alone, so nothing waits."""
        if output.ndim > 1 and output.shape[1] <= self.label:
            raise TrainableError(
                f"model: it gives {output.shape[1]} outputs, but data.{self.split} has the label {self.label} in row "
                f"{self.row} (from 0). Give an output for each of the labels 0 … {self.label}, or mend the label"
            )


def check(targets: Mapping[str, Tensor | None]) -> Highest | None:
    """Look at the targets of each split, where they are at hand and one class a row; the highest label of all.

    Raises TrainableError for a label below 0, and for a class that train has no row of.
    """
    labels = {
        name: found
        for name, found in targets.items()
        if found is not None and found.ndim == 1 and not found.is_floating_point()
    }
    for name, found in labels.items():
        if bool((found < 0).any()):
            row = int((found < 0).nonzero()[0])
            raise TrainableError(
                f"data.{name}: the label is {int(found[row])} in row {row} (from 0). Classes count from 0: "
                "mend or drop such rows"
            )
    if "train" in labels:
        known = labels["train"].unique()
        for name, found in ((name, found) for name, found in labels.items() if name != "train"):
            strange = (~torch.isin(found, known)).nonzero().flatten()
            if len(strange):
                raise TrainableError(
                    f"data.{name} has {len(strange)} rows of classes that train has no row of: the label "
                    f"{int(found[strange[0]])} in row {int(strange[0])} (from 0). Split by class, or drop such rows"
                )
    highest = [Highest(name, int(found.argmax()), int(found.max())) for name, found in labels.items()]
    return max(highest, key=lambda one: one.label, default=None)
