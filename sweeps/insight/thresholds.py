"""Where a symptom begins: every threshold of the rules of `diagnose`, in one table.

Place in the flow: `diagnose` compares with these. They begin with the playbook's, and were calibrated on trainings with
planted faults: those of the families mlp and cnn in `tests/benchmarks/planted.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Where a symptom begins. Losses are as shares of `prior`, the loss of a network that prefers nothing."""

    learned: float = 0.05
    """A training that brought its loss down by no more of the prior has learned nothing."""
    vanished: float = 1e-3
    """Gradient of the first layer over that of the last, below which it does not reach the first."""
    dead: float = 0.5
    """Share of the units that are zero over a whole validation batch."""
    above: float = 1.5
    """A loss so many times the prior is worse than knowing nothing."""
    disagree: float = 0.3
    """Train loss below which, with a validation loss above the prior, the two splits' labels disagree."""
    better_val: float = 0.75
    """Validation loss over train loss, below which the training rows are harder than they should be."""
    misfit: float = 3.0
    """Train loss over what its accuracy allows."""
    risen: float = 1.1
    """Validation loss at the end over its lowest: overfitting."""
    early: float = 0.8
    """The lowest validation loss lies before this share of the epochs."""
    swings: float = 0.25
    """Mean step up and down of the loss in the last half, as a share of its level."""
    falling: float = 0.01
    """Relative fall an epoch over the last fifth, with which a training was ended too early."""
    rise: float = 0.02
    """A rise of the validation loss that counts."""
    low: float = 0.1
    """A loss below is low, above it there was something to gain."""
    half: float = 0.5
    """Share of the prior gained: something was learned."""
    little: float = 0.3
    """Share of the prior gained below which a loss fell little."""
    hardly: float = 0.1
    """Share of the prior gained in validation below which nothing carries over."""
    apart: float = 1.1
    """Validation over train loss: rows are learned by heart where nothing carries over."""
    far_apart: float = 3.0
    """Validation over train loss of few rows that are learned by heart."""
    gap_open: float = 2.0
    """Validation over train loss, from which longer training widens the gap."""
    accurate: float = 0.85
    """Train accuracy with which a high loss does not go."""
    at_the_end: float = 0.9
    """The lowest validation loss lies after this share of the epochs: best at the end."""
    steady: float = 0.7
    """Share of the epochs in which a slow loss falls."""
    few_epochs: int = 5
    """Fewer are few."""
    enough_epochs: int = 8
    """So many tell a slow fall."""
    few_steps: int = 200
    """Optimizer steps of a whole training."""
    poor: float = 0.3
    """Train loss at the end above which, with a small gap, the network is held back."""
    gap: float = 0.15
    """Validation over train loss, less one: a small gap."""
    tiny_batch: int = 4
    """Rows of a batch whose gradients say little."""
    shrink: float = 0.01
    """Learning rate times weight decay: the share by which each step shrinks the weights."""
    dropout: float = 0.6
    """A share of dropped units that few networks bear."""
    miscalibrated: float = 0.1
    """Expected calibration error above which a winner's probabilities mislead: the playbook's, taken as it is."""


LIMITS = Thresholds()
