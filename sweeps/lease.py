"""The lease: what Ray Tune takes for the trial. Thin: it forwards each step to the slot that it holds.

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
from sweeps.slots import Answer, Order

FIRST_STEP_S = 1800.0
"""The first epoch after a start may load data and compile: its deadline is generous."""
LEAST_DEADLINE_S = 60.0
LONGEST_EPOCHS = 5
"""A later epoch may take five times the trial's longest so far, and at least a minute."""
MAX_LOSSES = 3
"""A trial that lost this many slots is FAILED: it is likely the one that kills them."""


class Lease(tune.Trainable):  # type: ignore[misc]
    """Forwards one trial after another to slots of the pool named in its config."""

    def setup(self, config: dict[str, Any]) -> None:
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self.order = Order(**config["order"])
        self.metric: str = config["metric"]
        self.pool_name: tuple[str, str] = tuple(config["pool"])
        self.epoch = self.order.told
        self.slot: Any = None
        self.longest = 0.0
        self.seconds = 0.0
        self.losses: list[str] = []
        self.lost: list[dict[str, Any]] = []
        """What went wrong in this step and was mended here."""
        self.repeated: dict[int, dict[str, float]] = {}
        """Metrics of epochs trained again in this step."""

    def step(self) -> dict[str, Any]:
        """One epoch of the trial: `epoch`, `value` (the sweep's metric, when finite), the report as JSON."""
        pool = ray.get_actor(*self.pool_name)
        self.lost, self.repeated = [], {}
        while True:
            try:
                report = self._advance(pool)
                break
            except GetTimeoutError:
                self._lose("SlotLost", f"the slot did not answer within {self._deadline():.0f} s")
            except RayError as error:
                self._lose("SlotLost", f"the slot was lost: {first_line(error)}")
            self.slot = None
            ray.get(pool.replace.remote(self.order.holder))
            self.losses.append(self.lost[-1]["message"])
            if len(self.losses) >= MAX_LOSSES:
                failure = {"kind": "lost", "error": "SlotLost", "message": "; ".join(self.losses), "traceback": ""}
                report = {
                    "epoch": self.epoch,
                    "metrics": {},
                    "done": True,
                    "failure": failure,
                    "checkpoint": None,
                    "slot": 0,
                }
                break
        report["seconds"] = self.seconds
        self.seconds = 0.0
        self.epoch = report["epoch"]
        if report["checkpoint"]:
            self.order = replace(self.order, resume=report["checkpoint"])
        result = {
            "epoch": self.epoch,
            "report": json.dumps(finite(report)),
            "lost": json.dumps(self.lost),
            "repeated": json.dumps(finite(self.repeated)),
            "done": report["done"],
        }
        if report["failure"] is None and self.metric in report["metrics"]:
            result["value"] = report["metrics"][self.metric]
        return result

    def _advance(self, pool: Any) -> Answer:
        """The next epoch that was not told yet, on a slot taken and started if need be."""
        if self.slot is None:
            self.slot = ray.get(pool.acquire.remote(self.order.holder))
            self.longest = 0.0
            answer = self._command("start", replace(self.order, told=self.epoch), timeout=FIRST_STEP_S)
            if answer["failure"]:
                return answer
            if answer["torn"]:
                self._lose("CheckpointError", f"it begins afresh: {answer['torn']}")
        while True:
            answer = self._command("next", timeout=self._deadline())
            self.longest = max(self.longest, answer["seconds"])
            if answer["failure"] or answer["done"] or answer["epoch"] > self.epoch:
                return answer
            self.repeated[answer["epoch"]] = answer["metrics"]

    def _lose(self, error: str, message: str) -> None:
        """Note a loss for the journal, with the work that it cost."""
        self.lost.append({"kind": "lost", "error": error, "message": message, "seconds": self.seconds})
        self.seconds = 0.0

    def _command(self, name: str, *arguments: Any, timeout: float) -> Answer:
        """Have the slot carry out a command; its time counts, also when the slot is lost over it."""
        began = time.perf_counter()
        try:
            answer: Answer = ray.get(self.slot.command.remote(name, *arguments), timeout=timeout)
        except RayError:
            self.seconds += time.perf_counter() - began
            raise
        self.seconds += answer["seconds"]
        return answer

    def _deadline(self) -> float:
        return max(LEAST_DEADLINE_S, LONGEST_EPOCHS * self.longest) if self.longest else FIRST_STEP_S

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune asks at a trial's end; our checkpoints are in the sweep's storage."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""


def first_line(error: RayError) -> str:
    """What Ray says of a lost actor, without its page of identifiers; of an error within it the cause."""
    return str(getattr(error, "cause", None) or error).strip().splitlines()[0]
