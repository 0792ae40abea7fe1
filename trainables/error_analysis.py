"""Where a trained model errs: each class, what it takes for what, single rows, and how right its probabilities are.

Place in the flow: a slot answers `errors` with this for the winner of a confirm phase; the report shows it, and advice
on regularisation or structure has to rest on it. It looks at validation rows: the test split is read once, for the
verdict. Of the outputs, which are rows times classes, only a few numbers a row are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from trainables import precision
from trainables.calibration import Calibration, binned, calibration
from trainables.confusion import by_class, by_pair
from trainables.contract import Batch, Config, Session, Trainable
from trainables.evaluation import EVAL_BATCHES, restored
from trainables.objective import Objective, row_losses
from trainables.pictures import pictures

WORST_ROWS = 12
Named = list[dict[str, Any]]
"""Rows that are named, `row` counting from 0, or classes, with what is said of each."""


@dataclass(frozen=True)
class ErrorAnalysis:
    """What was found on a split."""

    split: str
    rows: int
    worst: Named
    """The rows with the highest loss, highest first: `row`, `loss`, and for one target a row `target` and `predicted`;
    of classes those are labels. Empty where a loss of the trainable's own is none of single rows."""
    classes: Named = field(default_factory=list)
    """Of classes the ones with the lowest recall first: `label`, `rows`, `recall`, `precision` (None where nothing was
    taken for it), and `taken_for`, the label that most of its errors got (None where there is no error)."""
    pairs: Named = field(default_factory=list)
    """What is taken for what, most rows first: `label`, `taken_for`, `rows`, `share` of the rows of that label."""
    confident: Named = field(default_factory=list)
    """Of classes the rows that are wrong and most surely so, surest first: `row`, `target`, `predicted`, `probability`
    of that, `loss`."""
    unsure: Named = field(default_factory=list)
    """Of classes the rows between whose two likeliest ones the difference is smallest, right or wrong, smallest first:
    `row`, `target`, `predicted`, `probability`, `second`, `second_probability`. The margin and not the entropy: it
    names the two that cannot be told apart, and means the same for any number of classes."""
    calibration: Calibration | None = None
    """Of classes, how right the probabilities are."""
    bias: float | None = None
    """Of one number a row, mean of prediction less target."""
    pictures: Named = field(default_factory=list)
    """Of images, the rows that are named above, as many as fit: `row`, `png` (base64)."""


def error_analysis(trainable: Trainable, config: Config, session: Session, split: str = "val") -> ErrorAnalysis:
    """Look at the errors of the session's state on a whole split.

    Every rank looks at all rows. Raises TrainableError without a state or that split.
    """
    training = restored(trainable, config, session, split)
    rows = training.splits[split]
    seen: list[dict[str, Tensor]] = []
    sums: list[Tensor] = []
    training.evaluated.eval()
    with torch.no_grad(), precision.autocast(training.hyper.precision, training.device):
        for batch in rows.batches(torch.arange(len(rows)), training.hyper.batch_size * EVAL_BATCHES):
            output = training.evaluated(batch[0])
            lost = losses_of(training.objective, output, batch)
            if lost is None:
                return ErrorAnalysis(split, len(rows), [])
            said = predictions(training.objective, output, batch)
            seen.append({"loss": lost, **said})
            if "probability" in said:
                sums.append(binned(said["probability"], said["predicted"] == said["target"]))
    told = {name: torch.cat([part[name] for part in seen]).cpu() for name in seen[0]}
    named = told_rows(told)
    return ErrorAnalysis(
        split,
        len(rows),
        **named,
        classes=by_class(told["target"], told["predicted"]) if sums else [],
        pairs=by_pair(told["target"], told["predicted"]) if sums else [],
        calibration=calibration(torch.stack(sums).sum(0)) if sums else None,
        bias=None if sums or "target" not in told else float((told["predicted"] - told["target"]).double().mean()),
        pictures=pictures(rows, in_turn(named)),
    )


def told_rows(told: Mapping[str, Tensor]) -> dict[str, Named]:
    """The rows to be named, by what is told of all rows: `worst`, and of classes `confident` and `unsure`."""
    highest = told["loss"].argsort(descending=True, stable=True)
    found = {"worst": described(told, highest[:WORST_ROWS], "loss", "target", "predicted")}
    if "probability" in told:
        wrong = highest[(told["predicted"] != told["target"])[highest]]
        surest = wrong[told["probability"][wrong].argsort(descending=True, stable=True)]  # of equals the higher loss
        found["confident"] = described(told, surest[:WORST_ROWS], "target", "predicted", "probability", "loss")
    if "second" in told:
        margin = told["probability"] - told["second_probability"]
        closest = margin.argsort(stable=True)[:WORST_ROWS]
        names = ("target", "predicted", "probability", "second", "second_probability")
        found["unsure"] = described(told, closest, *names)
    return found


def described(told: Mapping[str, Tensor], rows: Tensor, *names: str) -> Named:
    """What is told of those rows under those names, where it is."""
    return [{"row": row, **{name: told[name][row].item() for name in names if name in told}} for row in rows.tolist()]


def in_turn(named: Mapping[str, Named]) -> list[int]:
    """The rows that are named, each once: the first of each list, the second of each, and so on."""
    turns = itertools.zip_longest(*named.values())
    return list(dict.fromkeys(one["row"] for turn in turns for one in turn if one is not None))


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


def predictions(objective: Objective, output: Any, batch: Batch) -> dict[str, Tensor]:
    """What is predicted for each row, under the names of `ErrorAnalysis`; of shape (rows,) each.

    `target` and `predicted` for one number a row; for one class a row `probability` of what is predicted as well, and
    `second` and its probability where there are two. Empty else, or where nobody can tell what outputs mean.
    """
    target = batch[1]
    if objective.own or target.ndim != 1:
        return {}
    if target.is_floating_point():
        return {"target": target, "predicted": output.reshape(target.shape)}
    predicted = output.argmax(1)
    probabilities = output.float().softmax(1)
    at = predicted[:, None]
    found = {"target": target, "predicted": predicted, "probability": probabilities.gather(1, at).squeeze(1)}
    if probabilities.shape[1] > 1:
        found["second_probability"], found["second"] = probabilities.scatter(1, at, -1.0).max(1)
    return found
