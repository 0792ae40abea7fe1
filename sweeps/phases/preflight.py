"""Preflight: can this network learn these data at all? Asked of the baseline, before anything is tuned.

The numbers come from a slot (`trainables.probes`); what they mean is decided here. A check that fails stops the sweep
with its likely cause, unless the spec skips it with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sweeps.engine import Engine
from sweeps.errors import SweepFailed
from sweeps.phases.opening import open_phase
from sweeps.slots import Order
from sweeps.space import Choice
from sweeps.spec import Preflight, phase_name
from sweeps.tuning import close_phase

LOSS_HIGH = 3.0
"""An untrained network may be so many times worse than one that prefers nothing; initial weights spread that far."""
LOSS_LOW = 0.5
BLIND = 0.98
"""Inputs must lower the loss at least to this share of what is reached without them."""
FITTED, HARDLY = 0.1, 0.5
"""A batch is overfitted when its loss falls to a tenth; above half of it nothing was learned."""
MOST_NAMES = 4
Severity = Literal["info", "warn", "block"]


@dataclass(frozen=True)
class Finding:
    """What one check showed."""

    finding: str
    severity: Severity
    message: str


def run(engine: Engine, phase: Preflight) -> None:
    """Run the checks that no earlier driver has passed. Raises SweepFailed when one fails that is not skipped."""
    name = phase_name(phase)
    known = engine.record.history.phases.get(name)
    if known and known.status == "FINISHED":
        return
    open_phase(engine, name, phase.kind, engine.spec.space, 0)
    fidelity = {"epochs": 1, "data_fraction": 1.0, "seed": engine.spec.seed}
    answer = engine.call("probe", Order(name, 1, engine.baseline, fidelity))
    if answer["failure"]:
        close_phase(engine, name, "FAILED", answer["failure"]["message"], answer.get("seconds", 0.0))
        raise SweepFailed(f"{name}: {answer['failure']['error']}: {answer['failure']['message']}")
    findings = judge(answer["probes"]) if answer["probes"] else [NOT_OURS]
    blocking = []
    for found in findings:
        severity, message = found.severity, found.message
        if severity == "block" and found.finding in phase.skip:
            severity, message = "warn", f"{message} Skipped: {phase.skip[found.finding]}"
        elif severity == "block":
            blocking.append(found)
        measured = {key: answer["probes"][key] for key in ("peak_bytes", "device_bytes") if found.finding == "cost"}
        engine.record.write(
            "finding", finding=found.finding, severity=severity, message=f"{name}: {message}", evidence=measured
        )  # fmt: skip
        engine.note(f"{name}: {'passed' if severity == 'info' else severity}, {message}")
    if blocking:
        close_phase(engine, name, "FAILED", f"{blocking[0].finding} failed", answer["seconds"])
        raise SweepFailed(refusal(name, blocking))
    seconds = answer["seconds"] + (test_rates(engine, name, fidelity) if answer["probes"] else 0.0)
    close_phase(engine, name, "FINISHED", "all checks", seconds)
    if answer["probes"]:
        engine.share(answer["probes"]["peak_bytes"], answer["probes"]["device_bytes"])
        engine.foretell(answer["probes"]["seconds_per_epoch"], f"measured by {name} on the baseline")


def test_rates(engine: Engine, name: str, fidelity: dict[str, Any]) -> float:
    """Test the range of the learning rate for each optimizer that the sweep may use; the seconds that it took.

    What it finds is written as findings, by which the first search cuts its range (`phases.opening.cut`).
    """
    space, seconds = engine.spec.space, 0.0
    if not any(parameter.rpartition(".")[2] == "lr" for parameter in space.searched):
        return seconds
    domain = space.root.get("optimizer")
    optimizers = domain.choice if isinstance(domain, Choice) else (engine.baseline.get("optimizer"),)
    for optimizer in optimizers:
        config = engine.baseline if optimizer is None else {**engine.baseline, "optimizer": optimizer}
        answer = engine.call("lr_range", Order(f"{name}-lr", 1, config, fidelity))
        seconds += float(answer.get("seconds", 0.0))
        if answer["failure"]:
            evidence = {"optimizer": optimizer, "low": None}
            severity, message = "warn", answer["failure"]["message"]
        else:
            evidence = {"optimizer": optimizer, **answer["range"]}
            severity, message = rates_found(evidence)
        with_ = f" with {optimizer}" if optimizer else ""
        message = f"{name}: learning-rate range test{with_}: {message}"
        engine.record.write("finding", finding="lr_range", severity=severity, message=message, evidence=evidence)
        engine.note(message)
    return seconds


def rates_found(found: Mapping[str, Any]) -> tuple[Severity, str]:
    """What the numbers of `trainables.lr_range` say, in words."""
    if found["centre"] is None:
        return "warn", "the loss never fell at any rate. Is the batch too small, the loss too noisy?"
    return "info", f"{found['centre']:.2g}, in {found['low']:.2g} … {found['high']:.2g}"


NOT_OURS = Finding("no_preflight", "info", "a loop of its own is not probed; its first trials tell.")


def refusal(name: str, blocking: Iterable[Finding]) -> str:
    """Why the sweep stops, and how to go on all the same."""
    told = "\n".join(f"  {found.finding}: {found.message}" for found in blocking)
    skip = ", ".join(f"{found.finding}: '…'" for found in blocking)
    mend = f"Mend it, or give the reason why it may fail: {{kind: preflight, skip: {{{skip}}}}}"
    return f"{name}: tuning would be in vain.\n{told}\n  {mend}."


def judge(probes: Mapping[str, Any]) -> list[Finding]:
    """The findings that follow from the numbers of `trainables.probes`, one a check and one on cost."""
    checks = (initial_loss, gradients, overfits_one_batch, input_independent, cost)
    return [check(probes) for check in checks]


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
    if loss > LOSS_HIGH * expected:
        return Finding(check, "block", f"{told}. Are the inputs or targets unscaled, or the last layer's weights huge?")
    if loss < LOSS_LOW * expected:
        cause = "Does the network see the targets, or do nearly all rows have the same one?"
        return Finding(check, "block", f"{told}, too good for a network that was not trained. {cause}")
    return Finding(check, "info", f"{told}.")


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
    return Finding("cost", "info", f"an epoch over all rows takes {seconds:.3g} s; {memory}.")


def listed(names: list[str]) -> str:
    """The first few names."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
