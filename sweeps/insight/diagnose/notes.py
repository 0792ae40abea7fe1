"""Rules on what is worth knowing of a training that may be fine: no warnings."""

from __future__ import annotations

from typing import Any

from sweeps.insight.findings import Finding
from sweeps.insight.losses import end, smooth
from sweeps.insight.runs import Run
from sweeps.insight.thresholds import LIMITS


def noted(finding: str, message: str, **evidence: Any) -> Finding:
    """A finding that costs nothing by itself."""
    return Finding(finding, "info", message, evidence)


def overconfident(run: Run) -> Finding | None:
    """Probabilities that are higher than the network is right."""
    error = end(run.known("val/ece"))
    surer = end(run.known("val/max_probability")) > end(run.known("val/accuracy"))
    if error <= LIMITS.miscalibrated or not surer:
        return None
    message = f"in validation probabilities are off by {error:.1%} in the mean, too high. "
    mend = "Divide outputs by a temperature, or smooth labels, if they are used as probabilities."
    return noted("overconfident", message + mend, ece=error)


def accuracy_misleads(run: Run) -> Finding | None:
    """An accuracy that stands still while the loss falls."""
    accuracy, val = run.known("val/accuracy"), run.val
    if len(accuracy) != len(val) or len(val) < LIMITS.few_epochs:
        return None
    for start in range(len(val) - LIMITS.still + 1):
        part = slice(start, start + LIMITS.still)
        if accuracy[part].max() == accuracy[part].min() and val[part][0] - val[part][-1] > LIMITS.learned * run.prior:
            epoch = int(run.at("val/loss")[start])
            message = f"from epoch {epoch} on the accuracy stays at {accuracy[start]:.4g} while the validation loss "
            mend = "falls. Let schedules and stopping go by the loss."
            return noted("accuracy_misleads", message + mend, epoch=epoch, accuracy=float(accuracy[start]))
    return None


def slow_starter(run: Run) -> Finding | None:
    """A loss that does not move at first, and falls later."""
    train = smooth(run.train)
    early = max(2, round(LIMITS.start * len(train)))
    if len(train) < 2 * LIMITS.few_epochs or run.gain < LIMITS.half:
        return None
    moved = (float(train[0]) - float(train[:early].min())) / run.prior
    if moved > LIMITS.learned / 2 or float(train[0]) < (1 - LIMITS.hardly) * run.prior:
        return None
    message = f"the train loss hardly moved in {early} epochs and fell to {end(train):.4g} later. "
    return noted("slow_starter", message + "Give such trials a grace period of twice that long.", epochs=early)
