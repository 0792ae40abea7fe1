"""Random changes of rows: what is drawn, that it is the row's own, and what each transform does to an image."""

from __future__ import annotations

import math

import pytest
import torch

from trainables.augment import Augmentation
from trainables.augment.draws import Draws, _mixed
from trainables.augment.images import LEVELS, Strength, changed
from trainables.contract import Data, Fidelity, Session, TrainableError, resolve

MASK = 2**64 - 1


def splitmix64(state):
    """The reference, in Python's integers: the next number after a state."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_mix_is_splitmix64():
    assert splitmix64(1234567) == 6457827717110365317  # the reference's own first number
    states = [0, 1, 1234567, 2**63 - 1, 2**63, MASK]
    stepped = torch.tensor([(s + 0x9E3779B97F4A7C15) & MASK for s in states], dtype=torch.uint64).view(torch.int64)
    assert [value & MASK for value in _mixed(stepped).tolist()] == [splitmix64(state) for state in states]


def test_draws_are_spread_evenly_and_not_related():
    draws = Draws(3, 1, torch.arange(20_000))
    first, second = draws.uniform(), draws.uniform()
    for found in (first, second):
        assert bool((found >= 0).all())
        assert bool((found < 1).all())
        counts = torch.histc(found, 20, 0, 1)
        assert float(((counts - 1000) ** 2 / 1000).sum()) < 45, "chi-square with 19 degrees of freedom"
    assert abs(float(torch.corrcoef(torch.stack((first, second)))[0, 1])) < 0.03
    assert abs(float(torch.corrcoef(torch.stack((first[1:], first[:-1])))[0, 1])) < 0.03
    normal = draws.normal()
    assert abs(float(normal.mean())) < 0.03
    assert abs(float(normal.std()) - 1) < 0.03
    assert abs(float((normal.abs() < 1).double().mean()) - math.erf(1 / math.sqrt(2))) < 0.02


@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 2}])
def test_draws_differ_by_seed_and_epoch(other):
    same = {"seed": 3, "epoch": 1, "rows": torch.arange(50)}
    assert torch.equal(Draws(**same).uniform(2), Draws(**same).uniform(2))
    assert not torch.isin(Draws(**{**same, **other}).uniform(), Draws(**same).uniform()).any()


def images(rows=12, size=9):
    """Made-up images."""
    return torch.rand(rows, 2, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_row_is_changed_alike_in_any_batch(level):
    x, augment = images(), Augmentation(level, seed=5)
    together = augment(2, torch.arange(12), x)
    assert together.shape == x.shape
    assert together.dtype == x.dtype
    order = torch.tensor([7, 0, 11])
    assert torch.equal(augment(2, order, x[order]), together[order])
    assert not torch.equal(augment(3, order, x[order]), together[order]), "otherwise in another epoch"
    assert not bool((together == x).flatten(1).all(1).any()), "every row is changed"


def test_levels_rise():
    x = images(200)
    moved = [float((Augmentation(level, 0)(1, torch.arange(200), x) - x).abs().mean()) for level in (1, 2, 3)]
    assert 0 < moved[0] < moved[1] < moved[2]
    assert len(LEVELS) == 4


def of(strength, x, seed=0):
    """The images under one transform."""
    return changed(x, strength, Draws(seed, 1, torch.arange(len(x))))


def test_a_shift_moves_the_picture_by_less_than_its_share():
    x = torch.zeros(300, 1, 21, 21)
    x[:, :, 10, 10] = 1.0
    found = of(Strength(shift=0.2), x)[:, 0]
    places = torch.arange(21.0)
    down = (found.sum(2) * places).sum(1) / found.sum((1, 2)) - 10
    across = (found.sum(1) * places).sum(1) / found.sum((1, 2)) - 10
    for moved in (down, across):
        assert float(moved.abs().max()) <= 0.2 * 21 + 1e-3
        assert float(moved.abs().max()) > 0.15 * 21
        assert abs(float(moved.mean())) < 0.5
    assert abs(float(torch.corrcoef(torch.stack((down, across)))[0, 1])) < 0.2


def test_a_rotation_turns_about_the_middle():
    x = torch.zeros(300, 1, 21, 21)
    x[:, :, 10, 18] = 1.0  # 8 to the right of the middle
    found = of(Strength(rotation=30.0), x)[:, 0]
    places = torch.arange(21.0) - 10
    weight = found.sum((1, 2))
    down, across = (found.sum(2) * places).sum(1) / weight, (found.sum(1) * places).sum(1) / weight
    angle = torch.atan2(down, across) * 180 / math.pi
    assert float(((down**2 + across**2).sqrt() - 8).abs().max()) < 0.3
    assert 25 < float(angle.abs().max()) < 32
    assert abs(float(angle.mean())) < 3


def test_brightness_scales_a_whole_row():
    x = images() + 0.5
    ratio = of(Strength(brightness=0.3), x) / x
    assert float((ratio - ratio[:, :1, :1, :1]).abs().max()) < 1e-6
    assert float((ratio - 1).abs().max()) <= 0.3 + 1e-6
    assert len(ratio[:, 0, 0, 0].unique()) == 12


def test_noise_is_of_the_images_own_scale():
    x = images(50, 30) * torch.tensor([1.0, 100.0]).repeat(25)[:, None, None, None]
    noise = of(Strength(noise=0.1), x) - x
    assert noise.std((1, 2, 3)) / x.std((1, 2, 3)) == pytest.approx([0.1] * 50, rel=0.1)


def test_erasing_sets_one_square_to_the_mean():
    x = images(40, 20)
    found = of(Strength(erasing=0.3), x)
    for before, after in zip(x, found, strict=True):
        erased = (before != after).any(0)
        rows, columns = erased.any(1).nonzero()[:, 0], erased.any(0).nonzero()[:, 0]
        assert bool(erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())
        assert int(erased.sum()) == len(rows) * len(columns)
        assert 1 <= len(rows) <= 7
        assert torch.allclose(after[:, erased], before.mean())


@pytest.mark.parametrize("x", [torch.rand(4, 6), torch.zeros(4, 1, 5, 5, dtype=torch.int64)], ids=["table", "whole"])
def test_what_is_no_image_is_told(x):
    with pytest.raises(TrainableError, match=r"augment is 2, but a batch is of shape .*: no images\. Give floats"):
        Augmentation(2, 0)(1, torch.arange(4), x)


class Seen:
    """Remembers the inputs of each forward pass, and whether it trained."""

    def __init__(self):
        self.passes = []

    def data(self, config, fidelity):
        x = images(30)
        return Data((x[:20], torch.arange(20) % 2), (x[20:], torch.arange(10) % 2))

    def model(self, config, data):
        passes = self.passes

        class Net(torch.nn.Linear):
            def forward(self, x):
                passes.append((self.training, x.clone()))
                return super().forward(x.flatten(1))

        return Net(162, 2)


def test_only_what_is_trained_on_is_changed():
    seen = Seen()
    list(resolve(seen)({"augment": 2, "batch_size": 20}, Session(Fidelity(2))))
    known = images(30).flatten(1)
    trained = [x.flatten(1) for training, x in seen.passes if training]
    measured = [x.flatten(1) for training, x in seen.passes if not training]
    assert len(trained) == 2
    assert all(not bool(torch.isin(row, known).all()) for x in trained for row in x)
    assert all(bool((known == row).all(1).any()) for x in measured for row in x)
    assert not torch.equal(trained[0].sort(0).values, trained[1].sort(0).values)
