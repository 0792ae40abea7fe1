"""Where a trained model errs: each class, and the rows with the highest loss.

Place in the flow: a slot answers `errors` with this for the winner of a confirm phase; the report shows it, and advice
on regularisation or structure has to rest on it. It looks at validation rows: the test split is read once, for the
verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainables import precision
from trainables.contract import Batch, Config, Session, Trainable
from trainables.evaluation import EVAL_BATCHES, restored
from trainables.objective import Objective, row_losses

WORST_ROWS, WORST_CLASSES = 12, 20


@dataclass(frozen=True)
class ErrorAnalysis:
    """What was found on a split."""

    split: str
    rows: int
    worst: list[dict[str, Any]]
    """The rows with the highest loss, highest first: `row` (from 0), `loss`, and for one target a row `target` and
    `predicted`; of classes those are labels. Empty where a loss of the trainable's own is none of single rows."""
    classes: list[dict[str, Any]] = field(default_factory=list)
    """Of classes the ones with the lowest recall first: `label`, `rows`, `recall`, `precision` (None where nothing was
    taken for it), and `taken_for`, the label that most of its errors got (None where there is no error)."""


def error_analysis(trainable: Trainable, config: Config, session: Session, split: str = "val") -> ErrorAnalysis:
    """Look at the errors of the session's state on a whole split.

    Every rank looks at all rows. Raises TrainableError without a state or that split.
    """
    training = restored(trainable, config, session, split)
    rows = training.splits[split]
    losses: list[Tensor] = []
    targets: list[Tensor] = []
    predicted: list[Tensor] = []
    training.evaluated.eval()
    with torch.no_grad(), precision.autocast(training.hyper.precision, training.device):
        for batch in rows.batches(torch.arange(len(rows)), training.hyper.batch_size * EVAL_BATCHES):
            output = training.evaluated(batch[0])
            lost = losses_of(training.objective, output, batch)
            if lost is None:
                return ErrorAnalysis(split, len(rows), [])
            losses.append(lost)
            found = prediction(training.objective, output, batch)
            if found is not None:
                targets.append(batch[1])
                predicted.append(found)
    loss = torch.cat(losses).double().cpu()
    truth, guess = (torch.cat(found).cpu() if found else None for found in (targets, predicted))
    highest = loss.argsort(descending=True, stable=True)[:WORST_ROWS].tolist()
    worst = [
        {"row": row, "loss": float(loss[row])}
        | ({} if truth is None or guess is None else {"target": truth[row].item(), "predicted": guess[row].item()})
        for row in highest
    ]
    whole_numbers = truth is not None and guess is not None and not truth.is_floating_point()
    return ErrorAnalysis(split, len(rows), worst, by_class(truth, guess) if whole_numbers else [])


def losses_of(objective: Objective, output: Any, batch: Batch) -> Tensor | None:
    """The loss of each row; a loss of the trainable's own, which is a mean over rows, is asked row by row.

    None where that one cannot be: it may need several rows, or outputs that do not come apart by rows.
    """
    if not objective.own:
        return row_losses(output, batch[1])
    x, y = batch
    try:
        rows = [objective.loss(one_row(output, n, len(x)), (x[n : n + 1], y[n : n + 1])) for n in range(len(x))]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever the user's loss raises of a single row; of many it did not
        print(f"errors: the loss of a single row raised {type(error).__name__}: {error}")  # into the trial's log
        return None
    losses = torch.stack(rows)
    return losses if bool(losses.isfinite().all()) else None


def one_row(output: Any, row: int, rows: int) -> Any:
    """One row of what a model gave: of a tensor, or of all tensors with as many rows in a container."""
    if isinstance(output, Tensor):
        return output[row : row + 1] if output.ndim and len(output) == rows else output
    if isinstance(output, dict):
        return {key: one_row(value, row, rows) for key, value in output.items()}
    if isinstance(output, list | tuple):
        values = [one_row(value, row, rows) for value in output]
        return output._make(values) if hasattr(output, "_make") else type(output)(values)
    return output


def prediction(objective: Objective, output: Any, batch: Batch) -> Tensor | None:
    """What is predicted for each row, where that is one class or one number; None else, or where nobody can tell."""
    if objective.own or batch[1].ndim != 1:
        return None
    return output.reshape(batch[1].shape) if batch[1].is_floating_point() else output.argmax(1)


def by_class(truth: Tensor, guess: Tensor) -> list[dict[str, Any]]:
    """Recall and precision of the classes that rows have, the lowest recall first."""
    count = int(max(truth.max(), guess.max())) + 1
    right = torch.bincount(truth[truth == guess], minlength=count)
    there, taken = torch.bincount(truth, minlength=count), torch.bincount(guess, minlength=count)
    wrong = truth != guess  # pairs that occur, not all that there could be
    pairs, times = (truth[wrong] * count + guess[wrong]).unique(return_counts=True)
    taken_for: dict[int, int] = {}
    for place in times.argsort(descending=True, stable=True).tolist():
        taken_for.setdefault(int(pairs[place]) // count, int(pairs[place]) % count)
    found = [
        {
            "label": label,
            "rows": int(there[label]),
            "recall": float(right[label] / there[label]),
            "precision": float(right[label] / taken[label]) if taken[label] else None,
            "taken_for": taken_for.get(label),
        }
        for label in there.nonzero().flatten().tolist()
    ]
    return sorted(found, key=lambda one: one["recall"])[:WORST_CLASSES]
