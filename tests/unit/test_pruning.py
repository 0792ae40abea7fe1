"""Magnitude pruning: how much, what, and that it stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.pruning import Pruner


def zeros(model):
    """The share of zeros in each matrix."""
    return [float((p == 0).double().mean()) for p in model.parameters() if p.ndim > 1]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.LayerNorm(30), nn.Linear(30, 10))


def test_the_share_rises_over_half_of_the_training_and_stays():
    model = network()
    pruner = Pruner(model.parameters(), 0.8, epochs=8)
    shares = []
    for epoch in range(1, 9):
        pruner.begin(epoch)
        shares.append(zeros(model))
    expected = [0.8 * (1 - (1 - t) ** 3) for t in (0, 0.25, 0.5, 0.75, 1, 1, 1, 1)]
    for found, share in zip(shares, expected, strict=True):
        assert found == pytest.approx([share, share], abs=0.005)
    assert all(bool(p.all()) for name, p in model.named_parameters() if "1.weight" in name), "no norm is pruned"


def test_the_smallest_go_and_what_is_gone_stays_gone():
    model = network()
    before = model[0].weight.detach().clone()
    pruner = Pruner(model.parameters(), 0.5, epochs=2)
    pruner.begin(2)
    gone = model[0].weight == 0
    assert float(before[gone].abs().max()) < float(before[~gone].abs().min())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    pruner.apply(model.parameters())
    assert torch.equal(model[0].weight == 0, gone)
    again = Pruner(model.parameters(), 0.5, epochs=2)
    again.begin(2)
    assert torch.equal(model[0].weight == 0, gone), "a pruner that goes on chooses the same"
