"""Where a model errs: classes and rows against ones worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.contract import Data, Fidelity, Session, TrainableError
from trainables.error_analysis import by_class, error_analysis
from trainables.loop import capture
from trainables.training import prepare
from unit.trainable_helpers import Blobs

CPU = torch.device("cpu")


class Fixed:
    """Outputs that are its inputs, for rows and targets that are given; one weight that changes nothing."""

    def __init__(self, x, y, **own):
        self.x, self.y = x, y
        for name, function in own.items():
            setattr(self, name, function)

    def data(self, config, fidelity):
        return Data((self.x, self.y), (self.x, self.y))

    def model(self, config, data):
        class Same(nn.Module):
            def __init__(self):
                super().__init__()
                self.nothing = nn.Parameter(torch.zeros(1))

            def forward(self, x):
                return x + 0 * self.nothing

        return Same()


def analysed(trainable, config=None):
    config = {"batch_size": 2, **(config or {})}
    state = capture(prepare(trainable, config, Fidelity(1), CPU), 1)
    return error_analysis(trainable, config, Session(Fidelity(1), state=state))


def test_classes_and_rows_of_a_classifier():
    wanted, guessed = [0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 0, 2, 0, 1]
    logits = 4.0 * torch.eye(4)[guessed]
    logits[7] *= 2  # the surest of its errors
    found = analysed(Fixed(logits, torch.tensor(wanted)))
    assert (found.split, found.rows) == ("val", 9)
    assert found.worst[0] == {"row": 7, "loss": pytest.approx(8.001, abs=1e-3), "target": 2, "predicted": 0}
    assert [one["row"] for one in found.worst[1:4]] == [2, 5, 8], "of equals the first"
    assert found.classes == [
        {"label": 2, "rows": 4, "recall": 0.25, "precision": 1.0, "taken_for": 0},
        {"label": 0, "rows": 3, "recall": pytest.approx(2 / 3), "precision": 0.5, "taken_for": 1},
        {"label": 1, "rows": 2, "recall": 1.0, "precision": 0.5, "taken_for": None},
    ]


def test_a_class_that_nothing_was_taken_for_has_no_precision():
    (lost, _) = by_class(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert (lost["label"], lost["precision"], lost["taken_for"]) == (1, None, 0)


def test_rows_of_a_regression():
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    found = analysed(Fixed(x, torch.tensor([1.0, 2.5, 1.0, 4.0])))
    assert found.worst[0] == {"row": 2, "loss": 4.0, "target": 1.0, "predicted": 3.0}
    assert found.worst[1]["row"] == 1
    assert found.classes == []


def test_a_loss_of_its_own_is_asked_row_by_row():
    def loss(output, batch):
        return (output[:, 0] - batch[1]).abs().mean()

    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    found = analysed(Fixed(x, torch.tensor([1.0, 2.5, 1.0, 4.0]), loss=loss))
    assert [(one["row"], one["loss"]) for one in found.worst[:2]] == [(2, 2.0), (1, 0.5)]
    assert "predicted" not in found.worst[0], "nobody can tell what its outputs mean"


def test_without_a_state_there_is_nothing_to_look_at():
    with pytest.raises(TrainableError, match="there is none to measure on 'val'"):
        error_analysis(Blobs(), {}, Session(Fidelity(1)))


def test_targets_of_several_places_a_row_have_one_loss_a_row():
    logits = torch.zeros(3, 2, 4)
    logits[1, 0] = 9.0
    found = analysed(Fixed(logits, torch.tensor([[0] * 4, [1] * 4, [0] * 4])))
    assert (found.worst[0]["row"], found.classes) == (1, [])


def test_a_loss_that_needs_several_rows_or_parts_of_outputs():
    x, y = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1.0, 1.0, 1.0])
    assert analysed(Fixed(x, y, loss=lambda o, b: o.std(0).sum())).worst == []

    class Pair(Fixed):
        def model(self, config, data):
            inner = super().model(config, data)

            class Both(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.inner = inner

                def forward(self, x):
                    return {"all": (self.inner(x), x)}

            return Both()

    found = analysed(Pair(x, y, loss=lambda o, b: (o["all"][0][:, 0] - b[1]).abs().mean()))
    assert [(one["row"], one["loss"]) for one in found.worst] == [(2, 3.0), (1, 1.0), (0, 0.0)]


def test_many_classes_take_no_square_of_them():
    found = by_class(torch.arange(100) % 50, torch.full((100,), 10**7))
    assert found[0] == {"label": 0, "rows": 2, "recall": 0.0, "precision": None, "taken_for": 10**7}
