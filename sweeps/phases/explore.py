"""Explore: wide and cheap. The baseline first, then a scrambled Sobol sequence over the space, under ASHA."""

from __future__ import annotations

from sweeps.engine import Engine
from sweeps.phases import advice
from sweeps.phases.opening import cut, fidelity, open_phase
from sweeps.plan import roles
from sweeps.search import Proposal, sobol
from sweeps.spec import Explore, phase_name
from sweeps.tuning import run_phase


def run(engine: Engine, phase: Explore) -> None:
    """Run the phase. Raises SweepFailed when it gives no result."""
    spec = engine.spec
    name = phase_name(phase)
    space, changes = cut(engine)
    space = open_phase(engine, name, phase.kind, space, phase.trials, changes)
    draw, role = sobol(space, spec.seed), roles(spec, phase, engine.record.history.phases[name].grown)

    def propose(number: int) -> Proposal:
        if number == 0:
            return Proposal("baseline", engine.baseline, spec.seed)
        if tested := advice.propose(engine, name, role[number], number):
            return tested
        return Proposal("sobol", engine.within_memory(draw(number - 1), space), spec.seed)

    run_phase(
        engine, name, count=phase.trials, propose=propose, fidelity=fidelity(phase),
        min_epochs=phase.min_epochs, reduction_factor=phase.reduction_factor, unstopped_share=phase.unstopped_share,
    )  # fmt: skip
    advice.close(engine, phase)
