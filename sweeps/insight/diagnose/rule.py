"""What all rules are made of.

A rule is a function from a training to a finding, or None where nothing speaks for it; it raises `Lacking` where the
training does not have what it asks for. Losses are weighed as shares of `Run.prior`, what can be gained at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sweeps.insight.findings import Finding
from sweeps.insight.losses import Values, end, loss_at, smooth
from sweeps.insight.runs import Run
from sweeps.insight.thresholds import LIMITS

Rule = Callable[[Run], Finding | None]


def warned(finding: str, message: str, **evidence: Any) -> Finding:
    """A finding that costs quality."""
    return Finding(finding, "warn", message, evidence)


def suspected(finding: str, message: str, **evidence: Any) -> Finding:
    """A finding that costs quality if it is one: curves of this kind are a healthy training's as well."""
    return Finding(finding, "info", f"perhaps, if the task allows more: {message}", evidence)


def known_task(run: Run) -> bool:
    """Whether data or preflight tell what a loss means, rather than the curves alone."""
    return run.expected is not None


def optimizer_steps(run: Run) -> int | None:
    """Steps of the whole training; None where rows or batch are not known."""
    rows, size = run.rows.get("train"), run.setting("batch_size")
    return round(len(run.train) * rows / size) if rows and size else None


def sampling(run: Run, share: float) -> float:
    """Three standard errors of a share of the validation rows, or of as many as are usual."""
    return 3 * float(np.sqrt(share * (1 - share) / max(run.rows.get("val", LIMITS.usual_val_rows), 1)))


def is_poor(run: Run) -> bool:
    """Whether the train loss at the end leaves much to be gained.

    How much may be left depends on the task: where classes overlap, or a number is measured with noise, no network
    comes near 0. Classifiers that have seen none of the rows and are right more often say it surely; else the loss is
    weighed against that of a network that is right in two of three rows, and of numbers against most of the variance.
    """
    train = end(run.train)
    if not run.has("train/accuracy"):
        first = LIMITS.unexplained if run.expected is not None else LIMITS.unexplained_of_first
        return train > (first if measures_numbers(run) else LIMITS.half) * run.prior
    accuracy = end(run.known("train/accuracy"))
    if below_usual(run) or (unsure(run) and train > LIMITS.low * run.prior):
        return True
    unlike = run.usual is not None and accuracy <= run.usual + LIMITS.learned
    often = LIMITS.right_often + (LIMITS.right_oftener if unlike else 0.0)
    return accuracy < often and train > min(loss_at(often, run.classes), LIMITS.unexplained * run.prior)


def close(run: Run) -> bool:
    """Whether validation is hardly worse than training; where other classifiers do better, not much worse."""
    gap = 3 * LIMITS.gap if below_usual(run) else LIMITS.gap
    return end(run.val) < (1 + gap + float(luck(run, end(run.train)))) * end(run.train)


def luck(run: Run, train: float | Values) -> Values:
    """The standard error of validation over train loss, both means over as many rows, at this train loss.

    Squares of numbers vary by 1.4 of their mean; losses of even classes hardly before anything is learned, and the more
    the more is; those of a rare class are higher from the first. A low one is of the few rows that are wrong.
    """
    level = np.asarray(train, float)
    numbers, spread = np.full(level.shape, 1.4), np.zeros(level.shape)
    if not measures_numbers(run):
        of_few = 1 / np.maximum(level, 1e-12) - 1  # as of a loss of 1 in some rows, and of 0 in the others
        learned = np.clip(1 - level / run.prior, 0.0, 1.0)
        uneven = 0.0
        if len(run.shares):
            each = -np.log(run.shares)
            mean = float(run.shares @ each)
            uneven = float(run.shares @ (each - mean) ** 2) / mean**2
        spread = np.sqrt(np.maximum(1.5**2 * learned, of_few) + uneven)
    if not run.has("train/accuracy"):
        spread = np.maximum(spread, numbers)
    return np.asarray(spread * math.sqrt(2 / max(run.rows.get("val", LIMITS.usual_val_rows), 1)))


def measures_numbers(run: Run) -> bool:
    """Whether other measures than an accuracy say that a number is learned."""
    others = [name for name in run.curves if name.startswith("train/") and name != "train/loss" and run.has(name)]
    return bool(others) and "train/accuracy" not in others


def unsure(run: Run) -> bool:
    """Whether the network is right far more often than it says, without having been told to be unsure."""
    told = any(run.setting(name) for name in ("label_smoothing", "augment_mixup", "augment_cutmix"))
    if told or not (run.has("val/accuracy") and run.has("val/max_probability")):
        return False
    return end(run.known("val/accuracy")) - end(run.known("val/max_probability")) > LIMITS.unsure


def at_the_end(run: Run) -> bool:
    """Whether the validation loss was lowest at the end, or as good as."""
    values = smooth(run.val)
    lowest = float(values.min())
    late = int(values.argmin()) >= LIMITS.at_the_end * (len(values) - 1)
    return late or end(values) - lowest < LIMITS.as_good * (float(values[0]) - lowest)


def below_usual(run: Run) -> bool:
    """Whether classifiers that have not seen the training rows are right on them more often than the network."""
    if run.usual is None or not run.has("train/accuracy"):
        return False
    accuracy = end(run.known("train/accuracy"))
    return accuracy < run.usual - max(LIMITS.below_usual, sampling(run, run.usual))


def middle_of_three(values: Values) -> Values:
    """The median of each value and its neighbours, from eight values on."""
    if len(values) < 8:
        return values
    middle = np.median(np.stack((values[:-2], values[1:-1], values[2:])), axis=0)
    return np.asarray(np.pad(middle, 1, mode="edge"))


def steady(values: Values) -> float:
    """The share of the steps in which a loss falls."""
    return float(np.mean(np.diff(values) < 0)) if len(values) > 1 else 0.0
