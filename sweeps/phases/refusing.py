"""What audit and preflight share: findings into the journal, and the refusal to tune where one blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from sweeps.engine import Engine
from sweeps.errors import SweepFailed
from sweeps.insight.findings import Finding
from sweeps.tuning import close_phase


def journal(engine: Engine, name: str, findings: Iterable[Finding], excused: Mapping[Any, str]) -> list[Finding]:
    """Journal and tell the findings of a phase; those that block, but for those that are excused with a reason, which
    become warnings."""
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
    return blocking


def refuse(
    engine: Engine, name: str, answer: Mapping[str, Any], blocking: Sequence[Finding] = (), excuse: str = ""
) -> NoReturn:
    """Close the phase and raise SweepFailed: for a failure of the slot's answer, or for what blocks.

    `excuse`: how the spec has it, up to the key under which a reason goes.
    """
    if not blocking:
        failure = answer["failure"]
        close_phase(engine, name, "FAILED", failure["message"], answer.get("seconds", 0.0))
        raise SweepFailed(f"{name}: {failure['error']}: {failure['message']}")
    close_phase(engine, name, "FAILED", f"{blocking[0].finding} failed", answer["seconds"])
    raise SweepFailed(refusal(name, blocking, excuse))


def refusal(name: str, blocking: Iterable[Finding], excuse: str) -> str:
    """Why the sweep stops, and how to go on all the same."""
    blocking = list(blocking)
    told = "\n".join(f"  {found.finding}: {found.message}" for found in blocking)
    reasons = ", ".join(f"{found.finding}: '…'" for found in blocking)
    mend = f"Mend it, or give the reason why it may fail: {{{excuse}: {{{reasons}}}}}"
    return f"{name}: tuning would be in vain.\n{told}\n  {mend}."
