"""Where a symptom begins: every threshold of the rules of `diagnose`, in one table.

Place in the flow: `diagnose` compares with these. They begin with the playbook's, and were calibrated on trainings with
planted faults: half of the kinds of those of the families mlp and cnn in `tests/benchmarks/planted.py`, all of
`tests/benchmarks/unseen.py`, whose healthy networks cannot bring a loss near 0, and most of the curves of other loops
in `tests/benchmarks/curves.py`. A few were read off the families text and series of the first, after these had judged.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """Where a symptom begins. Losses are as shares of `prior`, the loss of a network that prefers nothing."""

    learned: float = 0.05
    """A training that brought its loss down by no more of the prior has learned nothing."""
    still_of: float = 0.005
    """Share of the prior within which a loss stands still."""
    vanished: float = 1e-3
    """Gradient of the first layer over that of the last, below which it does not reach the first."""
    dead: float = 0.5
    """Share of the units that are zero over a whole validation batch."""
    above: float = 1.5
    """A loss so many times the prior is worse than knowing nothing."""
    outsized: float = 5.0
    """A first loss so many times the prior was not made by steps."""
    steep: float = 20.0
    """Norm of the first epoch's gradients over its loss, of inputs of a large scale."""
    better_val: float = 0.9
    """Validation loss over train loss, below which the training rows are harder than they should be."""
    errors: float = 3.0
    """So many standard errors that two splits' losses are apart are no luck."""
    usual_val_rows: int = 150
    """Rows of validation, where they are not known."""
    at_first: float = 1.15
    """A first loss counts up to so many times the prior."""
    carried: float = 0.3
    """Share of what the train loss fell by which the validation loss fell, too: it carries over."""
    loose: float = 1.3
    """Train loss at the end over its lowest: it came loose, by the playbook."""
    weak: float = 0.05
    """The first epoch's gradients over the prior, below which the outputs of a poor network hardly move the loss."""
    misfit: float = 1.08
    """Train loss over the highest that its accuracy allows."""
    misfit_early: float = 3.0
    """And after few steps."""
    chances: float = 1.5
    """An accuracy so many times that of one class of all says something."""
    risen: float = 1.05
    """Validation loss at the end over its lowest: overfitting, by the playbook."""
    lost: float = 0.15
    """Share of what was gained in validation that is lost again, with which a rise is worth a warning."""
    risen_far: float = 1.5
    """Of a loss that rose to so many times its lowest half of that is enough."""
    lost_early: float = 0.3
    """And this much where the accuracy has not fallen with it, and the best epoch was early;"""
    lost_for_sure: float = 0.5
    """or this much where it was not."""
    best_early: float = 0.3
    """The lowest validation loss before this share of the epochs: early, by the playbook."""
    early: float = 0.8
    """The lowest validation loss lies before this share of the epochs."""
    swings: float = 0.25
    """Mean step up and down of the loss in the last half, as a share of its level."""
    swings_held: float = 0.15
    """And under a learning rate that does not decay, which would end them."""
    swings_of_gain: float = 0.1
    """Mean step up of such a loss, as a share of what was gained."""
    thrown: float = 0.05
    """Mean step up of both losses in the last half, as a share of what was gained, of steps that are too large."""
    decayed: float = 0.05
    """Share of the highest learning rate that is nearly none,"""
    decayed_early: float = 0.4
    """and share of the epochs before which that is too early."""
    late: float = 0.4
    """Share of all that a loss fell that fell over the second half of the way: it had not settled."""
    latest: float = 0.2
    """And over the last quarter."""
    late_if_little: float = 0.3
    """Less is enough of a loss that fell little over all."""
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
    as_good: float = 0.02
    """Share of its fall by which a loss may be above its lowest and is as good as the lowest."""
    at_the_end: float = 0.9
    """The lowest validation loss lies after this share of the epochs: best at the end."""
    steady: float = 0.7
    """Share of the epochs in which a slow loss falls."""
    persistent: float = 0.75
    """Share of its way on which a loss goes on as before, and as the other one, of steps that are too small."""
    few_epochs: int = 5
    """Fewer are few."""
    enough_epochs: int = 8
    """So many tell a slow fall."""
    few_steps: int = 200
    """Optimizer steps of a whole training that are few,"""
    hardly_any_steps: int = 100
    """and that are hardly any."""
    narrow: int = 8
    """Units of a layer that are fewer than most tasks want."""
    right_often: float = 0.65
    """Share of the training rows that are right with which a network is no longer poor, by itself."""
    right_oftener: float = 0.1
    """More by this where quick classifiers are right about as often."""
    below_usual: float = 0.03
    """Accuracy in training below that of quick classifiers on rows that they have not seen: poor."""
    unsure: float = 0.15
    """Accuracy over mean highest probability in validation, with which a network is held from being sure."""
    unexplained: float = 0.75
    """Share of the variance of numbers that is left, or of the prior, above which a network is poor."""
    unexplained_of_first: float = 0.85
    """And of what the first epoch left."""
    few_of_a_part: float = 50.0
    """Training rows a class, or of numbers a column, that are few."""
    by_heart: float = 10.0
    """Validation over train loss of rows that are learned by heart."""
    missed: float = 0.15
    """Validation loss that stays, as a share of the prior, of few rows that are learned by heart."""
    grown: float = 1.75
    """Gradients at the end over those at first: something pulls back."""
    gap: float = 0.15
    """Validation over train loss, less one: a small gap."""
    miscalibrated: float = 0.1
    """Expected calibration error above which probabilities mislead: the playbook's, taken as it is."""
    still: int = 3
    """Epochs of an accuracy that stands still, by the playbook."""
    start: float = 0.15
    """Share of the epochs that are the start."""
    tiny_batch: int = 4
    """Rows of a batch whose gradients say little."""
    highest_rate_of_adam: float = 0.1
    """The highest learning rate that is searched by default, by the playbook,"""
    highest_rate: float = 1.0
    """and that of SGD, or of who knows which optimizer."""
    shrink: float = 0.01
    """Learning rate times weight decay: the share by which each step shrinks the weights."""
    dropout: float = 0.6
    """A share of dropped units that few networks bear."""


LIMITS = Thresholds()
