"""Rules on losses that stay too high, by what holds them."""

from __future__ import annotations

import numpy as np

from sweeps.insight.diagnose.movement import too_short
from sweeps.insight.diagnose.rule import close, is_poor, known_task, optimizer_steps, suspected, warned
from sweeps.insight.findings import Finding
from sweeps.insight.losses import end, loss_at
from sweeps.insight.runs import Lacking, Run
from sweeps.insight.thresholds import LIMITS


def loss_misfit(run: Run) -> Finding | None:
    """The loss is far higher than its accuracy allows: it does not fit the output.

    Not of the platform's own cross-entropy, which reports how sure the network is as well: a network that is right more
    often than it says is held back by something else, unless it cannot be surer, as behind a second softmax.
    """
    accuracy, train, steps = end(run.known("train/accuracy")), end(run.train), optimizer_steps(run)
    # After few steps it has not come to where its loss fits.
    misfit = LIMITS.misfit_early if steps is not None and steps < LIMITS.few_steps else LIMITS.misfit
    accuracies = run.known("train/accuracy")
    settled = accuracy - float(accuracies[len(accuracies) // 2]) < LIMITS.learned
    classes = run.classes
    allowed = loss_at(accuracy, classes)
    if run.has("val/max_probability"):
        sure = end(run.known("val/max_probability"))
        surest = np.e / (np.e + classes - 1)
        fits_not = sure <= surest + LIMITS.learned / 5 and accuracy > max(2 * sure, LIMITS.half)
    else:
        high = train > misfit * allowed
        weak = run.has("grad/norm") and run.known("grad/norm")[0] < LIMITS.weak * run.prior and (high or is_poor(run))
        settled = settled or weak  # such a network goes on for ever
        fits_not = weak or (high and accuracy > LIMITS.chances / classes)
    smoothed = bool(run.setting("label_smoothing"))
    if fits_not and settled and not smoothed and train > LIMITS.low * run.prior:
        message = (
            f"{accuracy:.1%} of the training rows are right at a loss of {train:.4g}, where {allowed:.2g} is much. "
        )
        mend = "Is there a softmax before the loss, or a factor that keeps the outputs small?"
        # Labels that are smoothed leave as much, and no curve tells.
        told = warned if known_task(run) or train > LIMITS.little * run.prior else suspected
        return told("loss_misfit", message + mend, accuracy=accuracy, loss=train)
    return None


def held_back(run: Run) -> Finding | None:
    """The config shrinks weights, drops units or has so few that the network cannot fit."""
    lr, decay, dropout = (run.setting(name) or 0.0 for name in ("lr", "weight_decay", "dropout"))
    width, train = run.setting("width"), end(run.train)
    if train < LIMITS.learned * run.prior or end(run.val) > LIMITS.gap_open * train:
        return None
    if lr * decay > LIMITS.shrink:
        message = (
            f"each step shrinks the weights by {lr * decay:.1%} (weight decay {decay:g}), and the train loss stays at "
        )
        return warned("underfit", f"{message}{train:.4g}. Divide the weight decay by 3, or more.", weight_decay=decay)
    if dropout >= LIMITS.dropout:
        message = f"dropout is {dropout:g}, and the train loss stays at {train:.4g}. Lower it to 0.2."
        return warned("underfit", message, dropout=dropout)
    if width is not None and width <= LIMITS.narrow:
        message = (
            f"layers are {width:g} units wide, and the train loss stays at {train:.4g}. Double the width, or more."
        )
        return warned("underfit", message, width=width)
    return None


def pulled_back(run: Run) -> Finding | None:
    """Gradients have grown, and the loss has not come down: something pulls the weights back as fast."""
    norms, train = run.known("grad/norm"), end(run.train)
    if len(norms) < LIMITS.enough_epochs or train < LIMITS.little * run.prior or not close(run):
        return None
    grown = end(norms) / max(float(norms[0]), 1e-12)
    if grown > LIMITS.grown and run.gain > LIMITS.learned:
        message = f"gradients are {grown:.1f} times as large at the end as at first, and the train loss stays at "
        mend = f"{train:.4g}: weights are pulled back as fast. Lower weight decay and dropout."
        # In its task's noise gradients grow as well; but there the loss has come to rest.
        told = warned if known_task(run) or too_short(run) else suspected
        return told("underfit", message + mend, grown=grown, train=train)
    return None


def noisy_batch(run: Run) -> Finding | None:
    """Batches of so few rows that their gradients say little, and a poor loss."""
    size = run.setting("batch_size")
    if size is None:
        raise Lacking("batch_size")
    if size <= LIMITS.tiny_batch and is_poor(run):
        message = f"batches of {size:g} rows, and the train loss stays at {end(run.train):.4g}. "
        return warned(
            "noisy_batch", message + "Raise batch_size to 32 or more; the learning rate with it.", batch_size=size
        )
    return None


def underfit(run: Run) -> Finding | None:
    """Both losses are poor, close together, and no longer fall."""
    train, val = end(run.train), end(run.val)
    if not run.whole or len(run.train) < LIMITS.few_epochs or not close(run):
        return None
    message = f"train loss {train:.4g} and validation loss {val:.4g} are close and both poor. "
    mend = "Widen or deepen the network, lower dropout and weight decay."
    if known_task(run):
        return warned("underfit", message + mend, train=train, val=val) if is_poor(run) else None
    right = run.has("train/accuracy") and end(run.known("train/accuracy")) > 1 - LIMITS.low
    if is_poor(run) or (train > LIMITS.little * run.prior and not right):
        return suspected("underfit", message + mend, train=train, val=val)
    return None
