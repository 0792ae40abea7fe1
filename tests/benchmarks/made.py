"""Reports without training for the benchmark of the MLflow writer: METRICS metrics each, smooth curves.

As a trial that reports at once, and as journals of sweeps that nobody ran, written with the real pen.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeps.journal import FORMAT, Journal
from sweeps.spec import SweepSpec
from trainables.contract import Report, Session

METRICS = 8
"""Of each report."""


def values(quality: float, epoch: int) -> dict[str, float]:
    """A report's metrics: smooth curves that end the higher, the better the trial."""
    learnt = quality * (1 - math.exp(-epoch / 8))
    loss = 2.3 * (1 - learnt)
    return {
        "train/loss": 0.9 * loss, "train/accuracy": learnt + 0.01, "val/loss": loss, "val/accuracy": learnt,
        "grad/norm": 1 / epoch, "time/train_s": 0.3, "time/eval_s": 0.05, "hp/lr": 1e-3 / epoch,
    }  # fmt: skip


def trial(config: Mapping[str, Any], session: Session) -> Iterator[Report]:
    """A trial that reports at once."""
    for epoch in range(1, session.fidelity.epochs + 1):
        yield Report(epoch, values(config["value"], epoch))


class Made:
    """A journal of one explore phase of so many trials."""

    def __init__(self, folder: Path, trials: int, epochs: int) -> None:
        """Begin it: what stands before the first trial."""
        phase = {"kind": "explore", "trials": trials, "epochs": epochs, "reduction_factor": None}
        spec = SweepSpec.model_validate(
            {
                "name": folder.name,
                "trainable": "benchmarks.driver:trial",
                "space": {"lr": {"log": [1e-4, 1e-1]}, "width": {"int": [16, 256]}, "dropout": {"float": [0.0, 0.5]}},
                "metric": "val/accuracy",
                "mode": "max",
                "phases": [phase],
            }
        )
        folder.mkdir(parents=True)
        self.epochs, self.random = epochs, random.Random(0)
        self.qualities: dict[str, float] = {}
        self.journal = Journal(folder)
        began = time.time()
        self.journal.append(
            "sweep", format=FORMAT, name=folder.name, id=folder.name, spec=spec.document(), spec_digest=spec.digest,
            generation=self.journal.generation, git={"commit": "0123abc", "dirty": False}, versions={},
            hardware={"cpus": 2, "gpus": 0, "slots": 2}, began=began, ready=began,
        )  # fmt: skip
        footprint = {"data": "0f1e2d3c4b5a6978", "train_rows": 1078, "val_rows": 359}
        self.journal.append("plan", phases=[], seconds_per_epoch=None, basis="", total_s=None, footprint=footprint)
        space: Any = spec.space.model_dump(mode="json", by_alias=True)
        self.journal.append(
            "phase", phase="explore", phase_kind="explore", space=space, changes=[], comparison=None, trials=trials
        )
        self.names = [f"explore-{number:04d}" for number in range(trials)]

    def begin(self, trial: str) -> None:
        """A trial begins."""
        self.qualities[trial] = self.random.uniform(0.5, 0.95)
        draw = self.random
        config = {"lr": 10 ** draw.uniform(-4, -1), "width": draw.randint(16, 256), "dropout": draw.uniform(0, 0.5)}
        fidelity = {"epochs": self.epochs, "data_fraction": 1.0, "seed": 0}
        self.journal.append(
            "trial", phase="explore", trial=trial, attempt=1, role="sobol", config=config, fidelity=fidelity
        )

    def report(self, trial: str, epoch: int) -> None:
        """It reports an epoch."""
        self.journal.append(
            "report", trial=trial, attempt=1, epoch=epoch, metrics=values(self.qualities[trial], epoch),
            checkpoint=None, seconds=0.4, slot=1,
        )  # fmt: skip

    def end(self, trial: str) -> None:
        """It has run all of its epochs."""
        self.journal.append("end", trial=trial, status="FINISHED", reason="all epochs", seconds=0.0, whole=True)

    def close(self) -> None:
        """The phase and the sweep are over."""
        self.journal.append("end", phase="explore", status="FINISHED", reason="all trials", seconds=0.0)
        spent = {"wall_s": 1.0, "startup_s": 0.0, "training_s": 1.0, "bookkeeping_s": 0.0, "slots": 2, "gpu_hours": 0.0}
        self.journal.append("end", status="FINISHED", reason="all phases", time=spent)
        self.journal.close()


def finished(folder: Path, trials: int, epochs: int) -> None:
    """A sweep that is over."""
    made = Made(folder, trials, epochs)
    for name in made.names:
        made.begin(name)
        for epoch in range(1, epochs + 1):
            made.report(name, epoch)
        made.end(name)
    made.close()


def feed(folder: Path, trials: int, epochs: int, reports_per_s: float) -> None:
    """A sweep whose trials all report side by side, so many reports a second together, until its last line."""
    made = Made(folder, trials, epochs)
    for name in made.names:
        made.begin(name)
    began, reports = time.monotonic(), 0
    for epoch in range(1, epochs + 1):
        for name in made.names:
            time.sleep(max(0.0, began + reports / reports_per_s - time.monotonic()))
            made.report(name, epoch)
            reports += 1
    for name in made.names:
        made.end(name)
    made.close()
