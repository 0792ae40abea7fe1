"""What phases run on: the sweep's record, its pool of slots, its limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from cluster.local import nodes_now
from sweeps import requests
from sweeps.errors import PlanError
from sweeps.history import Record
from sweeps.insight.memory import within
from sweeps.journal import now
from sweeps.plan import Node, fitting, make_plan, needs, render, seconds_per_epoch, slots_on
from sweeps.retention import Keeper
from sweeps.slots import Order, first_line
from sweeps.space import Config, Space
from sweeps.spec import SweepSpec
from sweeps.storage import Folder

LOOK_S = 2.0
"""Between two looks at the cluster's nodes and at what `sweeps stop` asks."""
REMOTE_LOOK_S = 10.0
"""The same where a look is a call to an object store."""
FIRST_TRIALS = 4
"""After so many ended trials the plan is made again with the time they took."""
CALLS = 3
"""So many slots may be lost over one command."""


@dataclass
class Engine:
    """What a phase runs on: the sweep's record, its pool of slots, its limits."""

    spec: SweepSpec
    baseline: Config
    folder: Folder
    record: Record
    keeper: Keeper
    pool: Any
    pool_name: tuple[str, str]
    nodes: Mapping[str, Node]
    """What there is to run on, by Ray's id of the node."""
    slots: int
    footprint: dict[str, Any]
    """What a trial of the baseline takes: rows, parameters, bytes; empty for a loop of the user's own."""
    loop: Collection[str]
    """The names of the hyperparameters that the platform's loop reads."""
    scratch: Path
    deadline: float | None = None
    """Unix seconds at which the budget's wall time is spent."""
    trial_ended: Callable[[], None] = lambda: None
    """Called after each trial's end is written."""
    note: Callable[[str], None] = lambda text: None
    """Tells the person who watches."""
    beside: Callable[[], None] = lambda: None
    """Sees, every few seconds, to what runs beside the phases."""
    asked: set[str] = field(default_factory=set)
    """Trials that `sweeps stop` named, or the whole sweep."""
    _next_look: float = 0.0

    def foretell(self, seconds_per_epoch: float, basis: str) -> None:
        """Make the plan again with a time that was measured, write it and show it."""
        try:
            plan = make_plan(self.spec, self.slots, self.footprint, seconds_per_epoch, basis)
        except PlanError as error:  # it will not fit the budget of hours: go on until that is spent, but say so now
            self.note(str(error))
            return
        self.record.write("plan", **plan.document())
        self.note(render(plan, self.spec))

    def share(self, peak_bytes: int, device_bytes: int) -> None:
        """Take up what memory a trial was measured to need; where the spec asks for it, trials then share GPUs.

        No trial may hold a slot.
        """
        before = needs(self.spec, self.nodes.values(), self.footprint)
        self.footprint |= {"peak_bytes": peak_bytes, "device_bytes": device_bytes}
        after = needs(self.spec, self.nodes.values(), self.footprint)
        if after == before:
            return
        self.footprint["gpus"] = after["gpus"]
        self.slots = slots_on(self.nodes.values(), self.spec, after)
        ray.get(self.pool.renew.remote(self.slots, after))
        each = f"{peak_bytes / 2**20:,.0f} of {device_bytes / 2**20:,.0f} MiB"
        self.note(f"a trial takes {each}: {after['gpus']:g} of a GPU each, {self.slots} trials at a time")

    def within_memory(self, config: Config, space: Space) -> Config:
        """The config, with a smaller batch where the same model is known to have no memory for its own."""
        return within(config, space, self.record.history, self.loop)

    def look_around(self) -> None:
        """What the driver sees to beside the trials, at most once in so many seconds: nodes that came or went, and what
        `sweeps stop` asked for."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + (LOOK_S if isinstance(self.folder, Path) else REMOTE_LOOK_S)
        self._follow(nodes_now())
        self.beside()
        self.asked |= requests.taken(self.folder)

    def _follow(self, nodes: Mapping[str, Node]) -> None:
        """Fit the pool to the nodes that there are now."""
        if nodes.keys() == self.nodes.keys():
            return
        came, left = len(nodes.keys() - self.nodes.keys()), len(self.nodes.keys() - nodes.keys())
        self.nodes = nodes
        room = fitting(nodes.values(), needs(self.spec, nodes.values(), self.footprint))
        self.slots = min(room, self.spec.resources.concurrency or room)
        ray.get(self.pool.follow.remote(self.slots, frozenset(nodes)))
        self.record.write("pool", slots=self.slots, nodes=len(nodes), came=came, left=left)
        changes = " and ".join(f"{count} {what}" for count, what in ((came, "joined"), (left, "left")) if count)
        outlook = "trials at a time: " + str(self.slots) if self.slots else "no room for a trial: waiting for a node"
        self.note(f"nodes: {changes}; {outlook}")

    def call(self, name: str, order: Order) -> dict[str, Any]:
        """Have a free slot carry out a command, another one when that is lost over it; an answer with a `failure` when
        it cannot be done."""
        for _ in range(CALLS):
            pending = self.pool.call.remote(name, order)
            while not ray.wait([pending], timeout=LOOK_S)[0]:
                self.look_around()
            try:
                return dict(ray.get(pending))
            except ray.exceptions.RayError as error:
                message = f"its slot was lost: {first_line(error)}"
                if isinstance(error, TimeoutError):  # another slot would take as long
                    break
        return {"failure": {"kind": "lost", "error": "SlotLost", "message": message}}

    def spent(self) -> str:
        """Which part of the budget is used up, as a sentence; empty while there is some left."""
        if requests.WHOLE in self.asked:
            return "stopped by `sweeps stop`"
        if self.deadline is not None and now() >= self.deadline:
            return f"the budget of {self.spec.budget.hours:g} hours is spent"
        limit = self.spec.budget.gpu_hours
        if limit is not None and self.record.history.gpu_hours >= limit:
            return f"the budget of {limit:g} GPU-hours is spent"
        return ""


def replan(engine: Engine) -> None:
    """After the first trials, make the plan again with the time they took, once."""
    history = engine.record.history
    if len(history.trials) > FIRST_TRIALS + engine.slots:  # long past: a look at each would cost more with every trial
        return
    if sum(trial.status != "RUNNING" for trial in history.trials.values()) != FIRST_TRIALS:
        return
    measured = seconds_per_epoch(history)
    if measured is not None:
        engine.foretell(measured, f"measured on the first {FIRST_TRIALS} trials")
