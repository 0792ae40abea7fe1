"""A network and a Dataset of your own. Run it: `sweeps run sweeps/examples/own_module.yaml`"""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import Dataset, random_split

from trainables.contract import Data


class Tumours(Dataset):
    def __init__(self):
        x, self.y = load_breast_cancer(return_X_y=True)
        self.x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], self.y[row]


class TumourNet:
    def data(self, config, fidelity):
        return Data(*random_split(Tumours(), [0.6, 0.2, 0.2], torch.Generator().manual_seed(0)))

    def model(self, config, data):
        width = config.get("width", 32)
        return nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, 2))
