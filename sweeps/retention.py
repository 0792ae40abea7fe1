"""Which checkpoints stay: the last of each live trial, the best few of each phase's ended ones.

So the disk that a sweep takes is bounded while it runs, and nothing that a later step needs is removed: a lost slot
goes on from the last checkpoint, refine and confirm start afresh, `.best.load()` reads one of the best.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from sweeps.history import Mode, TrialHistory


def drop_superseded(folder: Path, trial: TrialHistory) -> None:
    """Remove the checkpoint before a trial's newest, once the journal names that one; called after each report."""
    named = [epoch.checkpoint for epoch in trial.epochs if epoch.checkpoint]
    if len(named) > 1 and trial.epochs[-1].checkpoint and named[-2] != named[-1]:
        remove(folder, named[-2])


def drop_beaten(folder: Path, ended: Sequence[TrialHistory], metric: str, mode: Mode, keep: int) -> None:
    """Remove the checkpoints of ended trials but the best `keep`: those that came furthest, then the better."""
    sign = 1 if mode == "max" else -1

    def rank(trial: TrialHistory) -> tuple[int, float]:
        epoch, value = trial.reached(metric) or (0, 0.0)
        return epoch, sign * value

    usable = [trial for trial in ended if trial.status == "FINISHED" and trial.curve(metric)]
    best = sorted(usable, key=rank, reverse=True)[:keep]
    for trial in ended:
        if trial not in best and trial.checkpoint:
            remove(folder, trial.checkpoint)


def drop_unnamed(folder: Path, trials: Iterable[TrialHistory]) -> None:
    """Remove the checkpoints that no report names: a driver that was killed never told of them."""
    named = {epoch.checkpoint for trial in trials for epoch in trial.epochs}
    for path in sorted((folder / "checkpoints").glob("*/*")):
        if str(path.relative_to(folder)) not in named:
            remove(folder, str(path.relative_to(folder)))


def kept(folder: Path) -> tuple[int, int]:
    """How many checkpoints the sweep has on disk now, and the bytes that they take."""
    manifests = list((folder / "checkpoints").glob("*/*/manifest.json"))
    return len(manifests), sum(file.stat().st_size for path in manifests for file in path.parent.iterdir())


def remove(folder: Path, pointer: str) -> None:
    """Remove one checkpoint: its manifest first, so that one that is half gone does not exist."""
    path = folder / pointer
    (path / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)  # what stays behind without a manifest is litter, never a checkpoint
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
