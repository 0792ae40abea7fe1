"""Small trainables on made data, for the tests of the loop."""

import torch
from torch import nn
from torch.utils.data import Dataset

from trainables.contract import Data


class Pairs(Dataset):
    """A map-style Dataset over two tensors, which the loop cannot see through."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], self.y[row]


class Blobs:
    """Three noisy clusters in eight dimensions; `as_dataset` serves the same rows as a Dataset."""

    def __init__(self, train=90, val=30, test=30, as_dataset=False):
        self.sizes, self.as_dataset = (train, val, test), as_dataset

    def data(self, config, fidelity):
        draw = torch.Generator().manual_seed(7)
        centres = 2 * torch.randn(3, 8, generator=draw)
        y = torch.arange(sum(self.sizes)) % 3
        x = centres[y] + torch.randn(len(y), 8, generator=draw)
        parts = list(zip(x.split(self.sizes), y.split(self.sizes), strict=True))
        return Data(*(Pairs(*part) if self.as_dataset else part for part in parts))

    def model(self, config, data):
        return nn.Sequential(
            nn.Linear(8, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(config.get("dropout", 0.0)),
            nn.Linear(16, 3),
        )


class Line:
    """Float targets of shape [rows] and a model that gives [rows, 1]."""

    def data(self, config, fidelity):
        x = torch.linspace(-1, 1, 80)[:, None]
        return Data((x, 2 * x[:, 0] + 1), (x[::4], 2 * x[::4, 0] + 1))

    def model(self, config, data):
        return nn.Linear(1, 1)
