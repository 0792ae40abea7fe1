"""Schedulers: which trials go on. ASHA on Ray Tune's own, keyed by our trial ids and by epochs trained.

Li et al. 2018, A System for Massively Parallel Hyperparameter Tuning (https://arxiv.org/abs/1810.05934), in Ray's
stopping variant: a trial at a rung goes on when it is in the top 1/reduction_factor of those that came there before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from sweeps.history import LIVE, TrialHistory
from sweeps.search import Scratch
from sweeps.slots import non_finite
from sweeps.spec import rungs

Decided = Callable[[str, dict[str, Any]], None]
"""Told of each decision: our trial id, and `epoch`, `rung`, `value`, `cutoff`, `decision`; `unstopped` of a trial that
goes on though the others would have been stopped."""


@dataclass(frozen=True)
class Ours:
    """A trial as ASHA sees it: Ray's class reads nothing of a trial but its id."""

    trial_id: str


class Asha(Scratch, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving over `epoch`, with every decision told, its rung and its cutoff."""

    def __init__(
        self,
        mode: str,
        epochs: int,
        min_epochs: int,
        reduction_factor: float,
        decided: Decided,
        unstopped_share: float = 0.0,
    ) -> None:
        """`decided` is told of each decision; of the trials `unstopped_share` go on whatever is decided."""
        super().__init__(
            time_attr="epoch", metric="value", mode=mode, max_t=epochs, grace_period=min_epochs,
            reduction_factor=reduction_factor,
        )  # fmt: skip
        self.sign = 1.0 if mode == "max" else -1.0
        self.epochs, self.factor, self.decided = epochs, reduction_factor, decided
        self.unstopped_share = unstopped_share
        self.rungs: list[tuple[float, dict[str, float]]] = [
            (rung, {}) for rung in rungs(epochs, min_epochs, reduction_factor)
        ]
        self.live: set[str] = set()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.live.add(ours(trial).trial_id)
        super().on_trial_add(tune_controller, ours(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        known = ours(trial)
        if not math.isfinite(result.get("value", math.nan)):  # no value to judge by, and none that may move a cutoff
            return str(TrialScheduler.CONTINUE)
        action: str = super().on_trial_result(tune_controller, known, result)
        if result["epoch"] < self.epochs:
            spared = action == TrialScheduler.STOP and unstopped(known.trial_id, self.unstopped_share)
            action = str(TrialScheduler.CONTINUE) if spared else action
            self._tell(known.trial_id, result["epoch"], result["value"], action, spared)
        return action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.on_trial_remove(tune_controller, trial)  # Ray would count its last value at a rung that it never came to

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        known = ours(trial)
        if known.trial_id in self.live:
            self.live.discard(known.trial_id)
            super().on_trial_remove(tune_controller, known)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Tune then takes its pending trials in order. Ray's own looks at every trial of the phase each time."""

    def _tell(self, trial: str, epoch: int, value: float, action: str, spared: bool) -> None:
        """Keep what came to each rung beside Ray's own books, to say which cutoff a decision rests on."""
        for rung, values in reversed(self.rungs):
            if epoch < rung or trial in values:
                continue
            percentile = (1 - 1 / self.factor) * 100
            cutoff = self.sign * float(np.nanpercentile(list(values.values()), percentile)) if values else None
            values[trial] = self.sign * value
            told = {"epoch": epoch, "rung": rung, "value": value, "cutoff": cutoff, "decision": action}
            self.decided(trial, {**told, **({"unstopped": True} if spared else {})})
            return


def unstopped(trial: str, share: float) -> bool:
    """Whether the trial of that name is one of the share that is never stopped: evenly spread over the phase."""
    if not share:
        return False
    number = int(trial.rpartition("-")[2])
    return math.floor((number + 1) * share + 1e-9) > math.floor(number * share + 1e-9)


class InOrder(Scratch, FIFOScheduler):  # type: ignore[misc]
    """First in, first out, nothing stopped."""

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: see Asha."""


def rebuild(
    judge: TrialScheduler, trials: Sequence[TrialHistory], metric: str, decided: Collection[tuple[str, int]]
) -> None:
    """Bring a new scheduler to where an earlier driver's stood, by telling it the journal's reports in their order.

    It is told what the earlier one was: the reports that were `decided` on, trial and epoch, and the newest of a live
    trial, whose decision the driver may not have lived to write. One with which a trial ended was never judged.
    """
    known = {trial.trial: Ours(trial.trial) for trial in trials}
    told = sorted(
        (epoch.at, trial.trial, epoch.epoch, epoch.metrics[metric])
        for trial in trials
        for epoch in trial.epochs
        if metric in epoch.metrics
        and ((trial.trial, epoch.epoch) in decided or (trial.status in LIVE and epoch is trial.epochs[-1]))
        and not epoch.done
        and not non_finite(epoch.epoch, epoch.metrics)
    )
    for trial in known.values():
        judge.on_trial_add(None, trial)
    for _, name, epoch, value in told:
        judge.on_trial_result(None, known[name], {"epoch": epoch, "value": value})


def scheduler(
    mode: str,
    epochs: int,
    min_epochs: int,
    reduction_factor: float | None,
    decided: Decided,
    unstopped_share: float = 0.0,
) -> TrialScheduler:
    """ASHA, or first-in-first-out where nothing is to be stopped or there is no rung before the last epoch."""
    if reduction_factor is None or not rungs(epochs, min_epochs, reduction_factor):
        return InOrder()
    return Asha(mode, epochs, min_epochs, reduction_factor, decided, unstopped_share)


def ours(trial: Any) -> Ours:
    """Our identity of a Tune trial."""
    return trial if isinstance(trial, Ours) else Ours(trial.config["order"]["trial"])
