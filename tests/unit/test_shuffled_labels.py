"""Labels dealt anew: of every kind of split, and only a network that was told otherwise knows them."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pandas
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset, random_split

from sweeps.insight.soundness import judge
from trainables.contract import Data, Fidelity
from trainables.data.mapped import Mapped
from trainables.data.rows import open_rows
from trainables.footprint import CPU
from trainables.probes import learn, probe, seen
from trainables.shuffled_labels import LEAST_ROWS, Shuffled, dealt, shuffled
from trainables.training import prepare
from unit.trainable_helpers import Blobs, Line, Pairs

FIDELITY = Fidelity(1)
X, Y = torch.randn(60, 4, generator=torch.Generator().manual_seed(3)), torch.arange(60) % 5


class Labelled(Dataset):
    """Rows whose labels stand in `targets`, as torchvision has them; `tell` puts them into the inputs."""

    def __init__(self, x, y, tell=False):
        self.x, self.targets, self.tell = x, y, tell

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        x, y = self.x[row], self.targets[row]
        return (torch.cat([x, nn.functional.one_hot(y, 5)]) if self.tell else x), y


class Deaf(Labelled):
    """One whose `targets` are not what its rows go by."""

    def __getitem__(self, row):
        return X[row], Y[row]


@pytest.mark.parametrize(
    "split",
    [
        (X, Y),
        [X.numpy(), Y.numpy()],
        (X, Y.tolist()),
        (pandas.DataFrame(X.numpy()), pandas.Series(Y.numpy(), index=range(60, 120))),
        TensorDataset(X, Y),
        Pairs(X, Y),
        Labelled(X, Y),
        Labelled(X, Y.tolist()),
        Deaf(X, Y),
        random_split(Pairs(X, Y), [60], torch.Generator().manual_seed(0))[0],
        Mapped(X, Y, None).rows(torch.arange(60).flip(0)),
    ],
    ids=["tensors", "arrays", "a list", "pandas", "tensor dataset", "dataset", "targets", "targets as a list",
         "targets that mean nothing", "subset", "view"],
)  # fmt: skip
def test_the_rows_stay_and_the_labels_change_places(split):
    def read(given):
        return next(open_rows("train", given, CPU).batches(torch.arange(60), 60))

    (x, y), (same, other) = read(split), read(shuffled(split, torch.Generator().manual_seed(1)))
    assert torch.equal(x, same)
    assert torch.equal(y.sort().values, other.sort().values)
    assert 0.02 < float((y == other).float().mean()) < 0.5, "one in five by chance"
    assert torch.equal(read(split)[1], y), "what was given is as it was"
    again = read(shuffled(split, torch.Generator().manual_seed(1)))[1]
    assert torch.equal(other, again)


def test_a_view_is_still_one_and_its_table_too():
    mapped = Mapped(X, Y, list("abcde"), {1: 3})
    view = shuffled(mapped.rows(torch.arange(30)), torch.Generator().manual_seed(1))
    assert (view.table.classes, view.table.categories, len(view)) == (mapped.classes, mapped.categories, 30)
    assert view.table.x is X
    assert torch.equal(view.table.y[30:], Y[30:]), "others' labels stay"


class Tells(Blobs):
    """Blobs of which the validation labels reach the network past training, in some way."""

    def __init__(self, how):
        super().__init__(train=120, val=60)
        self.how = how

    def data(self, config, fidelity):
        found = super().data(config, fidelity)
        if self.how != "inputs":
            return found
        return Data(*(Labelled(*split, tell=True) for split in (found.train, found.val)))

    def model(self, config, data):
        if self.how == "inputs":
            return nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
        return Remembers(data)


class Remembers(nn.Module):
    """A network that looks its rows up in the data that it was made for."""

    def __init__(self, data):
        super().__init__()
        self.x = torch.cat([data.train[0], data.val[0]])
        self.y = torch.cat([data.train[1], data.val[1]])
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        nearest = torch.cdist(x, self.x).argmin(1)
        return self.last(nn.functional.one_hot(self.y[nearest], 3).float())


@pytest.mark.parametrize("how", ["model", "inputs"])
def test_labels_that_reach_the_network_past_training_are_found(how):
    probes = asdict(probe(Tells(how), {"batch_size": 16}, FIDELITY, limit_s=6))
    (found,) = (one for one in judge(probes) if one.finding == "learns_shuffled_labels")
    assert found.severity == "block"
    assert found.evidence["loss"] < 0.7 * found.evidence["others"]
    assert "Does model() look into data.val" in found.message


def of_network(trainable, seed=0, batch_size=16):
    training = prepare(Shuffled(trainable), {"batch_size": batch_size}, Fidelity(1, seed=seed), CPU)
    return learn(training, 1e-2, seen, 1.0, told=True).dealt


@pytest.mark.parametrize("trainable", [Blobs(), Blobs(as_dataset=True), Line(), Blobs(train=12, val=200)])
def test_a_network_that_was_told_nothing_fits_one_shuffle_as_well_as_another(trainable):
    """Also where it knows its few rows by heart; the deviations are those of chance."""
    found = [of_network(trainable, seed, 6) for seed in range(4)]
    assert all(abs(one.others - one.loss) < 3.5 * one.spread for one in found), found


def test_too_few_rows_one_label_and_a_loss_that_is_no_number_say_nothing():
    assert of_network(Blobs(val=LEAST_ROWS)) is not None
    assert of_network(Blobs(val=LEAST_ROWS - 1)) is None

    class OfOneLabel(Blobs):
        def data(self, config, fidelity):
            found = super().data(config, fidelity)
            return Data(*((x, torch.zeros_like(y)) for x, y in (found.train, found.val)))

    assert of_network(OfOneLabel()) is None

    class NoNumber(Blobs):
        def loss(self, output, batch):
            return nn.functional.cross_entropy(output, batch[1]) * math.nan

    assert of_network(NoNumber()) is None


def test_an_own_loss_that_reads_no_labels_is_told_as_that():
    class Autoencoder(Blobs):
        def model(self, config, data):
            return nn.Linear(8, 8)

        def loss(self, output, batch):
            return (output - batch[0]).square().mean()

        def metrics(self, output, batch):
            return {"size": output.abs().mean()}

    assert of_network(Autoencoder()).spread == 0
    probes = asdict(probe(Autoencoder(), {"batch_size": 16}, FIDELITY, limit_s=4))
    (found,) = (one for one in judge(probes) if one.finding == "learns_shuffled_labels")
    assert (found.severity, "autoencoder" in found.message) == ("info", True)


def test_losses_are_compared_without_holding_the_outputs_and_in_the_time_that_there_is():
    training = prepare(Blobs(val=64), {"batch_size": 4}, FIDELITY, CPU)
    calls = []
    slow = training.objective.loss

    def counted(output, batch):
        calls.append(len(batch[1]))
        return slow(output, batch)

    object.__setattr__(training.objective, "loss", counted)
    assert dealt(training, 1e-6).rows == 64
    assert len(calls) == 4 * (1 + 39), "four batches of sixteen rows, at least so many shuffles of each"


def test_what_was_learned_is_told_from_chance():
    training = prepare(Blobs(), {"batch_size": 16}, FIDELITY, CPU)
    before, after = dealt(training, 1.0), learn(training, 1e-2, seen, 1.0, told=True).dealt
    assert abs(before.others - before.loss) < 5 * before.spread
    assert after.others - after.loss > 5 * after.spread
    assert after.loss < after.lowest
    assert np.isfinite(after.lowest)
