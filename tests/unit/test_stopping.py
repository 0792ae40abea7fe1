"""What happens when the validation loss stalls, and what it rests on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainables.stopping import THRESHOLD, Patience, Plateau, Stall


def test_a_stall_is_counted_from_the_best_epoch():
    stall = Stall()
    losses = [5.0, 4.0, 4.0, 4.1, 3.0, math.nan, math.inf, 3.5]
    assert [(stall.observe(loss), stall.epochs) for loss in losses] == [
        (True, 0), (True, 0), (False, 1), (False, 2), (True, 0), (False, 1), (False, 2), (False, 3),
    ]  # fmt: skip
    assert stall.best == 3.0


@pytest.mark.parametrize("best", [10.0, -10.0])
def test_a_gain_too_small_to_matter_is_none(best):
    stall = Stall()
    stall.observe(best)
    assert not stall.observe(best - 0.9 * THRESHOLD * 10)
    assert stall.observe(best - 1.1 * THRESHOLD * 10)


def test_a_plateau_lowers_the_rate_to_its_floor_and_then_ends():
    plateau = Plateau(factor=0.5, patience=1, floor=0.2)
    seen = []
    while not plateau.observe(1.0):
        seen.append(plateau.multiplier)
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]


def test_a_plateau_waits_while_the_loss_falls():
    plateau = Plateau(0.5, 1, 0.1)
    assert not any(plateau.observe(0.9**epoch) for epoch in range(50))
    assert plateau.multiplier == 1.0


def test_a_plateau_goes_on_where_it_was():
    whole, half = Plateau(0.5, 1, 0.1), Plateau(0.5, 1, 0.1)
    losses = [3.0, 2.0, 2.5, 2.4, 1.0, 1.0, 1.0, 1.0, 1.0]
    for loss in losses[:4]:
        whole.observe(loss)
    half.restore(whole.capture())
    for loss in losses[4:]:
        assert whole.observe(loss) == half.observe(loss)
        assert torch.equal(whole.capture(), half.capture())


def network(value):
    """A model whose weights tell its epoch."""
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, value)
    return model


def test_patience_ends_and_gives_the_best_weights_back():
    patience, model = Patience(2, keep_best=True), network(0.0)
    told = []
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 2.0], 1):
        nn.init.constant_(model.weight, float(epoch))
        told.append(patience.observe(loss, model))
    assert told == [False, False, False, True]
    assert patience.put_back(model)
    assert bool((model.weight == 2.0).all())


def test_the_newest_weights_need_not_be_put_back():
    patience, model = Patience(0, keep_best=True), network(1.0)
    for loss in (3.0, 2.0, 1.0):
        assert not patience.observe(loss, model)
    assert not patience.put_back(model)
    assert not Patience(3, keep_best=False).put_back(model)


def test_patience_goes_on_where_it_was():
    whole = Patience(2, keep_best=True)
    whole.observe(3.0, network(1.0))
    whole.observe(4.0, network(2.0))
    saved = whole.capture()
    half = Patience(2, keep_best=True)
    half.restore(saved, network(0.0))
    assert half.observe(5.0, network(3.0)) is whole.observe(5.0, network(3.0)) is True
    model = network(9.0)
    half.put_back(model)
    assert bool((model.weight == 1.0).all())
    model.weight.data.fill_(7.0)
    assert bool((saved["weights"]["weight"] == 1.0).all()), "the saved state is not a part of the model"
