"""Random changes of rows: what is drawn, that it is the row's own, and what each transform does to an image."""

from __future__ import annotations

import math

import pytest
import torch

from trainables.augment import Augmentation, augmentation, series, text
from trainables.augment.draws import Draws, _mixed
from trainables.augment.images import LEVELS, Strength, changed
from trainables.augment.mixing import Mixed, Mixing
from trainables.contract import Data, Fidelity, Session, TrainableError, resolve
from trainables.objective import default_loss

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
    x, augment = images(), Augmentation(level, {}, seed=5)
    together = augment(2, torch.arange(12), x)
    assert together.shape == x.shape
    assert together.dtype == x.dtype
    order = torch.tensor([7, 0, 11])
    assert torch.equal(augment(2, order, x[order]), together[order])
    assert not torch.equal(augment(3, order, x[order]), together[order]), "otherwise in another epoch"
    assert not bool((together == x).flatten(1).all(1).any()), "every row is changed"


def test_levels_rise():
    x = images(200)
    moved = [float((Augmentation(level, {}, 0)(1, torch.arange(200), x) - x).abs().mean()) for level in (1, 2, 3)]
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


def test_a_rotation_is_one_also_where_the_sides_differ():
    x = torch.zeros(300, 1, 21, 61)
    x[:, :, 10, 38] = 1.0  # 8 to the right of the middle
    found = of(Strength(rotation=30.0), x)[:, 0]
    weight = found.sum((1, 2))
    down = (found.sum(2) * (torch.arange(21.0) - 10)).sum(1) / weight
    across = (found.sum(1) * (torch.arange(61.0) - 30)).sum(1) / weight
    assert float(((down**2 + across**2).sqrt() - 8).abs().max()) < 0.3
    assert 25 < float((torch.atan2(down, across) * 180 / math.pi).abs().max()) < 32


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
def test_what_has_no_transforms_is_told(x):
    with pytest.raises(TrainableError, match=r"rows are to be augmented, but a batch is of shape .*\. Give images"):
        Augmentation(2, {}, 0)(1, torch.arange(4), x)


def test_a_flip_mirrors_its_share_of_the_rows():
    x = images(400, 5)
    found = of(Strength(flip=0.25), x)
    flipped = (found == x.flip(3)).flatten(1).all(1)
    assert bool((flipped | (found == x).flatten(1).all(1)).all())
    assert 70 < int(flipped.sum()) < 130


def test_a_crop_fills_the_image_with_a_part_of_it():
    ramp = torch.linspace(0, 1, 32).expand(200, 1, 32, 32)
    found = of(Strength(crop=0.4), ramp)
    width = found[:, 0, 16, -1] - found[:, 0, 16, 0]
    assert float(width.min()) > 0.55
    assert float(width.max()) < 1.01
    assert float(width.max() - width.min()) > 0.3
    assert float((found[:, 0].diff(dim=2) >= -1e-6).float().min()) == 1.0, "in order"
    assert float(found[:, 0, 16, 0].std()) > 0.02, "from anywhere"


def waves(rows=50, length=64):
    """Rising series of two channels: where a value is from can be read off it."""
    return torch.linspace(0, 1, length).expand(rows, 2, length).clone()


def of_series(strength, x):
    return series.changed(x, strength, Draws(1, 1, torch.arange(len(x))))


def test_series_move_in_time_by_less_than_their_share():
    found = of_series(series.Strength(shift=0.2), waves())
    moved = found[:, 0, 32] - waves()[:, 0, 32]
    assert float(moved.abs().max()) <= 0.2 + 1e-6
    assert float(moved.max()) > 0.15
    assert float(moved.min()) < -0.15
    assert torch.equal(found[:, 0], found[:, 1]), "channels stay in step"


def test_a_warp_bends_the_time_and_never_turns_it_back():
    found = of_series(series.Strength(warp=0.5), waves())[:, 0]
    assert float(found.diff(dim=1).min()) >= 0
    assert torch.allclose(found[:, 0], torch.zeros(50), atol=1e-6)
    assert torch.allclose(found[:, -1], torch.ones(50), atol=1e-6)
    assert float((found - waves()[:, 0]).abs().max()) > 0.05


def test_a_crop_of_a_series_fills_its_length():
    found = of_series(series.Strength(crop=0.5), waves())[:, 0]
    length = found[:, -1] - found[:, 0]
    assert 0.49 < float(length.min()) < 0.7
    assert float(length.max()) <= 1.0


def test_scaling_and_noise_are_a_channels_own():
    x = waves() + 1.0
    ratio = of_series(series.Strength(scaling=0.3), x) / x
    assert float((ratio - ratio[:, :, :1]).abs().max()) < 1e-5
    assert float((ratio - 1).abs().max()) <= 0.3 + 1e-5
    assert not torch.equal(ratio[:, 0], ratio[:, 1])
    x = torch.randn(40, 2, 400) * torch.tensor([1.0, 50.0])[:, None]
    noise = of_series(series.Strength(noise=0.1), x) - x
    assert float((noise.std(2) / x.std(2)).mean()) == pytest.approx(0.1, rel=0.05)


SENTENCES = torch.tensor([[5, 6, 2, 7, 8, 9, 2, 4, 2, 0, 0, 0]]).repeat(60, 1)


def test_sentences_change_places_whole_and_padding_stays_last():
    found = text.changed(SENTENCES, text.Strength(order=1.0), Draws(1, 1, torch.arange(60)))
    orders = set()
    for row in found.tolist():
        assert row[-3:] == [0, 0, 0]
        words = " ".join(map(str, row[:9]))
        sentences = [tuple(s.split()) for s in words.removesuffix(" 2").split(" 2 ")]
        assert sorted(sentences) == [("4",), ("5", "6"), ("7", "8", "9")]
        orders.add(tuple(sentences))
    assert len(orders) == 6, "every order comes up"


def test_a_share_of_the_words_becomes_unknown_and_nothing_else():
    tokens = torch.randint(3, 50, (100, 80))
    tokens[:, 60:] = 0
    tokens[:, 20] = 2
    found = text.changed(tokens, text.Strength(dropout=0.3), Draws(1, 1, torch.arange(100)))
    other = found != tokens
    assert bool((found[other] == 1).all())
    assert not bool(other[:, 60:].any())
    assert not bool(other[:, 20].any())
    assert float(other[:, :20].float().mean()) == pytest.approx(0.3, abs=0.03)


def test_a_share_of_the_words_gives_way_to_synonyms():
    table = torch.arange(50)[:, None].repeat(1, 2)
    table[7] = torch.tensor([40, 41])
    tokens = torch.tensor([7, 8, 2, 7, 0]).repeat(2000, 1)
    changes, _ = augmentation({"augment_synonyms": 0.3}, 0, 1, table)
    found = changes(1, torch.arange(2000), tokens)
    assert torch.equal(found[:, [1, 2, 4]], tokens[:, [1, 2, 4]])
    assert set(found[:, [0, 3]].unique().tolist()) == {7, 40, 41}
    assert float((found[:, 0] == 40).float().mean()) == pytest.approx(0.15, abs=0.03)
    with pytest.raises(TrainableError, match=r"data\(\) gives no table\. Give Data\(synonyms=…\)"):
        augmentation({"augment_synonyms": 0.3}, 0, 1)


@pytest.mark.parametrize("x", [torch.randn(12, 3, 40), torch.randint(1, 30, (12, 25))], ids=["series", "text"])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_row_of_any_kind_is_changed_alike_in_any_batch(x, level):
    augment, order = Augmentation(level, {}, seed=5), torch.tensor([7, 0, 11])
    together = augment(2, torch.arange(12), x)
    assert together.shape == x.shape
    assert together.dtype == x.dtype
    assert torch.equal(augment(2, order, x[order]), together[order])
    assert not torch.equal(together, x)


def test_a_single_transform_goes_over_the_level():
    changes, mixing = augmentation({"augment_noise": 0.0, "augment_flip": 1.0, "lr": 1}, 0, 3)
    assert mixing is None
    assert torch.equal(changes(1, torch.arange(12), images()), images().flip(3))
    without, _ = augmentation({f"augment_{name}": 0 for name in ("shift", "brightness")}, 1, 3)
    assert torch.equal(without(1, torch.arange(12), images()), images())
    assert augmentation({"augment_flip": 0.0}, 0, 3) == (None, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"augment_flop": 1}, r"augment_flop would be read by nobody; known are .*augment_flip"),
        ({"augment_flip": "yes"}, r"augment_flip is 'yes'\. Give a number of at least 0"),
        ({"augment_noise": -1}, "Give a number of at least 0"),
    ],
)
def test_a_transform_that_is_none_is_told(config, message):
    with pytest.raises(TrainableError, match=message):
        augmentation(config, 0, 0)


def test_a_transform_of_another_kind_is_told():
    changes, _ = augmentation({"augment_warp": 0.1}, 0, 0)
    with pytest.raises(TrainableError, match=r"augment_warp changes nothing of images\. For images there"):
        changes(1, torch.arange(12), images())


def test_mixup_is_a_weighted_mean_of_a_row_and_its_partner():
    mixing, rows, x, y = Mixing(mixup=0.5, seed=3), torch.arange(200), torch.randn(200, 4), torch.arange(200) % 5
    partners = mixing.partners(2, rows, torch.arange(50, 150))
    assert set(partners.tolist()) <= set(range(50, 150))
    assert len(partners.unique()) > 60
    found, target = mixing(2, rows, x, y, (x[partners], y[partners]))
    weight = target.weight[:, None]
    assert torch.allclose(found, weight * x + (1 - weight) * x[partners], atol=1e-6)
    assert 70 < int((target.weight < 1).sum()) < 130
    assert torch.equal(target.second, y[partners])
    part = torch.tensor([17, 3, 90])
    again, _ = mixing(2, part, x[part], y[part], (x[partners[part]], y[partners[part]]))
    assert torch.equal(again, found[part]), "a row is mixed alike in any batch"


def test_cutmix_gives_a_box_and_weighs_the_targets_by_its_size():
    mixing, rows, x = Mixing(cutmix=1.0, seed=3), torch.arange(60), torch.rand(60, 2, 10, 10)
    other = x.roll(1, 0)
    found, target = mixing(2, rows, x, torch.arange(60), (other, torch.arange(60).roll(1)))
    theirs = (found == other).all(1)
    assert bool((theirs | (found == x).all(1)).all())
    assert torch.allclose(target.weight, 1 - theirs.float().mean((1, 2)), atol=1e-6)
    for area in theirs:
        rows_, columns = area.any(1).sum(), area.any(0).sum()
        assert int(area.sum()) == int(rows_ * columns), "a box"


def test_mixed_targets_are_learnt_by_their_weights():
    logits, y, other = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 2, 2])
    weight = torch.tensor([1.0, 0.5, 0.25, 0.0, 0.9, 0.1])
    probabilities = torch.zeros(6, 4)
    for row in range(6):
        probabilities[row, y[row]] += weight[row]
        probabilities[row, other[row]] += 1 - weight[row]
    expected = torch.nn.functional.cross_entropy(logits, probabilities, label_smoothing=0.1)
    mixed = default_loss(logits, (logits, Mixed(y, other, weight)), 0.1)
    assert float(mixed) == pytest.approx(float(expected), rel=1e-5)
    floats = Mixed(y.float(), other.float(), weight)
    errors = weight * (logits[:, 0] - y) ** 2 + (1 - weight) * (logits[:, 0] - other) ** 2
    assert float(default_loss(logits[:, 0], (logits, floats))) == pytest.approx(float(errors.mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("mixing", "x", "message"),
    [
        (Mixing(cutmix=1.0), torch.rand(4, 6), "augment_cutmix mixes images"),
        (Mixing(mixup=1.0), torch.ones(4, 6, dtype=torch.int64), "augment_mixup mixes inputs that are floats"),
    ],
)
def test_what_cannot_be_mixed_is_told(mixing, x, message):
    with pytest.raises(TrainableError, match=message):
        mixing(1, torch.arange(4), x, torch.arange(4), (x, torch.arange(4)))


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
