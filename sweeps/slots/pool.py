"""The pool: owns a sweep's slots, lends each to one trial at a time, replaces the ones that are lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from sweeps.slots.slot import Slot
from sweeps.slots.worker import Answer, Order

CLOSE_S = 10.0
"""A trial that has not let go of its slot after this long loses the slot's process."""
CALL_S = 1800.0
"""A command of the driver's own loads data and trains nothing: one that takes longer hangs."""
INTERRUPTED_S = 1.0
"""How long a slot has to end by itself when the driver is interrupted: the trial goes on from a checkpoint anyhow."""
MAX_STARTS = 3
"""A slot that cannot be started this often in a row is given up, with the reason."""


@dataclass(frozen=True)
class Place:
    """A slot, and the placement group of its workers where they are processes of their own."""

    slot: Any
    group: PlacementGroup | None

    def kill(self) -> None:
        """End the slot and give its resources back: those of a worker group outlive the slot that made it."""
        ray.kill(self.slot)
        if self.group is not None:
            remove_placement_group(self.group)


@ray.remote(num_cpus=0)
class Pool:
    """Owns the slots; lends each to one trial at a time; replaces the ones that are lost."""

    def __init__(self, count: int, resources: dict[str, float], *arguments: Any) -> None:
        """`count` slots of so many `workers` with `cpus` and `gpus` each; `arguments` are the rest of Slot's."""
        self.arguments = arguments
        self.free: list[Place] = []
        self.held: dict[str, Place] = {}
        self.changed = asyncio.Condition()
        self._open(count, resources)

    def _open(self, count: int, resources: dict[str, float]) -> None:
        self.resources = resources
        alone = resources["workers"] == 1  # the slot is the worker; else its workers hold the resources
        self.claim = {
            "num_cpus": resources["cpus"] if alone else 0,
            "num_gpus": resources["gpus"] if alone else 0,
        }
        self.alive = count
        """Slots that are up or being started; the rest was given up."""
        self.problem = ""
        self.starting = [asyncio.ensure_future(self._start()) for _ in range(count)]

    async def renew(self, count: int, resources: dict[str, float]) -> None:
        """End all slots and start so many others, which take these resources."""
        await self.end()
        self._open(count, resources)

    async def ready(self, limit_s: float) -> int:
        """Wait until every slot is up or given up, but not longer than that; how many are up."""
        done, _ = await asyncio.wait(self.starting, timeout=limit_s)
        return sum(starting.result() for starting in done)

    async def acquire(self, holder: str) -> Any:
        """Lend a free slot, the same again to a holder that has one. Raises RuntimeError when all were given up."""
        async with self.changed:
            if holder not in self.held:
                await self.changed.wait_for(lambda: self.free or not self.alive)
                if not self.free:
                    raise RuntimeError(self.problem)
                self.held[holder] = self.free.pop()
            return self.held[holder].slot

    async def release(self, holder: str) -> None:
        """Close the trial and free its slot; a slot that does not answer in time is replaced."""
        place = self.held.get(holder)
        if place is None:
            return
        try:
            answer = await asyncio.wait_for(place.slot.command.remote("close"), CLOSE_S)
        except (TimeoutError, ray.exceptions.RayError):
            answer = {"poisoned": True}
        if answer["poisoned"]:
            await self.replace(holder)
            return
        async with self.changed:
            if self.held.pop(holder, None) is not None:
                self.free.append(place)
                self.changed.notify_all()

    async def replace(self, holder: str) -> None:
        """Kill the slot that is held and start another in its place."""
        place = self.held.pop(holder, None)
        if place is not None:
            place.kill()
            self.starting.append(asyncio.ensure_future(self._start()))

    async def release_all(self) -> None:
        """Free every slot that a trial still holds."""
        await asyncio.gather(*(self.release(holder) for holder in list(self.held)))

    async def end(self, limit_s: float = CLOSE_S) -> None:
        """Let every slot end its Ray Train run by returning, so that it leaves nothing behind in the cluster.

        One that does not within `limit_s` is killed.
        """
        for starting in self.starting:
            starting.cancel()
        places = [*self.free, *self.held.values()]
        self.free, self.held, self.alive, self.problem = [], {}, 0, "the pool has ended"
        ends = (asyncio.wait_for(place.slot.command.remote("exit"), limit_s) for place in places)
        await asyncio.gather(*ends, return_exceptions=True)  # one that does not answer is killed all the same
        for place in places:
            place.kill()

    async def call(self, name: str, order: Order) -> Answer:
        """Have any free slot carry out one command for the driver."""
        slot = await self.acquire(order.holder)
        try:
            return dict(await asyncio.wait_for(slot.command.remote(name, order), CALL_S))
        finally:
            await self.release(order.holder)

    async def _start(self) -> bool:
        for _ in range(MAX_STARTS):
            slot = Slot.options(**self.claim).remote(self.resources, *self.arguments)  # type: ignore[attr-defined]
            try:
                group = await slot.ready.remote()
            except ray.exceptions.RayError as error:
                problem = f"a slot could not be started: {error}"
                continue
            async with self.changed:
                self.free.append(Place(slot, group))
                self.changed.notify_all()
            return True
        async with self.changed:
            self.alive -= 1
            self.problem = problem
            self.changed.notify_all()
        return False
