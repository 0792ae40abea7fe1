"""Preflight: can this network learn these data at all? Asked of the baseline, before anything is tuned.

The numbers come from a slot (`trainables.probes`); what they mean is decided in `sweeps.insight.soundness`. A check
that fails stops the sweep with its likely cause, unless the spec skips it with a reason. Then come batch sizes
(`trainables.batch_curve`) and the range of the learning rate (`trainables.lr_range`), which stop nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.engine import Engine
from sweeps.insight import batch_size
from sweeps.insight.findings import Finding, Severity
from sweeps.insight.soundness import judge
from sweeps.phases.checks import ask, fidelity, tell
from sweeps.plan import fitting, needs
from sweeps.slots import Order
from sweeps.space import Choice
from sweeps.spec import Preflight, phase_name
from sweeps.tuning import close_phase


def run(engine: Engine, phase: Preflight) -> None:
    """Run the checks that no earlier driver has passed. Raises SweepFailed when one fails that is not skipped."""
    answer = ask(engine, phase, "probe")
    if answer is None:
        return
    name, probes = phase_name(phase), answer["probes"]
    findings = judge(probes, engine.record.history.audited) if probes else [NOT_OURS]
    tell(engine, phase, "skip", findings, answer["seconds"])
    seconds = answer["seconds"] + (measure_batches(engine, name) + test_rates(engine, name) if probes else 0.0)
    close_phase(engine, name, "FINISHED", "all checks", seconds)
    if probes:
        engine.share(probes["peak_bytes"], probes["device_bytes"])
        engine.foretell(probes["seconds_per_epoch"], f"measured by {name} on the baseline")


def measure_batches(engine: Engine, name: str) -> float:
    """Measure throughput and memory against the batch size, and say which to take; the seconds that it took.

    A trial's own memory was measured before: what larger batches take does not count as a trial's.
    """
    spec, nodes = engine.spec, engine.nodes.values()
    need = needs(spec, nodes, engine.footprint)
    neighbours = max(1, min(engine.slots, max((fitting([node], need) for node in nodes), default=1)))
    share = 1 / (neighbours * spec.resources.workers)
    answer = engine.call("batch_curve", Order(f"{name}-batch", 1, engine.baseline, fidelity(engine), share=share))
    if failure := answer["failure"]:
        found = Finding("batch_size", "warn", f"batch sizes could not be measured: {failure['message']}")
    elif not answer["curve"]:
        found = Finding("batch_size", "info", "batch sizes are not measured where models are sharded.")
    else:
        found = batch_size.judge(answer["curve"], searched(engine), spec.resources.workers)
    message = f"{name}: {found.message}"
    engine.record.write(
        "finding", finding=found.finding, severity=found.severity, message=message, evidence=dict(found.evidence)
    )  # fmt: skip
    engine.note(message)
    return float(answer.get("seconds", 0.0))


MOST_SIZES = 64
"""Batch sizes of a domain that are looked at."""


def searched(engine: Engine) -> list[int]:
    """The batch sizes that the sweep may take, rising."""
    domains = (domain for name, domain in engine.spec.space.root.items() if name.rpartition(".")[2] == "batch_size")
    return sorted({int(size) for domain in domains for size in domain.grid(MOST_SIZES)})


def test_rates(engine: Engine, name: str) -> float:
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
        answer = engine.call("lr_range", Order(f"{name}-lr", 1, config, fidelity(engine)))
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
