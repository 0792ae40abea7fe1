"""Batches that did not fit a device's memory: what was learnt of them is not tried again on the same model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sweeps.history import History
from sweeps.space import Config, Space

ALSO = ("precision", "accumulate")
"""Hyperparameters of the loop on which the memory of a step depends as it does on the model."""


def refused(history: History) -> list[Config]:
    """The configs of the trials that ran out of memory."""
    return [
        next((e.before for e in trial.exploits if e.cause and e.attempt == failure["attempt"]), trial.config)
        for trial in history.trials.values()
        for failure in trial.failures
        if failure["failure_kind"] == "memory"
    ]


def within(config: Config, space: Space, history: History, loop: Collection[str]) -> Config:
    """The config with the largest batch of its range below those that the same model had no memory for.

    The same model: every parameter but the hyperparameters of the `loop` (save precision and accumulation) has the same
    value. A config without a smaller batch in its range stays as it is.
    """

    def model(of: Config) -> dict[str, Any]:
        return {name: value for name, value in of.items() if name in ALSO or name.rpartition(".")[2] not in loop}

    size = config.get("batch_size")
    if size is None:
        return config
    limits = [
        other["batch_size"] for other in refused(history) if "batch_size" in other and model(other) == model(config)
    ]
    if size < min(limits, default=size + 1):
        return config
    smaller = [value for value in space["batch_size"].grid(64) if value < min(limits)]
    return {**config, "batch_size": max(smaller)} if smaller else config
