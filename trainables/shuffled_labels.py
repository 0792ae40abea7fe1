"""Labels dealt anew among rows: what a network may not know, and whether it knows it.

Place in the flow: `probes` trains a network on labels that were shuffled here and asks whether it can tell the labels
of validation rows; preflight judges the answer.

The proof is the draw. Labels are shuffled among the training rows and, by themselves, among the validation rows, so
that a network that was not told those labels fits them as well as any other shuffle of them: its loss under the labels
that it could have seen is one among equals. Where it is lower than under all others, the labels have come to the
network by another way than training: `model(config, data)` reads them from the data, a Dataset makes its inputs of
them. Nothing is asked of training rows, which a network may know by heart. What is not seen: inputs that `data` itself
has made from labels, before they were shuffled.

The same comparison with the labels as they are tells whether what was learned says anything of validation rows.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from trainables.contract import Config, Data, Fidelity, Trainable
from trainables.data.mapped import View
from trainables.evaluation import EVAL_BATCHES
from trainables.training import Training

SEED = 0
"""Of the shuffles: the same labels for each network."""
OTHERS, FEWEST = 199, 39
"""So many other shuffles are compared with, fewer where a loss takes long."""
MOST_ROWS, LEAST_ROWS = 512, 20
"""Validation rows that are looked at; of fewer than the least nothing can be said."""
CHECKED_ROWS = 8


@dataclass(frozen=True)
class Dealt:
    """The loss on validation rows under their labels, and under the same labels dealt otherwise."""

    loss: float
    others: float
    """The mean under other shuffles."""
    spread: float
    """Their standard deviation; 0 where the loss does not depend on which row has which label."""
    lowest: float
    """The lowest of them."""
    rows: int


def dealt(training: Training, limit_s: float) -> Dealt | None:
    """Compare the network's loss on validation rows, in eval mode, under their labels with that under other shuffles.

    None where there are too few rows, all have the same label, or a loss is not finite.
    """
    draw = torch.Generator().manual_seed(SEED)
    rows = torch.linspace(0, len(training.splits["val"]) - 1, MOST_ROWS).long().unique()
    rows = rows[torch.randperm(len(rows), generator=draw)]  # they are dealt within batches, and may be sorted by label
    sums = torch.zeros(1 + OTHERS, dtype=torch.float64)
    size = training.hyper.batch_size * EVAL_BATCHES
    count, differ = OTHERS, False
    training.model.eval()
    with torch.no_grad():
        for number, (x, y) in enumerate(training.splits["val"].batches(rows, size)):
            output = training.model(x)  # not kept: a trial does not hold the outputs of many rows
            began = time.perf_counter()
            sums[0] += float(training.objective.loss(output, (x, y))) * len(y)
            if number == 0:
                batches = -(-len(rows) // size)
                once = max(time.perf_counter() - began, 1e-6)
                count = int(min(max(limit_s / once / batches, FEWEST), OTHERS))
            differ = differ or bool((y != y[:1]).any())
            for other in range(1, 1 + count):
                order = torch.randperm(len(y), generator=draw).to(y.device)
                sums[other] += float(training.objective.loss(output, (x, y[order]))) * len(y)
    loss, *others = (sums[: 1 + count] / len(rows)).tolist()
    if len(rows) < LEAST_ROWS or not differ or not all(map(math.isfinite, (loss, *others))):
        return None
    return Dealt(loss, fmean(others), pstdev(others), min(others), len(rows))


class Shuffled:
    """A trainable whose training and validation labels are shuffled, each among their own rows."""

    def __init__(self, inner: Trainable) -> None:
        self.inner = inner
        for name in ("loss", "metrics"):  # optional: what is not there is the platform's
            if getattr(inner, name, None) is not None:
                setattr(self, name, getattr(inner, name))

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        """The trainable's data with other labels; the rows are the same, and so is how often each label comes."""
        found = self.inner.data(config, fidelity)
        draw = torch.Generator().manual_seed(SEED + 1)
        return replace(found, train=shuffled(found.train, draw), val=shuffled(found.val, draw))

    def model(self, config: Config, data: Data) -> nn.Module:
        """The trainable's model; it is given the shuffled labels where it looks into the data."""
        return self.inner.model(config, data)


def shuffled(split: Any, draw: torch.Generator) -> Any:
    """A split of `Data` with its labels dealt anew, of the same kind as far as a trainable may look at it."""
    order = torch.randperm(len(split[1] if isinstance(split, tuple | list) else split), generator=draw)
    if isinstance(split, tuple | list):
        return split[0], taken(split[1], order)
    if type(split) is TensorDataset and len(split.tensors) == 2:
        return TensorDataset(split.tensors[0], split.tensors[1][order])
    if isinstance(split, View):
        targets = split.table.y.clone()
        targets[split.index] = split.table.y[split.index[order]]
        return View(replace(split.table, y=targets), split.index)
    return at_its_source(split, order) or Rows(split, order)


def taken(labels: Any, order: Tensor) -> Any:
    """Labels in another order, of the same kind."""
    if isinstance(labels, Tensor):
        return labels[order.to(labels.device)]
    if isinstance(labels, np.ndarray):
        return labels[order.numpy()]
    return labels.iloc[order.numpy()] if hasattr(labels, "iloc") else [labels[row] for row in order.tolist()]


def at_its_source(dataset: Any, order: Tensor) -> Any:
    """A copy of a Dataset whose attribute `targets` is in another order; None where its rows do not follow that.

    Then inputs that it makes of them follow as well, and give themselves away.
    """
    targets = getattr(dataset, "targets", None)
    if not isinstance(targets, Tensor | np.ndarray | list) or len(targets) != len(dataset):
        return None
    other = copy.copy(dataset)
    try:
        other.targets = taken(targets, order)
    except AttributeError:  # a property
        return None
    rows = torch.linspace(0, len(dataset) - 1, CHECKED_ROWS).long().unique().tolist()
    follow = all(torch.equal(label(other, row), label(dataset, int(order[row]))) for row in rows)
    return other if follow else None


def label(dataset: Any, row: int) -> Tensor:
    """The label of one of its rows."""
    return torch.as_tensor(dataset[row][1])


class Rows:
    """A Dataset whose rows have others' labels."""

    def __init__(self, dataset: Any, order: Tensor) -> None:
        self.dataset, self.order = dataset, order.tolist()
        if isinstance(targets := getattr(dataset, "targets", None), Tensor | np.ndarray | list):
            self.targets = taken(targets, order)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the Dataset tells of itself, but no other way to its rows, such as `__getitems__`."""
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return self.dataset[row][0], self.dataset[self.order[row]][1]
