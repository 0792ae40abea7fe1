"""When a phase is in vain, by its trials."""

from __future__ import annotations

from sweeps.halting import alike, nothing_works
from sweeps.history import TrialHistory


def trials(*reasons: str | None, status: str = "INFEASIBLE") -> list[TrialHistory]:
    """Ended trials: for each reason one without a value, for None one with."""
    found = []
    for number, reason in enumerate(reasons):
        trial = TrialHistory(f"explore-{number:03d}", "explore", "sobol", {}, {"epochs": 1, "data_fraction": 1.0}, 0.0)
        trial.status, trial.reason = (status, reason) if reason else ("FINISHED", "all epochs")  # type: ignore[assignment]
        found.append(trial)
    return found


def test_nothing_works():
    six = ["non-finite val/loss"] * 5 + ["out of memory"]
    assert nothing_works(trials(*six)) is None, "too early"
    assert nothing_works(trials(*six, *[None] * 4)) == (
        "6 of the first 10 trials gave no value, 5 of them: non-finite val/loss"
    )
    assert nothing_works(trials(*six, *[None] * 5)) is None, "it was told before"
    assert nothing_works(trials(*six[1:], *[None] * 5)) is None, "half of them do"
    at_work = trials(*six, *[None] * 4)
    at_work[-1].status = "RUNNING"
    assert nothing_works(at_work) is None


def test_the_first_trials_fail_alike():
    assert alike(trials("ValueError: 3 is no size", "ValueError: 4 is no size", status="FAILED")) is None, "two"
    three = trials(
        "ValueError: 3 is no size", "ValueError: 4 is no size", "ValueError: 1e-3 is no size", status="FAILED"
    )
    assert alike(three) == "the first 3 trials all failed alike: ValueError: 3 is no size."
    assert alike(trials("ValueError: a", "KeyError: b", "ValueError: a", status="FAILED")) is None
    assert alike(trials("ValueError: a", "ValueError: a", None, status="FAILED")) is None
