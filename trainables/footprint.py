"""What a trial will take, known before it runs: rows, parameters, checkpoint bytes, seconds per epoch.

Place in the flow: the plan multiplies these with trials and epochs, so that a sweep's cost is told before it starts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch

from trainables import parallel, state
from trainables.contract import Config, Fidelity, Trainable
from trainables.data.digest import digest_of
from trainables.data.rows import ClassRows
from trainables.evaluation import EVAL_BATCHES, evaluate
from trainables.loop import capture
from trainables.training import Training, backward, epoch_batches, lr_at, prepare, rows_of, step

CPU = torch.device("cpu")
LEAST_STEPS = 5
"""An epoch's time is never told from fewer steps than these: one of them may have waited for the machine."""


@dataclass(frozen=True)
class Footprint:
    """The size of one trial, and what it is trained on."""

    train_rows: int
    """Training rows at this fidelity."""
    val_rows: int
    test_rows: int
    """0 when the data has no test split."""
    classes: int | None
    """Classes of the training rows, of which this fidelity uses fewer; None where it does not choose among them."""
    parameters: int
    """Numbers in the model's parameters, frozen ones too."""
    checkpoint_bytes: int
    """What one checkpoint takes on disk, manifest included: exact, and the same at every epoch.

    (Less only where the optimizer has not moved yet: an fp16 epoch in which every step overflowed.)
    """
    data: str
    """The data set's digest, see `data.digest`."""


def describe(trainable: Trainable, config: Config, fidelity: Fidelity, device: torch.device = CPU) -> Footprint:
    """The footprint of a config at a fidelity, on the kind of device it will train on.

    The checkpoint is really made, after one step of zero gradients, because optimizers make their state at the first
    step and only for the parameters that get a gradient; it is packed as for storage, and not written.
    """
    training = prepare(trainable, config, fidelity, device)
    training.model.train()
    backward(training, next(iter(epoch_batches(training, 1))), rows_of(training, 0))
    for parameter in training.parameters:
        if parameter.grad is not None:
            parameter.grad.zero_()
    training.optimizer.step()
    sizes = parallel.gather(sum(map(len, state.pack(capture(training, 1), epoch=1).values())))
    return Footprint(
        train_rows=len(training.chosen),
        val_rows=len(training.splits["val"]),
        test_rows=len(training.splits["test"]) if "test" in training.splits else 0,
        classes=train.available if isinstance(train := training.splits["train"], ClassRows) else None,
        parameters=sum(p.numel() for p in training.model.parameters()),
        checkpoint_bytes=sum(sizes),
        data=digest_of(training.splits),
    )


def seconds_per_epoch(
    trainable: Trainable, config: Config, fidelity: Fidelity, limit_s: float, device: torch.device = CPU
) -> float:
    """Seconds of one epoch, training and evaluation, without the start-up of data, model and kernels.

    When the epoch ends within about `limit_s`, it is measured whole; else the part done by then is extrapolated over
    the steps and rows that are left: half of the limit goes to training, where the median step stands for all, and the
    evaluation of the first rows stands for the rest. The first step, which pays for the start-up, is taken but not
    counted.
    """
    training = prepare(trainable, config, fidelity, device)
    return _training_seconds(training, limit_s / 2) + _evaluation_seconds(training, limit_s / 2)


def _training_seconds(training: Training, limit_s: float) -> float:
    training.model.train()
    step(training, next(iter(epoch_batches(training, 1))), lr_at(training, 0), rows_of(training, 0))
    ends = [_clock(training)]
    for batch in epoch_batches(training, 1):
        step(training, batch, lr_at(training, len(ends) - 1), rows_of(training, len(ends) - 1))
        ends.append(_clock(training))
        if parallel.agreed(ends[-1] - ends[0] > limit_s and len(ends) > LEAST_STEPS):
            break
    steps = [after - before for before, after in pairwise(ends)]
    if len(steps) == training.steps_per_epoch:
        return sum(steps)
    return median(steps) * training.steps_per_epoch


def _evaluation_seconds(training: Training, limit_s: float) -> float:
    total = 0.0
    for split, order in (
        ("train", training.measured),
        ("val", torch.arange(len(training.splits["val"]))),
    ):
        first = order[: training.hyper.batch_size * EVAL_BATCHES]
        started = _clock(training)
        evaluate(training, split, first)
        seconds = (_clock(training) - started) * len(order) / len(first)
        if len(first) < len(order) and parallel.agreed(seconds < limit_s):
            started = _clock(training)
            evaluate(training, split, order)
            seconds = _clock(training) - started
        total += seconds
    return total


def _clock(training: Training) -> float:
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return time.perf_counter()
