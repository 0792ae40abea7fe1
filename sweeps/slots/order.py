"""What the driver tells a slot to train, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What a slot is told to train. Everything but `config` is the platform's; paths are relative to the sweep's."""

    trial: str
    attempt: int
    config: dict[str, Any]
    fidelity: dict[str, Any]
    resume: str | None = None
    checkpoints: tuple[float, ...] = ()
    """Epochs that are checkpointed, each with the first report that reaches it; the last epoch always is."""
    checkpoint_s: float = math.inf
    """Any other epoch is checkpointed when it ends so long after the newest checkpoint."""
    lease: int = 1
    """Which lease of the attempt this is: one that died for Ray may live on behind a network that is cut."""
    judged: tuple[int, ...] = ()
    """Epochs after which the trial goes on only with the driver's verdict; they are checkpointed as well."""
    instead: tuple[dict[str, Any], str] | None = None
    """Config and checkpoint of its own, to go on with where `resume`, another trial's, cannot be read."""
    configs: tuple[tuple[int, dict[str, Any]], ...] = ()
    """What it is trained with after each of these epochs, the first of which is 0, where that changes; else `config`.
    Each of them is checkpointed as well: the trial begins anew from there."""
    share: float = 1.0
    """Of its host's memory, the part that each worker may take, where a command asks for it."""
    told: int = 0
    """Epochs up to this one are in the journal: they are trained again silently, and leave no checkpoints."""

    @property
    def holder(self) -> str:
        """Who holds a slot: an attempt of a trial, so that a late release never touches the next attempt."""
        return f"{self.trial}.{self.attempt}"

    def config_after(self, epoch: int) -> dict[str, Any]:
        """What it is trained with after that epoch; 0 is its start."""
        return next((config for since, config in reversed(self.configs) if since <= epoch), self.config)

    @property
    def changes(self) -> tuple[int, ...]:
        """The epochs after which its config is another one."""
        return tuple(epoch for epoch, _ in self.configs[1:])
