"""What else a training may suffer from: faults that show nearly the same as the likeliest one.

Only where there is a finding: nothing here warns of a training that no rule warned of.
"""

from __future__ import annotations

from sweeps.insight.diagnose.rule import steady, warned
from sweeps.insight.findings import Finding
from sweeps.insight.losses import smooth
from sweeps.insight.runs import Run
from sweeps.insight.thresholds import LIMITS

ALIKE: dict[str, tuple[str, str]] = {
    "lr_too_low": ("underfit", "a network too small or too tightly held for the task learns as slowly"),
    "too_few_epochs": ("underfit", "a network too small for the task still creeps down at the end"),
    "underfit": ("lr_too_high", "steps too large at first leave a network that learns no more; divide them by 3"),
    "not_learning": ("lr_too_high", "one step too large can leave a network that learns no more; divide it by 3"),
    "vanishing_gradients": ("lr_too_high", "steps too large at first may have driven units to where they are flat"),
    "dead_units": ("lr_too_high", "steps too large at first kill units; halve the rate, or warm up"),
    "exploding_gradients": ("unscaled_inputs", "inputs of a large scale make signals as large; standardise them"),
    "unscaled_inputs": ("exploding_gradients", "large weights make signals as large; draw smaller ones"),
    "noisy_batch": ("lr_too_high", "small batches want small steps; divide the rate by 3"),
    "lr_too_high": ("gradients_accumulate", "gradients that are never set to zero grow the steps as well"),
    "oscillating": ("lr_too_high", "steps are too large to settle; divide the rate by 3"),
    "overfit": ("label_errors", "wrong labels that are learned by heart let validation rise as well; look at some"),
    "too_little_data": ("overfit", "with so few rows, end earlier or regularise more"),
    "label_errors": ("splits_differ", "training rows of a harder source show the same; compare how both were made"),
    "splits_differ": ("label_errors", "wrong labels in training show the same; look at some"),
    "labels_shuffled": ("labels_differ", "labels coded otherwise in the two splits hold as little; compare them"),
    "labels_differ": ("labels_shuffled", "labels that belong to other rows hold as little; look at some"),
    "loss_misfit": ("lr_too_low", "a network that has hardly begun is as unsure; try three times the rate"),
}
"""By finding the other one that shows nearly the same, and why."""


CONSEQUENCES = frozenset({"underfit", "not_learning", "too_few_epochs"})
"""What follows from many faults."""
CREEPS = ("lr_too_low", "steps too small creep as well; try three times the rate")
"""Instead, of a loss that still falls step by step."""


def alike(run: Run, likeliest: Finding) -> Finding | None:
    """The other fault that shows as the likeliest one does."""
    other = ALIKE.get(likeliest.finding)
    if other is None:
        return None
    creeps = likeliest.finding == "underfit" and run.has("train/loss") and steady(smooth(run.train)) > LIMITS.steady
    finding, why = CREEPS if creeps else other
    return warned(finding, f"or else, for it shows nearly alike: {why}.", instead_of=likeliest.finding)
