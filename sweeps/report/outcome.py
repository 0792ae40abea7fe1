"""What the sweep came to: the verdict's arms, the words for it, what it cost. Shared by the summary and the report.

The verdict itself is decided elsewhere and recorded in the journal; here it is only unpacked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from sweeps.history import History
from sweeps.report import words
from sweeps.space import Change, Configs


@dataclass(frozen=True)
class Arm:
    """One config of the confirm phase over its seeds."""

    name: str
    config: dict[str, Any]
    trials: list[str]
    seeds: list[int]
    values: list[float]
    mean: float
    sd: float
    infeasible: list[int]
    """Seeds at which it diverged or ran out of memory."""
    test: dict[str, list[float]]
    """Per metric of the test split the values over the seeds; empty until it is read."""
    configs: Configs
    """Where it is a schedule: what was trained with after each of these epochs; `config` is the last."""

    @property
    def spread(self) -> str:
        """Mean ± standard deviation."""
        return words.mean_sd(self.mean, self.sd)

    @property
    def test_words(self) -> str:
        """Mean ± standard deviation of each test metric."""
        return ", ".join(
            f"{name} {words.mean_sd(fmean(values), stdev(values) if len(values) > 1 else None)}"
            for name, values in self.test.items()
        )


@dataclass(frozen=True)
class Outcome:
    """The verdict, unpacked."""

    verdict: str
    text: str
    winner: Arm
    baseline: Arm | None
    arms: list[Arm]
    """Best mean first."""
    comparison: dict[str, Any]
    """`mean_difference low high confidence seeds_needed`, paired by seed; empty when nothing was compared."""
    test_reads: int

    @property
    def contender(self) -> Arm:
        """What stands beside the baseline: the candidate that was compared with it."""
        return next((arm for arm in self.arms if arm.name == self.comparison.get("candidate")), self.winner)

    @property
    def interval(self) -> str:
        """By how much the contender is better than the baseline, with its interval; empty when nothing was compared.

        The journal's differences are positive for the better, whether the metric is to rise or to fall.
        """
        if not self.comparison:
            return ""
        difference, low, high = (number_or_nan(self.comparison.get(k)) for k in ("mean_difference", "low", "high"))
        confidence = f"{100 * self.comparison['confidence']:.3g} % interval"
        text = f"{words.signed(difference)} ({confidence} {words.signed(low)} … {words.signed(high)})"
        needed = self.comparison.get("seeds_needed")
        if self.verdict == "MORE_SEEDS" and needed is not None:
            text += f", {words.count(needed, 'seed')} needed to tell"
        return text

    @property
    def test_note(self) -> str:
        """How often the test split was read."""
        if not self.test_reads:
            return "not read"
        return "read once" if self.test_reads == 1 else f"read {self.test_reads} times"


@dataclass(frozen=True)
class Cost:
    """What was spent, from the journal's trials and its end."""

    trials: int
    epochs: int
    training_s: float
    """Seconds that trials worked in their slots, all slots together."""
    statuses: dict[str, int]
    time: dict[str, float]
    """`wall_s startup_s training_s bookkeeping_s slots gpu_hours` of the end line; empty before it."""

    @property
    def split(self) -> str:
        """How the wall time divides, in percent; empty before the end."""
        if not self.time:
            return ""
        parts = (("start-up", "startup_s"), ("training", "training_s"), ("bookkeeping", "bookkeeping_s"))
        return ", ".join(f"{name} {words.percent(self.time[key], self.time['wall_s'])}" for name, key in parts)


def number_or_nan(value: Any) -> float:
    """A recorded number; the journal writes non-finite ones as strings, and null for none."""
    return math.nan if value is None else float(value)


def outcome(history: History) -> Outcome | None:
    """The verdict's arms and comparison; None before there is a verdict."""
    line = history.verdict
    if line is None:
        return None
    sign = 1 if line["mode"] == "min" else -1
    arms = [_arm(record, (line.get("test") or {}).get(record["arm"], [])) for record in line["arms"]]
    arms.sort(key=lambda arm: (not math.isfinite(arm.mean), sign * arm.mean, arm.name))
    by_name = {arm.name: arm for arm in arms}
    return Outcome(
        line["verdict"],
        line["text"],
        by_name[line["winner"]],
        by_name.get("baseline"),
        arms,
        line.get("comparison") or {},
        line.get("test_reads", 0),
    )


def _arm(record: dict[str, Any], test: Iterable[dict[str, Any]]) -> Arm:
    tested: dict[str, list[float]] = {}
    for metrics in test:
        for name, value in metrics.items():
            tested.setdefault(name, []).append(number_or_nan(value))
    values = [number_or_nan(value) for value in record["values"]]
    mean, sd = number_or_nan(record["mean"]), number_or_nan(record["sd"])
    return Arm(
        record["arm"], record["config"], record["trials"], record["seeds"], values, mean, sd, record["infeasible"],
        tested, tuple((epoch, config) for epoch, config in record.get("configs", ())),
    )  # fmt: skip


def cost(history: History) -> Cost:
    """Trials, epochs and time so far."""
    trials = history.trials.values()
    return Cost(
        len(trials),
        sum(len(trial.epochs) for trial in trials),
        history.seconds,
        dict(Counter(trial.status for trial in trials)),
        (history.end or {}).get("time") or {},
    )


def moved(history: History) -> list[tuple[str, Change]]:
    """(phase, change) of every range that a phase began with otherwise than the one before it."""
    return [
        (name, change) for name, phase in history.phases.items() for change in phase.changes if change.action != "kept"
    ]


def evidence(comparison: dict[str, Any] | None) -> str:
    """What a phase's ranges rest on: `11 trials of explore after epoch 3 on 50 % of the data`."""
    if not comparison:
        return ""
    phase = f" of {comparison['phase']}" if "phase" in comparison else ""
    return (
        f"{words.count(comparison['trials'], 'trial')}{phase} after epoch {comparison['epoch']} "
        f"on {words.data(comparison)}"
    )
