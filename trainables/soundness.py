"""What a network shows of itself before it is trained: what no training reaches, and what is not as training expects.

Place in the flow: `probes` asks for it, preflight and diagnosis judge it. Each is a few forward and backward passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables import shards
from trainables.contract import Batch
from trainables.training import Training

ROWS = 64
"""So many rows are looked at, and no more than a batch has."""
DOUBLE = 0.01
"""By so little a gradient's size may miss twice what it was."""
ALIKE = 1e-6
"""Numbers that differ by no more than this share of their size are equal."""


@dataclass(frozen=True)
class Soundness:
    """What was found. Names are those of parameters."""

    matrices: int
    """How many parameters are matrices or kernels."""
    frozen: list[str]
    """Those that require no gradient."""
    equal_units: list[str]
    """Matrices and kernels all of whose units begin with the same weights, so that they would stay alike."""
    accumulating: list[str]
    """Those whose gradient of the same batch was twice as large the second time: the first one was not forgotten."""
    random_in_eval: float
    """How much the output in eval mode differs between two passes of the same rows, as a share of its spread."""


def soundness(training: Training) -> Soundness:
    """Look at a network that has not been trained."""
    count = min(ROWS, training.hyper.batch_size)
    rows = training.chosen[torch.linspace(0, len(training.chosen) - 1, count).long().unique()]
    batch = next(training.splits["train"].batches(rows, len(rows)))
    named = dict(training.model.named_parameters())
    return Soundness(
        matrices=sum(parameter.ndim > 1 for parameter in named.values()),
        frozen=[name for name, parameter in named.items() if not parameter.requires_grad],
        equal_units=[name for name, parameter in named.items() if equal(shards.whole(parameter.detach()))],
        accumulating=accumulating(training, batch),
        random_in_eval=random_in_eval(training.model, batch[0]),
    )


def equal(weights: Tensor) -> bool:
    """Whether all units of a matrix or kernel have the same weights."""
    if weights.ndim < 2 or len(weights) < 2 or not weights.isfinite().all():
        return False
    return bool((weights - weights[:1]).abs().max() <= ALIKE * weights.abs().max())


def accumulating(training: Training, batch: Batch) -> list[str]:
    """The parameters whose gradient of one batch doubles when it is asked for again."""
    sizes: list[dict[str, list[float]]] = []
    training.model.train()
    for _ in range(2):
        for parameter in training.parameters:
            parameter.grad = None
        torch.manual_seed(0)
        training.objective.loss(training.model(batch[0]), batch).backward()
        # Sizes, not the gradients: a copy would count as a trial's memory.
        named = training.model.named_parameters()
        sizes.append({name: lengths(shards.whole(p.grad)) for name, p in named if p.grad is not None})
    for parameter in training.parameters:
        parameter.grad = None
    once, again = sizes
    return [name for name, before in once.items() if all(map(doubled, before, again[name]))]


def lengths(gradient: Tensor) -> list[float]:
    """Two sizes of a gradient, its largest number and its Euclidean length."""
    return [float(torch.linalg.vector_norm(gradient, order)) for order in (math.inf, 2)]


def doubled(once: float, again: float) -> bool:
    """Whether a size is twice what it was."""
    return 0 < once < math.inf and abs(again - 2 * once) <= DOUBLE * once


def random_in_eval(model: nn.Module, inputs: Tensor) -> float:
    """How far two outputs for the same rows are apart in eval mode; 0 for outputs that are no tensor."""
    model.eval()
    with torch.no_grad():
        outputs: list[Any] = [model(inputs) for _ in range(2)]
    if not all(isinstance(output, Tensor) and output.isfinite().all() for output in outputs):
        return 0.0
    one, other = (output.double() for output in outputs)
    apart, spread = float((one - other).abs().max()), float(one.std(correction=0))
    return apart / (spread or 1.0)
