"""From recorded curves to what may be compared: rankings at one fidelity, the best so far, the trials worth drawing.

Stands between History and everything that reads values: narrowing and confirm take their rankings here, figures and
report their trials. A trial that was stopped early, saw half of the data or diverged is never weighed against one that
did not: the rule for that is written once, in `rank`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sweeps.history import History, Mode, TrialHistory

ENOUGH_TRIALS = 8
"""So many trials (or a third of them, if that is more) make an epoch worth comparing at."""
FINALISTS = 3
"""So many trials at an epoch are enough to say who leads."""
LEFT_OUT = frozenset({"INFEASIBLE", "FAILED"})
"""Trials that ended so have no value, whatever they reported before."""


@dataclass(frozen=True)
class Ranking:
    """Trials compared after the same epoch on the same data, best first. Empty when none can be."""

    epoch: int
    data: dict[str, Any]
    """`data_fraction`; `classes` where they are fewer than all."""
    trials: list[TrialHistory]
    values: list[float]


@dataclass(frozen=True)
class Leader:
    """The best single report among some trials: which trial, after which epoch, how good."""

    trial: TrialHistory
    epoch: int
    value: float


Seen = tuple[float, float]
"""Of which data a training's results are: classes, infinite where they are all, and the share of the rows."""


def seen(trial: TrialHistory) -> Seen:
    """What the trial's results are of."""
    return trial.fidelity.get("classes", math.inf), trial.fidelity["data_fraction"]


def furthest(trial: TrialHistory, metric: str, mode: Mode) -> tuple[float, float, float]:
    """A key that is the larger the more classes and rows a trial saw, epochs counted, then the better its last value.

    For orders that must place trials of different fidelities; their values are never weighed against each other.
    """
    epoch, value = trial.reached(metric) or (0, 0.0)
    classes, fraction = seen(trial)
    return classes, epoch * fraction, value if mode == "max" else -value


def usable(trials: Iterable[TrialHistory]) -> list[TrialHistory]:
    """The trials whose values count: neither infeasible nor failed."""
    return [trial for trial in trials if trial.status not in LEFT_OUT]


def rank(trials: Iterable[TrialHistory], metric: str, mode: Mode, *, enough: int | None = None) -> Ranking:
    """The ranking of the trials at one fidelity.

    The fidelity is the highest epoch that `enough` of the usable trials reached with a finite value on the same data
    fraction, by default max(8, a third of them), which is evidence to move a range on; who only picks the best few asks
    for fewer. When no epoch has so many, it is the one that most reached. Equal values are ordered by trial id.
    The last value of a trial that ended by itself stands at the later epochs too.
    """
    candidates = usable(trials)
    points: dict[tuple[int, Seen], list[tuple[float, TrialHistory]]] = {}
    for trial in candidates:
        for epoch, value in trial.curve(metric):
            if math.isfinite(value):
                points.setdefault((epoch, seen(trial)), []).append((value, trial))
    for trial in candidates:
        at, value = trial.reached(metric) or (0, math.nan)
        for epoch, of in points if math.isfinite(value) else ():
            if trial.told < epoch <= at and of == seen(trial):
                points[epoch, of].append((value, trial))
    if not points:
        return Ranking(0, {"data_fraction": 1.0}, [], [])
    needed = max(ENOUGH_TRIALS, math.ceil(len(candidates) / 3)) if enough is None else enough
    reached = [fidelity for fidelity, found in points.items() if len(found) >= needed]
    best = max(reached) if reached else max(points, key=lambda fidelity: (len(points[fidelity]), fidelity))
    ordered = sorted(points[best], key=lambda p: (p[0] if mode == "min" else -p[0], p[1].trial))
    epoch, (classes, fraction) = best
    data = {"data_fraction": fraction, **({} if classes == math.inf else {"classes": classes})}
    return Ranking(epoch, data, [trial for _, trial in ordered], [value for value, _ in ordered])


def leader(trials: Iterable[TrialHistory], metric: str, mode: Mode) -> Leader | None:
    """The best report of the usable trials, of equals the lowest trial id; None when there is no finite value.

    For progress displays only: it names the epoch because it does not compare epochs.
    """
    found = [(best, trial) for trial in usable(trials) if (best := trial.best(metric, mode))]
    if not found:
        return None
    (epoch, value), trial = min(found, key=lambda f: (f[0][1] if mode == "min" else -f[0][1], f[1].trial))
    return Leader(trial, epoch, value)


def best_so_far(history: History) -> dict[str, list[tuple[float, float]]]:
    """For each phase (training seconds spent by the whole sweep, best value of the phase) wherever the best improved.

    The last point of a phase repeats its best at the phase's last report. Training that gave no usable value is paid
    for all the same. Phases are kept apart, because their values stem from different fidelities.
    """
    spec = history.spec
    if spec is None:
        return {}
    paid = [  # at, trial, epoch, seconds, value: a failure is paid for and has no value
        (at, trial.trial, epoch, seconds, value)
        for trial in history.trials.values()
        for at, epoch, seconds, value in (
            *((e.at, e.epoch, e.seconds, e.metrics.get(spec.metric, math.nan)) for e in trial.epochs),
            *((f["at"], 0, f["seconds"], math.nan) for f in trial.failures),
        )
    ]
    paid.sort(key=lambda payment: payment[:3])
    last = Counter({history.trials[trial].phase: i for i, (_, trial, *_) in enumerate(paid)})
    lines: dict[str, list[tuple[float, float]]] = {}
    spent = 0.0
    for i, (_, name, _, seconds, value) in enumerate(paid):
        trial = history.trials[name]
        spent += seconds
        line = lines.setdefault(trial.phase, [])
        counts = trial.status not in LEFT_OUT and math.isfinite(value)
        if counts and (not line or (value < line[-1][1] if spec.mode == "min" else value > line[-1][1])):
            line.append((spent, value))
        if i == last[trial.phase] and line and line[-1][0] < spent:
            line.append((spent, line[-1][1]))
    return {phase: line for phase, line in lines.items() if line}


def last_search(history: History, before: str | None = None) -> str | None:
    """Name of the newest phase (of those opened before the given one) that searched and has a value to rank."""
    spec = history.spec
    opened = itertools.takewhile(lambda name: name != before, history.phases)
    names = [name for name in opened if history.phases[name].searches]
    for name in reversed(names):
        if spec and rank(history.of_phase(name), spec.metric, spec.mode).trials:
            return name
    return None


def best_trial(history: History) -> TrialHistory | None:
    """The confirmed winner, else the best trial of the last search; None before there is a value."""
    if history.verdict:
        return history.trials[history.verdict["best_trial"]]
    phase, spec = last_search(history), history.spec
    if phase is None or spec is None:
        return None
    trials = history.of_phase(phase)
    whole = [trial for trial in trials if trial.whole]
    return rank(whole or trials, spec.metric, spec.mode, enough=1 if whole else FINALISTS).trials[0]


def finalists(history: History) -> Ranking | None:
    """The last search phase's trials at the highest epoch that a few of them reached; None before there is a value.

    Few are enough here because nothing is narrowed on them: a scheduler let them go on because they were good.
    """
    phase, spec = last_search(history), history.spec
    if phase is None or spec is None:
        return None
    return rank(history.of_phase(phase), spec.metric, spec.mode, enough=FINALISTS)


def top(history: History, k: int) -> list[TrialHistory]:
    """The best k trials to draw: with a verdict the winner's and the baseline's confirm trials first, then the best of
    the last search phase."""
    chosen: list[TrialHistory] = []
    if history.verdict:
        arms = {arm["arm"]: arm["trials"] for arm in history.verdict["arms"]}
        for name in dict.fromkeys((history.verdict["winner"], "baseline")):
            chosen += [history.trials[trial] for trial in arms.get(name, [])]
    ranking = finalists(history)
    return (chosen + (ranking.trials if ranking else []))[:k]
