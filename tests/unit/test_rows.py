"""Rows by index: shares that nest, orders that depend on nothing else, and splits of every kind."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from trainables.contract import TrainableError
from trainables.data.rows import drawn, open_rows, subset
from unit.trainable_helpers import Pairs

CPU = torch.device("cpu")


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


def rows_of(split, order, batch_size=4):
    return list(open_rows("train", split, CPU).batches(torch.as_tensor(order), batch_size))


@pytest.mark.parametrize("targets", [500, torch.randn(500), torch.arange(500) % 7])
def test_shares_nest_and_have_their_size(targets):
    previous: set[int] = set()
    for fraction in (0.02, 0.1, 0.25, 0.5, 1.0):
        rows = subset(targets, fraction)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert len(rows) == round(500 * fraction)
        assert previous < set(rows.tolist())
        previous = set(rows.tolist())


def test_a_share_keeps_the_classes_shares_and_a_row_of_each():
    targets = torch.tensor([0] * 700 + [1] * 290 + [5] * 9 + [9])[torch.randperm(1000)]
    counts = targets[subset(targets, 0.1)].bincount()
    assert counts[0] == pytest.approx(70, abs=2)
    assert counts[1] == pytest.approx(29, abs=2)
    assert counts[5] >= 1
    assert counts[9] == 1
    assert targets[subset(targets, 1e-6)].tolist() != []
    assert sorted(targets[subset(targets, 1e-6)].tolist()) == [0, 1, 5, 9]


def test_a_share_is_drawn_not_cut_off_and_is_the_same_every_time():
    torch.manual_seed(1)
    first = subset(1000, 0.1)
    torch.manual_seed(2)
    assert torch.equal(first, subset(1000, 0.1))
    assert first.float().mean() == pytest.approx(500, abs=150)
    assert not torch.equal(first, subset(1000, 0.1, seed=1))
    ordered = torch.arange(3).repeat_interleave(100)  # rows sorted by class, as files often are
    assert (subset(ordered, 0.2) % 100).float().mean() == pytest.approx(50, abs=20)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_a_share_outside_its_bounds_is_refused(fraction):
    with pytest.raises(TrainableError, match=r"data_fraction is .* above 0 and at most 1"):
        subset(10, fraction)


def test_an_order_depends_on_seed_and_epoch_only():
    before = torch.get_rng_state()
    orders = {(seed, epoch): tuple(drawn(50, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)}
    assert torch.equal(before, torch.get_rng_state())
    assert len(set(orders.values())) == 16
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert orders[2, 3] == tuple(drawn(50, 2, 3).tolist())


def test_batches_hold_the_rows_asked_for_in_that_order_from_every_kind_of_split():
    x, y = torch.arange(20.0).reshape(10, 2), torch.arange(10)
    order = [7, 1, 3, 9, 0, 2]
    kinds = [
        (x, y),
        [x.numpy(), y.numpy()],
        TensorDataset(x, y),
        Pairs(x, y),
        Subset(Pairs(x, y), range(10)),
        Pairs(x.numpy(), y.tolist()),
    ]
    for split in kinds:
        batches = rows_of(split, order)
        assert [len(targets) for _, targets in batches] == [4, 2]
        assert torch.cat([targets for _, targets in batches]).tolist() == order
        assert torch.equal(torch.cat([inputs for inputs, _ in batches]), x[order])


def test_types_become_what_models_and_losses_take():
    x, y = np.zeros((4, 2)), np.arange(4, dtype=np.int32)
    for split in ((x, y), Pairs(x, y)):
        ((inputs, targets),) = rows_of(split, range(4))
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
    ((_, targets),) = rows_of(Pairs(x, [0.5, 1.5, 2.5, 3.5]), range(4))
    assert targets.dtype == torch.float32


def test_read_only_and_strided_arrays_are_taken_as_they_are():
    x, y = np.arange(16.0, dtype=np.float32).reshape(8, 2)[::2], np.arange(4)
    x.flags.writeable = False
    ((inputs, _),) = rows_of((x, y), range(4))
    assert inputs.tolist() == x.tolist()


def test_a_dataset_reads_without_drawing_from_the_trials_generator():
    before = torch.get_rng_state()
    rows_of(Pairs(torch.zeros(4, 1), torch.zeros(4)), range(4))
    assert torch.equal(before, torch.get_rng_state())


def test_a_datasets_targets_are_known_where_it_has_them():
    data = Pairs(torch.zeros(3, 1), torch.zeros(3))
    assert open_rows("train", data, CPU).targets is None
    data.targets = [2, 0, 1]
    assert open_rows("train", data, CPU).targets.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(4)), r"x has shape \(3, 2\) and y \(4,\)"),
        ((torch.zeros(3), torch.tensor(1)), r"first dimensions must be equal"),
        ((torch.zeros(3), torch.zeros(3), torch.zeros(3)), r"is a tuple of 3\. Give the pair"),
        ((torch.zeros(0, 2), torch.zeros(0)), r"data\.val has no rows"),
        (Pairs([], []), r"data\.val has no rows"),
        ((np.zeros((2, 1)), np.array(["cat", "dog"])), r"val\.y is a ndarray that is no tensor.*encode text"),
        (([[1.0], [1.0, 2.0]], [0, 1]), r"val\.x is a list that is no tensor"),
        (DataLoader(TensorDataset(torch.zeros(2), torch.zeros(2))), r"is a DataLoader.*Give its \.dataset"),
        (Stream(), r"cannot be fetched by index"),
        (None, r"NoneType, whose rows cannot be fetched"),
    ],
)
def test_a_split_that_cannot_be_used_is_named_with_the_mend(split, message):
    with pytest.raises(TrainableError, match=message):
        open_rows("val", split, CPU)


def test_a_dataset_whose_rows_are_no_pairs_is_named():
    with pytest.raises(TrainableError, match=r"a row of Tensors is not a pair\. Return \(x, y\)"):
        rows_of(type("Tensors", (Pairs,), {"__getitem__": lambda self, row: self.x[row]})(torch.zeros(4), None), [0])


def test_a_pair_of_pandas_is_one_of_arrays():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4, 5, 6]}, index=[7, 8, 9])
    ((x, y),) = rows_of((frame, pd.Series([0, 1, 0], index=frame.index)), [2, 0])
    assert x.tolist() == [[3.0, 6.0], [1.0, 4.0]]
    assert y.tolist() == [0, 0]
    with pytest.raises(TrainableError, match=r"train\.x is a ndarray that is no tensor.*encode text"):
        rows_of((frame.assign(c="red"), pd.Series([0, 1, 0])), [0])
