"""What the trials suffered from and what came of the advice, in words: for report, terminal and notebook."""

from __future__ import annotations

from typing import Any

from sweeps.history import History, TrialHistory
from sweeps.insight.advise import as_words, changes_in_words, tries
from sweeps.insight.curves import rank
from sweeps.insight.diagnose import diagnose
from sweeps.insight.findings import Finding, listed
from sweeps.insight.remedies import applied, remedies_for
from sweeps.insight.runs import of_trial
from sweeps.report import words

Row = dict[str, Any]


def suffered(history: History) -> list[Row]:
    """By search phase each finding of its trials, the most frequent first: how many have it as their likeliest, which
    are the best of them, and what was found of the first."""
    spec = words.spec_of(history)
    rows: list[Row] = []
    for name, phase in history.phases.items():
        trials = [trial for trial in history.of_phase(name) if trial.epochs] if phase.searches else []
        order = {trial.trial: place for place, trial in enumerate(rank(trials, spec.metric, spec.mode).trials)}
        found: dict[str, list[tuple[TrialHistory, Finding]]] = {}
        for trial in sorted(trials, key=lambda one: order.get(one.trial, len(order))):
            if (one := diagnose(of_trial(history, trial)).likeliest) is not None:
                found.setdefault(one.finding, []).append((trial, one))
        for finding, those in sorted(found.items(), key=lambda pair: -len(pair[1])):
            rows.append(
                {
                    "phase": name, "finding": finding, "count": f"{len(those)} of {len(trials)}",
                    "trials": listed([trial.trial for trial, _ in those]), "message": those[0][1].message,
                }
            )  # fmt: skip
    return rows


def to_try(history: History, trial: TrialHistory) -> list[str]:
    """What may mend what a trial suffers from, as changes of its config, the likeliest first; none without a remedy."""
    spec, run = words.spec_of(history), of_trial(history, trial)
    likeliest = diagnose(run).likeliest
    known = remedies_for(likeliest) if likeliest else []
    found = (applied(remedy, run, spec.space, history.header["defaults"]) for remedy in known)
    return [changes_in_words(changes) for changes in found if changes]


def advice(history: History) -> list[str]:
    """What came of each remedy that was tried, and which phases have other epochs, a line each."""
    lines = [f"{as_words(one)}." for one in tries(history)]
    lengths = [
        f"{line['phase']} has {line['after']} epochs instead of {line['before']}: {line['message']}"
        for line in history.lengths
    ]
    return lines + lengths
