"""Signals to the processes around a trial, from outside, at any moment: slots, leases, the writer; `sweeps stop`."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from e2e.terminal import below, of_kind, processes
from engine import run_toy
from faults.harness import check_messages, check_whole, gives_back, strikes
from sweeps import Sweep, UsageError, requests
from sweeps.storage import newest_sweeps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
SPACE = {"value": {"float": [0.0, 1.0]}, "seconds": 0.3}
PLAIN = [{"kind": "explore", "trials": 6, "epochs": 4, "reduction_factor": None}]


@pytest.fixture(autouse=True)
def _impatient(ray_session: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deadlines of seconds; and every sweep gives back what it took."""
    monkeypatch.setattr("sweeps.tuning.LEAST_DEADLINE_S", 4.0)
    monkeypatch.setattr("sweeps.tuning.SAVE_DEADLINE_S", 0.0)
    with gives_back():
        yield


def own(pattern: str) -> list[int]:
    """The processes below this one whose command is like the pattern."""
    return [pid for pid, command in below(os.getpid(), processes()).items() if re.search(pattern, command)]


def at_work(lines: list[dict[str, Any]]) -> list[int]:
    """Slots of trials that have reported and not ended."""
    ended = {line["trial"] for line in of_kind(lines, "end") if "trial" in line}
    return [line["slot"] for line in of_kind(lines, "report") if line["trial"] not in ended]


def struck_slot(sent: signal.Signals) -> Callable[[list[dict[str, Any]]], bool]:
    """Sends the signal to a slot at work, once."""

    def strike(lines: list[dict[str, Any]]) -> bool:
        slots = at_work(lines)
        if slots:
            os.kill(slots[0], sent)
        return bool(slots)

    return strike


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSTOP])
def test_a_slot(tmp_path: Path, sent: signal.Signals) -> None:
    with strikes(tmp_path, struck_slot(sent)):
        sweep = run_toy(tmp_path, space=SPACE, phases=PLAIN)
    check_messages(check_whole(sweep, 6))
    trials = sweep.history.trials.values()
    assert {(trial.status, trial.told) for trial in trials} == {("FINISHED", 4)}
    assert [f["failure_kind"] for trial in trials for f in trial.failures] == ["lost"]


def test_a_slot_whose_trial_has_a_torn_checkpoint(tmp_path: Path) -> None:
    """The trial begins afresh; the epochs that were told are trained again silently."""

    def strike(lines: list[dict[str, Any]]) -> bool:
        slots = at_work(lines)
        saved = [line for line in of_kind(lines, "report") if line["checkpoint"] and line["slot"] in slots[-1:]]
        if not saved or saved[-1]["epoch"] == 4:
            return False
        state = Path(str(newest_sweeps(tmp_path)[0] / saved[-1]["checkpoint"])) / "state.pt"
        state.write_bytes(state.read_bytes()[:-7])
        os.kill(slots[-1], signal.SIGKILL)
        return True

    with strikes(tmp_path, strike):
        sweep = run_toy(tmp_path, space=SPACE, phases=PLAIN, checkpoint_every=2)
    check_messages(check_whole(sweep, 6))
    failures = [f for trial in sweep.history.trials.values() for f in trial.failures]
    assert [f["error"] for f in failures] == ["SlotLost", "CheckpointError"]
    assert {(trial.status, trial.told) for trial in sweep.history.trials.values()} == {("FINISHED", 4)}


def test_every_lease(tmp_path: Path) -> None:
    """Killed one after another, at work or idle, until one that was at work is told of."""

    def strike(lines: list[dict[str, Any]]) -> bool:
        if any(line["failure_kind"] == "lease" for line in of_kind(lines, "failure")):
            return True
        for lease in own(r"^ray::(Lease|ResourceTrainable)") if of_kind(lines, "report") else []:
            if lease not in struck:
                os.kill(lease, signal.SIGKILL)
                struck.append(lease)
        return False

    struck: list[int] = []
    with strikes(tmp_path, strike):
        sweep = run_toy(tmp_path, space=SPACE, phases=PLAIN)
    check_messages(check_whole(sweep, 6))
    assert {(trial.status, trial.told) for trial in sweep.history.trials.values()} == {("FINISHED", 4)}


def test_the_mlflow_writer(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at once, while it makes the database, and again later: others go on, and MLflow has everything."""
    monkeypatch.setattr("sweeps.tracking.child.AGAIN_S", 0.0)
    struck: list[int] = []

    def strike(lines: list[dict[str, Any]]) -> bool:
        if len(of_kind(lines, "report")) >= 10 * len(struck):
            for writer in set(own(r"sweeps\.tracking\.writer")) - set(struck):
                os.kill(writer, signal.SIGKILL)
                struck.append(writer)
        return len(struck) == 3

    with strikes(tmp_path, strike):
        sweep = run_toy(tmp_path, space=SPACE, phases=PLAIN)
    lines = check_whole(sweep, 6)
    assert sweep.history.status == "FINISHED"
    assert capsys.readouterr().err == ""
    with closing(sqlite3.connect(f"file:{sweep.folder}/mlflow.db?mode=ro", uri=True)) as connection:
        points = connection.execute(
            "SELECT r.name, m.step FROM metrics m JOIN runs r USING (run_uuid) WHERE m.key = 'val/loss'"
        ).fetchall()
    assert sorted(points) == sorted((line["trial"], line["epoch"]) for line in of_kind(lines, "report"))


def stopping(storage: Path, name: str | None) -> Callable[[list[dict[str, Any]]], bool]:
    """Asks for a stop, of a trial by name or of the sweep, once that has begun."""

    def strike(lines: list[dict[str, Any]]) -> bool:
        begun = [line for line in of_kind(lines, "report") if name in (None, line["trial"])]
        if begun:
            requests.stop(newest_sweeps(storage)[0], name)
        return bool(begun)

    return strike


def test_a_trial_that_is_stopped_counts_as_far_as_it_came(tmp_path: Path) -> None:
    phases = [{"kind": "explore", "trials": 3, "epochs": 20, "reduction_factor": None}]
    with strikes(tmp_path, stopping(tmp_path, "explore-001")):
        sweep = run_toy(tmp_path, space=SPACE, phases=phases)
    check_whole(sweep, 3)
    ended = {trial.trial: (trial.status, trial.told == 20) for trial in sweep.history.trials.values()}
    assert ended == {
        "explore-000": ("FINISHED", True),
        "explore-001": ("FINISHED", False),
        "explore-002": ("FINISHED", True),
    }
    assert sweep.history.trials["explore-001"].reason == "stopped by `sweeps stop`"


def test_a_sweep_that_is_stopped_ends_in_order_and_goes_on_later(tmp_path: Path) -> None:
    phases = [{"kind": "explore", "trials": 4, "epochs": 9, "reduction_factor": None}]
    with strikes(tmp_path, stopping(tmp_path, None)):
        sweep = run_toy(tmp_path, space=SPACE, phases=phases)
    assert (sweep.history.status, sweep.history.end["reason"]) == ("INTERRUPTED", "stopped by `sweeps stop`")
    assert any(trial.status == "INTERRUPTED" for trial in sweep.history.trials.values())
    with pytest.raises(UsageError, match="is not running: it is INTERRUPTED"):
        requests.stop(sweep.folder)
    again = Sweep.open(sweep.folder).resume(out=io.StringIO())
    check_whole(again, 4)
    assert {(trial.status, trial.told) for trial in again.history.trials.values()} == {("FINISHED", 9)}
