"""The trials of the benchmark of the MLflow writer through Ray Tune alone, with Ray's own MLflowLoggerCallback.

A module of its own: Ray's workers cannot import what the script itself defines.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback

from benchmarks import made
from benchmarks.ways import SLOTS
from cluster.local import connect

SKIPPED = 2
"""Trials at the beginning, which wait for imports and actors."""
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


class Reports(tune.Trainable):  # type: ignore[misc]
    """The trial of the sweep, as a Tune class whose actor takes the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.quality, self.epochs = config["value"], config["epochs"]

    def step(self) -> dict[str, Any]:
        epoch = self.iteration + 1
        return {**made.values(self.quality, epoch), "done": epoch == self.epochs}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""


class Stamps(tune.Callback):  # type: ignore[misc]
    """When Tune has handled each result; comes after the callback that is measured."""

    def __init__(self) -> None:
        self.results: list[float] = []

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self.results.append(time.perf_counter())


def with_callback(trials: int, epochs: int, url: str) -> float:
    """Reports per second of Ray Tune with Ray's callback, in this process."""
    os.environ |= QUIET
    stamps = Stamps()
    cluster = connect()
    with tempfile.TemporaryDirectory() as scratch:
        results = tune.Tuner(
            tune.with_resources(Reports, {"CPU": 1}),
            param_space={"value": tune.uniform(0, 1), "epochs": epochs},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=SLOTS, reuse_actors=True),
            run_config=tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                callbacks=[MLflowLoggerCallback(tracking_uri=url, experiment_name="ray"), stamps],
            ),
        ).fit()
    cluster.close()
    if results.errors or len(stamps.results) != trials * epochs:
        raise RuntimeError(f"{len(stamps.results)} reports of {trials} trials, errors: {results.errors[:1]}")
    late = stamps.results[SKIPPED * epochs :]
    return (len(late) - 1) / (late[-1] - late[0])
