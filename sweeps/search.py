"""Searchers: what to try next. Proposers know the space and the record; PhaseSearcher puts one behind Ray Tune.

A proposer is a function of the trial's number (and, for TPE, of the journal so far), so that the same sweep with the
same seed proposes the same again. None waits: there is always a next trial while the phase has one left.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from sweeps.slots import Order
from sweeps.space import Choice, Config, Configs, Space


@dataclass(frozen=True)
class Proposal:
    """A config to try, the role it plays (`baseline`, `sobol`, `tpe`, …) and the seed to train it with."""

    role: str
    config: Config
    seed: int
    configs: Configs = ()
    """Where it is a schedule: what to train with after each of these epochs, from 0 on."""


Proposer = Callable[[int], Proposal]
"""The proposal for the trial of that number in its phase, from 0."""


def listed(proposals: Sequence[Proposal], first: int = 0) -> Proposer:
    """Proposals that are known beforehand: a grid, the arms of confirm; `first` is the number of the first."""
    return lambda number: proposals[number - first]


def sobol(space: Space, seed: int) -> Callable[[int], Config]:
    """Configs at the points of a scrambled Sobol sequence: as random as random search, without its gaps and clumps.

    Owen scrambling as in scipy.stats.qmc; Bergstra & Bengio 2012 and the Deep Learning Tuning Playbook recommend
    quasi-random search for exploration.
    """
    from scipy.stats import qmc

    engine = qmc.Sobol(d=len(space.searched), scramble=True, rng=np.random.default_rng(seed))
    points: list[Sequence[float]] = []

    def config(number: int) -> Config:
        while number >= len(points):
            points.extend(engine.random(64).tolist())
        return space.decode(points[number])

    return config


def tpe(space: Space, ranked: Callable[[], Sequence[Config]], seed: int) -> Callable[[int], Config]:
    """Configs from hyperopt's Tree-structured Parzen Estimator (Bergstra et al. 2011) over the unit cube.

    `ranked` gives the configs tried so far, best first; those outside the space are left out. TPE uses the order
    only, so the position in the ranking is its loss. Its history is built anew for each suggestion, and its seed is
    drawn from (seed, number): nothing is remembered that the journal does not hold.
    """
    import hyperopt
    from hyperopt import hp
    from hyperopt.base import JOB_STATE_DONE, STATUS_OK, Domain, Trials

    dimensions = {
        name: hp.randint(name, len(domain.choice))
        if isinstance(domain := space[name], Choice)
        else hp.uniform(name, 0, 1)
        for name in space.searched
    }
    problem = Domain(lambda point: 0.0, dimensions)

    def coordinate(name: str, value: float) -> float | int:
        domain = space[name]
        return int(value * len(domain.choice)) if isinstance(domain, Choice) else value

    def back(name: str, value: float) -> float:
        domain = space[name]
        return (value + 0.5) / len(domain.choice) if isinstance(domain, Choice) else float(value)

    def config(number: int) -> Config:
        documents: list[dict[str, Any]] = []
        for loss, known in enumerate(ranked()):
            point = space.encode(known)
            if point is None:
                continue
            tid = len(documents)
            values = {name: [coordinate(name, point[name])] if name in point else [] for name in dimensions}
            misc = {"tid": tid, "cmd": None, "idxs": {n: [tid] * len(v) for n, v in values.items()}, "vals": values}
            result = {"loss": float(loss), "status": STATUS_OK}
            documents.append(
                {"tid": tid, "spec": None, "result": result, "misc": misc, "state": JOB_STATE_DONE, "owner": None,
                 "book_time": None, "refresh_time": None, "exp_key": None, "version": 0}
            )  # fmt: skip
        trials = Trials()
        trials.insert_trial_docs(documents)
        trials.refresh()
        draw = int(np.random.default_rng((seed, number)).integers(2**31))
        suggested = hyperopt.tpe.suggest([len(documents)], problem, trials, draw, n_startup_jobs=4, verbose=False)
        values = suggested[0]["misc"]["vals"]
        return space.decode({name: back(name, float(values[name][0])) for name in dimensions if values[name]})

    return config


class Scratch:
    """What Tune pickles of the parts it is given goes into a record of its own that nobody reads: nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class PhaseSearcher(Scratch, Searcher):  # type: ignore[misc]
    """Gives Tune the phase's trials in order, those to be tried again first."""

    def __init__(
        self,
        phase: str,
        count: int,
        propose: Proposer,
        fidelity: Mapping[str, Any],
        common: Mapping[str, Any],
        begin: Callable[[Order, str], None],
        saving: Mapping[str, Any],
        limit: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """No more than `limit()` trials are at work at a time. `begin(order, role)` is called as each trial is handed
        out; `common` goes into every lease's config, `saving` into every order: when it is checkpointed.
        """
        super().__init__(metric="value", mode="max")
        self.phase, self.count, self.propose = phase, count, propose
        self.fidelity, self.common, self.begin = fidelity, common, begin
        self.saving, self.limit = saving, limit
        self.number = 0
        self.live: set[str] = set()
        self.paused: set[str] = set()
        """Those of the live ones that hold no slot."""
        self.roles: dict[str, str] = {}
        self.again: deque[Order] = deque()
        self.turn: Callable[[], str | None] = self.in_order
        """Whose turn is next: a trial of `again` by name, empty for a new one, None for none."""

    def suggest(self, trial_id: str) -> Any:
        if len(self.live - self.paused) >= self.limit():
            return None
        turn = self.turn()
        if turn is None:
            return None if self.live else Searcher.FINISHED  # a live trial may still come back to be tried again
        if turn:
            order = next(order for order in self.again if order.trial == turn)
            self.again.remove(order)
        else:
            proposal = self.propose(self.number)
            order = Order(
                trial=f"{self.phase}-{self.number:03d}",
                attempt=1,
                config=proposal.config,
                fidelity={**self.fidelity, "seed": proposal.seed},
                configs=proposal.configs,
                **self.saving,
            )
            self.roles[order.trial] = proposal.role
            self.number += 1
        self.live.add(trial_id)
        self.begin(order, self.roles[order.trial])
        return {**self.common, "order": asdict(order)}

    def in_order(self) -> str | None:
        """The turn of those that are to be tried again, then of the new ones."""
        return self.again[0].trial if self.again else "" if self.number < self.count else None

    def resume(self, roles: Mapping[str, str]) -> None:
        """Go on after the trials of these names, in order, which an earlier driver handed out in these roles."""
        self.roles.update(roles)
        self.number = len(roles)

    def retry(self, order: Order) -> None:
        """Hand this order out next."""
        self.again.append(order)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.live.discard(trial_id)
        self.paused.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""
