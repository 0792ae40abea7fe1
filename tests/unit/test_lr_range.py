"""The learning-rate range test: where its range lies, and that it leaves no trace."""

from __future__ import annotations

import math
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from trainables.contract import Data, Fidelity, TrainableError
from trainables.examples.digits import Digits
from trainables.lr_range import FEWEST, HIGHEST, LOWEST, STEPS, judged, lr_range, running_mean
from unit.trainable_helpers import Blobs

FIDELITY = Fidelity(1)
CONFIG = {"batch_size": 16, "optimizer": "sgd", "momentum": 0.0}


class Quadratic:
    """A loss of which the largest useful rate is known: w² × curvature / 2 diverges beyond 2 / curvature."""

    def __init__(self, curvature):
        self.curvature = curvature

    def data(self, config, fidelity):
        x = torch.ones(64, 1)
        return Data((x, torch.zeros(64)), (x, torch.zeros(64)))

    def model(self, config, data):
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(model.weight)
        return model

    def loss(self, output, batch):
        return self.curvature * output.square().mean() / 2


@pytest.mark.parametrize("curvature", [1.0, 10.0, 100.0])
def test_the_centre_lies_below_where_the_loss_diverges(curvature):
    found = lr_range(Quadratic(curvature), CONFIG, FIDELITY)
    limit = 2 / curvature
    assert found.fell
    assert found.low < found.centre < limit
    assert found.centre > limit / 100
    assert found.centre == pytest.approx(found.low * 3)
    assert found.high == pytest.approx(found.low * 10)


def test_rates_rise_evenly_on_a_log_scale():
    found = lr_range(Blobs(), CONFIG, FIDELITY)
    steps = np.diff(np.log10(found.rates))
    assert steps == pytest.approx([math.log10(HIGHEST / LOWEST) / (STEPS - 1)] * len(steps))
    assert found.rates[0] == LOWEST
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= STEPS


def test_slow_steps_are_fewer():
    found = lr_range(Blobs(), CONFIG, FIDELITY, limit_s=0.0)
    assert len(found.rates) <= FEWEST
    assert found.rates[0] == LOWEST
    assert found.fell


def test_a_rate_of_the_range_trains_the_digits_well():
    from trainables.contract import Session, resolve

    config = {"batch_size": 64, "optimizer": "adamw", "width": 8}
    found = lr_range(Digits(), config, FIDELITY)
    at = {lr: list(resolve(Digits())({**config, "lr": lr}, Session(Fidelity(3))))[-1].metrics["val/loss"]
          for lr in (found.centre, found.low / 30, found.high * 30)}  # fmt: skip
    assert at[found.centre] < 0.5 * at[found.low / 30]
    assert at[found.centre] < at[found.high * 30] or not math.isfinite(at[found.high * 30])


class Flat(Blobs):
    """One whose loss has no gradient to speak of."""

    def loss(self, output, batch):
        return output.mean() * 1e-12 + 1.0


def test_a_loss_that_never_falls_gives_no_range():
    found = lr_range(Flat(), CONFIG, FIDELITY)
    assert not found.fell
    assert (found.centre, found.low, found.high) == (None, None, None)
    assert not judged([1e-6], [math.nan], [math.nan]).fell


class Raises(Blobs):
    """One that breaks in the middle."""

    def loss(self, output, batch):
        torch.randn(3), random.random(), np.random.rand()
        raise RuntimeError("bad loss")


@pytest.mark.parametrize("trainable", [Blobs(), Raises()], ids=["fine", "raises"])
def test_nothing_of_the_callers_changes(trainable):
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    config = dict(CONFIG)
    raises = pytest.raises(RuntimeError, match="bad loss") if isinstance(trainable, Raises) else nullcontext()
    with raises:
        lr_range(trainable, config, FIDELITY)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]
    assert config == CONFIG


def test_it_is_repeatable():
    assert lr_range(Blobs(), CONFIG, FIDELITY) == lr_range(Blobs(), CONFIG, FIDELITY)


def test_what_cannot_be_trained_is_told():
    with pytest.raises(TrainableError, match="batch_size is 999"):
        lr_range(Blobs(), {**CONFIG, "batch_size": 999}, FIDELITY)


def test_the_mean_is_not_biased_to_its_beginning():
    smoothed = []
    losses = []
    for value in (4.0, 2.0, 3.0):
        losses.append(value)
        smoothed.append(running_mean(losses, smoothed))
    weights = [0.1 * 0.9 ** (2 - n) for n in range(3)]
    assert smoothed[0] == 4.0
    expected = sum(w * v for w, v in zip(weights, losses, strict=True)) / sum(weights)
    assert smoothed[2] == pytest.approx(expected)
