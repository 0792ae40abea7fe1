"""What MLflow should hold of a sweep, from the recorded journal alone."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from recorded import record
from sweeps.history import Epoch, History
from sweeps.journal import read
from sweeps.tracking.runs import (
    GONE,
    MAX_VALUE,
    best_points,
    cut,
    legal,
    nonfinite,
    note,
    points,
    sweep_record,
    trial_record,
)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History.open(record(tmp_path_factory.mktemp("runs") / "recorded"))


@pytest.fixture
def unfinished(tmp_path: Path) -> History:
    """In the middle of refine-002: its driver has written no more yet."""
    history = History(record(tmp_path / "unfinished"))
    lines = read(history.folder)
    history.extend(lines[: 3 + next(i for i, line in enumerate(lines) if line.get("trial") == "refine-002")])
    return history


def test_a_trials_run_carries_its_config_fidelity_and_place(history: History) -> None:
    trial = history.trials["refine-002"]
    run = trial_record(history, trial, "abc")
    assert run.uid == "recorded/refine-002"
    assert run.name == "refine-002"
    assert {name: run.params[name] for name in trial.config} == {k: str(v) for k, v in trial.config.items()}
    assert run.tags["sweep.run"] == "abc"
    assert run.tags["phase"] == "refine"
    assert run.tags["role"] == "tpe"
    assert (run.tags["fidelity.epochs"], run.tags["fidelity.data_fraction"], run.tags["seed"]) == ("9", "1.0", "0")
    assert run.tags["sweep.reports"] == str(len(trial.epochs))
    assert "mlflow.parentRunId" not in run.tags
    assert (run.started, run.ended) == (round(trial.started * 1000), round(trial.ended * 1000))


def test_only_parameters_on_a_logarithmic_scale_get_their_logarithm(history: History) -> None:
    trial = history.trials["explore-000"]
    logs = {k: v for k, v in trial_record(history, trial, "").params.items() if k.startswith("log10_")}
    assert logs == {"log10_lr": f"{math.log10(trial.config['lr']):.6g}"}


@pytest.mark.parametrize(
    ("trial", "status", "ours", "reason"),
    [
        ("explore-000", "FINISHED", "FINISHED", "all epochs"),
        ("explore-006", "FINISHED", "FINISHED", "stopped at rung 1"),
        ("explore-003", "FAILED", "INFEASIBLE", "non-finite val/loss at epoch 2"),
        ("explore-005", "FAILED", "FAILED", "RuntimeError: bad batch"),
    ],
)
def test_early_stopped_is_finished_and_the_kinds_of_failure_are_told_apart(
    history: History, trial: str, status: str, ours: str, reason: str
) -> None:
    run = trial_record(history, history.trials[trial], "")
    assert (run.status, run.tags["sweep.status"], run.tags["sweep.stop_reason"]) == (status, ours, reason)


def test_failures_and_non_finite_values_are_written_out(history: History) -> None:
    failed = trial_record(history, history.trials["explore-005"], "")
    assert failed.tags["attempt"] == "2"
    assert failed.tags["failures"].splitlines()[1] == ("attempt 2: RuntimeError: bad batch (logs/explore-005.log)")
    assert trial_record(history, history.trials["explore-003"], "").tags["nonfinite"] == "val/loss nan at epoch 2"


def test_points_are_finite_and_stamped_by_the_journal() -> None:
    metrics = {"val/loss": math.nan, "val/accuracy": 0.5, "grad/norm": math.inf}
    epochs = [Epoch(2, metrics, 12.3456, 0.4, 1, None, 100)]
    (point,) = points(epochs)
    assert (point.key, point.value, point.timestamp, point.step) == ("val/accuracy", 0.5, 12346, 2)
    assert nonfinite(epochs) == ["val/loss nan at epoch 2", "grad/norm inf at epoch 2"]


def test_best_is_one_point_at_step_0_once_the_trial_has_ended(history: History) -> None:
    trial = history.trials["refine-002"]
    value, epoch = best_points(history, trial)
    assert (value.key, value.value, value.step) == (
        "best/val/accuracy",
        max(v for _, v in trial.curve("val/accuracy")),
        0,
    )
    assert (epoch.key, epoch.value) == ("best/epoch", 9.0)
    assert best_points(history, history.trials["explore-005"]) == []


def test_an_interrupted_trial_gets_its_best_only_when_it_has_gone_on(history: History) -> None:
    trial = history.trials["refine-001"]
    before = trial.status
    trial.status = "INTERRUPTED"
    try:
        assert best_points(history, trial) == []
        assert trial_record(history, trial, "").status == "KILLED"
    finally:
        trial.status = before


def test_the_sweeps_run_tells_its_verdict(history: History) -> None:
    run = sweep_record(history)
    assert run.uid == run.name == "recorded"
    assert run.status == "FINISHED"
    assert run.params["trainable"] == "trainables.examples.digits:Digits"
    assert (run.params["metric"], run.params["mode"], run.params["seed"]) == ("val/accuracy", "max", "0")
    assert run.params["phases"] == "explore, refine, confirm"
    assert run.tags["verdict"] == "ADOPT"
    assert run.tags["mlflow.source.git.commit"] == "0123abc"
    assert run.tags["sweep.git_dirty"] == "false"


def test_the_note_begins_with_the_verdict_and_shows_arms_time_and_findings(history: History) -> None:
    text = note(history, "FINISHED")
    assert text.startswith("ADOPT refine-")
    assert text.count(" ± ") == 4  # the head and three arms
    assert "| baseline |" in text
    assert "27 trials, 1 infeasible, 1 failed." in text
    assert "Time: 100 s, of which 10 s starting, 75 s training, 15 s bookkeeping; 2 slots" in text
    assert "- info: lr: two of the best five lie at the low edge." in text
    assert "report.html" not in text  # there is none


def test_the_note_links_to_the_views_below_the_verdict(history: History) -> None:
    assert history.verdict is not None
    run = sweep_record(history, links="[trials](#/experiments/1)")
    assert run.tags["mlflow.note.content"].startswith(f"{history.verdict['text']}\n\n[trials](#/experiments/1)\n\n|")


def test_the_note_names_the_report_where_there_is_one(tmp_path: Path) -> None:
    folder = record(tmp_path / "recorded")
    (folder / "report.html").write_text("<p>")
    assert str(folder / "report.html") in note(History.open(folder), "FINISHED")


def test_a_sweep_under_way_is_running_and_one_whose_driver_is_gone_killed(unfinished: History) -> None:
    running = sweep_record(unfinished)
    assert running.tags["mlflow.note.content"].startswith("No verdict yet; the sweep is RUNNING.")
    assert (running.status, running.ended, running.tags["verdict"]) == ("RUNNING", None, "")
    gone = sweep_record(unfinished, gone_at=12.0)
    assert (gone.status, gone.ended, gone.tags["sweep.stop_reason"]) == ("KILLED", 12000, GONE)
    assert gone.tags["mlflow.note.content"].startswith("No verdict yet; the sweep is INTERRUPTED.")


def test_a_running_trial_of_a_dead_driver_is_killed_and_an_ended_one_is_not(unfinished: History) -> None:
    ended = unfinished.trials["refine-001"]
    assert trial_record(unfinished, ended, "", gone_at=12.0).status == "FINISHED"
    trial = unfinished.trials["refine-002"]
    assert trial_record(unfinished, trial, "").status == "RUNNING"
    run = trial_record(unfinished, trial, "", gone_at=12.0)
    assert (run.status, run.ended, run.tags["sweep.status"]) == ("KILLED", 12000, "INTERRUPTED")


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("val/loss", "val/loss"),
        ("sgd.momentum", "sgd.momentum"),
        ("top@5 (%)", "top_5 ___"),
        ("val//loss/", "val/loss"),
        ("../up", "up"),
        ("/abs", "abs"),
        (".", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_become_ones_that_mlflow_takes(name: str, accepted: str) -> None:
    assert legal(name) == accepted


def test_a_sweeps_run_says_where_its_weights_come_from(unfinished: History) -> None:
    assert sweep_record(unfinished).tags["sweep.warm_start"] == ""
    unfinished.header["warm_start"] = [
        {"reference": reference, "checkpoint": "runs/b/warm_start/0a", "source": source}
        for reference, source in (
            ("sweep:a", "runs/a/checkpoints/explore-001/3"),
            ("models:/digits@best", "models:/m-1"),
        )
    ]
    tag = "sweep:a: runs/a/checkpoints/explore-001/3\nmodels:/digits@best: models:/m-1"
    assert sweep_record(unfinished).tags["sweep.warm_start"] == tag


def test_long_values_are_seen_to_be_cut() -> None:
    assert cut("x" * MAX_VALUE) == "x" * MAX_VALUE
    assert cut("x" * (MAX_VALUE + 1)).endswith("x…")
    assert len(cut("x" * 10 * MAX_VALUE)) == MAX_VALUE


def test_the_drivers_part_imports_neither_mlflow_nor_sqlalchemy() -> None:
    code = "import sys, sweeps.tracking, sweeps.tracking.runs; print({'mlflow', 'sqlalchemy'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_the_params_are_resolved_with_the_loops_defaults(history: History) -> None:
    defaults = {"lr": 1e-3, "momentum": 0.9, "optimizer": "adamw", "clip_norm": None}
    told = replace(history, header={**history.header, "defaults": defaults})
    trial = next(t for t in history.trials.values() if t.config["optimizer"] == "sgd")
    params = trial_record(told, trial, "").params
    assert params["momentum"] == params["sgd.momentum"] == str(trial.config["sgd.momentum"])
    assert (params["optimizer"], params["lr"], params["clip_norm"]) == ("sgd", str(trial.config["lr"]), "None")
    other = next(t for t in history.trials.values() if t.config["optimizer"] == "adamw")
    assert trial_record(told, other, "").params["momentum"] == "0.9"


def test_a_trial_keeps_the_code_and_data_that_it_was_trained_with(unfinished: History) -> None:
    """Whatever the driver that goes on with the sweep has."""
    before = trial_record(unfinished, unfinished.trials["explore-001"], "").tags
    git, plan = {"commit": "fedcba9", "dirty": True}, unfinished.plans[-1]
    unfinished.apply({**unfinished.header, "git": git, "versions": {"torch": "3.0"}})
    unfinished.apply({**plan, "footprint": {**plan["footprint"], "data": "other"}})
    names = ("mlflow.source.git.commit", "sweep.git_dirty", "sweep.versions", "sweep.data_digest")
    now = trial_record(unfinished, unfinished.trials["explore-001"], "").tags
    assert {name: now[name] for name in names} == {name: before[name] for name in names}
    trial = unfinished.trials["refine-002"]
    again = {"phase": trial.phase, "trial": trial.trial, "role": trial.role, "config": trial.config}
    unfinished.apply({"kind": "trial", "at": 1.0, "attempt": 1, "fidelity": trial.fidelity, **again})
    assert [trial_record(unfinished, trial, "").tags[name] for name in names] == [
        "fedcba9",
        "true",
        "torch 3.0",
        "other",
    ]


def test_text_that_a_database_cannot_hold_is_made_fit(history: History) -> None:
    assert cut("caf\udce9\0!") == "caf??!"


def test_a_trial_tells_what_it_suffered_from_and_which_advice_it_tests(unfinished: History) -> None:
    ended = next(trial for trial in unfinished.trials.values() if trial.status == "FINISHED" and trial.whole)
    at_work = unfinished.trials["refine-002"]
    for trial in (ended, at_work):
        trial.epochs = [
            replace(trial.epochs[0], epoch=n, metrics={"train/loss": 3.0, "val/loss": 4.0 if n < 8 else math.inf})
            for n in range(1, 9)
        ]
    changes = {"dropout": [0.1, 0.2], "lr": [0.02, 0.01]}
    line = {"kind": "advice", "at": 0.0, "trial": ended.trial, "of": "explore-003", "finding": "overfit"}
    unfinished.apply({**line, "changes": changes})
    tags = trial_record(unfinished, ended, "abc").tags
    assert tags["sweep.diagnosis"].startswith("lr_too_high")
    assert tags["sweep.advice"] == "overfit of explore-003: dropout 0.1 → 0.2, lr 0.02 → 0.01"
    tags = trial_record(unfinished, at_work, "abc").tags
    assert (tags["sweep.diagnosis"], tags["sweep.advice"]) == ("", ""), "it has not ended"
