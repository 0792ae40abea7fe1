"""What the numbers of `trainables.probes` mean: whether this network can learn these data at all.

Place in the flow: pure functions from probes to findings; preflight journals them, diagnosis takes them before any
curve. What a failed check is put down to stands in `causes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sweeps.insight import causes
from sweeps.insight.causes import BLIND, EQUAL_SHARE, HARDLY, RANDOM, Seen, likeliest
from sweeps.insight.findings import Finding, Severity, listed

LOSS_HIGH = 3.0
"""An untrained network may be so many times worse than one that prefers nothing; initial weights spread that far."""
LOSS_LOW = 0.5
PRIOR = 0.9
"""A first loss of this share of the blind one is that of the labels' frequencies, with which a network may begin."""
FEW_STEPS = 10
"""After so few steps, because each is slow, a network that learned nothing may be a good one."""
TOLD, CHANCE = 4.0, 2.0
"""A loss so many deviations below its mean under other labels is no chance; above the second it may be. With 199 other
shuffles the first also asks for a loss below all of them, which chance gives once in 200."""
NOTABLY = 0.05
"""Of the loss under other labels: by less than this share a leak does not matter."""


def judge(probes: Mapping[str, Any], audit: Mapping[str, Any] | None = None) -> list[Finding]:
    """The findings that follow from the numbers of `trainables.probes`, one a check and one on cost.

    `audit`: the numbers of `trainables.audit`, where there was one, as far as they explain what failed.
    """
    seen = Seen(probes, audit or {})
    first = [initial_loss(seen), gradients(seen), *soundness(probes["soundness"])]
    learned = [overfits_one_batch(seen), input_independent(seen), *carries_over(seen), *learns_shuffled_labels(seen)]
    return [*first, *learned, cost(probes)]


def initial_loss(seen: Seen) -> Finding:
    """The untrained network's loss against that of an output that prefers nothing."""
    loss, expected = seen.number("initial_loss"), seen.probes["expected_loss"]
    check = "initial_loss"
    if not math.isfinite(loss):
        cause = likeliest(causes.NOT_FINITE, seen)
        return Finding(check, "block", f"the loss of the untrained network is {loss}. {cause}")
    if expected is None:
        return Finding(check, "info", f"the loss at initialisation is {loss:.4g} (of an own loss none is expected).")
    told = f"the loss at initialisation is {loss:.4g}, expected about {expected:.4g}"
    evidence = {"initial_loss": loss, "expected_loss": expected}
    if loss > LOSS_HIGH * expected:
        return Finding(check, "block", f"{told}. {likeliest(causes.TOO_HIGH, seen)}", evidence)
    blind = seen.number("blind_loss")
    if loss < LOSS_LOW * expected and loss < PRIOR * blind:
        cause = f"Without inputs it comes to {blind:.4g} only: does the network know or see the targets?"
        return Finding(check, "block", f"{told}, too good for a network that was not trained. {cause}", evidence)
    if loss < LOSS_LOW * expected:
        majority = seen.scales["majority"]
        most = f"{majority:.0%} of the rows have one label" if majority else "the labels are mostly alike"
        return Finding(check, "info", f"{told}: it begins with how often each label comes; {most}.", evidence)
    return Finding(check, "info", f"{told}.", evidence)


def gradients(seen: Seen) -> Finding:
    """Every parameter that is to be trained gets a finite gradient."""
    broken, silent, behind = (seen.probes[name] for name in ("non_finite_gradient", "without_gradient", "behind"))
    if broken:
        cause = "A logarithm or root of zero, a division by a variance of zero?"
        return Finding("gradients", "block", f"the gradient is not finite in {listed(broken)}. {cause}")
    if silent:
        if told := likeliest(causes.UNREACHED, seen):
            cause = told
        elif behind is not None:
            cause = f"All before {behind} is cut off: a detach() or no_grad() in between, or units that are all dead?"
        else:
            cause = "Unused in forward(), cut off by detach() or no_grad(), or behind dead units?"
        return Finding("gradients", "block", f"no gradient reaches {listed(silent)}. {cause}")
    return Finding("gradients", "info", "every layer has finite gradients.")


def soundness(found: Mapping[str, Any]) -> list[Finding]:
    """What of the network no training reaches, or is not as training expects."""
    told = []
    if found["accumulating"]:
        names = listed(found["accumulating"])
        message = f"the gradient of one batch doubles when it is asked for twice, in {names}. "
        message += "It is not set to zero in between: is there a hook, or a zero_grad() that is missing?"
        told.append(Finding("gradients_accumulate", "block", message, {"parameters": found["accumulating"]}))
    if found["random_in_eval"] > RANDOM:
        message = f"two passes of the same rows in eval mode differ by {found['random_in_eval']:.2g} of the outputs' "
        message += "spread, so that every validation is a draw. Does eval() reach each layer with dropout?"
        told.append(Finding("random_in_eval", "warn", message, {"apart": found["random_in_eval"]}))
    if found["frozen"]:
        names = listed(found["frozen"])
        message = f"{len(found['frozen'])} parameters are not to be trained: {names}. Is requires_grad off by mistake?"
        told.append(Finding("frozen_layers", "warn", message, {"parameters": found["frozen"]}))
    if len(found["equal_units"]) > EQUAL_SHARE * found["matrices"]:
        names, count = listed(found["equal_units"]), len(found["equal_units"])
        message = f"in {count} of {found['matrices']} layers all units begin with equal weights, and would stay alike: "
        told.append(Finding("equal_weights", "warn", f"{message}{names}. Draw them at random.", {"layers": count}))
    return told or [Finding("soundness", "info", "every layer is to be trained, and tells the same twice.")]


def overfits_one_batch(seen: Seen) -> Finding:
    """Training on one small batch drives its loss towards zero."""
    first, last = seen.number("overfit_first"), seen.number("overfit_last")
    told = f"trained on one small batch alone, its loss goes from {first:.4g} to {last:.4g}"
    if seen.overfits:
        return Finding("overfits_one_batch", "info", f"{told}.")
    few = seen.probes["overfit_steps"] <= FEW_STEPS
    severity: Severity = "warn" if last <= HARDLY * first or few else "block"
    return Finding("overfits_one_batch", severity, f"{told}. {likeliest(causes.NO_OVERFIT, seen)}")


def input_independent(seen: Seen) -> Finding:
    """Training with the inputs beats training with inputs of zeros."""
    learned, blind, steps = seen.number("learned_loss"), seen.number("blind_loss"), seen.probes["learned_steps"]
    told = f"after equally few steps the loss is {learned:.4g} with the inputs and {blind:.4g} without"
    if learned < BLIND * blind:
        return Finding("input_independent", "info", f"{told}.")
    if steps <= FEW_STEPS:
        why = f"Steps are slow, and there was time for {steps} only: that proves nothing. Is there a device for it?"
        return Finding("input_independent", "warn", f"{told}. {why}")
    return Finding("input_independent", "block", f"{told}. {likeliest(causes.NOT_LEARNING, seen)}")


def carries_over(seen: Seen) -> Iterator[Finding]:
    """What was learned from training rows tells something of validation rows; silent where that cannot be said."""
    found, learned, blind = seen.probes["learned"], seen.number("learned_loss"), seen.number("blind_loss")
    if not found or learned >= BLIND * blind or not found["spread"]:
        return  # nothing was learned, which is told by itself
    below = (found["others"] - found["loss"]) / found["spread"]
    rows = f"{found['rows']:,} validation rows"
    told = f"on {rows} the loss is {found['loss']:.4g}, and {found['others']:.4g} with their labels shuffled"
    evidence = {**found, "deviations": below}
    if below >= CHANCE:
        yield Finding("carries_over", "info", f"{told}: what is learned carries over.", evidence)
        return
    message = (
        f"{told}: what is learned from training rows (loss {learned:.4g}, {blind:.4g} without inputs) says nothing of "
        f"these. {likeliest(causes.NOT_CARRIED, seen)}"
    )
    yield Finding("carries_over", "warn", message, evidence)


def learns_shuffled_labels(seen: Seen) -> Iterator[Finding]:
    """A network that was trained on shuffled labels does not know those of validation rows, which it was never told.

    Silent where nothing can be said: too few rows, one label, a loss that does not go by labels.
    """
    found, own = seen.probes["shuffled"], seen.probes["own_loss"]
    check = "learns_shuffled_labels"
    if not found:
        return
    if not found["spread"]:
        if own:
            message = (
                "the loss is the same whichever label a row is given. Fine where labels are not used, as in an "
                "autoencoder; else loss() does not read them."
            )
            yield Finding(check, "info", message, dict(found))
        return
    below = (found["others"] - found["loss"]) / found["spread"]
    evidence = {**found, "deviations": below}
    told = (
        f"trained on shuffled labels, the loss on {found['rows']:,} validation rows is {found['loss']:.4g} under the "
        f"labels that they were dealt, and {found['others']:.4g} ± {found['spread']:.2g} under others"
    )
    lower = found["others"] - found["loss"] > NOTABLY * abs(found["others"])
    if not (below > TOLD and found["loss"] < found["lowest"] and lower):
        yield Finding(check, "info", f"{told}: nothing is learned from them.", evidence)
        return
    cause = (
        "It was never told these: they reach the network past training. Does model() look into data.val, a Dataset put "
        "its targets into the inputs, a table hold means of the labels? What is measured in validation would be that."
    )
    yield Finding(check, "block", f"{told}. {cause}", evidence)


def cost(probes: Mapping[str, Any]) -> Finding:
    """What the plan is made again with."""
    seconds, peak, device = probes["seconds_per_epoch"], probes["peak_bytes"], probes["device_bytes"]
    memory = f"memory peaked at {peak / 2**20:,.0f} of {device / 2**20:,.0f} MiB"
    evidence = {"peak_bytes": peak, "device_bytes": device}
    return Finding("cost", "info", f"an epoch over all rows takes {seconds:.3g} s; {memory}.", evidence)
