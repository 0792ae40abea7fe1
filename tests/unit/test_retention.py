"""Which checkpoints stay, on real folders."""

from __future__ import annotations

import pytest

from sweeps.history import Epoch, TrialHistory
from sweeps.retention import drop_beaten, drop_superseded, kept, remove


def checkpoint(folder, trial, epoch):
    """Write a checkpoint of two files and its manifest; its pointer."""
    path = folder / "checkpoints" / trial / str(epoch)
    path.mkdir(parents=True)
    for name in ("model.pt", "rest.pt", "manifest.json"):
        (path / name).write_text(name)
    return f"checkpoints/{trial}/{epoch}"


def trial_of(folder, name, values, status="FINISHED", kept=None):
    """A trial with these values of `m` after epochs 1, 2, …; checkpoints on disk for the epochs `kept` (the last)."""
    trial = TrialHistory(name, "explore", "sobol", {}, {"epochs": 9, "data_fraction": 1.0, "seed": 0}, 0.0)
    trial.status = status
    for epoch, value in enumerate(values, 1):
        here = epoch in ([len(values)] if kept is None else kept)
        pointer = checkpoint(folder, name, epoch) if here else None
        metrics = {} if value is None else {"m": value}
        trial.epochs.append(Epoch(epoch, metrics, 0.0, 1.0, 1, pointer, 7))
    return trial


def left(folder):
    """Checkpoints that exist, and no litter beside them."""
    found = sorted(str(path.parent.relative_to(folder / "checkpoints")) for path in folder.rglob("manifest.json"))
    assert sorted(str(p.relative_to(folder / "checkpoints")) for p in folder.glob("checkpoints/*/*")) == found
    assert len(list(folder.rglob("*.pt"))) == 2 * len(found)
    assert {p.name for p in folder.glob("checkpoints/*")} == {name.split("/")[0] for name in found}
    return found


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_live_trial_keeps_its_newest_only(tmp_path, every):
    """Report by report, as the driver calls it; epochs between two checkpoints have none."""
    trial_of(tmp_path, "other", [0.3, 0.2], "RUNNING", kept=[1, 2])
    live = trial_of(tmp_path, "live", [], "RUNNING")
    for epoch in range(1, 9):
        pointer = checkpoint(tmp_path, "live", epoch) if epoch % every == 0 else None
        live.epochs.append(Epoch(epoch, {"m": 0.1}, 0.0, 1.0, 1, pointer, 7))
        drop_superseded(tmp_path, live)
        newest = [f"live/{epoch - epoch % every}"] if epoch >= every else []
        assert left(tmp_path) == [*newest, "other/1", "other/2"]


def test_what_the_journal_does_not_name_yet_stays(tmp_path):
    trial = trial_of(tmp_path, "a", [0.3, 0.2], "RUNNING", kept=[1, 2])
    checkpoint(tmp_path, "a", 3)  # being reported
    drop_superseded(tmp_path, trial)
    assert left(tmp_path) == ["a/2", "a/3"]


def test_a_trial_without_checkpoints_is_no_trouble(tmp_path):
    drop_superseded(tmp_path, trial_of(tmp_path, "a", [0.3, 0.2], "RUNNING", kept=[]))
    drop_beaten(tmp_path, [trial_of(tmp_path, "b", [0.3], kept=[])], "m", "min", 1)
    drop_beaten(tmp_path, [], "m", "min", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mode", "best"), [("min", ["b/3", "d/3"]), ("max", ["a/3", "d/3"])])
def test_of_the_ended_the_best_few_of_those_that_came_furthest_stay(tmp_path, mode, best):
    ended = [
        trial_of(tmp_path, "a", [9.0, 9.0, 0.9]),
        trial_of(tmp_path, "b", [9.0, 9.0, 0.1]),
        trial_of(tmp_path, "c", [0.0 if mode == "min" else 99.0]),  # stopped at epoch 1: no match for the others
        trial_of(tmp_path, "d", [9.0, 9.0, 0.5]),
    ]
    drop_beaten(tmp_path, ended, "m", mode, 2)
    assert left(tmp_path) == best
    drop_beaten(tmp_path, ended, "m", mode, 2)
    assert left(tmp_path) == best


def test_where_there_is_room_those_that_came_less_far_stay_too(tmp_path):
    ended = [trial_of(tmp_path, "a", [0.1, 0.1]), trial_of(tmp_path, "b", [0.4]), trial_of(tmp_path, "c", [0.3])]
    drop_beaten(tmp_path, ended, "m", "min", 2)
    assert left(tmp_path) == ["a/2", "c/1"]


@pytest.mark.parametrize("status", ["INFEASIBLE", "FAILED", "INTERRUPTED"])
def test_only_finished_trials_with_the_metric_are_worth_keeping(tmp_path, status):
    ended = [
        trial_of(tmp_path, "bad", [0.0, 0.0, 0.0], status),
        trial_of(tmp_path, "mute", [None, None, None]),
        trial_of(tmp_path, "good", [0.9]),
    ]
    drop_beaten(tmp_path, ended, "m", "min", 3)
    assert left(tmp_path) == ["good/1"]


def test_the_checkpoints_of_others_are_not_touched(tmp_path):
    live = trial_of(tmp_path, "live", [5.0], "RUNNING")
    drop_beaten(tmp_path, [trial_of(tmp_path, "a", [0.1]), trial_of(tmp_path, "b", [0.2])], "m", "min", 1)
    assert left(tmp_path) == ["a/1", "live/1"]
    assert live.checkpoint == "checkpoints/live/1"


def test_what_is_kept_is_counted_and_weighed(tmp_path):
    assert kept(tmp_path) == (0, 0)
    pointers = [checkpoint(tmp_path, "a", 1), checkpoint(tmp_path, "b", 2)]
    files = [file for pointer in pointers for file in (tmp_path / pointer).iterdir()]
    assert kept(tmp_path) == (2, sum(file.stat().st_size for file in files))
    remove(tmp_path, pointers[0])
    assert kept(tmp_path)[0] == 1


def test_what_is_half_gone_is_no_checkpoint(tmp_path, monkeypatch):
    pointer = checkpoint(tmp_path, "a", 1)
    monkeypatch.setattr("shutil.rmtree", lambda path, **options: None)  # the process dies here
    remove(tmp_path, pointer)
    assert sorted(p.name for p in (tmp_path / pointer).iterdir()) == ["model.pt", "rest.pt"]
    monkeypatch.undo()
    remove(tmp_path, pointer)
    assert left(tmp_path) == []
    remove(tmp_path, pointer)
