"""What is known of a training, for the rules of `diagnose`: its curves, its config, what audit and preflight saw.

Place in the flow: a sweep's journal, or a table of anyone's curves, becomes one `Run` a training here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from sweeps.errors import UsageError
from sweeps.history import LIVE, History, TrialHistory
from sweeps.insight.losses import MOST_NATS, Values, end, nats_of_classes, smooth

CONFIG = "config/"
"""Columns of the config begin so."""


ACCURACY = "/accuracy"
FIRSTS_APART = 1.2
"""The first validation loss counts up to so many times the first train loss."""
OVERSURE = 0.1
"""How much surer than right a network may be whose loss tells the number of classes."""
OUTSIZED = 2.0
"""A first loss so many times what later ones tell of the number of classes is not of a network that knows nothing."""
SHORT = 6
"""Of fewer epochs the first is much of what was learned; the loss before it is told by `expected`."""


class Lacking(Exception):
    """What a rule needs and the training does not have."""


@dataclass(frozen=True)
class Run:
    """What is known of a training."""

    trial: str
    epochs: Values
    curves: Mapping[str, Values]
    """By metric a value an epoch, NaN where it was not reported, infinite where what was is no number."""
    config: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Any] = field(default_factory=dict)
    """Of `trainables.probes`, as far as they are known: `initial_loss`, `expected_loss`, `soundness` …"""
    audit: Mapping[str, Any] = field(default_factory=dict)
    """Of `trainables.audit`."""
    whole: bool = True
    """Whether it ran to its end, rather than being stopped before."""

    def known(self, name: str) -> Values:
        """The finite values of a metric, in order; an accuracy as a share. Raises Lacking where there is none."""
        values = self.curves.get(name, np.empty(0))
        finite = values[np.isfinite(values)]
        if not self.has(name):
            raise Lacking(name)
        return finite / 100 if name.endswith(ACCURACY) and finite.max() > 1 else finite

    def at(self, name: str) -> Values:
        """The epochs of the finite values of a metric."""
        return self.epochs[np.isfinite(self.curves.get(name, np.full(len(self.epochs), np.nan)))]

    def has(self, name: str) -> bool:
        """Whether a metric has a finite value; an accuracy only if all are shares, or percent."""
        values = self.curves.get(name, np.empty(0))
        finite = values[np.isfinite(values)]
        if name.endswith(ACCURACY):
            return bool(len(finite) and finite.min() >= 0 and finite.max() <= 100)
        return bool(len(finite))

    def setting(self, name: str) -> float | None:
        """A number of the config, of the optimizer's own before the general one; None where it is none."""
        own = f"{self.config.get('optimizer', 'adamw')}.{name}"
        value = self.config.get(own, self.config.get(name))
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if number else None

    @cached_property
    def train(self) -> Values:
        return self.known("train/loss")

    @cached_property
    def val(self) -> Values:
        return self.known("val/loss")

    @cached_property
    def train_then(self) -> Values:
        """The train loss at the epochs that have a validation loss; others' tables have them in rows of their own."""
        return np.interp(self.at("val/loss"), self.at("train/loss"), self.train)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Rows of each split, as far as they are known."""
        return {name: split["rows"] for name, split in self.audit.get("splits", {}).items()}

    @cached_property
    def shares(self) -> Values:
        """The share of each class in the training rows; empty where it is not known."""
        counts = np.array(list(self.audit.get("classes", {}).get("train", {}).values()), float)
        return counts / counts.sum() if len(counts) > 1 else np.empty(0)

    @cached_property
    def expected(self) -> float | None:
        """The loss of an output that prefers nothing but what is frequent, where data or preflight tell it.

        Of classes it is the entropy of their shares. A loss of the trainable's own is taken for a cross-entropy where
        there is an accuracy and the untrained network has about the loss that cross-entropy would have.
        """
        entropy = float(-(self.shares * np.log(self.shares)).sum()) if len(self.shares) else 0.0
        told, initial = self.probes.get("expected_loss"), self.probes.get("initial_loss")
        if told:
            return min(float(told), entropy or math.inf) if self.has("train/accuracy") else float(told)
        if initial is None or not 0 < initial < math.inf:
            return None
        alike = len(self.shares) and 0.5 < initial / math.log(len(self.shares)) < 2.0
        return entropy if alike and self.has("train/accuracy") else float(initial)

    @cached_property
    def prior(self) -> float:
        """`expected`, else what the first reports allow. Raises Lacking for a loss that is not above 0, of which there
        are no shares.

        After one epoch a quick network has learned most already, and its first loss is far below: see `_by_accuracy`.
        """
        if self.expected is not None:
            return self.expected
        # Of both, because either may have been luck; a validation loss far above says that the splits differ.
        loss = float(self.train[0]) if self.has("train/loss") else float(self.val[0])
        if self.has("val/loss"):
            loss = max(loss, min(float(self.val[0]), FIRSTS_APART * loss))
        if loss <= 0 or (prior := self._by_accuracy(loss)) <= 0:
            raise Lacking("a loss above 0")
        return prior

    def _by_accuracy(self, loss: float) -> float:
        """The prior by how often a network is right at which loss, from `loss`, the first one: ln K for so many classes
        as would make that loss usual. A network that is unsure still has a higher one, so up to twice the loss.

        Of epochs in which it is as sure as it is right: steps that are too large make it far too sure at first, and its
        loss says nothing then. Where no probabilities tell it, a first loss far above what later ones make of it does.
        """
        if not self.has("train/accuracy") or len(self.train) != len(self.known("train/accuracy")):
            return loss
        losses, right = np.r_[loss, self.train[1:]], self.known("train/accuracy")
        if self.has("val/max_probability") and len(self.known("val/max_probability")) == len(right):
            honest = self.known("val/max_probability") - right < OVERSURE
            if not honest.any():  # what it is sure of says nothing; it began to be right by chance
                return max(math.log(1 / max(float(right.min()), 1 / 1000)), math.log(2))
            losses, right = losses[honest], right[honest]
        else:
            later = nats_of_classes(losses[1:], right[1:])[right[1:] <= 0.5]
            # A network that is too sure makes them many; so the lower ones count.
            if len(later) > 1 and loss > OUTSIZED * (lower := max(float(np.quantile(later, 0.25)), math.log(2))):
                return lower
            losses, right = losses[:1], right[:1]
        counts = (right > 0) & (right < 1)
        usual = np.minimum(nats_of_classes(losses[counts], right[counts]), 2 * losses[counts])
        return float(max(losses.max(), usual[:1].max(initial=0.0)))

    @cached_property
    def classes(self) -> float:
        """How many classes there are, or as good as are; may be a fraction. Raises Lacking where there are none."""
        self.known("train/accuracy")
        return float(len(self.shares)) if len(self.shares) else max(2.0, math.exp(min(self.prior, MOST_NATS)))

    @cached_property
    def usual(self) -> float | None:
        """The accuracy that quick classifiers reached on rows that they had not seen, where the audit has it."""
        agreement = self.audit.get("label_errors", {}).get("agreement")
        return None if agreement is None else float(agreement)

    @property
    def gain(self) -> float:
        """The share of the prior by which the train loss fell."""
        return 1 - float(smooth(self.train).min()) / self.prior

    @property
    def val_gain(self) -> float:
        return 1 - float(smooth(self.val).min()) / self.prior

    @cached_property
    def decays(self) -> bool | None:
        """Whether the learning rate is lower at the end than it was; None where it is not known."""
        if not self.has("hp/lr"):
            return None
        rates = self.known("hp/lr")
        return bool(rates[-1] < 0.9 * rates.max())

    def late(self, name: str, after: float = 0.5) -> float:
        """Of all that a loss fell, the share that fell after this share of the way: near 0 where it has settled, the
        rest of the way, 0.5 by default, where it fell as fast to the end.

        The way is the sum of the learning rates, where they are known: under a schedule that ends near 0 every loss
        lies flat at the end.
        """
        values = smooth(self.known(name))
        rates = self.curves.get("hp/lr", np.empty(0))
        way = np.ones(len(values))
        if len(rates) == len(self.epochs) and np.isfinite(rates).all() and (rates > 0).any():
            way = np.interp(self.at(name), self.epochs, np.cumsum(rates.clip(0)))
            way = np.diff(way, prepend=0.0)
        if self.expected is not None and len(values) < SHORT:
            values, way = np.r_[max(self.expected, values[0]), values], np.r_[0.0, way]
        fall = values[0] - end(values)
        if len(values) < 2 or fall <= 0:
            return 0.0
        walked = np.cumsum(way)
        then = float(np.interp(walked[-1] * after, walked, values))
        return float((then - end(values)) / fall)


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


def as_value(reported: float | None) -> float:
    """A value of a curve: NaN for what was not reported, infinite for what is no number."""
    if reported is None:
        return math.nan
    return math.inf if math.isnan(reported) else float(reported)


def numbers(column: pa.ChunkedArray) -> Values:
    """A column as floats, NaN for null, infinite for what is no number; empty for one of something else."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null)
    if not any(of_kind(column.type) for of_kind in kinds):
        return np.empty(0)
    values = np.array(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    values[np.isnan(values) & np.asarray(column.is_valid())] = np.inf
    return values


def of_history(history: History) -> list[Run]:
    """The trainings of a sweep that have reported."""
    return [of_trial(history, trial) for trial in history.trials.values() if trial.epochs]


def of_trial(history: History, trial: TrialHistory) -> Run:
    """The training of a trial, with what audit and preflight saw of its data and of the baseline's network."""
    names = sorted({name for epoch in trial.epochs for name in epoch.metrics})
    curves = {name: np.array([as_value(epoch.metrics.get(name)) for epoch in trial.epochs]) for name in names}
    initial = history.evidence_of("initial_loss")
    return Run(
        trial.trial, np.array([epoch.epoch for epoch in trial.epochs], np.float64), curves, trial.config,
        probes={name: initial.get(name) for name in ("initial_loss", "expected_loss")},
        audit=history.audited, whole=trial.whole or trial.status in LIVE,
    )  # fmt: skip
