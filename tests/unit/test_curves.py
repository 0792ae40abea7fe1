"""Rankings at one fidelity, best so far, the trials worth drawing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from recorded import record
from sweeps.history import Epoch, History, TrialHistory
from sweeps.insight.curves import best_so_far, finalists, furthest, last_search, leader, rank, top

METRIC = "val/loss"


def trial(name: str, *values: float, fraction: float = 1.0, status: str = "FINISHED") -> TrialHistory:
    """A trial whose loss took these values after epochs 1, 2, …"""
    history = TrialHistory(name, "explore", "sobol", {}, {"epochs": 9, "data_fraction": fraction, "seed": 0}, 0.0)
    history.epochs = [Epoch(n, {METRIC: value}, float(n), 1.0, 1, None, 100) for n, value in enumerate(values, 1)]
    history.status = status  # type: ignore[assignment]
    return history


def names(trials: list[TrialHistory]) -> list[str]:
    return [trial.trial for trial in trials]


def test_ranking_is_at_the_highest_epoch_that_eight_reached():
    trials = [trial(f"t{n:02}", 1 + n, 0.5 + n, 9 - n) for n in range(8)] + [trial("early", 0.0)]
    ranking = rank(trials, METRIC, "min")
    assert (ranking.epoch, ranking.data) == (3, {"data_fraction": 1.0})
    assert names(ranking.trials) == [f"t{n:02}" for n in reversed(range(8))]  # "early" is better, but at epoch 1
    assert ranking.values == [2, 3, 4, 5, 6, 7, 8, 9]


def test_a_third_of_many_trials_must_have_come_so_far():
    trials = [trial(f"t{n:02}", 1.0, *([0.5] if n < 9 else [])) for n in range(30)]
    assert rank(trials, METRIC, "min").epoch == 1  # nine of thirty are no third
    assert rank(trials[:27], METRIC, "min").epoch == 2
    assert rank(trials, METRIC, "min", enough=9).epoch == 2


def test_few_trials_are_ranked_where_most_are_and_there_as_late_as_possible():
    assert rank([trial("a", 3, 2), trial("b", 2, 1), trial("c", 1)], METRIC, "min").epoch == 1
    assert rank([trial("a", 3, 2), trial("b", 2, 1)], METRIC, "min").epoch == 2
    assert rank([trial("a", 3, 2), trial("b", 2, 1), trial("c", 1)], METRIC, "min", enough=2).epoch == 2


def test_the_last_value_of_a_trial_that_ended_by_itself_stands_at_later_epochs():
    early = replace(trial("early", 0.9, 0.1), whole=True)
    assert early.reached(METRIC) == (9, 0.1)
    rung_loser, others = trial("loser", 0.05), [trial(f"t{n}", 3.0, 2.0, 1.0 + n) for n in range(3)]
    assert rung_loser.reached(METRIC) == (1, 0.05)
    ranking = rank([early, rung_loser, *others], METRIC, "min", enough=3)
    assert (ranking.epoch, names(ranking.trials)) == (3, ["early", "t0", "t1", "t2"])
    assert ranking.values[0] == 0.1
    half = replace(trial("half", 0.0, fraction=0.5), whole=True)
    assert "half" not in names(rank([half, *others], METRIC, "min", enough=3).trials)
    bad = replace(trial("bad", 0.2, math.nan), whole=True)
    assert "bad" not in names(rank([bad, *others], METRIC, "min", enough=3).trials)
    assert replace(trial("mute"), whole=True).reached(METRIC) is None


def test_data_fractions_are_never_mixed():
    half = [trial(f"h{n}", 0.1 * n, fraction=0.5) for n in range(8)]
    full = [trial(f"f{n}", 0.05 * n) for n in range(5)]
    ranking = rank(half + full, METRIC, "min")
    assert ranking.data == {"data_fraction": 0.5}
    assert set(names(ranking.trials)) == {f"h{n}" for n in range(8)}


def test_infeasible_failed_and_non_finite_are_left_out():
    trials = [
        trial("good", 2.0, 1.0),
        trial("nan", 1.0, math.nan),
        trial("inf", 1.0, -math.inf),
        trial("infeasible", 0.1, 0.1, status="INFEASIBLE"),
        trial("failed", 0.1, 0.1, status="FAILED"),
        trial("running", 3.0, 2.0, status="RUNNING"),
    ]
    assert names(rank(trials, METRIC, "min", enough=2).trials) == ["good", "running"]
    assert leader(trials, METRIC, "min").trial.trial in {"inf", "nan", "good"}
    assert leader(trials, METRIC, "min").value == 1.0
    assert names(rank(trials, METRIC, "min").trials) == ["inf", "nan", "good", "running"]  # epoch 1: all are finite


@pytest.mark.parametrize(("mode", "order"), [("min", ["b", "c", "a"]), ("max", ["a", "b", "c"])])
def test_equal_values_are_ordered_by_trial_id(mode, order):
    assert names(rank([trial("c", 1), trial("b", 1), trial("a", 2)], METRIC, mode).trials) == order
    assert leader([trial("c", 1), trial("b", 1)], METRIC, mode).trial.trial == "b"


def test_nothing_to_rank_is_an_empty_ranking():
    assert rank([], METRIC, "min").trials == []
    assert rank([trial("a", math.nan)], METRIC, "min").values == []
    assert leader([trial("a", math.nan)], METRIC, "min") is None


@pytest.fixture(scope="module")
def history(tmp_path_factory) -> History:
    return History.open(record(tmp_path_factory.mktemp("runs") / "recorded"))


def test_best_so_far_keeps_phases_apart_and_counts_all_training(history):
    lines = best_so_far(history)
    assert list(lines) == ["explore", "refine", "confirm"]
    for phase, line in lines.items():
        seconds, values = zip(*line, strict=True)
        assert list(seconds) == sorted(seconds)
        assert list(values) == sorted(values), "never worse than before"
        usable = [t for t in history.of_phase(phase) if t.status == "FINISHED"]
        assert values[-1] == max(v for t in usable for _, v in t.curve("val/accuracy"))
    assert lines["refine"][0][1] < lines["explore"][-1][1], "a phase starts anew"
    explored = sum(t.seconds for t in history.of_phase("explore"))
    assert lines["explore"][-1][0] == pytest.approx(explored)
    assert lines["refine"][0][0] == pytest.approx(explored + 0.4)


def test_best_so_far_ignores_the_values_of_an_infeasible_trial(history):
    infeasible = history.trials["explore-003"]
    infeasible.epochs[0].metrics["val/accuracy"] = 2.0
    try:
        assert all(value < 1 for line in best_so_far(history).values() for _, value in line)
    finally:
        infeasible.epochs[0].metrics["val/accuracy"] = 0.5


def test_top_begins_with_the_winner_and_the_baseline_in_confirm(history):
    winner = history.verdict["winner"]
    best = top(history, 8)
    assert [t.role for t in best[:6]] == [winner] * 3 + ["baseline"] * 3
    assert {t.phase for t in best[:6]} == {"confirm"}
    assert names(best[6:]) == names(finalists(history).trials[:2])
    assert len(top(history, 2)) == 2


def test_top_without_a_verdict_is_the_last_search_phases_best(history):
    history = replace(history, verdict=None)
    assert last_search(history) == "refine"
    best = top(history, 2)
    values = {t.trial: t.curve("val/accuracy")[-1][1] for t in history.of_phase("refine") if len(t.epochs) == 9}
    assert names(best) == sorted(values, key=lambda name: -values[name])[:2]


def test_a_sweep_that_has_not_begun_has_nothing(tmp_path: Path):
    history = History(tmp_path)
    assert (best_so_far(history), last_search(history), top(history, 3), finalists(history)) == ({}, None, [], None)


def of_classes(name, count, *values):
    """A trial on so many classes."""
    found = trial(name, *values)
    found.fidelity["classes"] = count
    return found


def test_fewer_classes_are_never_weighed_against_all():
    two = [of_classes(f"t{n}", 2, 0.01 * n) for n in range(8)]
    every = [trial(f"a{n}", 0.5 * n) for n in range(5)]
    ranking = rank(two + every, METRIC, "min")
    assert ranking.data == {"data_fraction": 1.0, "classes": 2}
    assert set(names(ranking.trials)) == {f"t{n}" for n in range(8)}
    both = sorted([two[0], every[4], every[0]], key=lambda one: furthest(one, METRIC, "min"), reverse=True)
    assert names(both) == ["a0", "a4", "t0"], "one that saw all classes comes first, however bad its value"
