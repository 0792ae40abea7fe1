"""A scheduler may pause a trial at a rung: its slot serves others at once, and it goes on later in any slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from e2e.terminal import journal, of_kind
from engine import run_toy
from faults.harness import check_whole, gives_back

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
RUNG, TRIALS = 2, 12


class Pausing(FIFOScheduler):
    """Pauses every trial at the rung, and lets none go on before all have come there."""

    def __init__(self, decided: Any) -> None:
        super().__init__()
        self.decided = decided
        self.came: set[str] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        name = trial.config["order"]["trial"]
        if result["epoch"] != RUNG or name in self.came:
            return str(TrialScheduler.CONTINUE)
        self.came.add(name)
        told = {"epoch": RUNG, "rung": float(RUNG), "value": result["value"], "cutoff": None}
        self.decided(name, {**told, "decision": TrialScheduler.PAUSE})
        return str(TrialScheduler.PAUSE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        chosen = super().choose_trial_to_run(tune_controller)
        return chosen if chosen is None or chosen.status == "PENDING" or len(self.came) == TRIALS else None


def test_twelve_trials_are_paused_and_go_on_in_three_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.tuning.scheduler", lambda mode, *rest: Pausing(rest[3]))
    with gives_back():
        sweep = run_toy(
            tmp_path, space={"value": {"float": [0.0, 1.0]}, "seconds": 0.1},
            phases=[{"kind": "explore", "trials": TRIALS, "epochs": 4, "reduction_factor": 2}],
            resources={"cpus_per_worker": 0.5, "concurrency": 3}, checkpoint_every=None,
        )  # fmt: skip
    lines = check_whole(sweep, TRIALS)
    assert {(trial.status, trial.told, trial.reason) for trial in sweep.history.trials.values()} == {
        ("FINISHED", 4, "all epochs")
    }
    assert len([line for line in of_kind(lines, "decision") if line["decision"] == "PAUSE"]) == TRIALS
    first = [line for line in of_kind(lines, "report") if line["epoch"] <= RUNG]
    later = [line for line in of_kind(lines, "report") if line["epoch"] > RUNG]
    assert max(line["at"] for line in first) < min(line["at"] for line in later), "all twelve came to the rung first"
    assert 2 <= len({line["slot"] for line in of_kind(lines, "report")}) <= 3, "of three slots, none was replaced"
    slots = {
        trial: {line["slot"] for line in of_kind(lines, "report") if line["trial"] == trial}
        for trial in sweep.history.trials
    }
    assert any(len(found) == 2 for found in slots.values()), "some went on in another slot than theirs"
    logs = [path.read_text() for path in (sweep.folder / "logs").glob("explore-*.log")]
    assert all(f"begins at epoch {RUNG}" in log for log in logs), "each went on from its checkpoint"
    assert journal(sweep.folder)[-1]["status"] == "FINISHED"
