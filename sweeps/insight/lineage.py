"""A population's members side by side, as the journal has them: who came to an epoch with what, who may still give.

Stands between History and everything about the phase `evolve`: its scheduler takes the earlier arrivals here, the
keeper which checkpoints a member may still load, replay and confirm the schedule that a chain of ancestors had.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from sweeps.history import LIVE, History, TrialHistory
from sweeps.space import Config, Configs
from sweeps.spec import Evolve, phase_name


@dataclass(frozen=True)
class Arrival:
    """What a member was when it came to an epoch at which the population is compared."""

    trial: str
    """The member whose training that was: another one's, where this one has taken over from it since."""
    value: float
    checkpoint: str | None


def standings(history: History, phase: Evolve, epoch: int) -> dict[str, dict[int, Arrival]]:
    """By member, in the order in which they began: what it was at each epoch to which it came, for who is compared at
    the given one.

    One that has taken over before was what its donor was. At that epoch itself it is what it came as: else each that
    is replaced would leave the others among the worst. Those that ended before their time are left out.
    """
    members = history.of_phase(phase_name(phase))
    return {trial.trial: came(history, phase, trial, epoch) for trial in members if trial.status in LIVE or trial.whole}


def came(history: History, phase: Evolve, trial: TrialHistory, before: int) -> dict[int, Arrival]:
    """A member's part of `standings`."""
    assert history.spec is not None
    metric, judged = history.spec.metric, set(phase.judged)
    found: dict[int, Arrival] = {}

    def arrive(name: str, epoch: int, value: float, checkpoint: str | None) -> None:
        if epoch in judged and math.isfinite(value):
            found[epoch] = Arrival(name, value, checkpoint)

    exploits = deque(exploit for exploit in trial.exploits if exploit.epoch < before)
    for report in [*trial.epochs, None]:
        while exploits and (report is None or exploits[0].epoch < report.epoch):
            exploit = exploits.popleft()
            at = exploit.since
            for later in [epoch for epoch in found if epoch > at]:
                del found[later]
            if exploit.checkpoint:
                origin = history.trials[exploit.checkpoint.split("/")[-2]]
                arrive(origin.trial, at, dict(origin.curve(metric)).get(at, math.nan), exploit.checkpoint)
        if report is not None:
            arrive(trial.trial, report.epoch, report.metrics.get(metric, math.nan), report.checkpoint)
    return found


def last_judged(phase: Evolve, trial: TrialHistory) -> int:
    """The newest epoch at which a member was compared; 0 before the first."""
    return max((epoch for epoch in phase.judged if epoch <= trial.told), default=0)


LEAD = 16
"""Intervals: what a member was longer before the most advanced one's newest is not kept for those that are behind."""


def horizon(history: History, phase: Evolve) -> int:
    """The first epoch of which a donor may still be taken, however far behind somebody is."""
    front = max((last_judged(phase, trial) for trial in history.of_phase(phase_name(phase))), default=0)
    return front - LEAD * phase.interval


def wanted(history: History, phase: Evolve) -> set[str]:
    """The checkpoints that a member may still load: what it goes on from itself, and what any member was where somebody
    is still to be compared, or at the newest epoch before."""
    name = phase_name(phase)
    opened = history.phases.get(name)
    if opened is None or opened.status == "FINISHED":
        return set()
    members = history.of_phase(name)
    live = [trial for trial in members if trial.status in LIVE]
    if not live and len(members) == phase.population:
        return set()
    unborn = len(members) < phase.population
    behind = 0 if unborn else min(last_judged(phase, trial) for trial in live)
    behind = max(behind, horizon(history, phase))
    found = {trial.resume for trial in live}
    for trial in members:
        found |= checkpoints_since(phase, trial, behind)
    return {pointer for pointer in found if pointer}


def checkpoints_since(phase: Evolve, trial: TrialHistory, behind: int) -> set[str]:
    """The checkpoints of what a member was when it was compared from an epoch on, and of the newest before; as its
    `standings` have them."""
    exploits, reports = deque(trial.exploits), deque(trial.epochs)
    found: set[str] = set()
    newest: str | None = None
    for epoch in phase.judged:
        while reports and reports[0].epoch <= epoch:
            report = reports.popleft()
            while exploits and exploits[0].epoch < report.epoch:
                newest = exploits.popleft().checkpoint
            if report.epoch == epoch:
                newest = report.checkpoint or newest
        while exploits and exploits[0].epoch < epoch:
            newest = exploits.popleft().checkpoint
        if epoch >= behind and newest:
            found.add(newest)
        if not reports and not exploits:
            break
    return found


@dataclass(frozen=True)
class Segment:
    """Some epochs of a lineage: a trial trained them, with one config."""

    trial: str
    after: int
    """The epochs from the next one on."""
    until: int
    """To this one."""
    config: Config
    told: int
    """Those up to this one have no report of theirs: the trial had told what it was before."""


def ancestry(history: History, trial: TrialHistory, until: int | None = None) -> list[Segment]:
    """Where a trial's state after an epoch (its newest one unless given) comes from, from the first epoch on: its own
    training, and before each exploit its donor's."""
    until = trial.told if until is None else until
    if trial.configs:
        ends = [*(since for since, _ in trial.configs[1:]), until]
        spans = ((since, min(end, until), config) for (since, config), end in zip(trial.configs, ends, strict=True))
        return [Segment(trial.trial, since, end, config, since) for since, end, config in spans if since < end]
    newest = next((found for found in reversed(trial.exploits) if found.epoch < until), None)
    if newest is None:
        return [Segment(trial.trial, 0, until, trial.config_at(1), 0)]
    if newest.checkpoint is None:  # it began anew
        return [Segment(trial.trial, 0, until, newest.after, newest.epoch)]
    before = ancestry(history, history.trials[newest.donor], newest.since)
    return [*before, Segment(trial.trial, newest.since, until, newest.after, newest.epoch)]


def schedule(history: History, trial: TrialHistory) -> Configs:
    """The configs along a trial's chain of ancestors, each with the epoch after which it came: what trains its network
    again from scratch."""
    found: list[tuple[int, Config]] = []
    for segment in ancestry(history, trial):
        if not found or found[-1][1] != segment.config:
            found.append((segment.after, segment.config))
    return tuple(found)
