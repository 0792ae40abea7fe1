"""What else a training may suffer from: faults that show nearly the same as the likeliest one.

Only where there is a finding: nothing here warns of a training that no rule warned of.
"""

from __future__ import annotations

import numpy as np

from sweeps.insight.diagnose.rule import steady
from sweeps.insight.findings import Finding
from sweeps.insight.losses import end, loss_at, smooth
from sweeps.insight.runs import Lacking, Run
from sweeps.insight.thresholds import LIMITS

ALIKE: dict[str, tuple[str, str]] = {
    "lr_too_low": ("underfit", "a network too small or too tightly held for the task learns as slowly."),
    "too_few_epochs": ("underfit", "a network too small for the task still creeps down at the end."),
    "underfit": ("lr_too_high", "steps too large at first leave a network that learns no more; divide them by 3."),
    "not_learning": ("lr_too_high", "one step too large can leave a network that learns no more; divide it by 3."),
    "vanishing_gradients": ("lr_too_high", "steps too large at first may have driven units to where they are flat."),
    "dead_units": ("lr_too_high", "steps too large at first kill units; halve the rate, or warm up."),
    "exploding_gradients": ("unscaled_inputs", "inputs of a large scale make signals as large; standardise them."),
    "unscaled_inputs": ("exploding_gradients", "large weights make signals as large; draw smaller ones."),
    "noisy_batch": ("lr_too_high", "small batches want small steps; divide the rate by 3."),
    "lr_too_high": ("gradients_accumulate", "gradients that are never set to zero grow the steps as well."),
    "oscillating": ("lr_too_high", "steps are too large to settle; divide the rate by 3."),
    "overfit": ("label_errors", "wrong labels that are learned by heart let validation rise as well; look at some."),
    "too_little_data": ("overfit", "with so few rows, end earlier or regularise more."),
    "label_errors": ("splits_differ", "training rows of a harder source show the same; compare how both were made."),
    "splits_differ": ("label_errors", "wrong labels in training show the same; look at some."),
    "labels_shuffled": ("labels_differ", "labels coded otherwise in the two splits hold as little; compare them."),
    "labels_differ": ("labels_shuffled", "labels that belong to other rows hold as little; look at some."),
    "loss_misfit": ("lr_too_low", "a network that has hardly begun is as unsure; try three times the rate."),
}
"""By finding the other one that shows nearly the same, and why."""
CREEPS = ("lr_too_low", "steps too small creep as well; try three times the rate.")
"""Instead, of an underfit training whose loss falls step by step."""

CONSEQUENCES = frozenset({"underfit", "not_learning", "too_few_epochs", "lr_too_low"})
"""What follows from many faults."""


def with_alike(run: Run, found: list[Finding]) -> list[Finding]:
    """The findings with the other fault that shows as the likeliest one does in the second place.

    Where a rule has found another fault that is no mere consequence, it comes there. Else what a weak sign speaks for;
    else, where no rule has found more, what shows nearly alike.
    """
    if not found:
        return []
    first, rest = found[0], found[1:]
    causes = [one for one in rest if one.finding not in CONSEQUENCES]
    if causes:
        return [first, *causes, *(one for one in rest if one not in causes)]
    try:
        with np.errstate(all="ignore"):  # of numbers beyond all measure
            other = hint(run, first.finding)
    except Lacking:
        other = None
    if other is None and (not rest or first.finding not in CONSEQUENCES):
        other = CREEPS if first.finding == "underfit" and creeps(run) else ALIKE.get(first.finding)
    if other is None or other[0] == first.finding:
        return found
    finding, why = other
    alike = Finding(
        finding, first.severity, f"or else, for it shows nearly alike: {why}", {"instead_of": first.finding}
    )
    second = next((one for one in rest if one.finding == finding), alike)
    return [first, second, *(one for one in rest if one.finding != finding)]


def hint(run: Run, likeliest: str) -> tuple[str, str] | None:
    """The other fault that a sign speaks for, which is too weak for a rule."""
    if likeliest == "lr_too_high" and large_at_first(run):
        return "exploding_gradients", "large weights or inputs begin so; draw smaller ones, standardise inputs."
    if likeliest not in CONSEQUENCES:
        return None
    if run.has("val/dead_units") and run.known("val/dead_units")[0] > LIMITS.dead:
        return "dead_units", "most units behind ReLUs were zero at first; draw other weights and biases, or use GELU."
    if run.has("train/accuracy") and not run.has("val/max_probability") and held_back_alike(run):
        return "loss_misfit", "a factor or a second softmax behind the network holds it back alike; is there one?"
    return None


def creeps(run: Run) -> bool:
    """Whether the loss falls step by step."""
    return run.has("train/loss") and steady(smooth(run.train)) > LIMITS.steady


def large_at_first(run: Run) -> bool:
    """Whether the loss of the first epoch is far above that of knowing nothing, or its mean above the validation loss
    after it; of a network whose loss before is not known."""
    if run.probes.get("initial_loss") is not None:
        return False
    thrown = run.has("val/loss") and float(run.train[0]) > LIMITS.outsized * float(run.val[0])
    return thrown or float(run.train[0]) > LIMITS.outsized * run.prior


def held_back_alike(run: Run) -> bool:
    """Whether far more rows are right than the loss says, or the first gradients hardly moved it."""
    accuracy = end(run.known("train/accuracy"))
    righter = accuracy > LIMITS.half and end(run.train) > LIMITS.above * loss_at(accuracy, run.classes)
    return righter or (run.has("grad/norm") and float(run.known("grad/norm")[0]) < LIMITS.weak * run.prior)
