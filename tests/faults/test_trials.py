"""Trials that misbehave in every way, beside others that do not: each has its outcome, and the others do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import run_toy
from faults.harness import check_messages, check_whole, gives_back
from sweeps import Sweep

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
TWO = {"workers": 2, "cpus_per_worker": 1}
LOST = ("FINISHED", 1, "all epochs", ["lost"])
OUTCOMES = {
    "none": ("FINISHED", 1, "all epochs", []),
    "raise_once": ("FINISHED", 2, "all epochs", ["error"]),
    "raise": ("FAILED", 2, "RuntimeError: bad row", ["error", "error"]),
    "exit": ("FAILED", 2, "SystemExit: 3", ["error", "error"]),
    "nan": ("INFEASIBLE", 1, "non-finite val/loss at epoch 2", ["non_finite"]),
    "memory": ("INFEASIBLE", 1, "no room for the batch", ["memory"]),
    "device_memory": ("INFEASIBLE", 1, "CUDA out of memory", ["memory"]),
    "host_memory": ("INFEASIBLE", 1, "[enforce fail", ["memory"]),
    "print": ("FINISHED", 1, "all epochs", []),
    "kill": LOST,
    "freeze": LOST,
    "hang": LOST,
}
"""Behaviour -> status, attempts, beginning of the reason, kinds of the failures."""


@pytest.fixture(autouse=True)
def _impatient(ray_session: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deadlines of seconds; and every sweep gives back what it took."""
    monkeypatch.setattr("sweeps.tuning.LEAST_DEADLINE_S", 4.0)
    monkeypatch.setattr("sweeps.tuning.SAVE_DEADLINE_S", 0.0)
    monkeypatch.setattr("sweeps.tuning.FIRST_DEADLINE_S", 15.0)
    with gives_back():
        yield


def run_each(tmp_path: Path, trainable: str, parameter: str, outcomes: dict[str, Any], **fields: Any) -> Sweep:
    """A sweep with a trial for each outcome, checked against them."""
    sweep = run_toy(
        tmp_path, trainable, phases=[{"kind": "grid", "points": 1, "epochs": 4}], checkpoint_every=None, **fields
    )  # fmt: skip
    check_messages(check_whole(sweep, len(outcomes)))
    for trial in sweep.history.trials.values():
        status, attempts, reason, kinds = outcomes[trial.config[parameter]]
        assert (trial.status, trial.attempt) == (status, attempts), trial
        assert trial.reason.startswith(reason), trial
        assert [f["failure_kind"] for f in trial.failures] == kinds, trial
        assert trial.told == 4 or status != "FINISHED", trial
    return sweep


@pytest.mark.parametrize("report_every", [0.0, 1.0])
def test_trials_of_one_worker(tmp_path: Path, report_every: float) -> None:
    space = {"value": 0.5, "behaviour": list(OUTCOMES), "marker": str(tmp_path / "once"), "seconds": 0.05}
    run_each(tmp_path, "toys:trial", "behaviour", OUTCOMES, space=space, report_every=report_every)


def test_trials_of_two_workers_of_which_one_misbehaves(tmp_path: Path) -> None:
    """The other waits in a collective; where the one is gone it gets an error of its own, which is not the trial's."""
    some = ("none", "raise_once", "device_memory", "kill", "freeze")
    space = {"value": 0.5, "behaviour": list(some), "marker": str(tmp_path / "once")}
    outcomes = {behaviour: OUTCOMES[behaviour] for behaviour in some}
    run_each(tmp_path, "toys:in_step", "behaviour", outcomes, space=space, resources=TWO)


def test_each_part_of_a_trainable_may_fail(tmp_path: Path) -> None:
    """In `data()`, `model()` and `loss()`; a `data()` that hangs costs three slots, and then the trial."""
    faults = {
        part: ("FAILED", 2, f"ValueError: nothing to make {part} of", ["error", "error"])
        for part in ("data", "model", "loss")
    }
    outcomes = {
        "none": ("FINISHED", 1, "all epochs", []),
        **faults,
        "nan": ("INFEASIBLE", 1, "non-finite train/loss, val/loss at epoch 1", ["non_finite"]),
        "data hangs": ("FAILED", 1, "SlotLost: the slot did not answer within 15 s; ", ["lost"] * 3 + ["lost"]),
    }
    space = {"lr": 0.1, "batch_size": 4, "fault": list(outcomes)}
    run_each(tmp_path, "toys:Faulty", "fault", outcomes, space=space, baseline={"fault": "none"})


def test_a_batch_without_memory_is_not_tried_again_on_the_same_model(tmp_path: Path) -> None:
    space = {"batch_size": {"powers_of_two": [4, 64]}, "width": [1, 2], "lr": {"log": [0.01, 1]}}
    sweep = run_toy(
        tmp_path, "toys:greedy", space=space,
        baseline={"batch_size": 4, "width": 1, "lr": 0.1},
        phases=[{"kind": "explore", "trials": 24, "epochs": 1, "reduction_factor": None}],
    )  # fmt: skip
    check_messages(check_whole(sweep, 24))
    trials = sorted(sweep.history.trials.values(), key=lambda trial: trial.started)
    assert any(trial.status == "INFEASIBLE" for trial in trials)
    for place, trial in enumerate(trials):
        ended = [t for t in trials[:place] if t.ended < trial.started and t.config["width"] == trial.config["width"]]
        known = [t.config["batch_size"] for t in ended if t.status == "INFEASIBLE"]
        assert trial.config["batch_size"] < min(known, default=128)


def test_a_clock_that_is_set_back_disturbs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the driver, whose stamps order the journal and whose budget is of time."""
    true, began = time.time, time.monotonic()
    monkeypatch.setattr(time, "time", lambda: true() - 3600 * (time.monotonic() > began + 12))
    space = {"value": {"float": [0.0, 1.0]}, "seconds": 0.4}
    phases = [{"kind": "explore", "trials": 12, "epochs": 9}, {"kind": "confirm", "top": 1, "seeds": 2, "epochs": 2}]
    sweep = run_toy(tmp_path, space=space, phases=phases, budget={"hours": 0.5})
    assert time.time() < true() - 3000, "it was set back before the end"
    lines = check_whole(sweep, 16)
    stamps = [line["at"] for line in lines]
    assert stamps == sorted(stamps)
    assert stamps[-1] - stamps[0] < 300
    assert sweep.history.status == "FINISHED"
    assert sweep.history.end["time"]["wall_s"] < 300
