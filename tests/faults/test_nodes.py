"""Nodes that are killed, freeze, leave and join while a sweep is at work on a Ray of two nodes with logical GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.terminal import ROOT, of_kind
from faults.harness import check_messages, check_whole
from sweeps import Sweep
from sweeps.insight.lineage import schedule

pytestmark = pytest.mark.slow


def run_case(tmp_path: Path, case: str, trials: int = 10, epochs: int = 4) -> tuple[Sweep, list[dict], str]:
    """The sweep of a case, its journal and what it printed; all its trials are whole."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, str(Path(__file__).with_name("two_nodes.py")), str(tmp_path), case]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    sweep = Sweep.open(done.stdout.splitlines()[-1])
    lines = check_whole(sweep, trials)
    check_messages(lines)
    assert {(trial.status, trial.told) for trial in sweep.history.trials.values()} == {("FINISHED", epochs)}
    return sweep, lines, done.stdout


@pytest.mark.parametrize("case", ["kill", "freeze"])
def test_a_node_that_is_lost_costs_no_trial_and_no_attempt(tmp_path: Path, case: str) -> None:
    sweep, lines, out = run_case(tmp_path, case)
    (change,) = of_kind(lines, "pool")
    assert [change[name] for name in ("slots", "nodes", "came", "left")] == [1, 1, 0, 1]
    assert "nodes: 1 left; trials at a time: 1" in out
    failures = [f for trial in sweep.history.trials.values() for f in trial.failures]
    assert [f["failure_kind"] for f in failures] == ["node"], "nothing that is counted against a trial"
    assert {trial.attempt for trial in sweep.history.trials.values()} == {1}
    after = [line for line in of_kind(lines, "report") if line["at"] > change["at"] + 2]
    assert len({line["slot"] for line in after}) == 1


def test_a_node_that_joins_is_used(tmp_path: Path) -> None:
    """Two halves of a GPU on each node."""
    _, lines, out = run_case(tmp_path, "join")
    (change,) = of_kind(lines, "pool")
    assert [change[name] for name in ("slots", "nodes", "came", "left")] == [4, 2, 1, 0]
    assert "nodes: 1 joined; trials at a time: 4" in out
    assert len({line["slot"] for line in of_kind(lines, "report") if line["at"] < change["at"]}) == 2
    assert len({line["slot"] for line in of_kind(lines, "report")}) > 2


def test_a_trial_across_two_nodes_waits_for_another_when_one_is_lost(tmp_path: Path) -> None:
    sweep, lines, out = run_case(tmp_path, "across")
    assert {line["metrics"]["system/nodes"] for line in of_kind(lines, "report")} == {2.0}
    assert [(change["slots"], change["nodes"]) for change in of_kind(lines, "pool")] == [(0, 1), (1, 2)]
    assert "no room for a trial: waiting for a node" in out
    failures = [f for trial in sweep.history.trials.values() for f in trial.failures]
    assert [f["failure_kind"] for f in failures] == ["node"]


def test_a_population_that_loses_a_node_goes_on_in_turns(tmp_path: Path) -> None:
    sweep, lines, out = run_case(tmp_path, "evolve", 3, 8)
    assert "nodes: 1 left; trials at a time: 1" in out
    failures = [f for trial in sweep.history.trials.values() for f in trial.failures]
    assert {f["failure_kind"] for f in failures} <= {"node"}
    assert {trial.attempt for trial in sweep.history.trials.values()} == {1}
    (change,) = of_kind(lines, "pool")
    assert {line["slot"] for line in of_kind(lines, "report") if line["at"] > change["at"] + 2}
    for trial in sweep.history.trials.values():
        loss = 1.0
        for since, config in schedule(sweep.history, trial):
            following = [epoch for epoch, _ in schedule(sweep.history, trial) if epoch > since]
            for _ in range(since, min(following, default=8)):
                loss += config["lr"] * (0.1 * config["lr"] - loss)
        assert trial.curve("val/loss")[-1] == (8, loss), "what its lineage was trained with, to the last bit"
