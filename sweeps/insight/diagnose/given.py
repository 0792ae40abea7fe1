"""Rules on what no tuning mends: the data, the network, its first steps."""

from __future__ import annotations

import math

import numpy as np

from sweeps.insight import audit as audits
from sweeps.insight import soundness
from sweeps.insight.diagnose.rule import at_the_end, is_poor, known_task, middle_of_three, steady, suspected, warned
from sweeps.insight.findings import Finding
from sweeps.insight.losses import end, falls, smooth
from sweeps.insight.runs import Lacking, Run
from sweeps.insight.thresholds import LIMITS

DATA = (
    "labels_out_of_range", "non_finite_inputs", "constant_features", "leakage", "imbalance", "label_errors",
    "splits_differ",
)  # fmt: skip
"""Findings of the audit that change what curves mean, in order of precedence."""
LOWER = "Divide the learning rate by 3, warm up over 5 % of the steps, clip gradients at their 90th percentile."


def data(run: Run) -> Finding | None:
    """The audit's first finding of those that change what curves mean."""
    if not run.audit:
        raise Lacking("audit")
    found = {one.finding: one for one in audits.judge(run.audit) if one.severity != "info"}
    return next((found[name] for name in DATA if name in found), None)


def network(run: Run) -> Finding | None:
    """The first of what the network shows of itself."""
    shown = run.probes.get("soundness")
    if not shown:
        raise Lacking("soundness")
    return next((one for one in soundness.soundness(shown) if one.severity != "info"), None)


def first_loss(run: Run) -> Finding | None:
    """A loss before training beyond all measure: unscaled inputs, or weights."""
    if run.probes.get("initial_loss") is None or not run.probes.get("expected_loss"):
        raise Lacking("initial_loss")
    loss, expected = float(run.probes["initial_loss"]), float(run.probes["expected_loss"])
    if math.isfinite(loss) and loss <= soundness.LOSS_HIGH * expected:
        return None
    told = f"the loss before training is {loss:.4g}, of a network that prefers nothing {expected:.4g}"
    unscaled = run.audit and list(audits.unscaled_inputs(run.audit))
    if unscaled:
        return warned("unscaled_inputs", f"{told}: {unscaled[0].message}", initial_loss=loss, expected_loss=expected)
    mend = "Draw smaller initial weights, or put norms between the layers; meanwhile clip gradients."
    return warned("exploding_gradients", f"{told}: signals grow from layer to layer. {mend}", initial_loss=loss)


def unscaled(run: Run) -> Finding | None:
    """Inputs of a strange scale, and a poor loss."""
    if not run.audit:
        raise Lacking("audit")
    found = list(audits.unscaled_inputs(run.audit))
    if not found or not is_poor(run):
        return None
    return warned("unscaled_inputs", f"the train loss stays at {end(run.train):.4g}: {found[0].message}")


def steep_first(run: Run) -> Finding | None:
    """Beyond all measure in the first epoch, and coming down from there ever since: as the network or its inputs were.

    Steps that are too large throw a loss up and down instead.
    """
    train = run.train
    if len(train) < LIMITS.few_epochs:
        return None
    poor = end(train) > LIMITS.low * run.prior
    known = run.probes.get("initial_loss") is not None  # then it was looked at, and what came after was made by steps
    thrown = float((np.diff(train) / train[:-1]).max()) > LIMITS.swings
    if not known and poor and train[0] > LIMITS.outsized * run.prior and steady(train) > LIMITS.steady and not thrown:
        message = f"the train loss begins at {train[0]:.4g} and falls ever since, to {end(train):.4g}: signals were "
        mend = "too large before the first step. Draw smaller initial weights, scale inputs and targets, or add norms."
        return warned("exploding_gradients", message + mend, first=float(train[0]), last=end(train))
    rest = train[max(1, len(train) // 10) :]
    # A mean over the first epoch that is far above the validation loss after it.
    was_thrown = run.has("val/loss") and train[0] > LIMITS.outsized * max(float(run.val[0]), float(rest[0]))
    if not known and was_thrown and 1 - end(rest) / rest[0] < LIMITS.learned:
        message = f"the train loss was {train[0]:.4g} in the first epoch, and stays at {rest[0]:.4g} from soon after. "
        return suspected("lr_too_high", message + LOWER, first=float(train[0]), last=end(train))
    norms = run.known("grad/norm")
    if run.rows or not poor:  # the audit has looked at the inputs
        return None
    if norms[0] > LIMITS.steep * train[0] and end(norms) < norms[0] / 2 > norms[1] and is_poor(run):
        message = f"gradients of the first epoch have a norm of {norms[0]:.4g} at a loss of {train[0]:.4g}. "
        mend = "Standardise the inputs by the training rows, or add norms."
        return warned("unscaled_inputs", message + mend, norm=float(norms[0]), loss=float(train[0]))
    return None


def non_finite(run: Run) -> Finding | None:
    """The loss became infinite or no number."""
    losses = {name: run.curves[name] for name in ("train/loss", "val/loss") if name in run.curves}
    finite = {name: np.isfinite(values) for name, values in losses.items()}
    for name, values in losses.items():
        place = len(values) - int(np.argmax(finite[name][::-1])) if finite[name].any() else 0
        bad = np.isinf(values[place:]).any() and (place > 0 or not any(known.any() for known in finite.values()))
        bad = bad and not np.isinf(values[:place]).any()  # else it stands for what was not measured
        # Some write what is no number as what is not there; then both losses end so, for more than a row of sums.
        ended = place > 0 and len(values) - place > 1 and not any(known[place:].any() for known in finite.values())
        if bad or (ended and len(losses) > 1):
            epoch = int(run.epochs[place])
            return warned("lr_too_high", f"{name} is no finite number from epoch {epoch} on. {LOWER}", epoch=epoch)
    return None


def one_layer(run: Run) -> Finding | None:
    """Only one layer is trained, and little is learned."""
    ratio = run.known("grad/first_to_last")
    if run.expected is not None:
        return None  # preflight has looked at the network, which may be linear
    if len(ratio) < 2 or not (ratio == 1.0).all() or end(run.train) < LIMITS.learned * run.prior:
        return None
    message = f"only one layer has gradients, and the train loss stays at {end(run.train):.4g}: the first layer with "
    mend = "any is the last. Is requires_grad off by mistake, or the network linear? Then it wants hidden layers."
    return warned("frozen_layers", message + mend, train=end(run.train))


def vanishing(run: Run) -> Finding | None:
    """Gradients do not reach the first layer, and little is learned."""
    ratio = float(np.median(run.known("grad/first_to_last")))
    if ratio < LIMITS.vanished and run.gain < LIMITS.half and is_poor(run):
        message = (
            f"the first layer's gradient is {ratio:.1g} times the last one's (median), and the train loss fell by "
        )
        mend = f"{run.gain:.0%}. Put norms or residual connections between the layers, or ReLUs for sigmoids."
        return warned("vanishing_gradients", message + mend, ratio=ratio)
    return None


def steps_too_large(run: Run) -> Finding | None:
    """A loss that was far above that of knowing nothing, and did not come down from there."""
    worst = float(run.train.max())
    if len(run.train) < LIMITS.few_epochs and at_the_end(run) and falls(run.train) > 3 * LIMITS.falling:
        return None  # it is coming down
    if worst > LIMITS.above * run.prior and end(run.train) > LIMITS.low * run.prior:
        epoch = int(run.at("train/loss")[int(run.train.argmax())])
        message = f"the train loss reached {worst:.4g} in epoch {epoch}, where knowing nothing has {run.prior:.4g}. "
        return warned("lr_too_high", message + LOWER, worst=worst, epoch=epoch)
    return None


def rate_beyond(run: Run) -> Finding | None:
    """A learning rate beyond all that is searched, and a poor loss."""
    rate = max(float(run.known("hp/lr").max()) if run.has("hp/lr") else 0.0, run.setting("lr") or 0.0)
    if not rate:
        raise Lacking("lr")
    optimizer = str(run.config.get("optimizer", "adamw" if known_task(run) else "")).lower()
    adam = bool(run.config) and optimizer.startswith("adam")
    bound = LIMITS.highest_rate_of_adam if adam else LIMITS.highest_rate
    if rate <= bound or end(run.train) < LIMITS.low * run.prior:
        return None
    message = f"the learning rate is {rate:.3g}, and the train loss stays at {end(run.train):.4g}: few networks bear "
    return warned("lr_too_high", f"{message}more than {bound:g}. Find its range by the range test.", lr=rate)


def came_loose(run: Run) -> Finding | None:
    """A train loss that had been low and is far above that at the end."""
    train = middle_of_three(smooth(run.train))
    place, last = int(train.argmin()), float(train[-max(3, len(train) // 10) :].min())
    loose = last > LIMITS.loose * train[place] and last - train[place] > LIMITS.low * run.prior
    # What never fell and got worse, in validation too, was made worse by the steps.
    worse = run.gain < LIMITS.learned and last > LIMITS.risen * max(run.prior, float(run.train.min()))
    if loose or (worse and run.has("val/loss") and end(run.val) > LIMITS.risen * run.val.min()):
        epoch = int(run.at("train/loss")[place])
        message = f"the train loss rose from {train[place]:.4g} in epoch {epoch} to {last:.4g}. "
        return warned("lr_too_high", message + LOWER, epoch=epoch, lowest=float(train[place]), last=last)
    return None


def dead_units(run: Run) -> Finding | None:
    """Most units are zero for all rows, and the loss is poor."""
    shares = run.known("val/dead_units")
    share = float(shares[-1])
    stays = share > LIMITS.dead or (shares[0] > LIMITS.dead and share >= LIMITS.dead / 2)
    if stays and end(run.train) > LIMITS.low * run.prior:
        message = f"{share:.0%} of the units behind ReLUs are zero for a whole validation batch. "
        return warned("dead_units", message + "Use LeakyReLU or GELU; halve the learning rate.", share=share)
    return None


def not_learning(run: Run) -> Finding | None:
    """The loss does not fall."""
    still = run.gain < LIMITS.learned and float(np.ptp(run.train[len(run.train) // 4 :])) < LIMITS.still_of * run.prior
    if not run.whole or len(run.train) < 2 or (run.gain >= LIMITS.learned / 2 and not still and not guesses(run)):
        return None
    told = f"the train loss was {run.train[0]:.4g} at first and is {end(run.train):.4g}; knowing nothing has about "
    told += f"{run.prior:.4g}. "
    if chance(run):
        mend = "Quick classifiers are right no more often than by chance either: do labels belong to their rows?"
        return warned("labels_shuffled", told + mend, gain=run.gain, agreement=run.usual)
    return warned("not_learning", told + "No tuning helps: go back to preflight.", gain=run.gain)


def guesses(run: Run) -> bool:
    """Whether the loss hardly fell, and no more rows are right than at first, nor than by guessing."""
    if not run.has("train/accuracy") or run.gain > LIMITS.hardly:
        return False
    right = run.known("val/accuracy" if run.has("val/accuracy") else "train/accuracy")
    return end(right) < min(LIMITS.chances / run.classes, float(right[0]) + LIMITS.below_usual)


def chance(run: Run) -> bool:
    """Whether quick classifiers agree with the labels no more than by chance."""
    if run.usual is None or not len(run.shares):
        return False
    most = float(run.shares.max())
    rows = run.rows.get("train", LIMITS.usual_val_rows)
    return run.usual < most + 3 * math.sqrt(most * (1 - most) / rows)
