"""What a search does with advice: trials that test it while the phase runs, and when it has ended what came of them,
what the phase itself shows, and other epochs for the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sweeps.engine import Engine
from sweeps.errors import PlanError
from sweeps.insight import whole
from sweeps.insight.advise import advise, compared, given, outcome
from sweeps.insight.findings import Finding
from sweeps.insight.search import Lengthened, judge, lengthened, with_lengths
from sweeps.journal import now
from sweeps.plan import ZERO_ARMS, make_plan
from sweeps.search import Proposal
from sweeps.spec import SearchPhase, phase_name


def propose(engine: Engine, phase: str, role: str, number: int) -> Proposal | None:
    """The proposal for a trial that tests advice, or goes without what regularises; None where there is none to test.

    Its line is in the journal before the trial's.
    """
    spec, history = engine.spec, engine.record.history
    advice, ours = None, bool(history.header["defaults"])
    if role == "advice":
        advice = advise(history, phase, spec.space, history.header["defaults"], spec.metric, spec.mode)
    elif (parameter := role.removesuffix("_zero")) in ZERO_ARMS:
        advice = compared(history.of_phase(phase), parameter, spec.space, spec.metric, spec.mode, ours=ours)
    if advice is None or engine.within_memory(advice.config, spec.space) != advice.config:
        return None
    engine.record.write(
        "advice", phase=phase, trial=f"{phase}-{number:03d}", of=advice.of, finding=advice.finding,
        changes={name: list(pair) for name, pair in advice.changes.items()}, message=advice.message,
    )  # fmt: skip
    return Proposal(role, advice.config, spec.seed)


def close(engine: Engine, phase: SearchPhase) -> None:
    """Write what the phase showed: what came of its advice, its findings, and what follows for later epochs.

    What an earlier driver wrote is not written again.
    """
    history, name = engine.record.history, phase_name(phase)
    for line in given(history):
        came = outcome(history, line) if line["phase"] == name and "outcome" not in line else None
        if came is not None:
            told: dict[str, Any] = {key: value for key, value in line.items() if key not in ("kind", "at")}
            engine.record.write("advice", **told, outcome=asdict(came))
    if engine.spent():
        return
    tell(engine, name, judge(history, engine.spec, phase))
    longer = lengthened(history, engine.spec, phase)
    if longer is not None and affords(engine, longer):
        lengthen(engine, longer)


def affords(engine: Engine, longer: Lengthened) -> bool:
    """Whether the budget has room for the other epochs, as far as it is known; if it has not, that is said."""
    spec, known = engine.spec, engine.record.history.plans[-1]["seconds_per_epoch"]
    if longer.after <= longer.before or (spec.budget.hours is None and spec.budget.gpu_hours is None):
        return True
    other = with_lengths(spec, [asdict(longer)])
    try:
        plan = None if known is None else make_plan(other, engine.slots, engine.footprint, known)
    except PlanError:
        plan = None
    phase = next((found for found in plan.phases if found.phase == longer.phase), None) if plan else None
    left = None if engine.deadline is None else engine.deadline - now()
    fits = (
        spec.budget.gpu_hours is None and phase is not None and left is not None and (phase.seconds or 0.0) < left / 2
    )
    if not fits:
        engine.note(f"{longer.phase}: {longer.message} The budget has no room for {longer.after} that is sure.")
    return fits


def conclude(engine: Engine) -> None:
    """Write what the sweep showed as a whole, when its phases have ended."""
    tell(engine, "sweep", whole.judge(engine.record.history, engine.spec))


def tell(engine: Engine, about: str, findings: Iterable[Finding]) -> None:
    """Write findings about a phase or the sweep, those that are not written yet."""
    known = {line["message"] for line in engine.record.history.findings}
    for found in findings:
        message = f"{about}: {found.message}"
        if message not in known:
            engine.record.write(
                "finding", finding=found.finding, severity=found.severity, message=message, phase=about,
                evidence=dict(found.evidence),
            )  # fmt: skip


def lengthen(engine: Engine, longer: Lengthened) -> None:
    """Give the next phase other epochs, and say so."""
    engine.record.write("advice", **asdict(longer))
    engine.spec = with_lengths(engine.spec, engine.record.history.lengths)
    engine.note(f"{longer.phase}: {longer.before} -> {longer.after} epochs: {longer.message}")
    known = engine.record.history.plans[-1]
    if known["seconds_per_epoch"] is not None:
        engine.foretell(known["seconds_per_epoch"], known["basis"])
