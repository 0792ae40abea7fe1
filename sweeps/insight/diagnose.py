"""What a training suffered from: findings from its curves, and from what audit and preflight saw, the likeliest first.

Place in the flow: pure functions over Arrow tables of curves, a sweep's or anyone's, to `Finding`s; `sweeps diagnose`,
the report and `advise` take them. The rules are those of the playbook (symptom, condition, remedy); they stand in order
of precedence, because one fault shows several symptoms: what comes first explains what comes after it. A rule that
lacks its input is silent, and `Diagnosis.silent` says what it lacked.

Where a symptom begins stands in `thresholds`; `make bench NAME=diagnose` says how often the rules are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sweeps.insight import audit as audits
from sweeps.insight import soundness
from sweeps.insight.findings import Finding
from sweeps.insight.runs import Lacking, Run, end, falls, swings
from sweeps.insight.thresholds import LIMITS

MOST_NATS = 12.0
"""The loss of knowing nothing among more classes than anyone has."""
Rule = Callable[[Run], Finding | None]


@dataclass(frozen=True)
class Diagnosis:
    """What a training suffered from."""

    run: Run
    findings: list[Finding]
    """The likeliest first; empty for a healthy one."""
    silent: dict[str, str]
    """By rule that lacked its input what that was."""


def diagnose(run: Run) -> Diagnosis:
    """Ask every rule. Nothing raises for what a training lacks."""
    found: list[Finding] = []
    silent: dict[str, str] = {}
    for rule in RULES:
        try:
            one = rule(run)
        except Lacking as lacking:
            silent[rule.__name__] = str(lacking)
            continue
        if one is not None and one.finding not in {other.finding for other in found}:
            found.append(one)
    return Diagnosis(run, found, silent)


def warned(finding: str, message: str, **evidence: Any) -> Finding:
    """A finding that costs quality."""
    return Finding(finding, "warn", message, evidence)


# What data and network show before any curve: no tuning mends it.


DATA = (
    "labels_out_of_range", "non_finite_inputs", "constant_features", "leakage", "imbalance", "label_errors",
    "splits_differ",
)  # fmt: skip
"""Findings of the audit that change what curves mean, in order of precedence."""


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


# Nothing was learned, or worse.


def non_finite(run: Run) -> Finding | None:
    """The loss became infinite or no number."""
    for name in ("train/loss", "val/loss"):
        values = run.curves.get(name, np.empty(0))
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad) and bad[-1] == len(values) - 1:
            epoch = int(run.epochs[bad[0]])
            return warned("lr_too_high", f"{name} is {values[bad[0]]} in epoch {epoch}. {LOWER}", epoch=epoch)
    return None


LOWER = "Divide the learning rate by 3, warm up over 5 % of the steps, clip gradients at their 90th percentile."


def vanishing(run: Run) -> Finding | None:
    """Gradients do not reach the first layer, and little is learned."""
    ratio = float(np.median(run.known("grad/first_to_last")))
    if ratio < LIMITS.vanished and run.gain < LIMITS.half:
        message = (
            f"the first layer's gradient is {ratio:.1g} times the last one's (median), and the train loss fell by "
        )
        mend = f"{run.gain:.0%}. Put norms or residual connections between the layers, or ReLUs for sigmoids."
        return warned("vanishing_gradients", message + mend, ratio=ratio)
    return None


def steps_too_large(run: Run) -> Finding | None:
    """A loss that was far above that of knowing nothing, and did not come down from there."""
    worst = float(run.train.max())
    if worst > LIMITS.above * run.prior and end(run.train) > LIMITS.learned * run.prior:
        epoch = int(run.epochs[int(run.train.argmax())])
        message = f"the train loss reached {worst:.4g} in epoch {epoch}, where knowing nothing has {run.prior:.4g}. "
        return warned("lr_too_high", message + LOWER, worst=worst, epoch=epoch)
    return None


def dead_units(run: Run) -> Finding | None:
    """Most units are zero for all rows, and the loss is poor."""
    shares = run.known("val/dead_units")
    share = float(shares[-1])
    stays = share > LIMITS.dead or (shares[0] > LIMITS.dead and share > LIMITS.dead / 2)
    if stays and end(run.train) > LIMITS.poor * run.prior:
        message = f"{share:.0%} of the units behind ReLUs are zero for a whole validation batch. "
        return warned("dead_units", message + "Use LeakyReLU or GELU; halve the learning rate.", share=share)
    return None


# What train and validation say of each other.


def labels(run: Run) -> Finding | None:
    """What is learned in training does not hold in validation at all."""
    train, val = end(run.train), end(run.val)
    if run.val_gain > LIMITS.half or val < run.prior * (1 - LIMITS.learned):
        return None
    if train < LIMITS.disagree * run.prior and val > LIMITS.above * run.prior:
        message = (
            f"the train loss falls to {train:.4g} and the validation loss rises to {val:.4g}, where knowing nothing "
        )
        mend = f"has {run.prior:.4g}: the splits' labels mean different things. Compare how both are read and coded."
        return warned("labels_differ", message + mend, train=train, val=val)
    nothing_holds = run.val_gain < LIMITS.hardly
    if train < run.prior * (1 - LIMITS.learned / 2) and val > LIMITS.apart * train and nothing_holds:
        message = (
            f"the train loss falls to {train:.4g}, the validation loss never below {run.val.min():.4g}, and knowing "
        )
        mend = f"nothing has {run.prior:.4g}: rows are learned by heart. Do labels belong to their rows?"
        return warned("labels_shuffled", message + mend, train=train, val=float(run.val.min()))
    return None


def label_noise(run: Run) -> Finding | None:
    """Validation is better than training, measured alike."""
    train, val = end(run.train), end(run.val)
    if val < LIMITS.better_val * train and train > LIMITS.learned * run.prior:
        message = (
            f"the validation loss ({val:.4g}) is below the train loss ({train:.4g}), measured alike: the training "
        )
        mend = "rows are harder. Are some of their labels wrong, or are they of another source?"
        return warned("label_errors", message + mend, train=train, val=val)
    return None


def loss_misfit(run: Run) -> Finding | None:
    """The loss is far higher than its accuracy allows: it does not fit the output."""
    accuracy, train, steps = end(run.known("train/accuracy")), end(run.train), optimizer_steps(run)
    if steps is not None and steps < LIMITS.few_steps:
        return None  # it has not come to where its loss fits yet
    wrong = min(max(1 - accuracy, 1e-6), 1 - 1e-6)
    classes = math.exp(min(run.prior, MOST_NATS))
    allowed = -wrong * math.log(wrong) - (1 - wrong) * math.log(1 - wrong) + wrong * math.log(max(classes - 1, 1))
    if accuracy > LIMITS.accurate and train > max(LIMITS.misfit * allowed, LIMITS.low * run.prior):
        message = (
            f"{accuracy:.1%} of the training rows are right at a loss of {train:.4g}, where {allowed:.2g} is usual. "
        )
        mend = "Is there a softmax before the loss, or a factor that keeps the outputs small?"
        return warned("loss_misfit", message + mend, accuracy=accuracy, loss=train)
    return None


def held_back(run: Run) -> Finding | None:
    """The config shrinks weights or drops units so much that the network cannot fit."""
    lr, decay = float(run.config.get("lr", 0.0)), float(run.config.get("weight_decay", 0.0))
    dropout, train = float(run.config.get("dropout", 0.0)), end(run.train)
    if train < LIMITS.learned * run.prior or end(run.val) > (1 + 2 * LIMITS.gap) * train:
        return None
    if lr * decay > LIMITS.shrink:
        message = (
            f"each step shrinks the weights by {lr * decay:.1%} (weight decay {decay:g}), and the train loss stays at "
        )
        return warned("underfit", f"{message}{train:.4g}. Divide the weight decay by 3, or more.", weight_decay=decay)
    if dropout >= LIMITS.dropout:
        message = f"dropout is {dropout:g}, and the train loss stays at {train:.4g}. Lower it to 0.2."
        return warned("underfit", message, dropout=dropout)
    return None


def overfit(run: Run) -> Finding | None:
    """The validation loss rises while the train loss still falls."""
    val, lowest = end(run.val), float(run.val.min())
    place = int(run.val.argmin())
    if len(run.val) < 4 or place >= LIMITS.early * (len(run.val) - 1):
        return None
    if val > LIMITS.risen * lowest and val - lowest > LIMITS.rise * run.prior and end(run.train) < run.train[place]:
        epoch = int(run.epochs[place])
        message = f"the validation loss rose from {lowest:.4g} in epoch {epoch} to {val:.4g}; the train loss fell on. "
        mend = "Add augmentation, dropout or weight decay, end at that epoch, or gather more rows."
        return warned("overfit", message + mend, epoch=epoch, lowest=lowest, val=val)
    return None


def little_data(run: Run) -> Finding | None:
    """Few rows a class, all learned, and validation far worse."""
    few = list(audits.few_rows(run.audit)) if run.audit else []
    if few and end(run.train) < LIMITS.low * run.prior and end(run.val) > LIMITS.far_apart * end(run.train):
        message = f"the train loss falls to {end(run.train):.3g}, the validation loss stays at {end(run.val):.3g}: "
        return warned("too_little_data", message + few[0].message, **few[0].evidence)
    return None


# How the loss moves.


def noisy_batch(run: Run) -> Finding | None:
    """Batches of so few rows that their gradients say little, and a poor loss."""
    size = run.config.get("batch_size")
    if size is None:
        raise Lacking("batch_size")
    if size <= LIMITS.tiny_batch and end(run.train) > LIMITS.learned * run.prior:
        message = f"batches of {size} rows, and the train loss stays at {end(run.train):.4g}. "
        return warned(
            "noisy_batch", message + "Raise batch_size to 32 or more; the learning rate with it.", batch_size=size
        )
    return None


def oscillating(run: Run) -> Finding | None:
    """The loss goes up and down instead of settling."""
    swing = swings(run.val)
    rises = float(np.clip(np.diff(run.val[-max(3, len(run.val) // 4) :]), 0, None).max(initial=0.0))
    if swing > LIMITS.swings and rises > LIMITS.rise * run.prior:
        message = f"the validation loss goes up by {swing:.0%} of its level a step in the last half. "
        mend = "Halve the learning rate and let it fall (cosine), warm up, or use AdamW."
        return warned("oscillating", message + mend, swing=swing)
    return None


def too_short(run: Run) -> Finding | None:
    """The loss was still falling when the training ended, or it had few steps."""
    train, val = end(run.train), end(run.val)
    fall = min(falls(run.train), falls(run.val))
    best_last = int(run.val.argmin()) >= LIMITS.at_the_end * (len(run.val) - 1)
    steps = optimizer_steps(run)
    if train < LIMITS.learned / 2 * run.prior or val > LIMITS.gap_open * train:
        return None
    slow = run.gain < LIMITS.little and val < (1 + LIMITS.gap) * train and len(run.train) >= LIMITS.enough_epochs
    if slow and float(np.mean(np.diff(run.train) < 0)) > LIMITS.steady:
        message = f"the train loss fell from {run.train[0]:.4g} to {train:.4g} only, little by little. "
        return warned("lr_too_low", message + "Multiply the learning rate by 3 to 10.", first=run.train[0], last=train)
    if not run.whole:
        return None
    short = steps is not None and steps < LIMITS.few_steps
    if best_last and (fall > 3 * LIMITS.falling or short or len(run.train) < LIMITS.few_epochs):
        few = f" after {steps} steps" if steps else ""
        message = f"the validation loss was best at the end{few} ({val:.4g}), and the train loss is {train:.4g}. "
        return warned(
            "too_few_epochs", message + "Train twice as long, or with smaller batches.", fall=fall, steps=steps
        )
    return None


def optimizer_steps(run: Run) -> int | None:
    """Steps of the whole training; None where rows or batch are not known."""
    rows = run.audit.get("splits", {}).get("train", {}).get("rows")
    size = run.config.get("batch_size")
    return round(len(run.train) * rows / size) if rows and size else None


def underfit(run: Run) -> Finding | None:
    """Both losses are poor, close together, and no longer fall."""
    train, val = end(run.train), end(run.val)
    if not run.whole:
        return None  # it was not given the time
    if train > LIMITS.poor * run.prior and val < (1 + LIMITS.gap) * train:
        message = f"train loss {train:.4g} and validation loss {val:.4g} are close and both poor. "
        mend = "Widen or deepen the network, lower dropout and weight decay."
        return warned("underfit", message + mend, train=train, val=val)
    return None


def not_learning(run: Run) -> Finding | None:
    """The loss does not fall."""
    if run.whole and run.gain < LIMITS.learned / 2:
        message = f"the train loss fell by {run.gain:.1%} of {run.prior:.4g} only. "
        return warned("not_learning", message + "No tuning helps: go back to preflight.", gain=run.gain)
    return None


RULES: tuple[Rule, ...] = (
    data, network, first_loss, non_finite, vanishing, labels, steps_too_large, label_noise, noisy_batch, held_back,
    loss_misfit, little_data, overfit, oscillating, dead_units, too_short, underfit, not_learning,
)  # fmt: skip
"""In order of precedence."""


def as_table(diagnoses: Iterable[Diagnosis]) -> pa.Table:
    """The findings as a table: trial, finding, severity, message; a row each, a trial's likeliest first."""
    rows = [(one.run.trial, found) for one in diagnoses for found in one.findings]
    return pa.table(
        {
            "trial": pa.array([trial for trial, _ in rows], pa.string()),
            **{
                name: pa.array([getattr(found, name) for _, found in rows], pa.string())
                for name in ("finding", "severity", "message")
            },
        }
    )


def as_text(diagnoses: Sequence[Diagnosis], *, whole: bool = False) -> str:
    """The findings as lines, the likeliest of each trial; `whole`: all of them, and which rules lacked what."""
    if not diagnoses:
        return "No trial has reported."
    lines = []
    for one in diagnoses:
        for place, found in enumerate(one.findings if whole else one.findings[:1]):
            lines.append(f"{one.run.trial if not place else '':<14} {found.finding:<20} {found.message}")
        if whole and not one.findings:
            lines.append(f"{one.run.trial:<14} nothing is wrong that these rules know.")
        if whole and one.silent:
            lacking = ", ".join(f"{rule} ({lacked})" for rule, lacked in one.silent.items())
            lines.append(f"{'':<14} not asked, for what is lacking: {lacking}")
    fine = sum(not one.findings for one in diagnoses)
    if not whole:
        lines.append(f"{fine} of {len(diagnoses)} trials without a finding.")
    return "\n".join(lines)
