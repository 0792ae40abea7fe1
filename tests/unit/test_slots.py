"""What a slot's worker answers, trial by trial, without Ray: order of epochs, checkpoints, what counts as a failure."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sweeps.slots import Order, Worker
from trainables.contract import Report, Session

CPU = torch.device("cpu")


def worker(tmp_path, trainable, epochs: int, **fields: Any) -> Worker:
    """A worker that has begun a trial of so many epochs."""
    fidelity = {"epochs": epochs, "data_fraction": 1.0, "seed": 0}
    found = Worker(trainable, tmp_path, CPU)
    assert found.answer("start", Order("t", 1, {}, fidelity, **fields))["failure"] is None
    return found


def reporting(*epochs: int, **metrics: float):
    """A loop that reports these epochs."""

    def trial(config: dict[str, Any], session: Session) -> Iterator[Report]:
        done = 0
        session.checkpoint_with(lambda: {"epoch": done})
        for epoch in epochs:
            done = epoch
            yield Report(epoch, {"val/loss": 1.0, **metrics})

    return trial


def drawn(found: Worker) -> list[dict[str, Any]]:
    """The worker's answers until the trial is done."""
    answers = [found.answer("next", None)]
    while not answers[-1]["done"]:
        answers.append(found.answer("next", None))
    return answers


@pytest.mark.parametrize(
    ("epochs", "due", "saved"),
    [
        ((1, 2, 3, 4), (), [4]),
        ((1, 2, 3, 4), (1, 3), [1, 3, 4]),
        ((1, 2, 3, 4), (0, 2.5), [3, 4]),
        ((2, 4), (1.0, 3.0), [2, 4]),
    ],
    ids=["the last", "rungs", "a rung between epochs", "a loop that skips them"],
)
def test_a_checkpoint_comes_with_the_first_report_that_reaches_its_epoch(tmp_path, epochs, due, saved):
    answers = drawn(worker(tmp_path, reporting(*epochs), 4, checkpoints=due))
    assert [a["epoch"] for a in answers if a["checkpoint"]] == saved
    assert all((tmp_path / a["checkpoint"] / "manifest.json").is_file() for a in answers if a["checkpoint"])


def test_a_loop_may_end_by_itself(tmp_path):
    last = drawn(worker(tmp_path, reporting(1, 2), 4))[-1]
    assert (last["epoch"], last["metrics"], last["done"], last["failure"]) == (2, {}, True, None)


def mapping(config: dict[str, Any], session: Session) -> Iterator[Any]:
    """Yields what is no Report."""
    yield {"val/loss": 1.0}


def leaving(config: dict[str, Any], session: Session) -> Iterator[Report]:
    """Ends the process, as it believes."""
    yield Report(1, {"val/loss": 1.0})
    sys.exit(3)


@pytest.mark.parametrize(
    ("trainable", "error", "message"),
    [
        (mapping, "TypeError", "the trial yielded a dict. Yield Report(epoch, {name: value})"),
        (reporting(), "RuntimeError", "without a single Report"),
        (reporting(1, 1), "RuntimeError", "epoch 1 was reported after epoch 1"),
        (reporting(2, 1), "RuntimeError", "epoch 1 was reported after epoch 2"),
        (leaving, "SystemExit", "3"),
    ],
    ids=["no Report", "none", "twice", "backwards", "exit"],
)
def test_what_a_loop_does_wrong_is_told_as_its_failure(tmp_path, trainable, error, message):
    last = drawn(worker(tmp_path, trainable, 4))[-1]
    assert (last["failure"]["kind"], last["failure"]["error"]) == ("error", error)
    assert message in last["failure"]["message"]
    assert last["slot"] == os.getpid()
    assert last["seconds"] >= 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_result_that_is_not_finite_is_a_failure_and_a_gradient_norm_is_not(tmp_path, value):
    (bad,) = drawn(worker(tmp_path, reporting(1, 2, **{"train/loss": value}), 2))
    assert (bad["failure"]["kind"], bad["failure"]["message"]) == ("non_finite", "non-finite train/loss at epoch 1")
    answers = drawn(worker(tmp_path, reporting(1, 2, **{"grad/norm": value}), 2))
    assert [a["failure"] for a in answers] == [None, None]


def test_the_worker_takes_the_next_trial_after_a_failure_and_where_it_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def moving(config: dict[str, Any], session: Session) -> Iterator[Report]:
        os.chdir("/")
        raise RuntimeError("lost")
        yield

    found = worker(tmp_path, moving, 2)
    assert drawn(found)[-1]["failure"]["message"] == "lost"
    fidelity = {"epochs": 1, "data_fraction": 1.0, "seed": 0}
    assert found.answer("start", Order("u", 1, {}, fidelity))["failure"] is None
    assert os.getcwd() == str(tmp_path)


def test_a_trial_goes_on_from_the_state_that_was_saved(tmp_path):
    first = worker(tmp_path, reporting(1, 2), 2, checkpoints=(1,))
    pointer = first.answer("next", None)["checkpoint"]
    second = worker(tmp_path, reporting(2), 2, resume=pointer)
    assert int(second.session.state["epoch"]) == 1
