"""Audit: what is wrong with the data, before anything is trained on them.

The numbers come from a slot (`trainables.audit`); what they mean is decided in `sweeps.insight.audit`. A finding that
blocks stops the sweep, unless the spec waives it with a reason.
"""

from __future__ import annotations

from sweeps.engine import Engine
from sweeps.insight.audit import judge
from sweeps.insight.findings import Finding
from sweeps.phases.checks import ask, tell
from sweeps.spec import Audit, phase_name
from sweeps.tuning import close_phase

NOT_OURS = Finding("not_audited", "info", "a loop of its own reads its data itself; nothing was looked at.")


def run(engine: Engine, phase: Audit) -> None:
    """Look through the data, once a sweep. Raises SweepFailed for a finding that blocks and is not waived."""
    answer = ask(engine, phase, "audit")
    if answer is None:
        return
    tell(engine, phase, "waive", judge(answer["audit"]) if answer["audit"] else [NOT_OURS], answer["seconds"])
    close_phase(engine, phase_name(phase), "FINISHED", "all checks", answer["seconds"])
