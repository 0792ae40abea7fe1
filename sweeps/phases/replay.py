"""Replay: one trial again from scratch, by the schedule of hyperparameters that its chain of ancestors had.

A member of a population ends with weights that several others trained before it, chosen at each step because they were
ahead. With its own seed the schedule gives its numbers again; other seeds tell whether the schedule is good, or the
lineage was lucky.
"""

from __future__ import annotations

import math

from sweeps.engine import Engine
from sweeps.errors import SweepFailed
from sweeps.history import TrialHistory
from sweeps.insight.lineage import schedule
from sweeps.insight.luck import flattered, spread
from sweeps.phases.opening import open_phase
from sweeps.search import Proposal, listed
from sweeps.spec import Confirm, Replay, phase_name
from sweeps.tuning import run_phase


def run(engine: Engine, phase: Replay) -> None:
    """Run the phase, and say what its seeds gave beside the trial. Raises SweepFailed when it gives no result."""
    spec, history = engine.spec, engine.record.history
    name = phase_name(phase)
    origin = history.trials.get(phase.trial)
    if origin is None or not may(origin, spec.metric):
        raise SweepFailed(f"{name}: {phase.trial} has no result that could be trained again.")
    configs = schedule(history, origin)
    earlier = spec.phases[: spec.phases.index(phase)]
    used = sum(p.seeds for p in earlier if isinstance(p, Confirm | Replay))
    seeds = [origin.fidelity["seed"], *(spec.seed + 1 + used + n for n in range(phase.seeds - 1))]
    known = len(history.of_phase(name))
    proposals = [Proposal(phase.trial, configs[0][1], seed, configs) for seed in seeds[known:]]
    open_phase(engine, name, phase.kind, history.phases[origin.phase].space, len(seeds))
    fidelity = {key: value for key, value in origin.fidelity.items() if key != "seed"}
    run_phase(engine, name, count=len(seeds), propose=listed(proposals, known), fidelity=fidelity)
    if engine.spent() or any(line.get("phase") == name for line in history.findings):
        return
    again = [trial for trial in history.of_phase(name) if trial.status == "FINISHED"]
    tell(engine, name, origin, again, len(configs) - 1)


def may(trial: TrialHistory, metric: str) -> bool:
    """Whether a trial has a result that can be trained again."""
    curve = trial.curve(metric)
    return trial.status == "FINISHED" and bool(curve) and math.isfinite(curve[-1][1])


def tell(engine: Engine, phase: str, origin: TrialHistory, again: list[TrialHistory], changes: int) -> None:
    """Write what the seeds gave beside what the trial had, after the trial's last epoch."""
    metric, mode = engine.spec.metric, engine.spec.mode
    epoch, there = origin.curve(metric)[-1]
    values = {trial.fidelity["seed"]: dict(trial.curve(metric)).get(epoch) for trial in again}
    own = values.pop(origin.fidelity["seed"], None)
    others = {seed: value for seed, value in values.items() if value is not None}
    said = [f"{origin.trial} again from scratch, its config changed {changes} times on the way"]
    if own is not None:
        same = "as before" if own == there else f"where it had {there:.6g}"
        said.append(f"{metric} {own:.6g} after epoch {epoch} with its own seed, {same}")
    if others:
        said.append(f"{spread(list(others.values()))} with {len(others)} others")
    lucky = flattered(there, list(others.values()), mode)
    if lucky:
        said.append("the schedule alone does not give what its lineage had, which was lucky")
    evidence = {
        "trial": origin.trial, "metric": metric, "epoch": epoch, "value": there, "own": own, "seeds": list(others),
        "values": list(others.values()), "lucky": lucky,
    }  # fmt: skip
    severity = "warn" if lucky or own not in (None, there) else "info"
    engine.record.write(
        "finding", finding="replayed", severity=severity, message=f"{phase}: {'; '.join(said)}", phase=phase,
        evidence=evidence,
    )  # fmt: skip
