"""Confirm: the best configs and the baseline again, over several seeds at full length, and the verdict.

No trial is stopped. What a population found is a schedule of configs, and is trained by it from scratch. The choice
rests on validation; the test split, where the data has one, is read once, here, for the winner and the baseline, after
the choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sweeps.engine import Engine
from sweeps.history import TrialHistory
from sweeps.insight.curves import last_search, rank
from sweeps.insight.findings import Finding
from sweeps.insight.lineage import schedule
from sweeps.insight.luck import flattered, spread
from sweeps.insight.mistakes import in_words, overconfidence
from sweeps.insight.verdict import Arm, Verdict, document, judge
from sweeps.phases.opening import open_phase
from sweeps.plan import confirm_epochs
from sweeps.search import Proposal, listed
from sweeps.slots import Order
from sweeps.space import Config, Configs
from sweeps.spec import Confirm, Replay, phase_name
from sweeps.tuning import run_phase


def run(engine: Engine, phase: Confirm) -> None:
    """Run the phase and write the verdict. Raises SweepFailed when it gives no result."""
    spec, history = engine.spec, engine.record.history
    name = phase_name(phase)
    before = last_search(history, name)
    assert before is not None, "a search phase that ended without a result has raised"
    chosen = best_configs(engine, before, phase.top)
    arms: dict[str, Configs] = {"baseline": ((0, engine.baseline),)}
    arms |= {trial: schedule(history, history.trials[trial]) for trial in chosen}
    earlier_seeds = sum(p.seeds for p in spec.phases[: spec.phases.index(phase)] if isinstance(p, Confirm | Replay))
    seeds = [spec.seed + 1 + earlier_seeds + n for n in range(phase.seeds)]  # none that a choice rested on
    earlier = history.of_phase(name)
    known = {(trial.role, trial.fidelity["seed"]) for trial in earlier}
    proposals = [
        Proposal(arm, configs[0][1], seed, configs if len(configs) > 1 else ())
        for seed in seeds
        for arm, configs in arms.items()
        if (arm, seed) not in known
    ]
    count = len(earlier) + len(proposals)
    open_phase(engine, name, phase.kind, history.phases[before].space, count)
    epochs = confirm_epochs(spec, phase)
    fidelity = {"epochs": epochs, "data_fraction": phase.data_fraction}
    run_phase(engine, name, count=count, propose=listed(proposals, len(earlier)), fidelity=fidelity)
    if engine.spent() or history.phases[name].judged:
        return
    collected = [collect(history.of_phase(name), arm, configs, spec.metric) for arm, configs in arms.items()]
    for arm in collected:
        tell_luck(engine, name, arm)
        if len(arm.seeds) < len(seeds):
            lost = [t for t in history.of_phase(name) if t.role == arm.arm and t.trial not in arm.trials]
            message = f"{name}: {arm.arm} gave no value for {len(lost)} of {len(seeds)} seeds"
            why = "; ".join(dict.fromkeys(f"{t.status.lower()}, {t.reason}" for t in lost))
            engine.record.write("finding", finding="seeds_lost", severity="warn", message=f"{message} ({why})")
    if all(len(set(arm.values)) == 1 < len(arm.values) for arm in collected):
        message = f"{name}: every seed gave the same value, so they are one training repeated, no evidence of spread"
        engine.record.write("finding", finding="seeds_alike", severity="warn", message=f"{message}. Is the seed used?")
    try:
        verdict = judge(collected, spec.metric, spec.mode)
    except ValueError as error:
        engine.record.write("finding", finding="no_verdict", severity="warn", message=f"{name}: {error}", phase=name)
        engine.keeper.ended()
        return
    sign = 1 if spec.mode == "max" else -1
    best = max(zip(verdict.best.values, verdict.best.trials, strict=True), key=lambda pair: sign * pair[0])[1]
    test = read_test(engine, name, verdict)
    reads = len(history.tests)
    fields = document(verdict, epochs=epochs, best_trial=best, test=test, test_reads=reads)
    engine.record.write("verdict", phase=name, **fields)
    look_at_errors(engine, name, history.trials[best])
    engine.keeper.ended()


def look_at_errors(engine: Engine, phase: str, trial: TrialHistory) -> None:
    """Write where the winner errs on validation rows, as a finding, and what follows; advice and report read it."""
    order = Order(trial.trial, trial.attempt, trial.config, trial.fidelity, resume=trial.checkpoint)
    answer = engine.call("errors", order)
    found = answer.get("errors")
    if answer["failure"]:
        message = f"the errors of {trial.trial} could not be looked at: {answer['failure']['message']}"
        engine.record.write("finding", finding="no_errors", severity="warn", message=message, phase=phase)
    elif found:
        told = [Finding("errors", "info", in_words(found), found)]
        if over := overconfidence(found, trial.config):
            told.append(over)
        for one in told:
            message = f"{trial.trial} on {found['rows']} validation rows: {one.message}"
            engine.record.write(
                "finding", finding=one.finding, severity=one.severity, message=message, phase=phase, trial=trial.trial,
                evidence=one.evidence,
            )  # fmt: skip


def best_configs(engine: Engine, phase: str, count: int) -> dict[str, Config]:
    """The best different configs of a search phase by trial, at the highest rung that enough of them reached."""
    spec, history = engine.spec, engine.record.history
    rivals = [trial for trial in history.of_phase(phase) if trial.config != engine.baseline]
    ranking = rank(rivals, spec.metric, spec.mode, enough=count)
    chosen: dict[str, Config] = {}
    for trial in ranking.trials:
        config = trial.config_at(ranking.epoch)
        if config not in chosen.values() and len(chosen) < count:
            chosen[trial.trial] = config
    return chosen


def tell_luck(engine: Engine, phase: str, arm: Arm) -> None:
    """Say so where the search had a better value of a candidate than its seeds make likely, at the same fidelity."""
    spec, history = engine.spec, engine.record.history
    origin = history.trials.get(arm.arm)
    again = history.trials[arm.trials[0]] if arm.trials else None
    if origin is None or again is None:
        return
    if {**origin.fidelity, "seed": 0} != {**again.fidelity, "seed": 0} or origin.told != again.told:
        return
    value = origin.epochs[-1].metrics.get(spec.metric, math.nan)
    if flattered(value, arm.values, spec.mode):
        had = f"{arm.arm} had {spec.metric} {value:.4f} in {origin.phase}, its seeds give {spread(arm.values)}"
        message = f"{phase}: {had}: the search was lucky with it"
        engine.record.write("finding", finding="lucky", severity="warn", message=message, trial=arm.arm)


def collect(trials: Sequence[TrialHistory], role: str, configs: Configs, metric: str) -> Arm:
    """An arm from its trials: the last value of those that finished. A loop may have its own way to end early."""
    arm = Arm(role, configs[-1][1], [], [], [], configs=configs if len(configs) > 1 else ())
    for trial in (trial for trial in trials if trial.role == role):
        curve = trial.curve(metric)
        if trial.status == "FINISHED" and curve:
            arm.trials.append(trial.trial)
            arm.seeds.append(trial.fidelity["seed"])
            arm.values.append(curve[-1][1])
        elif trial.status == "INFEASIBLE":
            arm.infeasible.append(trial.fidelity["seed"])
    return arm


def read_test(engine: Engine, phase: str, verdict: Verdict) -> dict[str, Any] | None:
    """The test split's metrics of the winner and the baseline, a dict a seed; None without a test split.

    Of an arm whose same trials an earlier verdict read, those numbers: before the sweep was extended.
    """
    if not engine.footprint.get("test_rows"):
        return None
    earlier = engine.record.history.verdict or {"test": None, "arms": []}
    known = {arm["arm"]: arm["trials"] for arm in earlier["arms"] if arm["arm"] in (earlier["test"] or {})}
    arms = [arm for arm in verdict.arms if arm.arm in (verdict.winner, "baseline")]
    found: dict[str, Any] = {arm.arm: earlier["test"][arm.arm] for arm in arms if known.get(arm.arm) == arm.trials}
    arms = [arm for arm in arms if arm.arm not in found]
    if arms:
        engine.record.write("test", phase=phase, arms=[arm.arm for arm in arms])
    for arm in arms:
        found[arm.arm] = []
        for trial in (engine.record.history.trials[t] for t in arm.trials):
            order = Order(trial.trial, trial.attempt, trial.config, trial.fidelity, resume=trial.checkpoint)
            answer = engine.call("evaluate", order)
            if answer["failure"]:
                message = f"the test split could not be read: {answer['failure']['message']}"
                engine.record.write("finding", finding="no_test", severity="warn", message=message)
                return None
            found[arm.arm].append(answer["metrics"])
    return found
