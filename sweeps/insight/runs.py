"""What is known of a training, for the rules of `diagnose`: its curves, its config, what audit and preflight saw.

Place in the flow: a sweep's journal, or a table of anyone's curves, becomes one `Run` a training here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweeps.errors import UsageError
from sweeps.history import LIVE, History, TrialHistory

Values = NDArray[np.float64]
CONFIG = "config/"
"""Columns of the config begin so."""


class Lacking(Exception):
    """What a rule needs and the training does not have."""


@dataclass(frozen=True)
class Run:
    """What is known of a training."""

    trial: str
    epochs: Values
    curves: Mapping[str, Values]
    """By metric a value an epoch, NaN where it was not reported."""
    config: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Any] = field(default_factory=dict)
    """Of `trainables.probes`, as far as they are known: `initial_loss`, `expected_loss`, `soundness` …"""
    audit: Mapping[str, Any] = field(default_factory=dict)
    """Of `trainables.audit`."""
    whole: bool = True
    """Whether it ran to its end, rather than being stopped before."""

    def known(self, name: str) -> Values:
        """The finite values of a metric, in order. Raises Lacking where there is none."""
        values = self.curves.get(name, np.empty(0))
        finite = values[np.isfinite(values)]
        if not len(finite):
            raise Lacking(name)
        return finite

    @cached_property
    def train(self) -> Values:
        return self.known("train/loss")

    @cached_property
    def val(self) -> Values:
        return self.known("val/loss")

    @cached_property
    def prior(self) -> float:
        """The loss of a network that prefers nothing: by preflight, else what the training began with.

        Raises Lacking for a loss that is not above 0, of which there are no shares.
        """
        expected = self.probes.get("expected_loss")
        found = float(expected) if expected else float(max(self.train[0], self.val[0]))
        if found <= 0:
            raise Lacking("a loss above 0")
        return found

    @property
    def gain(self) -> float:
        """The share of the prior by which the train loss fell."""
        return 1 - float(self.train.min()) / self.prior

    @property
    def val_gain(self) -> float:
        return 1 - float(self.val.min()) / self.prior


def end(values: Values) -> float:
    """The level at the end: the median of the last tenth, of three values at least where there are so many."""
    return float(np.median(values[-max(1, min(len(values), 3), len(values) // 10) :]))


def falls(values: Values) -> float:
    """By how much a loss falls an epoch over the last fifth, relative to itself; negative where it rises."""
    tail = values[-max(3, len(values) // 5) :]
    if len(tail) < 2 or tail.min() <= 0:
        return 0.0
    slope = np.polyfit(np.arange(len(tail)), np.log(tail), 1)[0]
    return float(-slope)


def swings(values: Values) -> float:
    """How much a loss goes up and down in its last half: the mean step up, relative to the median level."""
    half = values[len(values) // 2 :]
    if len(half) < 4:
        return 0.0
    rises = np.clip(np.diff(half), 0, None)
    return float(rises.mean() / max(np.median(half), 1e-12))


def of_table(table: pa.Table) -> list[Run]:
    """The trainings of a table, in the order in which they begin: a row an epoch, with columns `trial`, `epoch` and one
    for each metric (`train/loss`, `val/loss` …), and `config/<name>` where a config is known.

    Rows may be in any order, epochs missing, values null. Raises UsageError for a table without those two columns.
    """
    for name in ("trial", "epoch"):
        if name not in table.column_names:
            known = ", ".join(table.column_names) or "none"
            mend = "Give a row an epoch of each trial."
            raise UsageError(f"curves: there is no column {name!r} (columns: {known}). {mend}")
    epochs = numbers(table["epoch"])
    if not len(epochs) and len(table):
        raise UsageError(f"curves: the column 'epoch' is {table['epoch'].type}. Give numbers, from 1.")
    rows_of: dict[str, list[int]] = {}
    for row, trial in enumerate(table["trial"].to_pylist()):
        if np.isfinite(epochs[row]):
            rows_of.setdefault(str(trial), []).append(row)
    named = [name for name in table.column_names if "/" in name and not name.startswith(CONFIG)]
    metrics = {name: values for name in named if len(values := numbers(table[name]))}
    given = [name for name in table.column_names if name.startswith(CONFIG)]
    configs = {name.removeprefix(CONFIG): table[name].to_pylist() for name in given}
    found = []
    for trial, own in rows_of.items():
        rows = np.array(own)[epochs[own].argsort(kind="stable")]
        config = {name: values[rows[-1]] for name, values in configs.items() if values[rows[-1]] is not None}
        found.append(Run(trial, epochs[rows], {name: values[rows] for name, values in metrics.items()}, config))
    return found


def of_file(path: str) -> list[Run]:
    """The trainings of a table in a Parquet file. Raises UsageError for what is none."""
    import pyarrow.parquet

    try:
        return of_table(pyarrow.parquet.read_table(path))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"curves: {path} cannot be read as Parquet: {str(error).splitlines()[0]}.") from None


def numbers(column: pa.ChunkedArray) -> Values:
    """A column as floats, NaN for null; empty for one of something else."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    if not any(of_kind(column.type) for of_kind in kinds):
        return np.empty(0)
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def of_history(history: History) -> list[Run]:
    """The trainings of a sweep that have reported."""
    return [of_trial(history, trial) for trial in history.trials.values() if trial.epochs]


def of_trial(history: History, trial: TrialHistory) -> Run:
    """The training of a trial, with what audit and preflight saw of its data and of the baseline's network."""
    names = sorted({name for epoch in trial.epochs for name in epoch.metrics})
    curves = {name: np.array([epoch.metrics.get(name, np.nan) for epoch in trial.epochs]) for name in names}
    return Run(
        trial.trial, np.array([epoch.epoch for epoch in trial.epochs], np.float64), curves, trial.config,
        probes={"expected_loss": history.evidence_of("initial_loss").get("expected_loss")},
        audit=history.evidence_of("data").get("audit", {}), whole=trial.whole or trial.status in LIVE,
    )  # fmt: skip
