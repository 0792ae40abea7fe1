"""What a sweep shows as a whole: what was spent in vain and on which values, and what its advice taught.

Place in the flow: pure functions from the journal to findings; `phases.advice` journals them when all phases have
ended. Those of one phase are in `search`, those of one trial in `diagnose`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sweeps.history import History, TrialHistory
from sweeps.insight.advise import COMPARED, as_words, tries
from sweeps.insight.curves import LEFT_OUT
from sweeps.insight.findings import Finding
from sweeps.space import Range, show
from sweeps.spec import SweepSpec

WASTED = 0.2
"""A share of the searched trials without a value from which on it is worth a word."""
ENOUGH = 4
"""Fewer trials on one side tell nothing of a parameter."""
APART = 0.9
"""The probability that of two trials, one with a value and one without, the one without has the larger (or smaller)
parameter (Mann and Whitney), from which on the parameter is to blame."""
OFTEN = 2
"""So many tries without a failure make a remedy one to adopt."""


def judge(history: History, spec: SweepSpec) -> list[Finding]:
    """The findings of a sweep whose phases have ended."""
    return [*wasted(history, spec), *taught(history)]


def wasted(history: History, spec: SweepSpec) -> Iterator[Finding]:
    """Whether many trials gave no value, and which parameter sets them apart."""
    phases = {name for name, phase in history.phases.items() if phase.searches}
    trials = [trial for trial in history.trials.values() if trial.phase in phases]
    lost = [trial for trial in trials if trial.status in LEFT_OUT]
    if not trials or len(lost) < WASTED * len(trials):
        return
    kept = [trial for trial in trials if trial.status not in LEFT_OUT]
    blamed = [cause for name in spec.space.searched if (cause := apart(spec, name, lost, kept))]
    mend = f"They had {' and '.join(blamed)}: narrow the space." if blamed else f"The first: {lost[0].reason}."
    message = f"{len(lost)} of {len(trials)} searched trials gave no value. {mend}"
    yield Finding("wasted", "warn", message, {"lost": len(lost), "of": len(trials)})


def apart(spec: SweepSpec, name: str, lost: Sequence[TrialHistory], kept: Sequence[TrialHistory]) -> str:
    """`lr from 0.05 on`: on which side of a range the trials without a value lie; empty where on none."""
    if not isinstance(spec.space[name], Range):
        return ""
    bad, fine = ([trial.config[name] for trial in those if name in trial.config] for those in (lost, kept))
    if len(bad) < ENOUGH or len(fine) < ENOUGH:
        return ""
    larger = sum((one > other) + (one == other) / 2 for one in bad for other in fine) / (len(bad) * len(fine))
    if larger >= APART:
        return f"{name} from {show(min(bad))} on"
    return f"{name} up to {show(max(bad))}" if larger <= 1 - APART else ""


def taught(history: History) -> Iterator[Finding]:
    """What the arms without regularisation showed, and advice that never failed."""
    for one in tries(history):
        if one.finding == COMPARED:
            yield Finding("regularisation", "info", f"{as_words(one)}.")
        elif one.helped == len(one.outcomes) >= OFTEN:
            mend = "Let the baseline have it, or search around it."
            yield Finding("advice_helped", "info", f"{as_words(one)}. {mend}")
