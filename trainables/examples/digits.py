"""Handwritten digits: 1797 images of 8x8 pixels from scikit-learn, and a small residual CNN.

Place in the flow: the trainable of the shipped example sweeps, named `trainables.examples.digits:Digits`. It is real
data, and small enough that an epoch takes a fraction of a second on one core.
"""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from trainables.contract import Config, Data, Fidelity
from trainables.models.cnn import Cnn

SPLIT_SEED = 0
"""Of the split into train, val and test: one for all trials and seeds, else their scores would not compare."""


class Digits:
    """Stratified split 60/20/20. Config keys of the model: `width`, `depth`, `dropout`, `activation`, `norm`."""

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return _splits()

    def model(self, config: Config, data: Data) -> nn.Module:
        return Cnn(
            channels_in=1,
            classes=10,
            width=config.get("width", 16),
            depth=config.get("depth", 2),
            activation=config.get("activation", "relu"),
            norm=config.get("norm", "batch"),
            dropout=config.get("dropout", 0.0),
        )


@cache
def _splits() -> Data:
    """Read and split once a process: a slot trains many trials on the same rows."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.as_tensor(labels, dtype=torch.int64)
    train, rest = train_test_split(range(len(y)), test_size=0.4, stratify=y, random_state=SPLIT_SEED)
    val, test = train_test_split(rest, test_size=0.5, stratify=y[rest], random_state=SPLIT_SEED)
    return Data(train=(x[train], y[train]), val=(x[val], y[val]), test=(x[test], y[test]))
