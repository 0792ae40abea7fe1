"""What a training minimises and what is measured: the defaults, and a trainable's own `loss` and `metrics`.

Place in the flow: `trainables.loop` calls `training_loss` at every step, `trainables.evaluation` the two others.

Defaults by the type of the targets: cross-entropy and `accuracy` for integers, mean squared error and `mae` (mean
absolute error) for floats. Each is replaced on its own. `loss(output, batch)` returns a scalar, `metrics(output,
batch)` a dict of scalars; both are means over the batch's rows, and means over a split weigh batches by their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.augment.mixing import Mixed, Mixing
from trainables.contract import Batch, TrainableError
from trainables.data.labels import Highest
from trainables.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Objective:
    """The loss that is minimised, the loss that is reported (without smoothing), and the metrics."""

    training_loss: Callable[[Any, Batch], Tensor]
    loss: Callable[[Any, Batch], Tensor]
    metrics: Callable[[Any, Batch], Mapping[str, Tensor]]
    own: bool = False
    """Whether the loss is the trainable's own; else outputs for integer targets are logits."""


def objective(
    trainable: Any,
    hyper: Hyperparameters,
    targets: Tensor | None = None,
    mixing: Mixing | None = None,
    highest: Highest | None = None,
) -> Objective:
    """The objective of a trainable, whose training rows have these targets, where they are at hand.

    `highest`: the label that the default loss must have an output for.

    Raises TrainableError when label_smoothing, class_weights or mixing is asked of what has no classes, or a loss of
    its own.
    """
    own_loss = getattr(trainable, "loss", None)
    metrics = getattr(trainable, "metrics", None) or default_metrics
    if own_loss is None:
        smoothing = hyper.label_smoothing
        weights = None if hyper.class_weights == "none" else balanced(targets)

        def training_loss(output: Any, batch: Batch) -> Tensor:
            if not isinstance(output, Tensor):
                raise TrainableError(
                    f"model: it gives a {type(output).__name__}, and the default loss needs a tensor. Return one, or "
                    "give the trainable a loss() and a metrics() of its own"
                )
            if highest is not None:
                highest.fits(output)
            try:
                return default_loss(output, batch, smoothing, weights)
            except IndexError as error:  # targets that were not at hand to be looked through
                raise TrainableError(f"data.train: {error}. The model gives {output.shape[1]} outputs") from None

        return Objective(training_loss, default_loss, metrics)
    asked = {
        "label_smoothing": hyper.label_smoothing > 0, "class_weights": hyper.class_weights != "none",
        "augment_mixup or augment_cutmix": mixing is not None,
    }  # fmt: skip
    for name in (name for name, set_ in asked.items() if set_):
        raise TrainableError(
            f"config: {name} is set, but {type(trainable).__name__}.loss replaces the default loss, which would apply "
            "it. Do so in loss() under a key of your own, or leave it out"
        )

    def checked(output: Any, batch: Batch) -> Tensor:
        value = own_loss(output, batch)
        if not isinstance(value, Tensor) or value.ndim != 0:
            shape = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TrainableError(
                f"{type(trainable).__name__}.loss returned {shape}, not a scalar tensor. "
                "Return the mean over the batch's rows"
            )
        return value

    return Objective(checked, checked, metrics, own=True)


def balanced(targets: Tensor | None) -> Tensor:
    """A weight for each class, the rarer the larger, whose mean over the rows is 1; 0 for a class without a row."""
    if targets is None or targets.is_floating_point() or targets.ndim != 1:
        kind = "not at hand" if targets is None else f"of shape {tuple(targets.shape)}, {targets.dtype}"
        raise TrainableError(
            f"config: class_weights is balanced, but the training targets are {kind}. "
            "Give one class a row (a Dataset: in its attribute `targets`), or leave it at none"
        )
    counts = targets.bincount().double()
    return (len(targets) / (counts > 0).sum() / counts).where(counts > 0, 0.0).float()


def default_loss(output: Tensor, batch: Batch, label_smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy for integer targets, mean squared error for float ones; always computed in float32 or wider.

    With `weights` of classes the mean over rows is still one over rows, not over weights: then the means of parts of a
    batch make up the batch's.
    """
    target = batch[1]
    if isinstance(target, Mixed):
        first, second = (row_losses(output, part, label_smoothing, weights) for part in target[:2])
        return (target.weight * first + (1 - target.weight) * second).mean()
    if weights is not None:
        return row_losses(output, target, label_smoothing, weights).mean()
    if not target.is_floating_point():
        return F.cross_entropy(_logits(output, target), target, label_smoothing=label_smoothing)
    _refuse_smoothing(label_smoothing)
    return F.mse_loss(_prediction(output, target), target)


def default_metrics(output: Tensor, batch: Batch) -> dict[str, Tensor]:
    """`accuracy` for integer targets, `mae` for float ones."""
    target = batch[1]
    if target.is_floating_point():
        return {"mae": F.l1_loss(_prediction(output, target), target)}
    return {"accuracy": (_logits(output, target).argmax(1) == target).float().mean()}


def row_losses(output: Tensor, target: Tensor, label_smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """The default loss of each row, of shape (rows,)."""
    if target.is_floating_point():
        _refuse_smoothing(label_smoothing)
        return F.mse_loss(_prediction(output, target), target, reduction="none").reshape(len(target), -1).mean(1)
    rows = F.cross_entropy(_logits(output, target), target, label_smoothing=label_smoothing, reduction="none")
    if weights is not None:
        rows = rows * weights.to(target.device)[target]
    return rows.reshape(len(target), -1).mean(1)


def _refuse_smoothing(label_smoothing: float) -> None:
    if label_smoothing > 0:
        raise TrainableError(
            f"config: label_smoothing is {label_smoothing}, but the targets are floats, which have no labels to "
            "smooth. Leave it at 0, or give integer targets"
        )


def _logits(output: Tensor, target: Tensor) -> Tensor:
    usual = output.ndim == 2 and target.ndim == 1 and len(output) == len(target)
    if not usual and (output.ndim != target.ndim + 1 or output.shape[:1] + output.shape[2:] != target.shape):
        raise TrainableError(
            f"model: output of shape {tuple(output.shape)} for integer targets of shape {tuple(target.shape)}. "
            "Give [rows, classes] for targets [rows], or a loss() and a metrics() of your own"
        )
    return _wide(output)


def _prediction(output: Tensor, target: Tensor) -> Tensor:
    # [rows, 1] against [rows] would broadcast to [rows, rows] and train on nonsense.
    if output.shape != target.shape:
        if output.shape[:1] != target.shape[:1] or output.numel() != target.numel():
            raise TrainableError(
                f"model: output of shape {tuple(output.shape)} for float targets of shape {tuple(target.shape)}. "
                "Give as many numbers as targets, or a loss() and a metrics() of your own"
            )
        output = output.reshape(target.shape)
    return _wide(output)


def _wide(output: Tensor) -> Tensor:
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
