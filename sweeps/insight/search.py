"""What a search phase shows as a whole: ranges that end too early, epochs that were too few, an order that is noise.

Place in the flow: pure functions from the journal to findings; `phases.advice` journals them when a phase has ended,
and what follows for the epochs of the next one. The rules are the playbook's, as those for single trials in `diagnose`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.history import History, TrialHistory
from sweeps.insight.advise import LOSS, good
from sweeps.insight.curves import Ranking, rank
from sweeps.insight.diagnose import diagnose
from sweeps.insight.findings import Finding, listed
from sweeps.insight.runs import of_trial
from sweeps.space import EDGE, WIDEN, Domain, Range, Side, edge_of
from sweeps.spec import Confirm, Refine, SearchPhase, SweepSpec, phase_name

ENOUGH = 8
"""Fewer trials say nothing of a phase."""
AGREE = 0.3
"""Spearman's rank correlation of metric and loss below which they disagree."""
FEW_EPOCHS = 10
"""Of shorter phases a best epoch says nothing."""
EARLY = 0.3
"""Best before this share of the epochs: too many."""
LONGER, AFTER_BEST = 1.5, 1.5
"""What epochs are multiplied with that were too few; the best epoch, where they were too many."""
LUCK = 0.1
"""So probable it may be that as many lie at an edge by luck: of few values many do."""
TAIL = 3
"""The last one in so many of a curve's values tells how much it goes up and down."""
BEST = 5
"""So many of the best trials are compared with each other."""


def judge(history: History, spec: SweepSpec, phase: SearchPhase) -> list[Finding]:
    """The findings of a phase that has ended, the weightiest first. Nothing raises for what it lacks."""
    trials = history.of_phase(phase_name(phase))
    ranking = rank(trials, spec.metric, spec.mode)
    rules = (suffered(history, spec, trials), epochs(history, spec, phase), disagreement(spec, ranking),
             noise(spec, phase, ranking), edges(history, spec, phase, ranking))  # fmt: skip
    return [found for rule in rules for found in rule]


def suffered(history: History, spec: SweepSpec, trials: Iterable[TrialHistory]) -> Iterator[Finding]:
    """What most of the good trials suffer from."""
    best, known = good(trials, spec.metric, spec.mode), told_before(history)
    found: dict[str, list[tuple[str, Finding]]] = {}
    for trial in best:
        one = diagnose(of_trial(history, trial)).likeliest
        if one is not None and one.finding not in known:
            found.setdefault(one.finding, []).append((trial.trial, one))
    for finding, those in found.items():
        if 2 * len(those) > len(best) and len(best) > 1:
            names = [name for name, _ in those]
            message = f"{len(those)} of the best {len(best)} trials ({listed(names)}): {those[0][1].message}"
            yield Finding(finding, "warn", message, {"trials": names, "of": len(best)})


def told_before(history: History) -> set[str]:
    """What audit and preflight have said of the data already, for all trials alike."""
    return {line["finding"] for line in history.findings if "phase" not in line}


def epochs(history: History, spec: SweepSpec, phase: SearchPhase) -> Iterator[Finding]:
    """Whether the good trials that ran whole had too many epochs; that they had too few is what they suffer from."""
    best = [(trial.best(LOSS, "min"), trial.best(spec.metric, spec.mode)) for trial in whole(history, spec, phase)]
    places = [max(found[0] for found in both if found) for both in best if any(both)]
    if phase.epochs < FEW_EPOCHS or len(places) < 2 or max(places) >= EARLY * phase.epochs:
        return
    wanted = math.ceil(AFTER_BEST * max(places))
    message = (
        f"the best {len(places)} trials were best in epoch {listed(sorted(places))} of {phase.epochs}: "
        f"{wanted} epochs are enough, or regularise more."
    )
    yield Finding("too_many_epochs", "warn", message, {"best": places, "epochs": wanted})


def whole(history: History, spec: SweepSpec, phase: SearchPhase) -> list[TrialHistory]:
    """The good trials of a phase that ran to their end, best first."""
    trials = [trial for trial in history.of_phase(phase_name(phase)) if trial.whole]
    return good(trials, spec.metric, spec.mode)


def disagreement(spec: SweepSpec, ranking: Ranking) -> Iterator[Finding]:
    """Whether the order by metric is another one than that by validation loss."""
    pairs = [
        (value, losses[ranking.epoch], trial.trial)
        for value, trial in zip(ranking.values, ranking.trials, strict=True)
        if math.isfinite((losses := dict(trial.curve(LOSS))).get(ranking.epoch, math.nan))
    ]
    if spec.metric == LOSS or len(pairs) < ENOUGH:
        return
    if len({value for value, *_ in pairs}) == 1 or len({loss for _, loss, _ in pairs}) == 1:
        return  # there is no order
    from scipy.stats import spearmanr

    sign = 1 if spec.mode == "min" else -1
    agreement = float(spearmanr([sign * value for value, *_ in pairs], [loss for _, loss, _ in pairs]).statistic)
    if agreement < AGREE:
        by_loss = min(pairs, key=lambda pair: pair[1])[2]
        message = (
            f"{spec.metric} and {LOSS} order {len(pairs)} trials differently (rank correlation {agreement:.2f}): the "
            f"best by {spec.metric} is {pairs[0][2]}, by {LOSS} {by_loss}. Which of them do you want? Schedule on the "
            "loss, choose by the metric."
        )
        yield Finding("metric_and_loss_disagree", "warn", message, {"correlation": agreement, "by_loss": by_loss})


def noise(spec: SweepSpec, phase: SearchPhase, ranking: Ranking) -> Iterator[Finding]:
    """Whether the best trials differ by less than one of them goes up and down."""
    best = list(zip(ranking.values, ranking.trials, strict=True))[:BEST]
    own = [jitter([value for _, value in trial.curve(spec.metric)]) for _, trial in best]
    known = [value for value in own if value is not None]
    if len(ranking.trials) < ENOUGH or len(known) < 3:
        return
    span, swing = abs(best[-1][0] - best[0][0]), statistics.median(known)
    if span < swing:
        later = spec.phases[spec.phases.index(phase) + 1 :]
        judged = any(isinstance(found, Confirm) for found in later)
        mend = "the confirm phase decides over seeds" if judged else "add a confirm phase, which decides over seeds"
        message = (
            f"the best {len(best)} trials differ by {span:.3g} in {spec.metric}, which goes up and down by {swing:.3g} "
            f"from epoch to epoch: their order is noise; {mend}."
        )
        evidence = {"span": span, "swing": swing}
        yield Finding("noise_hides_differences", "info" if judged else "warn", message, evidence)


def jitter(values: Sequence[float]) -> float | None:
    """The standard deviation of a curve's end about a straight line; None where it is too short to tell."""
    tail = np.array([value for value in values if math.isfinite(value)][-max(5, len(values) // TAIL) :])
    if len(tail) < 5:
        return None
    places = np.arange(len(tail))
    left = tail - np.polyval(np.polyfit(places, tail, 1), places)
    return float(math.sqrt((left**2).sum() / (len(tail) - 2)))


def edges(history: History, spec: SweepSpec, phase: SearchPhase, ranking: Ranking) -> Iterator[Finding]:
    """Ranges at whose edge the best trials lie: what is better may lie beyond."""
    if len(ranking.trials) < ENOUGH:
        return
    space = history.phases[phase_name(phase)].space
    later = [phase_name(found) for found in spec.phases[spec.phases.index(phase) + 1 :] if isinstance(found, Refine)]
    configs = [trial.config_at(ranking.epoch) for trial in ranking.trials]
    for name in space.searched:
        domain = space[name]
        values = [config[name] for config in configs if name in config]
        side, count = edge_of(domain, values) if isinstance(domain, Range) else (None, 0)
        if side is None or by_luck(count, min(len(values), BEST), 1 / len(domain.grid(round(1 / EDGE)))) > LUCK:
            continue
        message = f"{count} of the best {BEST} have {name} at the {side} edge of {domain}"
        evidence = {"parameter": name, "side": side}
        if later and domain.widened(side, WIDEN) != domain:
            yield Finding("edge_of_space", "info", f"{message}: {later[0]} widens that side.", evidence)
        elif end_of(domain, side) == end_of(spec.space[name], side):
            yield Finding("edge_of_space", "warn", f"{message}: widen it there in the spec, and search anew.", evidence)
        else:
            told = f"{message}, to which it was narrowed: `sweeps extend` tries more."
            yield Finding("edge_of_space", "info", told, evidence)


def by_luck(count: int, of: int, share: float) -> float:
    """The probability that at least `count` of `of` draws hit what has that share."""
    return sum(math.comb(of, hits) * share**hits * (1 - share) ** (of - hits) for hits in range(count, of + 1))


def end_of(domain: Domain, side: Side) -> float | None:
    """The value at a side of a range; None of what is none."""
    return domain.span[side == "high"] if isinstance(domain, Range) else None


@dataclass(frozen=True)
class Lengthened:
    """Other epochs for a phase, as the one before it showed."""

    phase: str
    """The one that is to have them."""
    finding: str
    message: str
    before: int
    after: int


def lengthened(history: History, spec: SweepSpec, phase: SearchPhase) -> Lengthened | None:
    """Other epochs for the phase after this one, where the spec leaves them open and the good trials ask for them.

    Open are those of a confirm phase that names none: it trains as long as the search before it.
    """
    at = spec.phases.index(phase)
    following = spec.phases[at + 1] if at + 1 < len(spec.phases) else None
    if not isinstance(following, Confirm) or following.epochs is not None:
        return None
    if phase.classes is not None or phase.data_fraction != following.data_fraction:
        return None  # other data want other epochs
    asked = list(epochs(history, spec, phase))
    if asked:
        return Lengthened(
            phase_name(following), asked[0].finding, asked[0].message, phase.epochs, asked[0].evidence["epochs"]
        )
    trials = whole(history, spec, phase)
    found = [diagnose(of_trial(history, trial)).likeliest for trial in trials]
    short = [one for one in found if one is not None and one.finding == "too_few_epochs"]
    if len(trials) > 1 and 2 * len(short) > len(trials):
        message = (
            f"{len(short)} of the best {len(trials)} trials that ran whole were still improving after {phase.epochs} "
            "epochs."
        )
        return Lengthened(
            phase_name(following), "too_few_epochs", message, phase.epochs, math.ceil(LONGER * phase.epochs)
        )
    return None


def with_lengths(spec: SweepSpec, lengths: Iterable[Mapping[str, Any]]) -> SweepSpec:
    """The spec with the epochs that advice gave its phases."""
    after = {line["phase"]: line["after"] for line in lengths}
    phases = tuple(
        found.model_copy(update={"epochs": after[phase_name(found)]}) if phase_name(found) in after else found
        for found in spec.phases
    )
    return spec.model_copy(update={"phases": phases})
