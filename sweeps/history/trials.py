"""One trial as the journal has it: its reports, what it was trained with when, how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.journal import Line
from sweeps.space import Config, Configs

Mode = Literal["min", "max"]
Status = Literal["RUNNING", "FINISHED", "INFEASIBLE", "FAILED", "INTERRUPTED"]
LIVE = ("RUNNING", "INTERRUPTED")
"""A trial that is at work, or that a later driver goes on with."""


@dataclass(frozen=True)
class Epoch:
    """One report: the metrics after an epoch."""

    epoch: int
    metrics: dict[str, float]
    at: float
    seconds: float
    attempt: int
    checkpoint: str | None
    slot: int
    """Process id of the slot that trained it."""
    done: bool = False
    """Whether the trial ended with it, as it tells itself."""


@dataclass(frozen=True)
class Exploit:
    """A member of a population took over another one's state, with a config mutated from that one's."""

    epoch: int
    """The member's newest epoch then: the later ones are trained with the new config."""
    attempt: int
    donor: str
    """The other member; empty where none had a state to give."""
    checkpoint: str | None
    """The donor's, with which the member goes on; None: it begins anew."""
    before: Config
    after: Config
    cause: str
    """What kind of failure this mends; empty where the member was among the worst."""
    at: float

    @property
    def since(self) -> int:
        """The epoch of the state that it took over; 0 where it begins anew."""
        return int(self.checkpoint.rpartition("/")[2]) if self.checkpoint else 0


@dataclass
class TrialHistory:
    """One trial: its config, its curve, how it ended."""

    trial: str
    phase: str
    role: str
    """`baseline`, `sobol`, `tpe`, `old_space`, `grid`, or in confirm the trial whose config runs again."""
    config: Config
    """With which it goes on, or ended."""
    fidelity: dict[str, Any]
    """`epochs`, `data_fraction`, `seed`; `classes` where a phase has fewer than all."""
    started: float
    attempt: int = 1
    epochs: list[Epoch] = field(default_factory=list)
    failures: list[Line] = field(default_factory=list)
    exploits: list[Exploit] = field(default_factory=list)
    status: Status = "RUNNING"
    reason: str = ""
    """Why it ended: `all epochs`, `rung 3`, `non-finite val/loss`, an error's text."""
    ended: float | None = None
    whole: bool = False
    """Whether it ran to its end: all its epochs, or as long as a loop of the user's own wanted."""
    unreported: float = 0.0
    """Seconds of work after its last report."""
    header: Line = field(default_factory=dict)
    """The `sweep` line of the driver that it was handed out by last: code and versions of its numbers."""
    configs: Configs = ()
    """Where it follows a schedule: what it is trained with after each of these epochs, from 0 on."""
    data: str = ""
    """The data set's digest then; empty where a loop of the user's own reads it."""

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(epoch, value) of every report that has the metric."""
        return [(e.epoch, e.metrics[metric]) for e in self.epochs if metric in e.metrics]

    def reached(self, metric: str) -> tuple[int, float] | None:
        """Its last value and the epoch at which that stands; None without one.

        That is its last epoch; of a trial that ended by itself the fidelity's last, for more would not change it.
        """
        curve = self.curve(metric)
        if not curve:
            return None
        return max(curve[-1][0], self.fidelity["epochs"] if self.whole else 0), curve[-1][1]

    def best(self, metric: str, mode: Mode) -> tuple[int, float] | None:
        """(epoch, value) of the best finite report, the earliest of equals; None when there is none."""
        finite = [(epoch, value) for epoch, value in self.curve(metric) if math.isfinite(value)]
        if not finite:
            return None
        return min(finite, key=lambda point: (point[1] if mode == "min" else -point[1], point[0]))

    @property
    def told(self) -> int:
        """The newest epoch that the journal has; 0 before the first."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def checkpoint(self) -> str | None:
        """The newest checkpoint that the journal names."""
        return next((e.checkpoint for e in reversed(self.epochs) if e.checkpoint), None)

    def checkpoint_at(self, epoch: int) -> str | None:
        """The checkpoint that came with that epoch's report."""
        return next((found.checkpoint for found in reversed(self.epochs) if found.epoch == epoch), None)

    def config_at(self, epoch: int) -> Config:
        """The config with which that epoch was, or would be trained; of epoch 0 the first."""
        if self.configs:
            return next((config for since, config in reversed(self.configs) if since < epoch), self.configs[0][1])
        later = (exploit.before for exploit in self.exploits if exploit.epoch >= epoch)
        return next(later, self.config)

    @property
    def resume(self) -> str | None:
        """The checkpoint that it goes on from: its newest, or the donor's that it has been given since."""
        if self.exploits and self.exploits[-1].epoch >= max((e.epoch for e in self.epochs if e.checkpoint), default=0):
            return self.exploits[-1].checkpoint
        return self.checkpoint

    @property
    def seconds(self) -> float:
        """Wall seconds that the trial worked in its slots, what failures cost it included."""
        reported = sum(e.seconds for e in self.epochs)
        return reported + sum(float(f["seconds"]) for f in self.failures) + self.unreported
