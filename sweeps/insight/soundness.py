"""What the numbers of `trainables.probes` mean: whether this network can learn these data at all.

Place in the flow: pure functions from probes to findings; preflight journals them, diagnosis takes them before any
curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sweeps.insight.findings import Finding, Severity, listed

LOSS_HIGH = 3.0
"""An untrained network may be so many times worse than one that prefers nothing; initial weights spread that far."""
LOSS_LOW = 0.5
BLIND = 0.98
"""Inputs must lower the loss at least to this share of what is reached without them."""
FITTED, HARDLY = 0.1, 0.5
"""A batch is overfitted when its loss falls to a tenth; above half of it nothing was learned."""
RANDOM = 1e-3
"""Outputs in eval mode that differ by more of their spread are drawn; rounding is far below."""
EQUAL_SHARE = 0.5
"""Of the layers: a last one that begins at zero is usual."""


def judge(probes: Mapping[str, Any]) -> list[Finding]:
    """The findings that follow from the numbers of `trainables.probes`, one a check and one on cost."""
    first = [initial_loss(probes), gradients(probes), *soundness(probes["soundness"])]
    return [*first, overfits_one_batch(probes), input_independent(probes), cost(probes)]


def initial_loss(probes: Mapping[str, Any]) -> Finding:
    """The untrained network's loss against that of an output that prefers nothing."""
    loss, expected = float(probes["initial_loss"]), probes["expected_loss"]
    check = "initial_loss"
    if not math.isfinite(loss):
        cause = "Are there NaN or infinite inputs or targets, or inputs of enormous scale?"
        return Finding(check, "block", f"the loss of the untrained network is {loss}. {cause}")
    if expected is None:
        return Finding(check, "info", f"the loss at initialisation is {loss:.4g} (of an own loss none is expected).")
    told = f"the loss at initialisation is {loss:.4g}, expected about {expected:.4g}"
    evidence = {"initial_loss": loss, "expected_loss": expected}
    if loss > LOSS_HIGH * expected:
        cause = "Are the inputs or targets unscaled, or the last layer's weights huge?"
        return Finding(check, "block", f"{told}. {cause}", evidence)
    if loss < LOSS_LOW * expected:
        cause = "Does the network see the targets, or do nearly all rows have the same one?"
        return Finding(check, "block", f"{told}, too good for a network that was not trained. {cause}", evidence)
    return Finding(check, "info", f"{told}.", evidence)


def gradients(probes: Mapping[str, Any]) -> Finding:
    """Every parameter that is to be trained gets a finite gradient."""
    broken, silent = probes["non_finite_gradient"], probes["without_gradient"]
    if broken:
        cause = "A logarithm or root of zero, a division by a variance of zero?"
        return Finding("gradients", "block", f"the gradient is not finite in {listed(broken)}. {cause}")
    if silent:
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


def overfits_one_batch(probes: Mapping[str, Any]) -> Finding:
    """Training on one small batch drives its loss towards zero."""
    first, last = float(probes["overfit_first"]), float(probes["overfit_last"])
    told = f"trained on one small batch alone, its loss goes from {first:.4g} to {last:.4g}"
    if last <= FITTED * first:
        return Finding("overfits_one_batch", "info", f"{told}.")
    cause = "Does the loss fit the output (softmax twice, wrong axis), and is every layer trained?"
    severity: Severity = "warn" if last <= HARDLY * first else "block"
    return Finding("overfits_one_batch", severity, f"{told}. {cause}")


def input_independent(probes: Mapping[str, Any]) -> Finding:
    """Training with the inputs beats training with inputs of zeros."""
    learned, blind = float(probes["learned_loss"]), float(probes["blind_loss"])
    told = f"after equally few steps the loss is {learned:.4g} with the inputs and {blind:.4g} without"
    if learned < BLIND * blind:
        return Finding("input_independent", "info", f"{told}.")
    cause = "Are labels and inputs out of step, inputs constant, or does the network drop them?"
    return Finding("input_independent", "block", f"{told}. {cause}")


def cost(probes: Mapping[str, Any]) -> Finding:
    """What the plan is made again with."""
    seconds, peak, device = probes["seconds_per_epoch"], probes["peak_bytes"], probes["device_bytes"]
    memory = f"memory peaked at {peak / 2**20:,.0f} of {device / 2**20:,.0f} MiB"
    evidence = {"peak_bytes": peak, "device_bytes": device}
    return Finding("cost", "info", f"an epoch over all rows takes {seconds:.3g} s; {memory}.", evidence)
