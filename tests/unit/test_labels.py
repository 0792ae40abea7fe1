"""Labels, features and devices that cannot be trained with are named before the first epoch; fewer classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainables.contract import Data, Fidelity, Session, TrainableError, resolve
from trainables.data.rows import of_classes, open_rows
from unit.trainable_helpers import Blobs, Pairs

CPU = torch.device("cpu")


class Given(Blobs):
    """The clusters, with splits changed by functions, and a model of so many outputs."""

    def __init__(self, outputs=3, **changes):
        super().__init__()
        self.outputs, self.changes = outputs, changes

    def data(self, config, fidelity):
        found = super().data(config, fidelity)
        splits = {name: getattr(found, name) for name in ("train", "val", "test")}
        return Data(**{name: self.changes.get(name, lambda *pair: pair)(*pair) for name, pair in splits.items()})

    def model(self, config, data):
        return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, self.outputs))


def run(trainable, config=None, **fidelity):
    return list(resolve(trainable)(config or {}, Session(Fidelity(1, **fidelity))))


def put(place, value):
    """A function that puts a value in a row of the inputs (x) or of the labels (y)."""

    def change(x, y):
        x, y = x.clone(), y.clone()
        (x if place == "x" else y)[4] = value
        return x, y

    return change


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        (Given(train=put("y", -1)), r"data\.train: the label is -1 in row 4 \(from 0\)\. Classes count from 0"),
        (Given(val=put("y", 7)), r"data\.val has 1 rows of classes that train has no row of: the label 7 in row 4"),
        (Given(test=put("y", 3)), r"data\.test has 1 rows .* the label 3 in row 4"),
        (Given(train=put("y", 12)), r"model: it gives 3 outputs, but data\.train has the label 12 in row 4 .*0 … 12"),
        (Given(outputs=2), r"model: it gives 2 outputs, but data\.train has the label 2 in row 2"),
        (Given(train=put("x", math.nan)), r"data\.train\.x is nan in row 4, place 0 \(from 0\)\. Fill in"),
        (Given(val=put("x", math.inf)), r"data\.val\.x is inf in row 4, place 0"),
    ],
    ids=["below 0", "unknown to train", "in test", "too high", "too few outputs", "nan", "inf"],
)
def test_what_cannot_be_trained_with_is_named(trainable, message):
    with pytest.raises(TrainableError, match=message):
        run(trainable)


class Counts(Given):
    """Whole numbers that are no classes, under a loss of its own."""

    def loss(self, output, batch):
        return nn.functional.poisson_nll_loss(output[:, 0], batch[1].float())


def test_a_loss_of_its_own_may_mean_anything_by_whole_numbers():
    assert math.isfinite(run(Counts(val=put("y", 57)))[0].metrics["val/loss"])


def test_sums_that_overflow_are_not_taken_for_missing_numbers():
    huge = torch.full((3, 2), 3e38)
    assert len(open_rows("train", (huge, torch.zeros(3)), CPU)) == 3


@pytest.mark.parametrize("config", [{"batch_size": 1}, {"batch_size": 1, "accumulate": 4}])
def test_a_batch_of_one_row_under_batchnorm_is_told(config):
    with pytest.raises(TrainableError, match=r"a batch of 1 row under BatchNorm.*Raise batch_size \(it is 1, for 1 wo"):
        run(Given(), config)


@pytest.mark.parametrize("config", [{"batch_size": 8, "accumulate": 8}, {"batch_size": 29, "accumulate": 2}])
def test_no_part_of_a_batch_is_too_small_for_batchnorm(config):
    assert math.isfinite(run(Given(), config)[0].metrics["val/loss"])


def test_a_device_that_is_not_there_is_told():
    absent = torch.device("cuda", torch.cuda.device_count())
    with pytest.raises(TrainableError, match=rf"{absent} is not there"):
        list(resolve(Blobs())({}, Session(Fidelity(1), absent)))


def rows_of_classes(*counts):
    """Splits whose row number n is its own input; so many rows of each class, mixed."""
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    x = torch.arange(len(y)).float()[:, None]
    return {name: open_rows(name, (x, y), CPU) for name in ("train", "val")}, y


def test_fewer_classes_are_the_frequent_ones_with_labels_from_0():
    splits, y = rows_of_classes(5, 20, 9, 9, 2)
    seen = {}
    for count in (2, 3, 5):
        rows = of_classes(splits, count)["val"]
        ((x, labels),) = rows.batches(torch.arange(len(rows)), 100)
        assert torch.equal(labels, rows.targets)
        seen[count] = {(int(y[int(row)]), int(label)) for row, label in zip(x, labels, strict=True)}
    assert seen == {2: {(1, 0), (2, 1)}, 3: {(1, 0), (2, 1), (3, 2)}, 5: {(n, n) for n in range(5)}}


def test_fewer_classes_come_in_the_order_asked_for():
    splits, y = rows_of_classes(5, 20, 9)
    rows = of_classes(splits, 2)["train"]
    assert len(rows) == 29
    order = torch.tensor([3, 0, 11])
    ((x, labels),) = rows.batches(order, 3)
    kept = (y != 0).nonzero().flatten()
    assert x[:, 0].long().tolist() == kept[order].tolist()
    assert labels.tolist() == (y[kept[order]] - 1).tolist()


def test_a_trial_of_fewer_classes_sees_their_rows_only():
    whole, less = run(Blobs(), {"batch_size": 16})[0], run(Blobs(), {"batch_size": 16}, classes=2)[0]
    assert less.metrics["val/accuracy"] != whole.metrics["val/accuracy"]
    easy = list(resolve(Blobs())({"lr": 0.02, "batch_size": 16}, Session(Fidelity(12, classes=2))))[-1]
    assert easy.metrics["val/accuracy"] > 0.9


@pytest.mark.parametrize(
    ("trainable", "classes", "message"),
    [
        (Blobs(), 4, r"classes is 4, and train has 3\. Give 2 … 3"),
        (Blobs(), 1, r"classes is 1"),
        (Blobs(as_dataset=True), 2, r"the targets of data\.train are not at hand\. Give whole numbers"),
        (Given(**{n: lambda x, y: (x, y.float()) for n in ("train", "val")}), 2, r"are \(90,\), torch\.float32\. Give"),
    ],
)
def test_classes_that_cannot_be_fewer_are_told(trainable, classes, message):
    with pytest.raises(TrainableError, match=message):
        run(trainable, classes=classes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_arrive_on_a_gpu_as_they_are_read():
    draw = torch.Generator().manual_seed(0)
    pairs = Pairs(torch.randn(1000, 64, generator=draw), torch.arange(1000))
    rows, device = torch.randperm(1000, generator=draw), torch.device("cuda")
    here = list(open_rows("train", pairs, CPU).batches(rows, 64))
    there = [(x * 2, y) for x, y in open_rows("train", pairs, device).batches(rows, 64)]
    for (x, y), (doubled, labels) in zip(here, there, strict=True):
        assert torch.equal(doubled.cpu(), x * 2)
        assert torch.equal(labels.cpu(), y)


class NoRows(Blobs):
    """Validation has no row of the frequent classes."""

    def data(self, config, fidelity):
        x = torch.randn(60, 8)
        y = torch.tensor([0] * 25 + [1] * 25 + [2] * 10)
        return Data((x, y), (x[50:], y[50:]))


def test_classes_without_a_validation_row_are_told():
    with pytest.raises(TrainableError, match=r"classes is 2, and data\.val has no row of the classes 0, 1"):
        run(NoRows(), {"batch_size": 16}, classes=2)


def test_labels_of_a_dataset_and_outputs_that_are_no_tensor_are_told_at_the_first_step():
    class Hidden(Given):
        def data(self, config, fidelity):
            return Data(*(Pairs(*split) for split in (super().data(config, fidelity).train,) * 2))

    with pytest.raises(TrainableError, match=r"data\.train: Target 2 is out of bounds.*gives 2 outputs"):
        run(Hidden(outputs=2))

    class Several(Given):
        def model(self, config, data):
            inner = super().model(config, data)
            inner.register_forward_hook(lambda module, x, output: (output, output))
            return inner

    with pytest.raises(TrainableError, match=r"it gives a tuple, and the default loss needs a tensor"):
        run(Several())
