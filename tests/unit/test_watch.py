"""What an epoch shows beside its results: each number against one worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainables.contract import Fidelity, Session, resolve
from trainables.models.series import SeriesCnn
from trainables.models.text import TextEncoder
from trainables.watch import Watch, gradients, rectifiers
from unit.trainable_helpers import Blobs


def grads(*values):
    """Matrices with a gradient of that norm each, and a bias between them, which does not count."""
    made = [nn.Parameter(torch.zeros(1, 2)) for _ in values]
    for parameter, value in zip(made, values, strict=True):
        parameter.grad = torch.tensor([[0.6 * value, 0.8 * value]])
    bias = nn.Parameter(torch.zeros(3))
    bias.grad = torch.full((3,), 1e6)
    return [bias, *made, bias]


def test_gradient_norms_of_an_epoch():
    norms = [torch.tensor(float(n)) for n in range(1, 102)]
    found = gradients(norms, grads(3.0, 7.0, 0.5), scaled=False)
    assert found == pytest.approx(
        {"grad/norm": 51, "grad/norm_p50": 51, "grad/norm_p90": 91, "grad/norm_p99": 100, "grad/first_to_last": 6.0}
    )


def test_steps_that_were_skipped_have_no_norm():
    norms = [torch.tensor(value) for value in (2.0, math.inf, 4.0)]
    assert gradients(norms, grads(1.0), scaled=True)["grad/norm"] == 3.0
    assert gradients(norms, grads(1.0), scaled=False)["grad/norm"] == math.inf
    assert gradients(norms[1:2], grads(math.inf, 1.0), scaled=True) == {
        "grad/norm": 0.0, "grad/norm_p50": 0.0, "grad/norm_p90": 0.0, "grad/norm_p99": 0.0
    }  # fmt: skip


@pytest.mark.parametrize("ends", [(1.0, 0.0), ()])
def test_a_ratio_to_nothing_is_none(ends):
    assert "grad/first_to_last" not in gradients([torch.ones(())], grads(*ends), scaled=False)


def test_calibration_and_confidence():
    watch = Watch(nn.Identity(), True, 8)
    sure, unsure = math.log(9), math.log(3)  # probabilities of 0.9 and 0.75
    for logit, label in [(sure, 0)] * 3 + [(sure, 1)] + [(unsure, 0)] * 4:
        watch.see(torch.tensor([[logit, 0.0]]), (torch.zeros(1, 1), torch.tensor([label])))
    found = watch.metrics(shared=False)
    assert found == pytest.approx(
        {"val/max_probability": (4 * 0.9 + 4 * 0.75) / 8, "val/ece": (4 * abs(0.9 - 0.75) + 4 * abs(0.75 - 1.0)) / 8}
    )


def test_what_is_not_a_number_is_no_confidence_and_no_error():
    watch = Watch(nn.Identity(), True, 8)
    watch.see(torch.tensor([[math.nan, 1.0], [0.0, 1.0]]), (torch.zeros(2, 1), torch.tensor([0, 1])))
    assert watch.metrics(shared=False) == {}


@pytest.mark.parametrize(
    ("output", "targets"), [(torch.zeros(2, 1), torch.zeros(2)), (torch.zeros(2, 3, 5), torch.zeros(2, 5).long())]
)
def test_what_has_no_classes_a_row_has_no_calibration(output, targets):
    watch = Watch(nn.Identity(), True, 8)
    watch.see(output, (torch.zeros(2, 1), targets))
    assert watch.metrics(shared=False) == {}


def with_dead(layer, *dead):
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(1.0)
        layer.bias[list(dead)] = -1e6
    return layer


def dead_units(model, x, batch_size=8):
    watch = Watch(model, False, batch_size)
    with watch.units():
        model(x)
    assert not any(module._forward_hooks for module in model.modules())
    return watch.metrics(shared=False).get("val/dead_units")


def test_dead_units_are_those_that_no_row_of_the_batch_lights():
    rows = torch.zeros(8, 4)
    assert dead_units(nn.Sequential(with_dead(nn.Linear(4, 10), 2, 5, 6), nn.ReLU()), rows) == pytest.approx(0.3)
    images = nn.Sequential(with_dead(nn.Conv2d(1, 5, 3), 0), nn.ReLU())
    assert dead_units(images, torch.zeros(8, 1, 6, 6)) == pytest.approx(0.2)
    assert dead_units(nn.Sequential(nn.Linear(4, 10), nn.GELU()), rows) is None
    one = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    one[0].weight.data = torch.tensor([[1.0], [-1.0]])
    mixed = torch.tensor([[1.0], [-1.0]])
    assert dead_units(one, mixed) == 0.0
    assert dead_units(one, mixed, batch_size=1) == 0.5


def test_units_of_attention_are_the_last_dimension():
    encoder = TextEncoder(20, 2, length=6, width=8, depth=2, activation="relu")
    assert len(rectifiers(encoder)) == 2
    with_dead(encoder.layers.layers[0].linear1, 0, 1, 2, 3)
    with_dead(encoder.layers.layers[1].linear1)
    assert dead_units(encoder.train(), torch.ones(8, 6).long()) == pytest.approx(4 / 64)


def test_a_dead_network_is_seen_while_it_trains():
    class Dead(Blobs):
        def model(self, config, data):
            model = super().model(config, data)
            model[1] = with_dead(nn.Linear(16, 16), *range(12))
            return model

    report = next(iter(resolve(Dead())({"lr": 1e-6}, Session(Fidelity(1)))))
    assert report.metrics["val/dead_units"] == pytest.approx(12 / 16)
    assert 0 <= report.metrics["val/ece"] <= 1


class Odd(nn.Module):
    """A rectifier over what is no rows of units."""

    def __init__(self, make):
        super().__init__()
        self.relu, self.make = nn.ReLU(), make

    def forward(self, x):
        self.relu(self.make(x))
        return x


@pytest.mark.parametrize(
    "make", [lambda x: x[:, 0], lambda x: x.sum(), lambda x: x[:, :0]], ids=["one dimension", "a number", "no units"]
)
def test_what_has_no_units_is_not_looked_at(make):
    assert dead_units(Odd(make), torch.ones(8, 4)) is None


def test_units_of_words_are_the_last_dimension_and_of_series_the_channels():
    words = nn.Sequential(with_dead(nn.Linear(4, 10), 0, 1), nn.ReLU())
    assert dead_units(words, torch.ones(8, 6, 4)) == pytest.approx(0.2)
    series = nn.Sequential(with_dead(nn.Conv1d(2, 8, 3), 0, 1), nn.ReLU())
    assert dead_units(series, torch.ones(8, 2, 9)) == pytest.approx(0.25)
    assert dead_units(SeriesCnn(1, 2, width=4), torch.randn(8, 1, 12)) is not None


def test_many_outputs_are_looked_at_in_parts():
    torch.manual_seed(0)
    x, y = torch.randn(5, 2**19), torch.arange(5)
    watch, whole = Watch(nn.Identity(), True, 8), Watch(nn.Identity(), True, 8)
    for row in range(5):
        watch.see(x[row : row + 1], (x, y[row : row + 1]))
        assert len(watch._held) < 2, "never more than two batches of a million numbers"
    whole.see(x, (x, y))
    assert watch.metrics(shared=False) == pytest.approx(whole.metrics(shared=False))
