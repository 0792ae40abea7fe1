"""What audit and preflight share: a slot is asked about the baseline, findings go into the journal, and where one
blocks there is no tuning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sweeps.engine import Engine
from sweeps.errors import SweepFailed
from sweeps.insight.findings import Finding
from sweeps.phases.opening import open_phase
from sweeps.slots import Order
from sweeps.spec import Audit, Preflight, phase_name
from sweeps.tuning import close_phase


def ask(engine: Engine, phase: Audit | Preflight, command: str) -> dict[str, Any] | None:
    """Open the phase and have a slot answer the command for the baseline; None when an earlier driver has finished it.

    Raises SweepFailed, with the phase closed, when no slot can.
    """
    name = phase_name(phase)
    known = engine.record.history.phases.get(name)
    if known and known.status == "FINISHED":
        return None
    open_phase(engine, name, phase.kind, engine.spec.space, 0)
    answer = engine.call(command, Order(name, 1, engine.baseline, fidelity(engine)))
    if failure := answer["failure"]:
        close_phase(engine, name, "FAILED", failure["message"], answer.get("seconds", 0.0))
        raise SweepFailed(f"{name}: {failure['error']}: {failure['message']}")
    return answer


def fidelity(engine: Engine) -> dict[str, Any]:
    """Of what is asked about: all rows."""
    return {"epochs": 1, "data_fraction": 1.0, "seed": engine.spec.seed}


def tell(engine: Engine, phase: Audit | Preflight, excuses: str, findings: Iterable[Finding], seconds: float) -> None:
    """Journal and tell the findings; those that block are warnings where the spec has a reason under the key `excuses`.

    Raises SweepFailed, with the phase closed after so many seconds of work, when one blocks all the same.
    """
    name, excused = phase_name(phase), getattr(phase, excuses)
    blocking = []
    for found in findings:
        severity, message, evidence = found.severity, found.message, dict(found.evidence)
        if severity == "block" and found.finding in excused:
            severity, message = "warn", f"{message} Waived: {excused[found.finding]}"
            evidence["waived"] = excused[found.finding]
        elif severity == "block":
            blocking.append(found)
        engine.record.write(
            "finding", finding=found.finding, severity=severity, message=f"{name}: {message}", evidence=evidence
        )  # fmt: skip
        engine.note(f"{name}: {'passed' if severity == 'info' else severity}, {message}")
    if blocking:
        close_phase(engine, name, "FAILED", f"{blocking[0].finding} failed", seconds)
        raise SweepFailed(refusal(name, blocking, f"kind: {phase.kind}, {excuses}"))


def refusal(name: str, blocking: Sequence[Finding], excuse: str) -> str:
    """Why the sweep stops, and how to go on all the same."""
    told = "\n".join(f"  {found.finding}: {found.message}" for found in blocking)
    reasons = ", ".join(f"{found.finding}: '…'" for found in blocking)
    mend = f"Mend it, or give the reason why it may fail: {{{excuse}: {{{reasons}}}}}"
    return f"{name}: tuning would be in vain.\n{told}\n  {mend}."
