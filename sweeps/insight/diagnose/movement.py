"""Rules on how the loss moves."""

from __future__ import annotations

import numpy as np

from sweeps.insight.diagnose.given import chance
from sweeps.insight.diagnose.rule import (
    at_the_end,
    is_poor,
    known_task,
    optimizer_steps,
    steady,
    suspected,
    unsure,
    warned,
)  # fmt: skip
from sweeps.insight.findings import Finding
from sweeps.insight.losses import end, falls, smooth, swings, up_and_down
from sweeps.insight.runs import Run
from sweeps.insight.thresholds import LIMITS


def oscillating(run: Run) -> Finding | None:
    """The loss goes up and down instead of settling."""
    values = run.val if run.has("val/loss") else run.train
    swing, lowest = swings(values), float(values.min())
    held = run.decays is False
    tail = values[-max(3, len(values) // (2 if held else 4)) :]
    rises = float(np.clip(np.diff(tail), 0, None).max(initial=0.0))
    bound = LIMITS.swings_held if held else LIMITS.swings
    wide = swing > bound and rises > LIMITS.rise * run.prior
    # Where noise cannot be learned away, swings are small beside the level, and still large beside what was gained.
    beside = swing * float(np.median(values[len(values) // 2 :])) / max(run.prior - lowest, LIMITS.hardly * run.prior)
    gained = lowest < (1 - LIMITS.hardly) * run.prior
    if wide or (held and gained and beside > LIMITS.swings_of_gain) or thrown(run):
        message = f"the {'validation' if run.has('val/loss') else 'train'} loss goes up by {swing:.0%} of its level a "
        falls_already = "" if run.decays else " and let it fall (cosine)"
        mend = f"step in the last half. Halve the learning rate{falls_already}, warm up, or use AdamW."
        return warned("oscillating", message + mend, swing=swing)
    return None


def thrown(run: Run) -> bool:
    """Whether both losses, not one by noise, go up and down by much of what was gained in a step of the last half."""
    if run.decays or not (run.has("train/loss") and run.has("val/loss")):
        return False
    losses = run.train, run.val
    if min(map(len, losses)) < LIMITS.enough_epochs or min(run.gain, run.val_gain) < LIMITS.hardly:
        return False
    return min(up_and_down(v[len(v) // 2 :]) / float(v[0] - v.min() + 1e-12) for v in losses) > LIMITS.thrown


def held_high(run: Run) -> Finding | None:
    """A loss that fell at once and then stays at a poor value, under a learning rate that does not decay."""
    fell = run.gain > LIMITS.learned
    if run.decays is not False or not fell or not is_poor(run) or len(run.train) < LIMITS.enough_epochs:
        return None
    half = run.train[len(run.train) // 2 :]
    if run.late("train/loss") < LIMITS.late / 2 and steady(half) < LIMITS.steady:
        message = f"the train loss stays at {end(run.train):.4g} and goes up as often as down, at a learning rate that "
        told = warned if known_task(run) else suspected
        return told("lr_too_high", message + "does not fall. Divide it by 3, and let it fall (cosine).")
    return None


def decayed_early(run: Run) -> Finding | None:
    """A learning rate that was nearly 0 long before the end, and a loss that stood still from there on."""
    rates = run.known("hp/lr")
    if len(rates) != len(run.train) or len(rates) < LIMITS.enough_epochs or end(run.train) < LIMITS.low * run.prior:
        return None
    low = rates < LIMITS.decayed * rates.max()
    place = len(rates) - int(np.argmin(low[::-1]))  # the first from which on it stays so
    if not low[-1] or place > LIMITS.decayed_early * len(rates):
        return None
    fell = float(run.train[place] - end(run.train))
    if fell > LIMITS.latest * float(run.train[0] - end(run.train)):
        return None  # and the loss went on falling
    epoch, rate = int(run.at("hp/lr")[place]), float(rates[place:].max())
    message = f"from epoch {epoch} of {run.epochs[-1]:.0f} on the learning rate was at most {rate:.3g}, of "
    mend = f"{rates.max():.3g} before, and the train loss stays at {end(run.train):.4g}. Let the schedule last longer."
    told = warned if known_task(run) else suspected
    return told("lr_too_low", message + mend, epoch=epoch, rate=rate)


def creeping(run: Run) -> Finding | None:
    """A loss that hardly moves, but steadily, in both splits alike and down at the end, under gradients as at first.

    A network that has diverged, or whose output does not depend on the row, is thrown about at random instead. At first
    it may rise: as norms come to rest.
    """
    train, val = smooth(run.train_then), smooth(run.val)
    if len(train) < LIMITS.enough_epochs or run.gain > LIMITS.learned or chance(run):
        return None
    moved = float(np.ptp(train)) / run.prior
    moves, val_moves = np.diff(train), np.diff(val)
    if not moves[1:].any() or abs(moves).max() > abs(moves).sum() / 2:
        return None  # at rest, but for one step
    if train[-1] >= train[len(train) // 2]:
        return None
    # By how far it moved: where the rate has come to 0 it trembles.
    goes_on = np.average(moves[1:] * moves[:-1] > 0, weights=abs(moves[1:])) > LIMITS.persistent
    alike = np.average(moves * val_moves > 0, weights=abs(moves)) > LIMITS.persistent
    if run.has("grad/norm"):
        norms = run.known("grad/norm")
        pushed = norms[0] > LIMITS.weak * run.prior and end(norms) > norms[0] / 2
    else:
        pushed = moved > LIMITS.learned / 10
    if pushed and goes_on and alike and moved < LIMITS.hardly:
        message = f"the train loss moved by {moved:.1%} of {run.prior:.4g} in all, epoch by epoch on its way: "
        told = warned if known_task(run) or run.gain < LIMITS.learned / 2 else suspected
        return told("lr_too_low", message + "steps are too small. Multiply the rate by 10.", moved=moved)
    return None


def too_slow(run: Run) -> Finding | None:
    """The loss falls as fast at the end as at first, and little over all."""
    train, val = end(run.train), end(run.val)
    late = run.late("train/loss")
    if (
        len(run.train) < LIMITS.enough_epochs
        or late < LIMITS.late_if_little
        or val > (1 + LIMITS.gap) * max(train, run.prior / 2)
    ):
        return None
    follows = run.late("val/loss") > LIMITS.late / 2 and at_the_end(run)
    if run.gain < LIMITS.little and is_poor(run) and follows and steady(smooth(run.train)) > LIMITS.steady:
        message = f"the train loss fell from {run.train[0]:.4g} to {train:.4g} only, little by little. "
        return warned("lr_too_low", message + "Multiply the learning rate by 3 to 10.", first=run.train[0], last=train)
    return None


def going_down(run: Run) -> bool:
    """Whether both losses, much of which is left, fall steadily to the end; not under a rate that comes to rest."""
    if run.decays or len(run.train) < LIMITS.enough_epochs or end(run.train) < 2 * LIMITS.low * run.prior:
        return False
    last = max(3, len(run.train) // 5)
    fell = min(1 - float(values[-1] / values[-last - 1]) for values in (run.train, run.val) if len(values) > last)
    return fell > LIMITS.learned and min(steady(v[-2 * last :]) for v in (run.train, run.val)) > LIMITS.at_the_end


def too_short(run: Run) -> Finding | None:
    """The loss was still falling when the training ended, or it had few steps."""
    train, val = end(run.train), end(run.val)
    steps, fall = optimizer_steps(run), min(falls(run.train), falls(run.val))
    hardly_any = steps is not None and steps < LIMITS.hardly_any_steps
    gap = LIMITS.gap_open * (2 if hardly_any else 1)
    if not run.whole or train < LIMITS.learned / 2 * run.prior or val > gap * train:
        return None
    latest = LIMITS.early if hardly_any else LIMITS.at_the_end
    if int(run.val.argmin()) < latest * (len(run.val) - 1) or too_slow(run) is not None:
        return None
    if run.has("hp/lr") and decayed_early(run) is not None:
        return None  # more epochs at no rate are of no use
    short = steps is not None and steps < LIMITS.few_steps
    late, latest_part = (min(run.late(name, after) for name in ("train/loss", "val/loss")) for after in (0.5, 0.75))
    few = len(run.train) < LIMITS.few_epochs and (short or (steps is None and (len(run.train) > 1 or is_poor(run))))
    few = few or (steps is None and len(run.train) < LIMITS.enough_epochs and fall > LIMITS.hardly)
    # What has not come to its end is right more often than it says; what is too small for more knows what it knows.
    held = fall > 3 * LIMITS.falling or (is_poor(run) and unsure(run))
    # What began late and has settled fell in the second half as well, but not at its end.
    share = min(late / LIMITS.late, latest_part / LIMITS.latest)
    going_on = share > 1 or (share > 0.6 and (held or short))
    if going_on or few or hardly_any or going_down(run):
        after = f" after {steps} steps" if steps else ""
        message = f"the validation loss was best at the end{after} ({val:.4g}), and the train loss is {train:.4g}. "
        return warned(
            "too_few_epochs", message + "Train twice as long, or with smaller batches.", fall=fall, steps=steps
        )
    return None
