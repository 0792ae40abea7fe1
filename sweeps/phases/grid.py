"""Grid: every combination of evenly spaced values, in order."""

from __future__ import annotations

from sweeps.engine import Engine
from sweeps.phases import advice
from sweeps.phases.opening import fidelity, open_phase
from sweeps.search import Proposal, listed
from sweeps.spec import Grid, phase_name
from sweeps.tuning import run_phase


def run(engine: Engine, phase: Grid) -> None:
    """Run the phase. Raises SweepFailed when it gives no result."""
    spec = engine.spec
    name = phase_name(phase)
    proposals = [Proposal("grid", config, spec.seed) for config in spec.space.grid(phase.points)]
    open_phase(engine, name, phase.kind, spec.space, len(proposals))
    run_phase(
        engine, name, count=len(proposals), propose=listed(proposals), fidelity=fidelity(phase),
        min_epochs=phase.min_epochs, reduction_factor=phase.reduction_factor, unstopped_share=phase.unstopped_share,
    )  # fmt: skip
    advice.close(engine, phase)
