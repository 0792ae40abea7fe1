"""Measuring a model on rows, in eval mode: means over rows of the loss and the metrics.

Place in the flow: `trainables.loop` calls `evaluate` after each epoch; the verdict reads a split once through
`evaluate_split`; the registry takes the best model from `load_model`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables import parallel, precision
from trainables.contract import Config, Fidelity, Session, Trainable, TrainableError
from trainables.training import Training, load_weights, prepare
from trainables.warm_start import kept_weights
from trainables.watch import Watch

EVAL_BATCHES = 4
"""An evaluation batch is this many training batches: nothing is kept for a backward pass, so it fits."""


def evaluate(training: Training, split: str, order: Tensor, watch: Watch | None = None) -> dict[str, float]:
    """`<split>/loss` and `<split>/<metric>` over the rows `order` of a split, the same on all ranks, which share them.

    With what `watch` sees meanwhile. The last batch may be smaller and batches count by their rows, so nothing is left
    out. The values stay on the device until the end: one wait for it, not one a batch.
    """
    objective, model = training.objective, training.evaluated
    shared = len(order) >= parallel.world_size() > 1
    mine = order[parallel.rank() :: parallel.world_size()] if shared else order
    values: dict[str, list[Tensor]] = {}
    rows: list[int] = []
    model.eval()
    with torch.no_grad(), precision.autocast(training.hyper.precision, training.device):
        batch_size = training.hyper.batch_size * EVAL_BATCHES
        for batch in training.splits[split].batches(mine, batch_size):
            with contextlib.nullcontext() if watch is None or rows else watch.units():
                output = model(batch[0])
            if watch is not None:
                watch.see(output, batch)
            for name, value in {
                **_named(objective.metrics(output, batch)),
                "loss": objective.loss(output, batch),
            }.items():
                values.setdefault(name, []).append(torch.as_tensor(value, device=training.device))
            rows.append(len(batch[1]))
        longest = -(-len(order) // parallel.world_size()) if shared else len(order)
        parallel.in_step(model, batch[0], len(rows), math.ceil(longest / batch_size))
    if lacking := [name for name, found in values.items() if len(found) < len(rows)]:
        raise TrainableError(
            f"metrics() returned {', '.join(lacking)} for some batches only. Return it for every batch"
        )
    weights = torch.tensor(rows, dtype=torch.float64, device=training.device)
    sums = torch.stack([torch.stack(found).double() @ weights for found in values.values()])
    means = ((parallel.total(sums) if shared else sums) / len(order)).tolist()
    seen = watch.metrics(shared) if watch else {}
    return {**{f"{split}/{name}": mean for name, mean in zip(values, means, strict=True)}, **seen}


def evaluate_split(trainable: Trainable, config: Config, session: Session, split: str = "test") -> dict[str, float]:
    """The loss and metrics of the session's state on a whole split: {"test/loss": …, "test/accuracy": …}.

    `train` means the training rows of the session's fidelity. Raises TrainableError without a state or that split.
    """
    training = restored(trainable, config, session, split)
    rows = training.chosen if split == "train" else torch.arange(len(training.splits[split]))
    return evaluate(training, split, rows)


def restored(trainable: Trainable, config: Config, session: Session, split: str) -> Training:
    """A training with the session's state in its model, to measure it on a split.

    Raises TrainableError without a state or that split.
    """
    if session.state is None:
        raise TrainableError(f"state: there is none to measure on {split!r}. Load a checkpoint first")
    training = prepare(trainable, config, session.fidelity, session.device)
    if split not in training.splits:
        raise TrainableError(
            f"data: it has no split {split!r}, only {', '.join(training.splits)}. "
            "Give Data a test split, or name another"
        )
    load_weights(training.evaluated, kept_weights(session.state))
    return training


def load_model(trainable: Trainable, config: Config, fidelity: Fidelity, state: dict[str, Any]) -> nn.Module:
    """The model of a config with a captured state's weights, on the CPU, in eval mode."""
    model = trainable.model(config, trainable.data(config, fidelity))
    load_weights(model, kept_weights(state))
    return model.eval()


def _named(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    if "loss" in metrics:
        raise TrainableError("metrics() returned a 'loss', which is loss()'s name. Call it something else")
    for name, value in metrics.items():
        if getattr(value, "ndim", 0) != 0:
            raise TrainableError(
                f"metrics() returned {name!r} of shape {tuple(value.shape)}, not a scalar. "
                "Return the mean over the batch's rows"
            )
    return metrics
