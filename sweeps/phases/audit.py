"""Audit: what is wrong with the data, before anything is trained on them.

The numbers come from a slot (`trainables.audit`); what they mean is decided in `sweeps.insight.audit`. A finding that
blocks stops the sweep, unless the spec waives it with a reason.
"""

from __future__ import annotations

from sweeps.engine import Engine
from sweeps.insight.audit import judge
from sweeps.insight.findings import Finding
from sweeps.phases.opening import open_phase
from sweeps.phases.refusing import journal, refuse
from sweeps.slots import Order
from sweeps.spec import Audit, phase_name
from sweeps.tuning import close_phase

NOT_OURS = Finding("not_audited", "info", "a loop of its own reads its data itself; nothing was looked at.")


def run(engine: Engine, phase: Audit) -> None:
    """Look through the data, once a sweep. Raises SweepFailed for a finding that blocks and is not waived."""
    name = phase_name(phase)
    known = engine.record.history.phases.get(name)
    if known and known.status == "FINISHED":
        return
    open_phase(engine, name, phase.kind, engine.spec.space, 0)
    fidelity = {"epochs": 1, "data_fraction": 1.0, "seed": engine.spec.seed}
    answer = engine.call("audit", Order(name, 1, engine.baseline, fidelity))
    if answer["failure"]:
        refuse(engine, name, answer)
    findings = judge(answer["audit"]) if answer["audit"] else [NOT_OURS]
    blocking = journal(engine, name, findings, phase.waive)
    if blocking:
        refuse(engine, name, answer, blocking, f"kind: {phase.kind}, waive")
    close_phase(engine, name, "FINISHED", "all checks", answer["seconds"])
