"""Advice: for which trial, which remedy first, what came of it, and when it is no longer given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.history import History
from sweeps.insight.advise import advise, as_words, compared, failing, given, outcome, tries
from sweeps.journal import FORMAT
from sweeps.report.diagnosis import to_try
from sweeps.spec import SweepSpec

SPEC = SweepSpec.model_validate(
    {
        "trainable": "a:b",
        "space": {"lr": {"log": [1e-4, 1e-1]}, "dropout": {"float": [0.0, 0.5]}, "weight_decay": {"log": [1e-5, 0.1]}},
        "phases": [{"kind": "explore", "epochs": 20}],
        "metric": "val/loss",
    }
)
EPOCHS = 20
BASE = {"lr": 0.01, "dropout": 0.2, "weight_decay": 1e-3, "augment": 0}


def fine(level: float) -> list[tuple[float, float]]:
    """Train and validation loss that fall together and settle."""
    return [(level + 2.3 * 0.5**n, 1.05 * (level + 2.3 * 0.5**n)) for n in range(EPOCHS)]


def overfitted(level: float) -> list[tuple[float, float]]:
    """Train loss falls on, the validation loss rises from the fifth epoch on."""
    return [(0.2 + 2.1 * 0.6**n, level + 2.1 * 0.6**n + max(0, n - 6) * 0.05) for n in range(EPOCHS)]


NOTHING = [(2.3, 2.3)]
"""A trial that was stopped after its first epoch."""


class Told:
    """A history that is told line by line."""

    def __init__(self) -> None:
        self.history = History(Path("nowhere"))
        self.tell(
            "sweep",
            format=FORMAT,
            spec=SPEC.document(),
            began=0,
            ready=0,
            defaults={"augment": 0, "restore_best": False},
        )
        space = SPEC.space.model_dump(mode="json", by_alias=True)
        self.tell(
            "phase", phase="explore", phase_kind="explore", space=space, changes=[], comparison=None, trials=40
        )  # fmt: skip

    def tell(self, kind: str, **fields: Any) -> None:
        self.history.apply({"kind": kind, "at": 0.0, **fields})

    def trial(
        self, curve: list[tuple[float, float]], advice: tuple[str, str, dict] | None = None, ends: bool = True, **config
    ) -> str:
        """A trial with that curve; `advice`: of which trial, for which finding, which changes."""
        name = f"explore-{len(self.history.trials):03d}"
        if advice:
            of, finding, changes = advice
            self.tell(
                "advice", phase="explore", trial=name, of=of, finding=finding, changes=changes, message="so"
            )  # fmt: skip
        fidelity = {"epochs": EPOCHS, "data_fraction": 1.0, "seed": 0}
        role = "advice" if advice else "sobol"
        self.tell(
            "trial", phase="explore", trial=name, attempt=1, role=role, config={**BASE, **config}, fidelity=fidelity
        )  # fmt: skip
        for epoch, (train, val) in enumerate(curve, 1):
            metrics = {"train/loss": train, "val/loss": val}
            self.tell(
                "report", trial=name, attempt=1, epoch=epoch, metrics=metrics, seconds=1.0, checkpoint=None, slot=1
            )  # fmt: skip
        if ends:
            whole = len(curve) == EPOCHS
            self.tell("end", trial=name, status="FINISHED" if curve else "FAILED", reason="", seconds=0.0, whole=whole)
        return name

    def advise(self):
        return advise(self.history, "explore", SPEC.space, self.history.header["defaults"], SPEC.metric, SPEC.mode)


def test_the_best_trial_is_advised_first_and_for_what_it_suffers_from():
    told = Told()
    told.trial(fine(1.5), lr=0.03)
    best = told.trial(overfitted(0.3))
    told.trial(fine(2.0), lr=0.02)
    advice = told.advise()
    assert (advice.of, advice.finding) == (best, "overfit")
    assert advice.changes == {"restore_best": (False, True)}
    assert advice.config == {**BASE, "restore_best": True}
    assert "rose from" in advice.message


def test_nothing_is_advised_where_nothing_is_wrong_or_nothing_has_reported():
    told = Told()
    assert told.advise() is None
    told.trial([], ends=False)
    assert told.advise() is None
    told.trial(fine(0.02))
    assert told.advise() is None


def test_what_was_tried_least_comes_first_and_nothing_is_tried_twice():
    told = Told()
    best = told.trial(overfitted(0.3))
    tried = []
    for _ in range(4):
        advice = told.advise()
        tried.append(next(iter(advice.changes)))
        assert advice.of == best
        told.trial(NOTHING, (best, advice.finding, advice.changes), **advice.config)
    assert tried == ["restore_best", "augment", "dropout", "weight_decay"]
    assert told.advise() is None, "its remedies are all tried, and it is the only one that suffers"
    second = told.trial(overfitted(0.4), lr=0.02)
    assert told.advise().of == second, "one failure is none too many"


def test_advice_that_keeps_failing_is_no_longer_given():
    told = Told()
    one, other = told.trial(overfitted(0.3)), told.trial(overfitted(0.35), lr=0.02)
    for of in (one, other):
        told.trial(fine(9.0), (of, "overfit", {"restore_best": [False, True]}), lr=0.05)
    assert failing(told.history) == {("overfit", "restore_best")}
    third = told.trial(overfitted(0.2), lr=0.03)
    advice = told.advise()
    assert (advice.of, list(advice.changes)) == (third, ["augment"])
    told.trial(fine(0.1), (one, "overfit", {"restore_best": [False, True]}), lr=0.06)
    assert not failing(told.history), "a success takes it back"


def test_an_outcome_is_the_level_at_the_last_epoch_that_both_came_to():
    told = Told()
    of = told.trial(overfitted(0.3))
    short = told.trial(fine(0.1)[:3], (of, "overfit", {"dropout": [0.2, 0.3]}))
    found = outcome(told.history, told.history.advice[short])
    assert (found.metric, found.epoch) == ("val/loss", 3)
    assert (found.before, found.after) == (overfitted(0.3)[2][1], fine(0.1)[2][1])
    assert found.helped
    at_work = told.trial(fine(0.1)[:3], (of, "overfit", {"dropout": [0.2, 0.4]}), ends=False)
    assert outcome(told.history, told.history.advice[at_work]) is None
    failed = told.trial([], (of, "overfit", {"dropout": [0.2, 0.5]}))
    assert outcome(told.history, told.history.advice[failed]).helped is False
    told.tell("advice", phase="explore", trial="explore-009", of=of, finding="overfit", changes={}, message="")
    assert len(tries(told.history)) == 1, "a trial that never began is none"


def test_an_outcome_waits_for_both_trials_and_a_line_without_its_trial_is_none():
    told = Told()
    of = told.trial(overfitted(0.3)[:3], ends=False)
    ended = told.trial(fine(0.1), (of, "overfit", {"dropout": [0.2, 0.3]}))
    assert outcome(told.history, told.history.advice[ended]) is None
    told.history.trials[ended].role = "sobol"
    assert given(told.history) == [], "a driver died between the two lines, and the next had no advice for it"


def test_in_words():
    told = Told()
    one, other = told.trial(overfitted(0.3)), told.trial(overfitted(0.3), lr=0.02)
    better = [(train, 0.9 * val) for train, val in overfitted(0.3)]
    worse = [(train, 1.02 * val) for train, val in overfitted(0.3)]
    told.trial(better, (one, "overfit", {"dropout": [0.1, 0.2]}))
    assert as_words(tries(told.history)[0]) == (
        "dropout 0.1 → 0.2 for overfit: validation loss −10.0 % (better in 1 of 1 try)"
    )
    told.trial(worse, (other, "overfit", {"dropout": [0.3, 0.4]}))
    assert as_words(tries(told.history)[0]) == (
        "dropout 0.1 → 0.2 (and 1 more such) for overfit: validation loss −4.0 % (better in 1 of 2 tries)"
    )


def test_what_may_be_tried_for_a_trial():
    told = Told()
    best = told.history.trials[told.trial(overfitted(0.3))]
    assert to_try(told.history, best)[:3] == ["restore_best False → True", "augment 0 → 1", "dropout 0.2 → 0.3"]
    assert to_try(told.history, told.history.trials[told.trial(fine(0.02))]) == []


def test_what_regularises_is_compared_with_none():
    told = Told()
    trials = told.history.trials
    assert compared([], "dropout", SPEC.space, "val/loss", "min", ours=True) is None
    best = told.trial(fine(0.1))
    told.trial(fine(0.5), dropout=0.0, lr=0.02)
    advice = compared(list(trials.values()), "dropout", SPEC.space, "val/loss", "min", ours=True)
    assert (advice.of, advice.finding, advice.changes) == (best, "regularisation", {"dropout": (0.2, 0.0)})
    assert advice.config == {**BASE, "dropout": 0.0}
    told.trial(fine(0.05), weight_decay=0.0)
    assert compared(list(trials.values()), "weight_decay", SPEC.space, "val/loss", "min", ours=True) is None, (
        "the best one has none"
    )


@pytest.mark.parametrize("parameter", ["dropout", "weight_decay"])
def test_a_comparison_that_was_made_is_not_made_again(parameter):
    told = Told()
    told.trial(fine(0.1))
    told.trial(fine(0.5), **{parameter: 0.0})
    assert compared(list(told.history.trials.values()), parameter, SPEC.space, "val/loss", "min", ours=True) is None


def test_who_reads_a_parameter_by_itself_gets_no_value_beyond_its_range():
    told = Told()
    told.trial(fine(0.1))
    trials = list(told.history.trials.values())
    assert compared(trials, "dropout", SPEC.space, "val/loss", "min", ours=False).config["dropout"] == 0.0
    assert compared(trials, "weight_decay", SPEC.space, "val/loss", "min", ours=False) is None, "its range begins above"
    assert compared(trials, "weight_decay", SPEC.space, "val/loss", "min", ours=True) is not None
