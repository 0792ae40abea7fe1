"""The lease: what Ray Tune takes for the trial. Thin: it forwards each step to the slot that it holds.

At an epoch that is judged it asks the pool for the driver's verdict before it goes on, which may be another order: a
member of a population then goes on in the same slot with another one's state.

It takes its slot at the first step, never in `setup` or `reset_config`, because Tune starts actors that it then does
not use. A slot that dies or misses its deadline is replaced here, and the trial goes on from its newest checkpoint,
without Tune noticing; epochs that were told before are trained again silently. So a Tune failure is a lost lease only.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.exceptions import GetTimeoutError, RayError

from sweeps.journal import finite
from sweeps.slots import Answer, NoSlots, Order, first_line

LONGEST_EPOCHS = 5
"""An epoch may take so many times the trial's longest so far, and no less than the least deadline."""
GATHER_S = 30.0
"""A lease's first report waits so long for the phase's other leases to start."""
MAX_LOSSES = 3
"""A trial that lost this many slots is FAILED: it is likely the one that kills them."""


class WorkerLost(Exception):
    """One of the slot's workers is gone, and the others cannot go on without it."""


class Lease(tune.Trainable):  # type: ignore[misc]
    """Forwards one trial after another to slots of the pool named in its config."""

    def setup(self, config: dict[str, Any]) -> None:
        self.pool: Any = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self.order = Order(**config["order"])
        self.metric: str = config["metric"]
        self.pool_name: tuple[str, str] = tuple(config["pool"])
        self.leases: tuple[str, int] = tuple(config["leases"])
        self.report_every: float = config["report_every"]
        self.first_deadline: float = config["first_deadline"]
        self.least_deadline: float = config["least_deadline"]
        self.save_deadline: float = config["save_deadline"]
        self.epoch = self.order.told
        self.asks = False
        """Whether the driver's verdict after `epoch` comes before the next one."""
        self.slot: Any = None
        self.longest = 0.0
        """Seconds of this slot's longest epoch, with its checkpoint where one was written."""
        self.unsaved = True
        """Whether this slot has not written a checkpoint yet and may."""
        self.seconds = 0.0
        self.losses: list[str] = []
        self.lost: list[dict[str, Any]] = []
        """What went wrong in this step and was mended here."""
        self.repeated: dict[int, dict[str, float]] = {}
        """Metrics of epochs trained again in this step."""

    def step(self) -> dict[str, Any]:
        """Some epochs of the trial: the last one's `epoch` and `value` (the sweep's metric), the reports as JSON."""
        all_at_work = None
        if self.pool is None:
            self.pool = ray.get_actor(*self.pool_name)
            all_at_work = self.pool.gather.remote(*self.leases)
        self.lost, self.repeated = [], {}
        if self.asks and (order := ray.get(self.pool.verdict.remote(self.order.holder, self.epoch))):
            self.order, self.slot = order, None  # the pool lends it the same slot again
        before = self.epoch
        while True:
            try:
                answer = self._advance()
                break
            except GetTimeoutError:
                message = f"the slot did not answer within {self._deadline():.0f} s"
            except NoSlots as error:
                failure = {"kind": "slots", "error": "NoSlots", "message": first_line(error), "traceback": ""}
                answer = {"reports": [], "done": True, "failure": failure, "slot": 0}
                break
            except (RayError, WorkerLost) as error:
                message = f"the slot was lost: {first_line(error)}"
            self.slot = None
            its_node = ray.get(self.pool.replace.remote(self.order.holder, self.order.lease))
            if its_node:  # nothing that the trial did
                self._lose("node", "NodeLost", "the slot's node was lost")
                continue
            self._lose("lost", "SlotLost", message)
            self.losses.append(message)
            if len(self.losses) >= MAX_LOSSES:
                failure = {"kind": "lost", "error": "SlotLost", "message": "; ".join(self.losses), "traceback": ""}
                answer = {"reports": [], "done": True, "failure": failure, "slot": 0}
                break
        if all_at_work is not None:  # else Tune would hand the next trial to this lease and kill one that still starts
            ray.wait([all_at_work], timeout=GATHER_S)
        reports = answer["reports"]
        if reports:
            self.epoch = reports[-1]["epoch"]
            self.seconds -= sum(report["seconds"] for report in reports)
            if answer["failure"] is None:  # which has them otherwise
                reports[0]["seconds"] += self.seconds  # the start, what was trained again, the way
                self.seconds = 0.0
            if reports[-1]["checkpoint"]:
                self.order = replace(self.order, resume=reports[-1]["checkpoint"], instead=None)
        self.asks = not answer["done"] and any(before < due <= self.epoch for due in self.order.judged)
        told = {name: answer[name] for name in ("reports", "done", "failure", "slot")}
        result = {
            "epoch": self.epoch,
            "told": json.dumps(finite({**told, "seconds": self.seconds, "lost": self.lost, "repeated": self.repeated})),
            "judged": self.asks,
            "done": answer["done"],
        }
        self.seconds = 0.0
        if answer["failure"] is None and reports and self.metric in reports[-1]["metrics"]:
            result["value"] = reports[-1]["metrics"][self.metric]
        return result

    def _advance(self) -> Answer:
        """The next epochs that were not told yet, on a slot taken and started if need be."""
        if self.slot is None:
            self.slot = ray.get(self.pool.acquire.remote(self.order.holder, self.order.lease))
            self.longest, self.unsaved = 0.0, True
            order = replace(self.order, told=self.epoch)
            answer = self._answer(self.slot.command.remote("start", order), self.first_deadline)
            if answer["failure"]:
                return answer
            if answer["torn"] and self.order.instead:
                self._lose("donor", "CheckpointError", f"it goes on with its own state: {answer['torn']}")
                config, resume = self.order.instead
                self.order = replace(self.order, config=config, resume=resume, instead=None)
                self.slot = None
                return self._advance()
            if answer["torn"]:
                self._lose("lost", "CheckpointError", f"it begins afresh: {answer['torn']}", afresh=True)
        while True:
            me = self.order.holder, self.order.lease
            answer = self._answer(self.slot.next.remote(me, self.report_every), self._deadline())
            self.longest = max([self.longest, *(report["seconds"] for report in answer["reports"])])
            self.unsaved &= answer.get("saves", True) and not any(report["checkpoint"] for report in answer["reports"])
            again = [report for report in answer["reports"] if report["epoch"] <= self.epoch]
            self.repeated |= {report["epoch"]: report["metrics"] for report in again}
            answer["reports"] = answer["reports"][len(again) :]
            if answer["failure"] or answer["done"] or answer["reports"]:
                return answer

    def _lose(self, kind: str, error: str, message: str, afresh: bool = False) -> None:
        """Note a loss for the journal, with the work that it cost, and whether the trial begins afresh."""
        self.lost.append(
            {"kind": kind, "error": error, "message": message, "seconds": self.seconds, "afresh": afresh}
        )  # fmt: skip
        self.seconds = 0.0

    def _answer(self, pending: Any, timeout: float) -> Answer:
        """The slot's answer to a command; its time counts, also when the slot is lost over it.

        Raises RayError for a slot that is lost or late, WorkerLost for one that has lost one of its workers.
        """
        began = time.perf_counter()
        try:
            answer: Answer = ray.get(pending, timeout=timeout)
        except RayError:
            self.seconds += time.perf_counter() - began
            raise
        self.seconds += answer["seconds"]
        if answer["failure"] and answer["failure"]["kind"] == "lost":
            raise WorkerLost(answer["failure"]["message"])
        return answer

    def _deadline(self) -> float:
        if not self.longest:
            return self.first_deadline
        epoch = max(self.least_deadline, LONGEST_EPOCHS * self.longest)
        return self.report_every + epoch + (self.save_deadline if self.unsaved else 0.0)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune asks at a trial's end; our checkpoints are in the sweep's storage."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""
