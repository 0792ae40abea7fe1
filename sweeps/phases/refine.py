"""Refine: narrow and longer. TPE over the space narrowed on the evidence of the search before it, under ASHA."""

from __future__ import annotations

from sweeps.engine import Engine
from sweeps.history import History, Mode, TrialHistory
from sweeps.insight.curves import furthest, last_search, rank
from sweeps.phases import advice
from sweeps.phases.opening import fidelity, open_phase
from sweeps.plan import roles
from sweeps.search import Proposal, sobol, tpe
from sweeps.space import Config, narrow
from sweeps.spec import Refine, phase_name
from sweeps.tuning import run_phase


def run(engine: Engine, phase: Refine) -> None:
    """Run the phase. Raises SweepFailed when it gives no result."""
    spec, history = engine.spec, engine.record.history
    name = phase_name(phase)
    before = last_search(history, name)
    assert before is not None, "a search phase that ended without a result has raised"
    ranking = rank(history.of_phase(before), spec.metric, spec.mode)
    wide = history.phases[before].space
    narrowed, changes = narrow(wide, [trial.config_at(ranking.epoch) for trial in ranking.trials])
    space = open_phase(engine, name, phase.kind, narrowed, phase.trials, changes, ranking)
    seed = spec.seed + 1 + list(history.phases).index(name)  # not the points that explore had
    old, new = sobol(wide, seed), tpe(space, lambda: furthest_first(history, spec.metric, spec.mode), seed)
    role = roles(spec, phase, history.phases[name].grown)

    def propose(number: int) -> Proposal:
        if role[number] == "old_space":  # late, when TPE has had its say on most
            return Proposal("old_space", engine.within_memory(old(number), wide), spec.seed)
        if tested := advice.propose(engine, name, role[number], number):
            return tested
        return Proposal("tpe", engine.within_memory(new(number), space), spec.seed)

    run_phase(
        engine, name, count=phase.trials, propose=propose, fidelity=fidelity(phase),
        min_epochs=phase.min_epochs, reduction_factor=phase.reduction_factor, unstopped_share=phase.unstopped_share,
    )  # fmt: skip
    advice.close(engine, phase)


def furthest_first(history: History, metric: str, mode: Mode) -> list[Config]:
    """Configs of all trials with a result, those that saw the most data first, then the better; infeasible ones last.

    The order that TPE models: a trial that the scheduler let go on was better than those that it stopped.
    """

    def key(trial: TrialHistory) -> tuple[float, float, float]:
        if trial.status == "INFEASIBLE" or trial.reached(metric) is None:
            return (0.0, 0.0, 0.0)
        return furthest(trial, metric, mode)

    told = [
        t for t in history.trials.values() if t.status == "INFEASIBLE" or (t.curve(metric) and t.status != "FAILED")
    ]
    return [trial.config_at(trial.told) for trial in sorted(told, key=key, reverse=True)]
