"""Where a model errs: classes, pairs, rows and calibration against ones worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainables.confusion import by_class, by_pair
from trainables.contract import Data, Fidelity, Session, TrainableError, resolve
from trainables.error_analysis import error_analysis
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
    assert found.bias == pytest.approx((0 - 0.5 + 2 + 0) / 4)
    assert (found.classes, found.pairs, found.confident, found.unsure, found.calibration) == ([], [], [], [], None)


def test_a_loss_of_its_own_is_asked_row_by_row():
    def loss(output, batch):
        return (output[:, 0] - batch[1]).abs().mean()

    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    found = analysed(Fixed(x, torch.tensor([1.0, 2.5, 1.0, 4.0]), loss=loss))
    assert [(one["row"], one["loss"]) for one in found.worst[:2]] == [(2, 2.0), (1, 0.5)]
    assert "predicted" not in found.worst[0], "nobody can tell what its outputs mean"
    assert (found.classes, found.pairs, found.confident, found.unsure) == ([], [], [], [])
    assert (found.calibration, found.bias) == (None, None)


def test_without_a_state_there_is_nothing_to_look_at():
    with pytest.raises(TrainableError, match="there is none to measure on 'val'"):
        error_analysis(Blobs(), {}, Session(Fidelity(1)))


def test_targets_of_several_places_a_row_have_one_loss_a_row():
    logits = torch.zeros(3, 2, 4)
    logits[1, 0] = 9.0
    found = analysed(Fixed(logits, torch.tensor([[0] * 4, [1] * 4, [0] * 4])))
    assert (found.worst[0]["row"], found.classes, found.pairs, found.calibration) == (1, [], [], None)


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


def certain(rows):
    """Logits whose probabilities are those rows."""
    return torch.tensor(rows).log()


def test_pairs_are_told_most_first_with_their_share_of_the_class():
    wanted, guessed = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 1, 1, 2, 1, 0, 1, 1, 2, 2]
    found = analysed(Fixed(9.0 * torch.eye(3)[guessed], torch.tensor(wanted)))
    assert found.pairs == [
        {"label": 0, "taken_for": 1, "rows": 2, "share": 0.5},
        {"label": 2, "taken_for": 1, "rows": 2, "share": 0.5},
        {"label": 0, "taken_for": 2, "rows": 1, "share": 0.25},
        {"label": 1, "taken_for": 0, "rows": 1, "share": 0.5},
    ]


def test_pairs_are_bounded_and_of_no_error_there_are_none():
    truth = torch.arange(600) // 2
    assert by_pair(truth, truth) == []
    found = by_pair(truth, (truth + torch.arange(600) % 2) % 300)
    assert len(found) == 20
    assert found[19] == {"label": 19, "taken_for": 20, "rows": 1, "share": 0.5}


ROWS = [
    ([0.90, 0.06, 0.04], 0),
    ([0.50, 0.48, 0.02], 0),  # right, and hardly so
    ([0.80, 0.15, 0.05], 2),  # wrong, and of the highest loss
    ([0.02, 0.95, 0.03], 0),  # wrong, and the surest of its errors
    ([0.40, 0.25, 0.35], 2),
]
"""Probabilities, and the label."""


def test_rows_that_are_surely_wrong_and_rows_that_are_unsure():
    found = analysed(Fixed(certain([row for row, _ in ROWS]), torch.tensor([label for _, label in ROWS])))
    assert [one["row"] for one in found.worst] == [3, 2, 4, 1, 0]
    assert [one["row"] for one in found.confident] == [3, 2, 4], "only what is wrong"
    assert found.confident[1] == pytest.approx(
        {"row": 2, "target": 2, "predicted": 0, "probability": 0.8, "loss": -math.log(0.05)}
    )
    assert [one["row"] for one in found.unsure] == [1, 4, 2, 0, 3]
    assert found.unsure[0] == pytest.approx(
        {"row": 1, "target": 0, "predicted": 0, "probability": 0.5, "second": 1, "second_probability": 0.48}
    )
    assert (found.unsure[1]["predicted"], found.unsure[1]["second"]) == (0, 2)
    assert (found.bias, found.pictures) == (None, [])


def test_of_rows_that_are_equally_sure_the_one_with_the_higher_loss_is_first():
    logits = torch.tensor([[99.0, 40.0, 0.0], [99.0, 0.0, 40.0], [0.0, 99.0, 0.0]])  # probabilities of exactly 1
    assert [one["row"] for one in analysed(Fixed(logits, torch.tensor([1, 1, 1]))).confident] == [1, 0]


def test_all_lists_of_rows_are_bounded():
    logits = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    found = analysed(Fixed(logits, torch.arange(500) % 3))
    assert [len(one) for one in (found.worst, found.confident, found.unsure)] == [12, 12, 12]


def test_a_single_class_has_no_second():
    found = analysed(Fixed(torch.ones(4, 1), torch.zeros(4, dtype=torch.int64)))
    assert (found.unsure, found.confident, found.pairs) == ([], [], [])
    assert found.calibration.accuracy == 1.0


def test_calibration_by_hand():
    found = analysed(Fixed(certain([row for row, _ in ROWS]), torch.tensor([label for _, label in ROWS]))).calibration
    told = [(b.rows, round(b.confidence, 6), b.accuracy) for b in found.bins]
    assert told == [(1, 0.4, 0.0), (1, 0.5, 1.0), (1, 0.8, 0.0), (1, 0.9, 1.0), (1, 0.95, 0.0)]
    assert [round(15 * b.low) for b in found.bins] == [6, 7, 12, 13, 14]
    assert found.ece == pytest.approx((0.4 + 0.5 + 0.8 + 0.1 + 0.95) / 5)
    assert (found.confidence, found.accuracy) == pytest.approx((3.55 / 5, 2 / 5))
    # By chance sqrt(0.24 + 0.25 + 0.16 + 0.09 + 0.0475) / 5 = 0.177; the difference is 0.31.
    assert found.leaning == ""


@pytest.mark.parametrize(("right", "leaning"), [(60, "overconfident"), (90, ""), (100, "underconfident")])
def test_too_sure_or_not_enough_is_said_beyond_chance_only(right, leaning):
    logits = certain([[0.9, 0.1]] * 100)
    found = analysed(Fixed(logits, torch.tensor([0] * right + [1] * (100 - right))), {"batch_size": 16}).calibration
    assert (found.leaning, found.ece) == (leaning, pytest.approx(abs(0.9 - right / 100), abs=1e-6))


def test_calibration_is_that_of_the_last_epoch():
    trial = resolve(Blobs())({"lr": 1e-2, "batch_size": 8}, session := Session(Fidelity(2)))
    *_, last = trial
    found = error_analysis(Blobs(), {"batch_size": 8}, Session(Fidelity(2), state=session.capture()))
    assert found.calibration.ece == pytest.approx(last.metrics["val/ece"], rel=1e-6)
    assert found.calibration.accuracy == pytest.approx(last.metrics["val/accuracy"])
    assert found.calibration.confidence == pytest.approx(last.metrics["val/max_probability"])
