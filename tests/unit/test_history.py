"""The fold of a journal: the same in one go and line by line, and what it says of a recorded sweep."""

from __future__ import annotations

import math
from contextlib import closing

import pytest

from recorded import SPEC, record
from sweeps.errors import JournalError
from sweeps.history import History
from sweeps.journal import FORMAT, Journal, JournalReader, read


@pytest.fixture(scope="module")
def history(recorded_sweep):
    return History.open(recorded_sweep)


def test_folding_line_by_line_or_in_pieces_is_folding_at_once(recorded_sweep, history):
    lines = read(recorded_sweep)
    for size in (1, 7, 100):
        piecewise = History(recorded_sweep)
        for start in range(0, len(lines), size):
            piecewise.extend(lines[start : start + size])
        assert repr(piecewise) == repr(history)  # nan is not equal to itself


def test_following_a_growing_journal_gives_the_same_history(tmp_path, recorded_sweep, history):
    source = next((recorded_sweep / "journal").glob("*.jsonl")).read_bytes()
    target = tmp_path / recorded_sweep.name / "journal" / "0001-0000.jsonl"
    target.parent.mkdir(parents=True)
    reader, followed = JournalReader(target.parents[1]), History(recorded_sweep)
    with open(target, "wb", buffering=0) as file:
        for start in range(0, len(source), 1000):  # cuts lines anywhere
            file.write(source[start : start + 1000])
            followed.extend(reader.poll())
    assert repr(followed) == repr(history)


def test_the_spec_of_the_sweep_comes_back(history):
    assert history.spec == SPEC
    assert history.header["hardware"]["slots"] == 2
    assert history.name == history.folder.name


def test_phases_in_order_with_what_they_searched_and_why(history):
    assert list(history.phases) == ["explore", "refine", "confirm"]
    explore, refine = history.phases["explore"], history.phases["refine"]
    assert explore.space == SPEC.space
    assert explore.changes == []
    assert explore.comparison is None
    assert {change.parameter for change in refine.changes} == set(SPEC.space.searched)
    assert refine.comparison == {"phase": "explore", "epoch": 3, "data_fraction": 0.5, "trials": 10}
    assert refine.space != explore.space
    for phase in history.phases.values():
        assert phase.reason == "all trials"
        assert phase.started <= phase.ended


def test_trials_belong_to_their_phase_in_the_order_they_began(history):
    assert [len(history.of_phase(phase)) for phase in history.phases] == [12, 6, 9]
    assert [trial.trial for trial in history.of_phase("refine")] == [f"refine-{n:03d}" for n in range(6)]
    assert history.of_phase("explore")[0].role == "baseline"
    assert history.of_phase("explore")[0].config == SPEC.baseline
    assert history.of_phase("nothing") == []


def test_a_trial_that_ran_to_its_end(history):
    trial = history.trials["explore-001"]
    assert (trial.status, trial.reason, trial.attempt) == ("FINISHED", "all epochs", 1)
    assert trial.fidelity == {"epochs": 3, "data_fraction": 0.5, "seed": 0}
    assert [epoch for epoch, _ in trial.curve("val/accuracy")] == [1, 2, 3]
    assert trial.checkpoint == "checkpoints/explore-001/3"
    assert trial.seconds == pytest.approx(1.2)
    assert trial.best("val/accuracy", "max")[0] == 3
    assert trial.best("val/loss", "min")[0] == 3
    assert trial.best("val/loss", "max")[0] == 1
    assert trial.curve("test/loss") == []


def test_an_infeasible_trial_keeps_its_non_finite_value_and_no_checkpoint_after_it(history):
    trial = history.trials["explore-003"]
    assert (trial.status, trial.reason) == ("INFEASIBLE", "non-finite val/loss at epoch 2")
    assert math.isnan(trial.curve("val/loss")[1][1])
    assert trial.best("val/loss", "min")[0] == 1
    assert trial.checkpoint == "checkpoints/explore-003/1"


def test_a_trial_that_failed_twice(history):
    trial = history.trials["explore-005"]
    assert (trial.status, trial.attempt) == ("FAILED", 2)
    assert [failure["attempt"] for failure in trial.failures] == [1, 2]
    assert trial.best("val/loss", "min") is None
    assert trial.checkpoint is None
    assert trial.seconds == pytest.approx(0.4), "what the failures cost"


def test_a_trial_stopped_at_a_rung_is_finished_with_the_reason(history):
    stopped = [decision for decision in history.decisions if decision["decision"] == "STOP"]
    assert stopped
    for decision in stopped:
        trial = history.trials[decision["trial"]]
        assert (trial.status, trial.reason) == ("FINISHED", "stopped at rung 1")
        assert trial.curve("val/accuracy")[-1] == (1, decision["value"])


def test_the_earliest_of_equal_values_is_the_best(tmp_path, journal):
    begin(journal, "t")
    for epoch, value in enumerate([0.5, 0.3, math.inf, 0.3], 1):
        journal.append(
            "report",
            trial="t",
            attempt=1,
            epoch=epoch,
            metrics={"m": value},
            seconds=1.0,
            checkpoint=f"c{epoch}",
            slot=1,
        )
    trial = History.open(tmp_path).trials["t"]
    assert trial.best("m", "min") == (2, 0.3)
    assert trial.best("m", "max") == (1, 0.5)
    assert trial.checkpoint == "c4"


@pytest.fixture
def journal(tmp_path):
    """The pen of an empty sweep in tmp_path."""
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def begin(journal: Journal, trial: str, attempt: int = 1) -> None:
    """Write the line with which a trial begins."""
    journal.append("trial", phase="p", trial=trial, attempt=attempt, role="sobol", config={}, fidelity={"epochs": 4})


def test_a_further_attempt_goes_on_with_the_curve(tmp_path, journal):
    begin(journal, "t")
    journal.append("report", trial="t", attempt=1, epoch=1, metrics={"m": 1.0}, seconds=1.0, checkpoint="c1", slot=1)
    journal.append("end", trial="t", status="INTERRUPTED", reason="the driver stopped", seconds=1.5, whole=False)
    begin(journal, "t", attempt=2)
    trial = History.open(tmp_path).trials["t"]
    assert (trial.status, trial.attempt, trial.ended, trial.reason) == ("RUNNING", 2, None, "")
    assert trial.curve("m") == [(1, 1.0)]
    assert trial.checkpoint == "c1"


def test_plans_findings_verdict_and_end(history):
    assert [plan["basis"] for plan in history.plans] == ["unknown until measured", "measured on explore"]
    assert [finding["finding"] for finding in history.findings] == ["edge_of_space"]
    assert history.verdict["verdict"] == "ADOPT"
    winner = history.verdict["winner"]
    assert {trial.role for trial in history.of_phase("confirm")} >= {"baseline", winner}
    assert history.status == "FINISHED"


def test_an_unfinished_sweep_runs_and_goes_on_after_its_end_was_written(tmp_path):
    folder = record(tmp_path / "unfinished", finished=False)
    history = History.open(folder)
    assert history.status == "RUNNING"
    assert history.end is None
    assert history.verdict is None
    assert list(history.phases) == ["explore", "refine"]
    assert history.phases["refine"].ended is None
    with closing(Journal(folder)) as journal:
        journal.append("end", status="INTERRUPTED", reason="ctrl-c")
        assert History.open(folder).status == "INTERRUPTED"
        journal.append("sweep", format=FORMAT, spec=SPEC.document(), generation=2, began=1.0, ready=3.0)
        again = History.open(folder)
        assert again.status == "RUNNING"
        assert [(d.began, d.ready) for d in again.drivers[1:]] == [(1.0, 3.0)]
        assert again.drivers[0].last < again.drivers[1].last


def test_a_journal_of_another_version_is_told_not_misread(tmp_path):
    for written, version, told in ((None, None, "another version"), (FORMAT + 1, "9.1", "9.1")):
        folder = tmp_path / told
        folder.mkdir()
        with closing(Journal(folder)) as journal:
            journal.append("sweep", format=written, spec={}, versions={"tunewright": version} if version else {})
        with pytest.raises(JournalError, match=rf"format {written}, this version reads {FORMAT}.*\({told}\)"):
            History.open(folder)


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "report", "at": 1.0, "trial": "never-seen", "epoch": 1, "metrics": {}},
        {"kind": "report", "at": 1.0, "trial": "explore-000", "epoch": 1, "metrics": {"val/loss": "low"}},
        {"kind": "trial", "at": 1.0, "trial": "explore-099"},
        {"kind": "phase", "at": 1.0, "phase": "explore2", "changes": [], "space": {"lr": {"colour": "red"}}},
        {"kind": "end", "at": 1.0, "trial": "explore-000"},
        {"at": 1.0},
    ],
    ids=lambda line: f"{line.get('kind')} {line.get('trial', '')}",
)
def test_a_line_that_is_not_what_its_kind_says_is_told(recorded_sweep, line):
    history = History.open(recorded_sweep)
    with pytest.raises(JournalError, match=rf"a line of {recorded_sweep} is no .* line that this version knows"):
        history.apply(line)


def test_kinds_of_a_later_version_are_left_alone(tmp_path, recorded_sweep, history):
    again = History.open(recorded_sweep)
    again.apply({"kind": "weather", "at": history.drivers[-1].last, "sun": True})
    assert repr(again) == repr(history)
