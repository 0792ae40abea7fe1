"""The verdict: is the winner really better than the baseline, or only luckier?

Each arm is a config trained over the same seeds at the same fidelity, so the differences are paired by seed. The
interval of the mean difference is Student's; with several candidates its confidence is raised by Bonferroni, since
the best of k is compared. A candidate that is infeasible at a seed at which the baseline is not is no better, whatever
its other seeds gave. The verdict follows from the interval:

    ADOPT            it lies above 0: better beyond seed noise
    MORE_SEEDS       it contains 0, and a number of seeds within reach (MOST_SEEDS) would decide at the effect seen
    KEEP_BASELINE    otherwise
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from sweeps.history import Mode
from sweeps.space import Config, Configs

Decision = Literal["ADOPT", "KEEP_BASELINE", "MORE_SEEDS"]
CONFIDENCE = 0.95
MOST_SEEDS = 20
"""When more seeds than this would be needed, the difference is too small to be worth them."""


@dataclass(frozen=True)
class Arm:
    """One config over the seeds that gave a result."""

    arm: str
    """`baseline`, or the trial whose config runs again."""
    config: Config
    trials: list[str]
    seeds: list[int]
    values: list[float]
    """The sweep's metric after the trial's last epoch, in the order of `seeds`."""
    infeasible: list[int] = field(default_factory=list)
    """Seeds at which the config diverged or ran out of memory."""
    configs: Configs = ()
    """Where it is a schedule: what was trained with after each of these epochs; `config` is the last."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float:
        """Standard deviation over seeds (n − 1); 0 with one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def document(self) -> dict[str, Any]:
        """The arm as the journal writes it."""
        return {**asdict(self), "mean": self.mean, "sd": self.sd}


@dataclass(frozen=True)
class Comparison:
    """A candidate against the baseline, paired by seed; differences are positive when the candidate is better."""

    candidate: str
    """Its arm."""
    seeds: list[int]
    differences: list[float]
    mean_difference: float
    low: float
    high: float
    confidence: float
    seeds_needed: int | None
    """Seeds at which the interval would exclude 0, if mean and spread stay; None when no number would."""


@dataclass(frozen=True)
class Verdict:
    """What the confirm phase showed."""

    verdict: Decision
    winner: str
    """The arm with the best mean difference among those feasible at every seed; `baseline` when none beats it."""
    metric: str
    mode: Mode
    arms: list[Arm]
    comparison: Comparison | None
    text: str

    @property
    def best(self) -> Arm:
        """The winner's arm."""
        return next(arm for arm in self.arms if arm.arm == self.winner)


def judge(arms: Sequence[Arm], metric: str, mode: Mode) -> Verdict:
    """The verdict over a baseline arm and its candidates. An arm named `baseline` with two values or more must exist.

    Raises ValueError when there is no baseline, or no candidate shares two seeds with it.
    """
    baseline = next((arm for arm in arms if arm.arm == "baseline"), None)
    candidates = [
        arm
        for arm in arms
        if arm.arm != "baseline" and len(set(arm.seeds) & set(baseline.seeds if baseline else ())) > 1
    ]
    if baseline is None or not candidates:
        raise ValueError("no candidate shares two finished seeds with the baseline")
    confidence = 1 - (1 - CONFIDENCE) / len(candidates)
    sound = [arm for arm in candidates if not set(arm.infeasible) - set(baseline.infeasible)]
    pairs = [(arm, compare(arm, baseline, mode, confidence)) for arm in sound or candidates]
    winner, compared = max(pairs, key=lambda pair: pair[1].mean_difference)
    better = bool(sound) and compared.mean_difference > 0
    decision: Decision
    if better and compared.low > 0:
        decision = "ADOPT"
    elif better and compared.seeds_needed is not None and compared.seeds_needed <= MOST_SEEDS:
        decision = "MORE_SEEDS"
    else:
        decision = "KEEP_BASELINE"
    best = winner if better else baseline
    return Verdict(
        decision, best.arm, metric, mode, list(arms), compared, sentence(decision, winner, baseline, compared, metric)
    )


def compare(candidate: Arm, baseline: Arm, mode: Mode, confidence: float) -> Comparison:
    """Paired differences of two arms over the seeds that both finished, with Student's interval of their mean."""
    from scipy.stats import t

    sign = 1.0 if mode == "max" else -1.0
    ours, theirs = (
        dict(zip(candidate.seeds, candidate.values, strict=True)),
        dict(zip(baseline.seeds, baseline.values, strict=True)),
    )
    seeds = sorted(ours.keys() & theirs.keys())
    differences = [sign * (ours[seed] - theirs[seed]) for seed in seeds]
    n = len(differences)
    mean, sd = statistics.fmean(differences), statistics.stdev(differences)

    def reach(count: int) -> float:
        return float(t.ppf((1 + confidence) / 2, count - 1)) * sd / math.sqrt(count)

    needed = next((count for count in range(n, 1001) if mean - reach(count) > 0), None) if mean > 0 else None
    low, high = mean - reach(n), mean + reach(n)
    return Comparison(candidate.arm, seeds, differences, mean, low, high, confidence, needed)


def sentence(decision: Decision, winner: Arm, baseline: Arm, compared: Comparison, metric: str) -> str:
    """The verdict as a person says it; means and deviations are those of the seeds that were compared."""
    diverged = set(winner.infeasible) - set(baseline.infeasible)
    tried = len(winner.infeasible) + len(winner.seeds)
    winner, baseline = (over(arm, compared.seeds) for arm in (winner, baseline))
    n = len(compared.seeds)
    theirs = f"{baseline.mean:.4f} ± {baseline.sd:.4f} of the baseline"
    values = f"{metric} {winner.mean:.4f} ± {winner.sd:.4f} against {theirs} over {n} seeds"
    limits = f"{compared.confidence:.1%} interval {compared.low:.4f} … {compared.high:.4f}"
    interval = f"better by {compared.mean_difference:.4f}, {limits}"
    if diverged:
        lost = f"{len(winner.infeasible)} of {tried} seeds"
        return f"KEEP_BASELINE: {winner.arm} was infeasible at {lost}; {values}."
    if decision == "ADOPT":
        return f"ADOPT {winner.arm}: {values}; {interval}."
    if decision == "MORE_SEEDS":
        return f"MORE_SEEDS for {winner.arm}: {values}; {interval}; about {compared.seeds_needed} seeds would decide."
    if compared.mean_difference <= 0:
        return f"KEEP_BASELINE: {winner.arm} is no better, {values}."
    needed = f"{compared.seeds_needed} seeds" if compared.seeds_needed else "more than 1000 seeds"
    return f"KEEP_BASELINE: {winner.arm} may be better, but {needed} would be needed to tell; {values}; {interval}."


def over(arm: Arm, seeds: Sequence[int]) -> Arm:
    """The arm over these of its seeds only."""
    kept = [i for i, seed in enumerate(arm.seeds) if seed in seeds]
    trials, values = [arm.trials[i] for i in kept], [arm.values[i] for i in kept]
    return replace(arm, trials=trials, seeds=[arm.seeds[i] for i in kept], values=values)


def document(
    verdict: Verdict, *, epochs: int, best_trial: str, test: Mapping[str, Any] | None, test_reads: int
) -> dict[str, Any]:
    """The fields of the journal's `verdict` line; `test` has the metrics of each arm that was read, by seed."""
    return {
        "verdict": verdict.verdict, "winner": verdict.winner, "best_trial": best_trial, "metric": verdict.metric,
        "mode": verdict.mode, "epochs": epochs, "arms": [arm.document() for arm in verdict.arms],
        "comparison": asdict(verdict.comparison) if verdict.comparison else None, "test": test,
        "test_reads": test_reads, "text": verdict.text,
    }  # fmt: skip


def read(line: Mapping[str, Any]) -> Verdict:
    """The verdict that a journal's `verdict` line holds."""
    arms = [
        Arm(
            **{key: arm[key] for key in Arm.__dataclass_fields__.keys() - {"configs"}},
            configs=tuple((epoch, config) for epoch, config in arm.get("configs", ())),
        )
        for arm in line["arms"]
    ]
    comparison = Comparison(**line["comparison"]) if line["comparison"] else None
    return Verdict(line["verdict"], line["winner"], line["metric"], line["mode"], arms, comparison, line["text"])
