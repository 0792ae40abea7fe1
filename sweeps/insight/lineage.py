"""A population's members side by side, as the journal has them: who came to an epoch with what, who may still give.

Stands between History and everything about the phase `evolve`: its scheduler takes the earlier arrivals here, the
keeper which checkpoints a member may still load, replay and confirm the schedule that a chain of ancestors had.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

from sweeps.history import LIVE, History, TrialHistory
from sweeps.space import Config, Configs
from sweeps.spec import Evolve, phase_name


@dataclass(frozen=True)
class Arrival:
    """A member came to an epoch at which the population is compared."""

    trial: str
    value: float
    checkpoint: str | None


def arrivals(history: History, phase: Evolve, epoch: int) -> list[Arrival]:
    """Who came to an epoch with a finite value, in the order in which they came."""
    spec = history.spec
    assert spec is not None
    found = []
    for trial in history.of_phase(phase_name(phase)):
        at = bisect_left(trial.epochs, epoch, key=lambda report: report.epoch)
        for report in trial.epochs[at : at + 1]:
            if report.epoch == epoch and math.isfinite(report.metrics.get(spec.metric, math.nan)):
                found.append((report.at, trial.trial, report))
    found.sort(key=lambda arrival: arrival[:2])
    return [Arrival(name, report.metrics[spec.metric], report.checkpoint) for _, name, report in found]


def best_first(history: History, phase: Evolve, epoch: int) -> list[Arrival]:
    """The same, best first; of equals the last to come is the better, as in Ray's quantiles."""
    assert history.spec is not None
    sign = 1 if history.spec.mode == "min" else -1
    last_first = reversed(arrivals(history, phase, epoch))
    return sorted(last_first, key=lambda arrival: sign * arrival.value)


def last_judged(phase: Evolve, trial: TrialHistory) -> int:
    """The newest epoch at which a member was compared; 0 before the first."""
    return max((epoch for epoch in phase.judged if epoch <= trial.told), default=0)


def most_donors(phase: Evolve) -> int:
    """So many of the best at an epoch are among its upper quantile at most."""
    return math.ceil(phase.population * phase.quantile)  # Ray's own arithmetic


def wanted(history: History, phase: Evolve) -> set[str]:
    """The checkpoints that a member may still load: its own lineage's, and the donors' of the epochs to come."""
    name = phase_name(phase)
    opened = history.phases.get(name)
    if opened is None or opened.status == "FINISHED":
        return set()
    members = history.of_phase(name)
    live = [trial for trial in members if trial.status in LIVE]
    found = {trial.resume for trial in live}
    unborn = len(members) < phase.population
    if live or unborn:
        behind = 0 if unborn else min(last_judged(phase, trial) for trial in live)
        for epoch in phase.judged:
            if epoch >= behind:
                best = best_first(history, phase, epoch)[: most_donors(phase)]
                found |= {arrival.checkpoint for arrival in best}
    return {pointer for pointer in found if pointer}


@dataclass(frozen=True)
class Segment:
    """Some epochs of a lineage: a trial trained them, with one config."""

    trial: str
    after: int
    """The epochs from the next one on."""
    until: int
    """To this one."""
    config: Config


def ancestry(history: History, trial: TrialHistory, until: int | None = None) -> list[Segment]:
    """Where a trial's state after an epoch (its newest one unless given) comes from, from the first epoch on: its own
    training, and before each exploit its donor's."""
    until = trial.told if until is None else until
    if trial.configs:
        ends = [*(since for since, _ in trial.configs[1:]), until]
        spans = zip(trial.configs, ends, strict=True)
        return [Segment(trial.trial, since, min(end, until), config) for (since, config), end in spans if since < until]
    newest = next((found for found in reversed(trial.exploits) if found.epoch < until), None)
    if newest is None:
        return [Segment(trial.trial, 0, until, trial.config_at(1))]
    if newest.checkpoint is None:  # it began anew
        return [Segment(trial.trial, 0, until, newest.after)]
    donor, epoch = newest.donor, int(newest.checkpoint.rpartition("/")[2])
    before = ancestry(history, history.trials[donor], epoch)
    return [*before, Segment(trial.trial, epoch, until, newest.after)]


def schedule(history: History, trial: TrialHistory) -> Configs:
    """The configs along a trial's chain of ancestors, each with the epoch after which it came: what trains its network
    again from scratch."""
    found: list[tuple[int, Config]] = []
    for segment in ancestry(history, trial):
        if not found or found[-1][1] != segment.config:
            found.append((segment.after, segment.config))
    return tuple(found)
