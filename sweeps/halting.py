"""When a phase is in vain: its trials fail alike, most give no value, or the metric is not there; and how to say so."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from sweeps.errors import SweepFailed
from sweeps.history import LIVE, History, TrialHistory
from sweeps.insight.curves import LEFT_OUT
from sweeps.storage import Folder

ALIKE = 3
"""So many first trials that fail alike halt the sweep."""
FIRST, MOST_BROKEN = 10, 0.5
"""Of so many first trials, more than this share without a value: nothing works (playbook)."""


def alike(trials: Sequence[TrialHistory]) -> str | None:
    """Why a sweep is in vain: its first trials all failed with the same exception, numbers in its message apart."""
    first = trials[:ALIKE]
    if len(first) < ALIKE or any(trial.status != "FAILED" for trial in first):
        return None
    kinds = {re.sub(r"[-+]?[\d.]*\d(e[-+]?\d+)?", "#", trial.reason) for trial in first}
    return f"the first {ALIKE} trials all failed alike: {first[0].reason}." if len(kinds) == 1 else None


def nothing_works(trials: Sequence[TrialHistory]) -> str | None:
    """Why a search is in vain: most of the first trials that ended gave no value. None where they do, and when so many
    have not ended yet or more have."""
    ended = [trial for trial in trials if trial.status not in LIVE]
    broken = [trial for trial in ended if trial.status in LEFT_OUT]
    if len(ended) != FIRST or len(broken) <= MOST_BROKEN * FIRST:
        return None
    (reason, times), *_ = Counter(trial.reason for trial in broken).most_common()
    return f"{len(broken)} of the first {FIRST} trials gave no value, {times} of them: {reason}"


def last_failure(history: History, folder: Folder) -> str:
    """The newest failure's place in the user's code and its log, for an error message; empty where there is none."""
    failures = [failure for trial in history.trials.values() for failure in trial.failures]
    if not failures:
        return ""
    newest = max(failures, key=lambda failure: failure["at"])
    place = newest["traceback"].rstrip()
    return f"\n{place}\n{newest['error']}: {newest['message']}\n  Its prints are in {folder / newest['log']}"


def unknown_metric(metric: str, trial: str, reported: list[str]) -> SweepFailed:
    """The error for a metric that the trainable does not report."""
    reported = [name for name in reported if not name.startswith("system/")]  # nobody tunes for these
    near = difflib.get_close_matches(metric, reported, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Use one of them, or report {metric}."
    reports = f"{trial} does not report {metric!r} after each epoch; it reports {', '.join(sorted(reported))}"
    return SweepFailed(f"metric: {reports}. {hint}")
