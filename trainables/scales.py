"""Of what size inputs and outputs are before training, and what the labels are: what a failed check is explained by.

Place in the flow: `probes` asks for it; `sweeps.insight.causes` reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.training import Training

MOST_ROWS = 64
"""So many rows, and no more than a batch has, are looked at for the outputs."""
SUM = 1e-3
"""By so little probabilities miss a sum of 1."""


@dataclass(frozen=True)
class Scales:
    """What was found on training rows."""

    inputs: float | None
    """The root mean square of the inputs; None for codes, such as words."""
    constant: bool
    """Whether all rows have the same inputs."""
    outputs: float | None
    """The root mean square of the untrained network's outputs, in eval mode; None for what is no tensor."""
    probabilities: bool
    """Whether the outputs of each row are from 0 to 1 and sum up to 1."""
    classes: int | None
    """How many outputs a row has, where its label is one whole number."""
    majority: float | None
    """The share of the most frequent label."""


def scales(training: Training, rows: Tensor) -> Scales:
    """Look at the inputs and labels of these training rows, and at the outputs for the first of them."""
    squares, numbers, constant = 0.0, 0, True
    first: Tensor | None = None
    labels = []
    for x, y in training.splits["train"].batches(rows, training.hyper.batch_size):
        first = x[:1] if first is None else first
        constant = constant and bool((x == first).all())
        if x.is_floating_point():
            squares, numbers = squares + float(torch.linalg.vector_norm(x)) ** 2, numbers + x.numel()
        if y.ndim == 1 and not y.is_floating_point():
            labels.append(y)
    few = rows[: min(MOST_ROWS, training.hyper.batch_size)]
    training.model.eval()
    with torch.no_grad():
        output = training.model(next(training.splits["train"].batches(few, len(few)))[0])
    known = isinstance(output, Tensor) and output.is_floating_point() and output.numel() > 0
    flat = known and output.ndim == 2 and output.shape[1] > 1
    length = float(torch.linalg.vector_norm(output)) if known else 0.0  # a product of many outputs would be a copy
    return Scales(
        inputs=math.sqrt(squares / numbers) if numbers else None,
        constant=constant,
        outputs=length / math.sqrt(output.numel()) if known else None,
        probabilities=flat and bool((output >= 0).all() and ((output.sum(1) - 1).abs() < SUM).all()),
        classes=output.shape[1] if flat and labels else None,
        majority=float(torch.cat(labels).unique(return_counts=True)[1].max() / len(rows)) if labels else None,
    )
