"""The pool: owns a sweep's slots, lends each to one trial at a time, replaces the ones that are lost."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from cluster.local import nodes_now
from sweeps.slots.order import Answer, Order
from sweeps.slots.slot import Slot

CLOSE_S = 10.0
"""A trial that has not let go of its slot after this long loses the slot's process."""
CALL_S = 1800.0
"""A command of the driver's own loads data and trains nothing: one that takes longer hangs."""
INTERRUPTED_S = 1.0
"""How long a slot has to end by itself when the driver is interrupted: the trial goes on from a checkpoint anyhow."""
MAX_STARTS = 3
"""A slot that cannot be started this often in a row is given up, with the reason."""


class NoSlots(Exception):
    """No slot is left, and none can be started; the text says why."""


@dataclass(frozen=True)
class Place:
    """A slot, and the placement group of its workers where they are processes of their own."""

    slot: Any
    group: PlacementGroup | None
    nodes: frozenset[str]
    """Ray's ids of the nodes that its processes are on."""

    async def kill(self, limit_s: float = CLOSE_S) -> None:
        """End the slot and give its resources back: those of a worker group outlive the slot that made it.

        Its workers go with their placement group, and their Ray Train run is given `limit_s` to notice: killed with the
        slot it would leave a process behind on a Ray without a dashboard.
        """
        if self.group is not None:
            remove_placement_group(self.group)
            with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
                await asyncio.wait_for(self.slot.over.remote(), limit_s)
        ray.kill(self.slot)


@ray.remote(num_cpus=0)
class Pool:
    """Owns the slots; lends each to one trial at a time; replaces the ones that are lost."""

    def __init__(self, count: int, resources: dict[str, float], *arguments: Any) -> None:
        """`count` slots of so many `workers` with `cpus` and `gpus` each; `arguments` are the rest of Slot's."""
        self.arguments = arguments
        self.free: list[Place] = []
        self.held: dict[str, Place] = {}
        self.closing: list[Place] = []
        """Those whose trial is being closed."""
        self.ending: set[asyncio.Future[None]] = set()
        """The ends of slots that were lost."""
        self.changed = asyncio.Condition()
        self.verdicts: dict[str, tuple[int, Order | None]] = {}
        """The newest of each holder: after which epoch, and what it is to train instead, if anything."""
        self.leases: dict[str, int] = {}
        """The number of each holder's lease, those before it are refused."""
        self.calls = 0
        self.present: dict[str, int] = {}
        """Leases that have begun to work, by phase."""
        self._open(count, resources)

    def _open(self, count: int, resources: dict[str, float]) -> None:
        self.resources = resources
        alone = resources["workers"] == 1  # the slot is the worker; else its workers hold the resources
        self.claim = {
            "num_cpus": resources["cpus"] if alone else 0,
            "num_gpus": resources["gpus"] if alone else 0,
        }
        self.count = count
        self.alive = 0
        """Slots that are up or being started."""
        self.problem = ""
        self.starting: list[asyncio.Future[None]] = []
        self._fill()

    def _fill(self) -> None:
        """Start as many slots as are lacking."""
        self.starting = [starting for starting in self.starting if not starting.done()]
        while self.alive < self.count:
            self.alive += 1
            self.starting.append(asyncio.ensure_future(self._start()))

    async def renew(self, count: int, resources: dict[str, float]) -> None:
        """End all slots and start so many others, which take these resources."""
        await self.end()
        self._open(count, resources)

    async def follow(self, count: int, nodes: frozenset[str]) -> None:
        """The cluster has changed: let go of idle slots on nodes that are gone, and have so many slots from now on.

        A slot at work is its lease's to replace; one above the count is not replaced.
        """
        gone = [place for place in self.free if not place.nodes <= nodes]
        self.free = [place for place in self.free if place not in gone]
        for place in gone:
            self._end(place)
        self.alive -= len(gone)
        self.count = count
        self.problem = ""
        for starting in self.starting:  # for want of room they may wait for ever
            if self.alive > self.count and starting.cancel():
                self.alive -= 1
        self._fill()

    async def ready(self, limit_s: float) -> int:
        """Wait until every slot is up or given up, but not longer than that; how many are up."""
        await asyncio.wait(self.starting, timeout=limit_s)
        return len(self.free) + len(self.held)

    async def gather(self, phase: str, leases: int) -> None:
        """Wait until so many of the phase's leases are at work, the caller among them."""
        async with self.changed:
            self.present[phase] = self.present.get(phase, 0) + 1
            self.changed.notify_all()
            await self.changed.wait_for(lambda: self.present[phase] >= leases)

    async def post(self, holder: str, epoch: int, order: Order | None) -> None:
        """The driver's verdict after an epoch: go on, or train another order from now on."""
        async with self.changed:
            self.verdicts[holder] = epoch, order
            self.changed.notify_all()

    async def verdict(self, holder: str, epoch: int) -> Order | None:
        """Wait for the verdict after that epoch, unless the slot is taken from the holder; then there is none.

        It stays until the next one, for a lease that asks again.
        """
        async with self.changed:
            await self.changed.wait_for(
                lambda: self.verdicts.get(holder, (0, None))[0] >= epoch or holder not in self.held
            )
            return self.verdicts.get(holder, (0, None))[1]

    async def acquire(self, holder: str, lease: int = 1) -> Any:
        """Lend a free slot, the same again to a holder that has one. Raises NoSlots when all were given up, and
        RuntimeError to a lease of which there is a newer one.

        Where there are none because no node is left that has room for one, it waits for such a node.
        """
        self._check_newest(holder, lease)
        async with self.changed:
            if holder not in self.held:
                await self.changed.wait_for(lambda: self.free or (self.problem and not self.alive))
                self._check_newest(holder, lease)  # its trial may have ended while it waited
                if not self.free:
                    raise NoSlots(self.problem)
                self.held[holder] = self.free.pop()
            return self.held[holder].slot

    async def release(self, holder: str) -> None:
        """Close the trial and free its slot; a slot that does not answer in time is replaced."""
        self.leases[holder] = self.leases.get(holder, 0) + 1  # one that lives on unknown to Ray gets no slot any more
        self.verdicts.pop(holder, None)
        place = self.held.pop(holder, None)  # at once: a trial that was paused may come back before it is closed
        if place is None:
            return
        async with self.changed:
            self.changed.notify_all()
        self.closing.append(place)
        try:
            answer = await asyncio.wait_for(place.slot.command.remote("close"), CLOSE_S)
        except (TimeoutError, ray.exceptions.RayError):
            answer = {"poisoned": True}
        if place not in self.closing:
            return  # the pool has ended meanwhile
        self.closing.remove(place)
        if answer["poisoned"]:
            self._drop(place)
            return
        async with self.changed:
            self.free.append(place)
            self.changed.notify_all()

    def _check_newest(self, holder: str, lease: int) -> None:
        newest = self.leases[holder] = max(lease, self.leases.get(holder, lease))
        if lease < newest:
            raise RuntimeError(f"lease {lease} of {holder} was replaced by lease {newest}")

    async def replace(self, holder: str, lease: int = 1) -> bool:
        """Kill the slot that is held and start another in its place; whether it was lost because a node was.

        Raises RuntimeError as `acquire` does.
        """
        self._check_newest(holder, lease)
        place = self.held.pop(holder, None)
        if place is None:
            return False
        self._drop(place)
        return not place.nodes <= frozenset(await asyncio.to_thread(nodes_now))

    def _drop(self, place: Place) -> None:
        """End a slot, and start another in its place where one is wanted."""
        self._end(place)
        self.alive -= 1
        self._fill()

    def _end(self, place: Place) -> None:
        """End a slot while the pool goes on."""
        ending = asyncio.ensure_future(place.kill())
        self.ending.add(ending)
        ending.add_done_callback(self.ending.discard)

    async def release_all(self) -> None:
        """Free every slot that a trial still holds."""
        await asyncio.gather(*(self.release(holder) for holder in list(self.held)))

    async def end(self, limit_s: float = CLOSE_S) -> None:
        """Let every slot end its Ray Train run by returning, so that it leaves nothing behind in the cluster.

        One that does not within `limit_s` is killed.
        """
        for starting in self.starting:
            starting.cancel()
        places = [*self.free, *self.held.values(), *self.closing]
        self.free, self.held, self.closing = [], {}, []
        async with self.changed:
            self.changed.notify_all()
        self.alive, self.count, self.problem = 0, 0, "the pool has ended"
        ends = (asyncio.wait_for(place.slot.command.remote("exit"), limit_s) for place in places)
        await asyncio.gather(*ends, return_exceptions=True)  # one that does not answer is killed all the same
        await asyncio.gather(*self.ending, *(place.kill(limit_s) for place in places))

    async def call(self, name: str, order: Order) -> Answer:
        """Have any free slot carry out one command for the driver."""
        self.calls += 1
        holder = f"call {self.calls}"
        slot = await self.acquire(holder)
        try:
            return dict(await asyncio.wait_for(slot.command.remote(name, order), CALL_S))
        except TimeoutError:
            raise TimeoutError(f"{name} took longer than {CALL_S:.0f} s") from None
        finally:
            await self.release(holder)

    async def _start(self) -> None:
        for _ in range(MAX_STARTS):
            slot = Slot.options(**self.claim).remote(self.resources, *self.arguments)  # type: ignore[attr-defined]
            try:
                group, nodes = await slot.ready.remote()
            except ray.exceptions.RayError as error:
                problem = f"a slot could not be started: {first_line(error)}"
                continue
            except asyncio.CancelledError:
                ray.kill(slot)
                raise
            async with self.changed:
                self.problem = ""
                self.free.append(Place(slot, group, nodes))
                self.changed.notify_all()
            return
        async with self.changed:
            self.alive -= 1
            self.problem = problem
            self.changed.notify_all()


def first_line(error: Exception) -> str:
    """What Ray says of a lost actor, without its page of identifiers; of an error within it the cause."""
    cause = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return lines[-1] if "creation task" in lines[0] else lines[0]  # what an actor raised as it began stands at the end
