"""The summary at the end of a run, and the status in between."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recorded import record
from sweeps.history import History
from sweeps.journal import read
from sweeps.report import tables
from sweeps.report.summary import status, summary
from sweeps.report.words import duration, mean_sd, number, plain
from sweeps.space import Change

COMMAND = "mlflow server --backend-store-uri sqlite:////a/long/path/that/must/stay/in/one/piece/mlflow.db --port 5000"


@pytest.fixture
def lines(tmp_path: Path) -> list[dict]:
    return read(record(tmp_path / "recorded"))


@pytest.fixture
def history(lines, tmp_path) -> History:
    history = History(tmp_path / "recorded")
    history.extend(lines)
    return history


def say(history: History) -> str:
    return summary(history, report="/runs/recorded/report.html", open_command=COMMAND)


def test_the_summary_answers_in_a_screenful(history):
    text = say(history)
    assert text.count("\n") < 30
    assert all(len(line) <= 100 for line in text.splitlines() if COMMAND not in line)
    assert text.startswith(history.verdict["text"])
    assert "Report  /runs/recorded/report.html" in text
    assert f"MLflow  {COMMAND}" in text


def test_what_to_open_in_mlflow_stands_below_the_command(history):
    text = summary(history, report="r.html", open_command=COMMAND, pages=["then open http://a", "its seeds: http://b"])
    assert f"MLflow  {COMMAND}\n        then open http://a\n        its seeds: http://b" in text


def test_the_summary_compares_winner_and_baseline_over_seeds(history):
    text = say(history)
    for arm in history.verdict["arms"]:
        shown = arm["arm"] in (history.verdict["winner"], "baseline")
        values = ", ".join(f"{v:.4g}" for v in arm["values"])
        assert (f"{mean_sd(arm['mean'], arm['sd'])}  over 3 seeds: {values}" in text) is shown
    difference = history.verdict["comparison"]
    assert f"better by   {difference['mean_difference']:+.3g} (95 % interval {difference['low']:+.3g} …" in text
    assert "test split  read once: refine" in text


def test_seeds_at_which_an_arm_was_infeasible_are_shown(history):
    arms = history.verdict["arms"]
    winner = next(arm for arm in arms if arm["arm"] == history.verdict["winner"])
    winner["infeasible"] = [4, 7]
    assert "; infeasible at 2 seeds" in " ".join(say(history).split())
    (row,) = (row for row in tables.arms(history) if row["won"])
    assert row["seeds"][3:] == ["4: infeasible", "7: infeasible"]


def test_the_summary_names_the_ranges_that_moved_and_why(history):
    text = say(history)
    for change in history.phases["refine"].changes:
        line = f"  {change.parameter}: {change.before} -> {change.after} for refine ({change.why})"
        assert (line in text) is (change.action != "kept")


def test_many_moved_ranges_are_cut_short(history):
    change = Change(parameter="p", action="narrowed", before="0 … 1", after="0 … 0.5", why="w" * 200)
    history.phases["refine"].changes = [change] * 20
    text = say(history)
    assert "and 13 more, in the report" in text
    assert all(len(line) <= 100 for line in text.splitlines() if COMMAND not in line)


def test_the_summary_says_what_it_cost(history):
    text = " ".join(say(history).split())
    epochs = sum(len(trial.epochs) for trial in history.trials.values())
    assert f"27 trials (2 failed or infeasible), {epochs} epochs, 1 min 40 s:" in text
    assert "start-up 10 %, training 75 %, bookkeeping 15 %; 0 GPU-hours" in text


def test_a_sweep_without_a_verdict_says_why_and_what_it_has(history):
    history.verdict = None
    history.end = {**history.end, "status": "INTERRUPTED", "reason": "the budget of 1 hours is spent\n  traceback"}
    text = say(history)
    assert text.startswith("recorded has no verdict: INTERRUPTED, the budget of 1 hours is spent\n")
    best = history.trials["explore-010"].curve("val/accuracy")[-1][1]
    assert f"explore  best val/accuracy {best:.4g} (explore-010, epoch 3 of 3, 50 % of the data)" in text


def test_a_sweep_that_never_trained_has_a_summary_and_a_status(lines, tmp_path):
    history = History(tmp_path / "recorded")
    history.extend(lines[:2])
    assert "Ranges: none was moved" in say(history)
    assert "0 trials (0 failed or infeasible), 0 epochs" in say(history)
    assert "explore    0/12 done  not begun" in status(history)


def test_status_of_a_running_sweep(lines, tmp_path):
    history = History(tmp_path / "recorded")
    until = next(i for i, line in enumerate(lines) if line["kind"] == "report" and line["trial"] == "explore-007")
    history.extend(lines[: until + 1])
    text = status(history)
    value = history.trials["explore-007"].epochs[-1].metrics["val/accuracy"]
    assert text.splitlines()[0] == "recorded: RUNNING"
    assert "explore    7/12 done" in text
    assert "refine     0/6 done  not begun" in text
    assert f"running    explore-007 epoch 1/3, val/accuracy {value:.4g}" in text
    assert "failed     explore-005 attempt 2: RuntimeError: bad batch (log: logs/explore-005.log)" in text
    assert "ended" not in text


def test_status_of_an_ended_sweep(history):
    text = status(history)
    assert text.startswith("recorded: FINISHED\n")
    assert "confirm    9/9 done" in text
    assert history.verdict["text"] in text
    assert re.search(r"ended      \d{4}-\d\d-\d\d \d\d:\d\d UTC: all phases$", text)


def test_messages_cannot_drive_the_terminal(history):
    history.trials["explore-005"].failures[0]["message"] = "\x1b[2Jgone\r\n\x07" + "long " * 100
    history.end = {**history.end, "reason": "\x1b]0;title\x07"}
    text = status(history) + say(history)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert max(map(len, status(history).splitlines())) <= 100


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (100, "1 min 40 s"),
     (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)  # fmt: skip
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_numbers():
    assert [number(v) for v in (0.123456, 3e-5, 7, "sgd", None, True, float("nan"))] == [
        "0.1235", "3e-05", "7", "sgd", "–", "True", "nan",
    ]  # fmt: skip
    assert mean_sd(0.97031, 0.00163) == "0.9703 ± 0.0016"
    assert mean_sd(1234.5, 98.7) == "1234 ± 99"
    assert mean_sd(0.97031, 0.0) == "0.9703"
    assert mean_sd(0.97031, None) == "0.9703"
    assert plain("a\x1b[1m\n\tb") == "a [1m b"
