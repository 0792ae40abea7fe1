"""Advice: the remedy of what a good trial suffers from, tried as a trial of its own, and whether it helped.

Place in the flow: `phases.advice` asks for the next one while a search runs and journals it; report and `sweeps
diagnose` show what came of each. Everything is a function of the journal, so that a resumed sweep advises as it would
have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.history import LIVE, History, Mode, TrialHistory
from sweeps.insight.curves import LEFT_OUT, furthest, usable
from sweeps.insight.diagnose import diagnose
from sweeps.insight.findings import Finding
from sweeps.insight.losses import end
from sweeps.insight.remedies import applied, known_as, remedies_for
from sweeps.insight.runs import of_trial
from sweeps.plan import ADVISED
from sweeps.space import Config, Space, show

GOOD, GOOD_SHARE = 3, 4
"""Advised are the best three trials of a phase, or the best quarter, if those are more."""
FAILING = 2
"""After so many tries without a success advice is no longer given in a sweep."""
LOSS = "val/loss"
"""What a remedy is judged by, where it is reported: a metric may stay while the loss falls."""
COMPARED = "regularisation"
"""In the place of a finding: nothing is wrong, but what regularises is compared with none."""
Changes = Mapping[str, tuple[Any, Any]]
"""By parameter the value before and the one that is tried."""


@dataclass(frozen=True)
class Advice:
    """A change of a trial's config that is worth a trial."""

    of: str
    """The trial whose config is changed."""
    finding: str
    """What the remedy is for."""
    changes: Changes
    message: str
    """What was found of that trial."""
    config: Config
    """The changed one."""


@dataclass(frozen=True)
class Outcome:
    """What came of advice: the level of the same metric of both trials, at the end where both ran to it, else after the
    last epoch that both came to."""

    metric: str
    epoch: int
    """0 where they came to none in common: the advised one gave no value."""
    before: float | None
    """The median of the last epochs up to that one: a single one of a curve that swings says little."""
    after: float | None
    helped: bool

    @property
    def change(self) -> float:
        """Of the value, relative to what it was: −0.04 is 4 % less. Not a number without both."""
        if self.after is None or not self.before:
            return math.nan
        return (self.after - self.before) / abs(self.before)


def advise(
    history: History, phase: str, space: Space, defaults: Mapping[str, Any], metric: str, mode: Mode
) -> Advice | None:
    """The next advice for a good trial of the phase; None where there is none that has not failed or been tried.

    What was tried least comes first, of equals that for the better trial, then its likelier finding.
    """
    tried = Counter((line["finding"], remedy_of(line["changes"])) for line in given(history))
    found = [
        (tried[advice.finding, remedy_of(advice.changes)], number, advice)
        for number, advice in enumerate(possible(history, phase, space, defaults, metric, mode))
    ]
    return min(found, key=lambda one: one[:2])[2] if found else None


def possible(
    history: History, phase: str, space: Space, defaults: Mapping[str, Any], metric: str, mode: Mode
) -> Iterator[Advice]:
    """All advice for the good trials of a phase, the best trial's first."""
    failed = failing(history)
    seen = [trial.config for trial in history.of_phase(phase)]
    for trial in good(history.of_phase(phase), metric, mode):
        # A remedy for what only follows from the likeliest finding would be in vain.
        run = of_trial(history, trial)
        finding = diagnose(run).likeliest
        if finding is None:
            continue
        for remedy in remedies_for(finding):
            changes = applied(remedy, run, space, defaults)
            advice = changed(trial, finding, changes, space)
            if changes and advice.config not in seen and (finding.finding, remedy_of(changes)) not in failed:
                yield advice


def good(trials: Iterable[TrialHistory], metric: str, mode: Mode) -> list[TrialHistory]:
    """The trials that are worth advice, best first: those that a scheduler let go furthest, of equals the better."""
    valued = [trial for trial in usable(trials) if trial.reached(metric)]
    ordered = sorted(valued, key=lambda trial: furthest(trial, metric, mode), reverse=True)
    return ordered[: max(GOOD, len(ordered) // GOOD_SHARE)]


def changed(trial: TrialHistory, finding: Finding, changes: Changes, space: Space) -> Advice:
    """Advice for a trial."""
    config = {**trial.config, **{name: after for name, (_, after) in changes.items()}}
    return Advice(trial.trial, finding.finding, changes, finding.message, space.completed(config))


def compared(
    trials: Sequence[TrialHistory], parameter: str, space: Space, metric: str, mode: Mode, *, ours: bool
) -> Advice | None:
    """The best trial without what it has of a parameter that regularises; None where it has none, or that was tried.

    `ours`: the platform's loop reads it, and networks beside it, which bear 0 whatever the range; a loop of the user's
    own gets a 0 only from a range that has it.
    """
    best = next(iter(good(trials, metric, mode)), None)
    if best is None:
        return None
    named = [name for name in best.config if name.rpartition(".")[2] == parameter]
    name = next((name for name in space.searched if name in named), known_as(parameter, best.config))
    value = best.config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value:
        return None
    if not ours and name in space and space[name].encode(0.0) is None:
        return None  # who reads it may not bear 0
    nothing = Finding(COMPARED, "info", f"the best trial so far without its {parameter}")
    advice = changed(best, nothing, {name: (value, 0.0)}, space)
    return None if any(trial.config == advice.config for trial in trials) else advice


def remedy_of(changes: Mapping[str, Any]) -> str:
    """The first parameter that advice changes, which tells it from other advice for the same finding."""
    return next(iter(changes), "").rpartition(".")[2]


def given(history: History) -> list[dict[str, Any]]:
    """The lines of the advice whose trials have begun, in their order.

    A driver may have died between the two lines, and the next one have had no advice for that trial.
    """
    begun = (line for line in history.advice.values() if line["trial"] in history.trials)
    return [line for line in begun if history.trials[line["trial"]].role in ADVISED]


def outcome(history: History, line: Mapping[str, Any]) -> Outcome | None:
    """What came of advice, by its line; None while one of the two trials is at work."""
    spec, trial, of = history.spec, history.trials[line["trial"]], history.trials[line["of"]]
    assert spec is not None, "a trial has begun"
    if trial.status in LIVE or of.status in LIVE:
        return None
    both = all(t.curve(LOSS) for t in (trial, of))
    metric, mode = (LOSS, "min") if both else (spec.metric, spec.mode)
    after, before = ({at: value for at, value in t.curve(metric) if math.isfinite(value)} for t in (trial, of))
    if not (trial.whole and of.whole):  # one was stopped: as far as both came
        after, before = ({at: values[at] for at in sorted(after.keys() & before.keys())} for values in (after, before))
    if not after or not before or trial.status in LEFT_OUT:
        return Outcome(metric, 0, None, None, False)
    now, then = level(trial, after), level(of, before)
    return Outcome(metric, max(after), then, now, now < then if mode == "min" else now > then)


def level(trial: TrialHistory, values: Mapping[int, float]) -> float:
    """The level at the end of a curve: its last value, where that is of the weights of the best epoch."""
    told = np.array(list(values.values()))
    return float(told[-1]) if trial.config.get("restore_best") else end(told)


@dataclass(frozen=True)
class Tried:
    """What came of one remedy for one finding in a sweep."""

    finding: str
    parameter: str
    changes: list[Changes]
    outcomes: list[Outcome]

    @property
    def helped(self) -> int:
        """In how many tries."""
        return sum(outcome.helped for outcome in self.outcomes)

    @property
    def change(self) -> float:
        """The mean change of the metric over the tries that gave values; not a number without any."""
        known = [outcome.change for outcome in self.outcomes if math.isfinite(outcome.change)]
        return sum(known) / len(known) if known else math.nan


def tries(history: History) -> list[Tried]:
    """What was tried, by finding and remedy, in the order in which it was first."""
    found: dict[tuple[str, str], Tried] = {}
    for line in given(history):
        key = line["finding"], remedy_of(line["changes"])
        one = found.setdefault(key, Tried(*key, [], []))
        came = outcome(history, line)
        if came is not None:
            one.changes.append(line["changes"])
            one.outcomes.append(came)
    return [one for one in found.values() if one.outcomes]


def failing(history: History) -> set[tuple[str, str]]:
    """Findings and remedies that were tried often enough and never helped."""
    return {(one.finding, one.parameter) for one in tries(history) if len(one.outcomes) >= FAILING and not one.helped}


def as_words(one: Tried) -> str:
    """`dropout 0.1 → 0.2 for overfit: validation loss −4 % (better in 3 of 4 tries)`."""
    changes = changes_in_words(one.changes[0])
    more = f" (and {len(one.changes) - 1} more such)" if len(one.changes) > 1 else ""
    metric = "validation loss" if one.outcomes[0].metric == LOSS else one.outcomes[0].metric
    moved = f"{metric} {one.change:+.1%}".replace("-", "−").replace("%", " %")
    came = moved if math.isfinite(one.change) else "no value"
    what = "to compare" if one.finding == COMPARED else f"for {one.finding}"
    number = len(one.outcomes)
    return f"{changes}{more} {what}: {came} (better in {one.helped} of {number} {'try' if number == 1 else 'tries'})"


def changes_in_words(changes: Changes) -> str:
    """`lr 0.02 → 0.01, schedule constant → cosine`."""
    return ", ".join(f"{name} {shown(before)} → {shown(after)}" for name, (before, after) in changes.items())


def shown(value: Any) -> str:
    """A value as a person writes it."""
    return "none" if value is None else show(value)
