"""Throughput and memory against the batch size: which is the largest that fits, and from which on it is no faster.

Place in the flow: preflight asks a slot for it, after a trial's own memory was measured; `sweeps.insight.batch_size`
judges it. Steps are taken as a trial takes them, with the config's model, optimizer and precision, at a learning rate
of 0, at sizes that double; after them rows are evaluated as a trial evaluates them.

On a GPU a size that does not fit fails, which is caught. On a CPU nothing fails in time: the kernel or Ray would end
the process. So a size is tried only where memory that grows on as it has grown stays within what `memory.limit` gives,
which leaves the host a fifth for what grows otherwise; where memory cannot be measured nothing is tried beyond the
config's size, which trials take in any case.

Each of several workers measures by itself (`parallel.alone`), so sizes are a worker's own, and what is sent between
them is not in the time. A model that is sharded is not measured: a worker out of memory would leave the others waiting.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Literal

import torch

from trainables import memory
from trainables.contract import Config, Fidelity, Trainable
from trainables.evaluation import EVAL_BATCHES, evaluate
from trainables.footprint import CPU
from trainables.lr_range import batches, generators_kept
from trainables.training import Training, prepare, step

FIRST = 16
"""Rows of the first size, or the config's where that is smaller."""
LEAST_STEPS, MOST_STEPS = 3, 20
"""That are timed of each size; one before them pays for the start-up."""
SIZES = 10
"""Of the time each size may take the part of one among so many."""
RISES = 1.05
"""Throughput rises when it is so many times what it was; two sizes without end the curve."""

Ended = Literal["rows", "memory", "time", "throughput"]


@dataclass(frozen=True)
class Point:
    """One size."""

    batch_size: int
    rows_per_second: float | None
    """None for one that does not fit."""
    bytes: int | None
    """The most held; where it was not tried, what it would hold; None where that is not known."""
    fits: bool


@dataclass(frozen=True)
class BatchCurve:
    """What was measured, in rising order of size."""

    points: list[Point]
    rows: int
    """Training rows."""
    batch_size: int
    """The config's."""
    limit_bytes: int | None
    """What the process may hold; None where memory cannot be measured."""
    ended: Ended
    """Why no larger size was tried."""


def batch_curve(
    trainable: Trainable,
    config: Config,
    fidelity: Fidelity,
    device: torch.device = CPU,
    limit_s: float = 10.0,
    share: float = 1.0,
) -> BatchCurve:
    """Measure a config at rising batch sizes, in about `limit_s` seconds besides the time to load data.

    `share`: of the host's memory, the part of this process; the rest is for its neighbours. What is held grows as said
    above, and is given back. Raises TrainableError for what cannot be trained.
    """
    try:
        with generators_kept(device):
            return measured(prepare(trainable, config, fidelity, device), limit_s, share)
    finally:
        gc.collect()
        memory.forget_peak(device)  # it is not a trial's


def measured(training: Training, limit_s: float, share: float) -> BatchCurve:
    """The curve of a training that is ready; its weights stay what they are."""
    began = time.perf_counter()
    device, own, rows = training.device, training.hyper.batch_size, len(training.chosen)
    known = memory.forget_peak(device)
    most = memory.limit(device, share) if known else None
    points: list[Point] = []

    def over(ended: Ended) -> BatchCurve:
        return BatchCurve(points, rows, own, most, ended)

    base = 0
    for size in sizes(own):
        if size > rows:
            return over("rows")
        if most is None and size > own:
            return over("memory")
        if not points:
            timed(training, size, 0.0)  # has the optimizer make its state, which does not grow with the batch
            base = memory.held(device) if known else 0
        elif slow(points[-1], size, limit_s - (time.perf_counter() - began)):
            return over("time")
        elif level(points) and size > own:
            return over("throughput")
        else:
            wanted = predicted(points, base, size)
            if device.type != "cuda" and most is not None and wanted is not None and wanted > most:
                points.append(Point(size, None, wanted, fits=False))
                return over("memory")
        memory.forget_peak(device)
        speed = attempt(training, size, limit_s / SIZES)
        if speed is None:
            points.append(Point(size, None, predicted(points, base, size), fits=False))
            return over("memory")
        taken = memory.peak(device) if known else None
        if device.type != "cuda" and most is not None and taken is not None and taken > most:
            points.append(Point(size, None, taken, fits=False))  # more than foretold: what is kept safe is for that
            return over("memory")
        points.append(Point(size, speed, taken, fits=True))
    raise AssertionError("sizes have no end")


def sizes(own: int) -> Iterator[int]:
    """The sizes to try: the config's halved as far as it goes, but not below the first, then twice and twice again."""
    size = own
    while size % 2 == 0 and size // 2 >= FIRST:
        size //= 2
    while True:
        yield size
        size *= 2


def slow(last: Point, size: int, left_s: float) -> bool:
    """Whether the least steps of a size are likely to take longer than is left."""
    assert last.rows_per_second is not None
    return (1 + LEAST_STEPS) * size / last.rows_per_second > left_s


def level(points: list[Point]) -> bool:
    """Whether the newest two sizes were no faster than those before."""
    speeds = [point.rows_per_second or 0.0 for point in points]
    return len(speeds) > 2 and max(speeds[-2:]) < RISES * max(speeds[:-2])


def predicted(points: list[Point], base: int, size: int) -> int | None:
    """The memory of a size where it grows by as much a row as it did in the two sizes before, whichever was more.

    `base`: what is held between steps. Of two sizes one may have been lucky with what was free already.
    """
    known = [(0, base), *((point.batch_size, point.bytes) for point in points if point.bytes is not None)]
    if len(known) < 2:
        return None
    growth = max((more - less) / (after - before) for (before, less), (after, more) in pairwise(known[-3:]))
    last, bytes_ = known[-1]
    return bytes_ + int(max(growth, 0.0) * (size - last))


def attempt(training: Training, size: int, limit_s: float) -> float | None:
    """Rows a second of a size; None when it is out of memory, which is then given back."""
    try:
        return timed(training, size, limit_s)
    except torch.OutOfMemoryError:
        pass  # not handled in here: the exception keeps what the step had
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
    for parameter in training.parameters:
        parameter.grad = None
    gc.collect()
    memory.forget_peak(training.device)
    return None


def timed(training: Training, size: int, limit_s: float) -> float:
    """Take steps of so many rows, for up to about so many seconds, and evaluate a batch: rows a second of the steps."""
    hyper = replace(training.hyper, batch_size=size)
    training = replace(training, hyper=hyper, steps_per_epoch=len(training.chosen) // size)
    training.model.train()
    stream = batches(training)
    ends: list[float] = []
    while not ends or (len(ends) <= MOST_STEPS and (len(ends) <= LEAST_STEPS or ends[-1] - ends[0] < limit_s)):
        batch, rows = next(stream)
        step(training, batch, 0.0, rows)
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        ends.append(time.perf_counter())
    del batch
    evaluate(training, "val", torch.arange(min(len(training.splits["val"]), size * EVAL_BATCHES)))
    return size / max(median(after - before for before, after in pairwise(ends)), 1e-9)
