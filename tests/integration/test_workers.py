"""Trials of two workers each: one warm group for all of them, with the numbers of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from engine import run_toy
from sweeps.journal import read

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.slow]
TWO = {"workers": 2, "cpus_per_worker": 1}


def left_behind() -> list[str]:
    """Placement groups that still hold something."""
    return [group["name"] for group in ray.util.placement_group_table().values() if group["state"] == "CREATED"]


def test_trials_of_two_workers_share_one_group_and_leave_nothing(tmp_path: Path) -> None:
    sweep = run_toy(
        tmp_path,
        "toys:in_step",
        resources=TWO,
        phases=[{"kind": "explore", "trials": 8, "epochs": 4}, {"kind": "confirm", "top": 1, "seeds": 2}],
    )
    epochs = [epoch for trial in sweep.history.trials.values() for epoch in trial.epochs]
    assert sweep.history.header["hardware"]["slots"] == 1
    assert len({epoch.slot for epoch in epochs}) == 1, "one group of processes from the first trial to the last"
    assert {epoch.metrics["ranks"] for epoch in epochs} == {2.0}
    assert {epoch.metrics["rank"] for epoch in epochs} == {0.0}, "what is journalled is rank 0's"
    assert any(trial.reason.startswith("stopped at rung") for trial in sweep.history.trials.values())
    assert sweep.verdict is not None
    assert left_behind() == []


def test_our_loop_gives_the_numbers_of_one_worker(tmp_path: Path) -> None:
    fields = {
        "space": {"lr": {"log": [1e-3, 1e-1]}, "batch_size": 5, "optimizer": "sgd"},
        "phases": [{"kind": "preflight"}, {"kind": "explore", "trials": 3, "epochs": 3, "reduction_factor": None}],
    }
    alone = run_toy(tmp_path / "alone", "toys:Line", **fields)
    both = run_toy(tmp_path / "both", "toys:Line", resources=TWO, **fields)
    for name, trial in alone.history.trials.items():
        other = both.history.trials[name]
        assert other.config == trial.config
        for ours, theirs in zip(other.epochs, trial.epochs, strict=True):
            assert ours.metrics["val/loss"] == pytest.approx(theirs.metrics["val/loss"], rel=1e-5)
    assert both.best.load() is not None
    (plan, *_) = (line for line in read(both.folder) if line["kind"] == "plan")
    size = plan["footprint"]["checkpoint_bytes"]
    (files,) = {sum(f.stat().st_size for f in path.parent.iterdir()) for path in both.folder.glob("checkpoints/*/*/*")}
    assert files == size, "with the generators of both"


def test_a_sharded_model_gives_the_same_numbers_and_its_checkpoints_load_anywhere(tmp_path: Path) -> None:
    fields = {
        "space": {"lr": {"log": [1e-3, 1e-1]}, "batch_size": 5, "optimizer": "sgd"},
        "phases": [{"kind": "preflight"}, {"kind": "explore", "trials": 2, "epochs": 3, "reduction_factor": None}],
    }
    whole = run_toy(tmp_path / "ddp", "toys:Line", resources=TWO, **fields)
    parts = run_toy(tmp_path / "fsdp", "toys:Line", resources={**TWO, "parallelism": "fsdp"}, **fields)
    for name, trial in whole.history.trials.items():
        for ours, theirs in zip(parts.history.trials[name].epochs, trial.epochs, strict=True):
            assert ours.metrics["val/loss"] == pytest.approx(theirs.metrics["val/loss"], rel=1e-5)
    weights, expected = parts.best.load().state_dict(), whole.best.load().state_dict()
    assert all(weights[name].flatten().tolist() == pytest.approx(expected[name].flatten().tolist()) for name in weights)
    measured, not_measured = (
        next(found for found in sweep.history.findings if found["finding"] == "batch_size") for sweep in (whole, parts)
    )
    assert [point["batch_size"] for point in measured["evidence"]["points"]] == [5, 10], "of each worker by itself"
    assert measured["evidence"]["workers"] == 2
    assert "not measured where models are sharded" in not_measured["message"]
    (plan, *_) = (line for line in read(parts.folder) if line["kind"] == "plan")
    folders = {path.parent for path in parts.folder.glob("checkpoints/*/*/manifest.json")}
    sizes = {sum(file.stat().st_size for file in folder.iterdir()) for folder in folders}
    assert sizes == {plan["footprint"]["checkpoint_bytes"]}
    assert all((folder / "state-1.pt").exists() for folder in folders)
    assert left_behind() == []
