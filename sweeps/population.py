"""The scheduler of a population: who takes over from whom. On Ray Tune's PopulationBasedTraining, without its pauses.

Three things are other than in Ray's. Two members are compared at the newest epoch to which both came, so that nobody
waits and no lead in epochs counts as one in the metric; who is ahead of more others ranks higher (Copeland's rule). One
of the worst takes over from one of the best that has come to its own epoch, for which it waits if one is about to come,
else from the nearest behind it: weights and epoch. What is drawn comes from (seed, member, epoch), so that every choice
follows from the journal so far. And an exploit is told, not carried out here: the driver sends the donor's checkpoint
to the member's own slot (`sweeps.events`), where Ray would pause and requeue it.

With more members than slots they take turns: at an epoch where it was compared, a member makes room for one that is
behind it, or equally far and better, so that the worst come last and see most of the others.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from sweeps.errors import PlanError
from sweeps.history import LIVE, History, TrialHistory
from sweeps.insight.lineage import Arrival, horizon, standings
from sweeps.journal import now
from sweeps.schedule import Decided
from sweeps.search import Scratch
from sweeps.slots import Order, non_finite
from sweeps.space import Config
from sweeps.spec import Evolve, phase_name

EXPLOIT = "EXPLOIT"
RELIED_ON = ("_quantiles", "_checkpoint_or_exploit", "_save_trial_state")
"""Methods of Ray's class that are overridden or called here, and that it does not promise to keep."""
MENDED = ("non_finite", "memory")
"""Failures that end a member's state, not the member: another one's takes its place."""
REPLACEMENTS = 3
"""So often, then the member is INFEASIBLE."""
PATIENCE = 0.5
"""Of the time that an interval takes: so long a member waits at most for a donor that is on its way. To go back to
where the donor was before costs an interval, which is trained again."""
Explore = Callable[[Config, np.random.Generator], Config]
"""A donor's config, changed for the member that takes over."""


@dataclass(frozen=True)
class Member:
    """A member as Ray's class sees it."""

    trial_id: str
    status = "RUNNING"
    experiment_tag = ""

    def is_finished(self) -> bool:
        """Ray leaves the finished out of its quantiles; ours are of one epoch, to which they came."""
        return False


@dataclass(frozen=True)
class Waiting:
    """What Ray's class asks of Tune's controller: who waits for a slot."""

    trials: Sequence[Any]

    def get_trials(self) -> Sequence[Any]:
        """Those that wait and go first."""
        return self.trials


class Population(Scratch, PopulationBasedTraining):  # type: ignore[misc]
    """Population-based training over `epoch`, with every decision told and what it rests on."""

    _trial_state: dict[Member, Any]

    def __init__(self, history: History, phase: Evolve, explore: Explore, decided: Decided) -> None:
        """`decided` is told of each decision; an exploit's has `donor`, `checkpoint`, `before` and `after` besides.

        Raises PlanError on a Ray whose class is not the one that this was written for.
        """
        assert history.spec is not None
        check_ray()
        super().__init__(
            time_attr="epoch", metric="value", mode=history.spec.mode, perturbation_interval=phase.interval,
            quantile_fraction=phase.quantile, custom_explore_fn=dict, require_attrs=False, log_config=False,
        )  # fmt: skip
        self.history, self.phase, self.explore, self.decided = history, phase, explore, decided
        self.seed = history.spec.seed
        self.newest: dict[str, tuple[int, float]] = {}
        """Where each member was judged last, and how good it was, the higher the better."""
        self.judging: tuple[Member, int, float, bool] = (Member(""), 0, math.nan, False)
        """The report that is judged: whose, its epoch and value, and whether another member's turn is before it."""
        self.waiting: dict[str, tuple[int, float, float]] = {}
        """Who waits for a donor: at which epoch, with which value, until when."""
        self.patience = 0.0
        self.paused: dict[str, Any] = {}
        """Tune's trial of each member that waits for a slot."""
        self.at_work: set[str] = set()
        self.room: Callable[[], float] = lambda: 1
        """How many members may be at work."""
        self.others: Callable[[], tuple[Sequence[Order], bool]] = lambda: ((), False)
        """Orders that wait to be handed out again, and whether there are members that have not begun."""

    def rebuild(self, metric: str) -> None:
        """Bring a new scheduler to where an earlier driver's stood: who came where, by the journal.

        The journal's newest report of a live member may be one on which that driver did not live to decide.
        """
        members = {trial.trial: trial for trial in self.history.of_phase(phase_name(self.phase))}
        decided = set()
        for name in members:
            self.on_trial_add(None, Member(name))
        for line in self.history.decisions:
            if line["trial"] in members:
                decided.add((line["trial"], line["epoch"]))
                self.newest[line["trial"]] = line["epoch"], self._metric_op * line["value"]
        for name, trial in members.items():
            last = trial.epochs[-1] if trial.epochs and trial.status in LIVE else None
            if last is None or last.done or (name, last.epoch) in decided or non_finite(last.epoch, last.metrics):
                continue
            before = trial.epochs[-2].epoch if len(trial.epochs) > 1 else 0
            if metric in last.metrics and any(before < due <= last.epoch for due in self.phase.judged):
                result = {"epoch": last.epoch, "value": last.metrics[metric], "judged": True}
                self.on_trial_result(None, Member(name), result)
        self.at_work.clear()
        self.patience = PATIENCE  # what an earlier driver left undecided is decided at once

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Ray's own refuses every searcher, and draws what a config lacks."""
        self.at_work.add(member(trial).trial_id)
        self._trial_state.setdefault(member(trial), SimpleNamespace(last_perturbation_time=0))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        known, epoch = member(trial), result["epoch"]
        if not result.get("judged") or not math.isfinite(result.get("value", math.nan)):
            return str(TrialScheduler.CONTINUE)
        self._trial_state[known].last_perturbation_time = epoch - self.phase.interval  # the order says which are judged
        self.newest[known.trial_id] = epoch, self._metric_op * result["value"]
        before = self._before(known.trial_id)
        self.judging = known, epoch, result["value"], before
        ahead = [SimpleNamespace(status="PENDING")] if before else []
        action = str(super().on_trial_result(Waiting(ahead), known, result))
        if action == TrialScheduler.PAUSE:
            self.at_work.discard(known.trial_id)
            self.paused[known.trial_id] = trial
        return action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.on_trial_remove(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Its lease is lost, and comes again: who waits for a donor waits on."""
        self.at_work.discard(member(trial).trial_id)
        self.paused.pop(member(trial).trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.on_trial_error(tune_controller, trial)
        self.waiting.pop(member(trial).trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The paused member whose turn it is, where there is room for it; Tune starts those that are new to it."""
        if not self.paused or len(self.at_work) + self.pausing() >= self.room() or self.turn() is not None:
            return None
        name = min(self.paused, key=self._key)
        if self.paused[name].status != "PAUSED":
            return None
        self.at_work.add(name)
        return self.paused.pop(name)

    def pausing(self) -> int:
        """How many have made room, but not yet their lease: who starts now would wait for a new one."""
        return sum(trial.status != "PAUSED" for trial in self.paused.values())

    def turn(self) -> str | None:
        """Whose turn is next: a member to be handed out again, by name; empty for one that has not begun; None for a
        paused one, or where nobody waits."""
        again, more = self.others()
        waiting: list[tuple[tuple[int, float], str | None]] = [(self._key(order.trial), order.trial) for order in again]
        waiting += [(NOT_BEGUN, "")] * more
        waiting += [(self._key(name), None) for name in self.paused]
        return min(waiting, key=lambda found: found[0])[1] if waiting else None

    def _key(self, name: str) -> tuple[int, float]:
        """The smaller, the earlier its turn: the least advanced first, of equals the better."""
        epoch, score = self.newest.get(name, (0, 0.0))
        return epoch, -score

    def _before(self, name: str) -> bool:
        """Whether someone waits whose turn is before this member's."""
        again, more = self.others()
        mine = self._key(name)
        return any(self._key(other) < mine for other in [*(o.trial for o in again), *self.paused]) or more

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: Any) -> None:
        """Nothing: see `standings`."""

    def _quantiles(self) -> tuple[list[Member], list[Member]]:
        """Ray's lower and upper quantile by how many of the others each is ahead of; empty while there are no others.

        Of equals the one that is judged is the better: nobody takes over from its like.
        """
        everything = self._trial_state
        self._trial_state = {known: SimpleNamespace(last_score=wins) for known, wins in self.wins().items()}
        try:
            lower, upper = super()._quantiles()
        finally:
            self._trial_state = everything
        return lower, upper

    def standings(self) -> dict[str, dict[int, Arrival]]:
        """What each member was at each epoch; the report that is judged is not in the journal yet, its own stands last.

        A donor's weights are those of its `Arrival`.
        """
        known, epoch, value, _ = self.judging
        found = standings(self.history, self.phase, epoch)
        own = found.pop(known.trial_id, {})
        return {**found, known.trial_id: {**own, epoch: Arrival(known.trial_id, value, None)}}

    def wins(self) -> dict[Member, float]:
        """Of how many others each that came anywhere is ahead at the newest epoch to which both came, a tie as half."""
        stands = {name: came for name, came in self.standings().items() if came}
        found = {Member(name): 0.0 for name in stands}
        for one, other in itertools.combinations(stands, 2):
            if both := stands[one].keys() & stands[other].keys():
                lead = self._metric_op * (stands[one][max(both)].value - stands[other][max(both)].value)
                found[Member(one)] += 1.0 if lead > 0 else 0.5 if lead == 0 else 0.0
                found[Member(other)] += 1.0 if lead < 0 else 0.5 if lead == 0 else 0.0
        return found

    def _checkpoint_or_exploit(
        self, trial: Member, tune_controller: Any, upper_quantile: list[Member], lower_quantile: list[Member]
    ) -> None:
        """Decide, or have the member wait for its donor; every checkpoint was written before its report was told."""
        _, epoch, value, paused = self.judging
        seconds = [report.seconds for report in self.history.trials[trial.trial_id].epochs]
        # The median: the first one counts the slot's start, too.
        patience = self.patience * self.phase.interval * (statistics.median(seconds) if seconds else 0.0)
        waits = patience and trial in lower_quantile and not paused
        if waits and self._soon(trial, epoch, upper_quantile, patience):
            self.waiting[trial.trial_id] = epoch, value, now() + patience
        else:
            self._decide(trial, upper_quantile, lower_quantile)

    def _decide(self, trial: Member, upper: list[Member], lower: list[Member]) -> None:
        """Tell what is decided on the member that is judged."""
        _, epoch, value, paused = self.judging
        wins = self.wins()
        told = {"epoch": epoch, "rung": float(epoch), "value": value, "cutoff": None}
        told |= {"ahead_of": wins[trial], "others": len(wins) - 1}
        waits = {"paused": True} if paused else {}
        found = self._exploited(trial, epoch, upper) if trial in lower else {}
        decision = EXPLOIT if found else str(TrialScheduler.CONTINUE)
        self.decided(trial.trial_id, {**told, "decision": decision, **waits, **found})

    def _soon(self, known: Member, epoch: int, upper: Sequence[Member], within: float) -> bool:
        """Whether no donor has come to the epoch, but one at work will within so many seconds, by its pace so far."""
        donors = [self.history.trials[donor.trial_id] for donor in upper if donor != known]
        if any(donor.told >= epoch for donor in donors):
            return False
        stands = self.waiting.keys() | self.paused.keys()
        on_their_way = [d for d in donors if d.status == "RUNNING" and d.epochs and d.trial not in stands]
        return any(arrival(donor, epoch) <= now() + within for donor in on_their_way)

    def reconsider(self, impatient: Sequence[str] = ()) -> list[str]:
        """Decide on those whose donor has come meanwhile, who have waited long, and the given ones; their names."""
        decided = []
        for name, (epoch, value, until) in list(self.waiting.items()):
            known = Member(name)
            self.judging = known, epoch, value, False
            lower, upper = self._quantiles()
            waits = known in lower and self._soon(known, epoch, upper, until - now())
            if name in impatient or now() >= until or not waits:
                del self.waiting[name]
                self._decide(known, upper, lower)
                decided.append(name)
        return decided

    def _exploited(self, known: Member, epoch: int, upper: Sequence[Member]) -> dict[str, Any]:
        """What an exploit at this epoch is: a donor of the upper quantile, and the config to go on with."""
        stands, first = self.standings(), horizon(self.history, self.phase)
        near: list[tuple[int, Arrival]] = []
        for came in (stands[donor.trial_id] for donor in upper):
            at = max((e for e in came if first <= e <= epoch), default=0)
            if at and came[at].checkpoint and came[at].trial != known.trial_id:
                near.append((at, came[at]))
        if not near:
            return {}
        newest = max(at for at, _ in near)  # with one that is behind it loses the epochs in between
        nearest = [found for found in near if found[0] == newest]
        rng = self.draw(known.trial_id, epoch)
        return self._taken(*nearest[int(rng.integers(len(nearest)))], rng) | {
            "before": self.history.trials[known.trial_id].config, "cause": "",
        }  # fmt: skip

    def _taken(self, epoch: int, found: Arrival, rng: np.random.Generator) -> dict[str, Any]:
        """The fields of an exploit that takes over what a member was at an epoch."""
        config = self.history.trials[found.trial].config_at(epoch)
        return {"donor": found.trial, "checkpoint": found.checkpoint, "after": self.explore(config, rng)}

    def replacement(self, trial: TrialHistory, cause: str) -> dict[str, Any] | None:
        """What takes the place of a member that became non-finite or ran out of memory: a copy of a good one as it was
        at this one's newest epoch, or nearest before, else one that begins anew with a good one's config. None when it
        happened too often, or at the very end.
        """
        if sum(e.cause in MENDED for e in trial.exploits) >= REPLACEMENTS or trial.told >= self.phase.epochs:
            return None
        rng = self.draw(trial.trial, trial.told, trial.attempt)
        found: dict[str, Any] = {"epoch": trial.told, "before": trial.config, "cause": cause}
        first = horizon(self.history, self.phase)
        good: list[tuple[int, Arrival]] = []
        for name, came in standings(self.history, self.phase, trial.told + 1).items():
            at = max((epoch for epoch in came if first <= epoch <= trial.told), default=0)
            usable = at and came[at].checkpoint and came[at].trial != trial.trial
            if name != trial.trial and usable and not self._failed_since(came[at].trial, at):
                good.append((at, came[at]))
        if not good:
            return found | {"donor": "", "checkpoint": None, "after": self.explore(self._good_so_far(trial), rng)}
        newest = max(at for at, _ in good)
        nearest = [arrival for at, arrival in good if at == newest]
        nearest.sort(key=lambda arrival: -self._metric_op * arrival.value)
        best = nearest[: math.ceil(self.phase.population * self.phase.quantile)]
        return found | self._taken(newest, best[int(rng.integers(len(best)))], rng)

    def _failed_since(self, name: str, epoch: int) -> bool:
        """Whether what a member was at an epoch has failed on its way from there."""
        trial = self.history.trials[name]
        fails = any(f["attempt"] == trial.attempt and f["failure_kind"] in MENDED for f in trial.failures)
        return fails or any(e.cause in MENDED and e.epoch >= epoch for e in trial.exploits)

    def _good_so_far(self, but: TrialHistory) -> Config:
        """The config of the best other member that has not failed, at the newest epoch to which one came; of one that
        has not reported, where none did."""
        assert self.history.spec is not None
        metric = self.history.spec.metric
        others = [trial for trial in self.history.of_phase(but.phase) if trial is not but]
        others = [trial for trial in others if not self._failed_since(trial.trial, 0)]
        for epoch in range(max(but.told, 1), 0, -1):
            values = [(dict(trial.curve(metric)).get(epoch, math.nan), trial) for trial in others]
            finite = [(self._metric_op * value, trial) for value, trial in values if math.isfinite(value)]
            if finite:
                return max(finite, key=lambda pair: pair[0])[1].config_at(1)
        return others[0].config if others else but.config

    def draw(self, name: str, epoch: int, attempt: int = 0) -> np.random.Generator:
        """What is drawn for a member at an epoch comes from here; `attempt` tells replacements apart."""
        return np.random.default_rng((self.seed, int(name.rpartition("-")[2]), epoch, attempt))


def arrival(trial: TrialHistory, epoch: int) -> float:
    """When a member at work comes to an epoch, by the median time of its epochs: the first has the slot's start too."""
    pace = statistics.median(report.seconds for report in trial.epochs)
    newest = trial.exploits[-1] if trial.exploits else None
    if newest and newest.epoch == trial.told:  # what lies behind its donor is trained again
        return newest.at + pace * (epoch - newest.since)
    return trial.epochs[-1].at + pace * (epoch - trial.told)


NOT_BEGUN = (0, math.inf)
"""The turn of a member that has not begun: after those that were interrupted before they were judged."""


def member(trial: Any) -> Member:
    """Our identity of a Tune trial."""
    return trial if isinstance(trial, Member) else Member(trial.config["order"]["trial"])


def check_ray() -> None:
    """Raises PlanError where Ray's class lacks what ours relies on."""
    lacking = [name for name in RELIED_ON if not hasattr(PopulationBasedTraining, name)]
    if lacking:
        raise PlanError(
            f"evolve: PopulationBasedTraining of ray {ray.__version__} has no {', '.join(lacking)} any more.\n"
            "  Install the ray that constraints.txt names."
        )
