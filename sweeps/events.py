"""What follows from each thing that Ray Tune tells of a phase: lines in the journal, freed slots, another attempt.

Tune decides when to ask for a trial and when to stop one; what became of a trial and whether it is tried again is
decided here, from its reports.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler

from sweeps import halting
from sweeps.engine import Engine
from sweeps.errors import StorageError, SweepFailed, SweepsError
from sweeps.history import LIVE, TrialHistory
from sweeps.population import MENDED, Population
from sweeps.search import Scratch
from sweeps.slots import ASIDE, Order, non_finite

ATTEMPTS = 2
"""A trial that raises is tried this often before it is FAILED."""
NO_CHECKPOINT = (
    "{}: {} has no checkpoint after epoch {}, so no member can take over from another. Its loop never called "
    "session.checkpoint_with."
)
SKIPPED = (
    "{0}: {1} reported epoch {2} and none at {3}, where members are compared. Have its loop report every epoch, or "
    "choose an interval at which it does."
)
LEASE_LOSSES = 6
"""A trial whose leases died this often halts the sweep; Tune may tell of one death twice."""


class Events(Scratch, tune.Callback):  # type: ignore[misc]
    """Writes what Tune tells to the journal, frees slots, and decides what a failure means."""

    def __init__(self, engine: Engine, phase: str) -> None:
        self.engine, self.phase = engine, phase
        self.record = engine.record
        self.retry: Callable[[Order], None] = lambda order: None
        self.problem: SweepsError | None = None
        self.population: Population | None = None
        """The scheduler, where the phase is one of a population."""
        self.last: dict[str, dict[str, Any]] = {}
        self.judged: dict[str, dict[str, Any]] = {}
        self.paused: set[str] = set()
        """Tune's ids of the trials that the scheduler has paused; their slots are free."""
        self.waiting: dict[str, Any] = {}
        """Tune's trials of the members that wait for a donor."""
        self.untold: set[str] = set()
        """Trials whose newest decision is not in the journal yet."""
        self.recovered: dict[str, int] = {}
        self.unreported: dict[str, float] = {}
        """Seconds of work after a trial's last report."""
        self.unequal: set[str] = set()
        """Trials of which an epoch that was trained again came out otherwise."""

    def begin(self, order: Order, role: str) -> None:
        """A trial, or its next attempt, is handed out."""
        schedule = {"configs": order.configs} if order.configs else {}
        self.record.write(
            "trial", phase=self.phase, trial=order.trial, attempt=order.attempt, role=role, config=order.config,
            fidelity=order.fidelity, **schedule,
        )  # fmt: skip

    def settle(self, trial: TrialHistory, saving: Mapping[str, Any]) -> None:
        """Take up a trial of an earlier driver: write what that driver still knew of it, and have it go on.

        The reports are in the journal, but the driver may have died before it wrote what followed from the last one.
        """
        if trial.trial in self.untold:
            self.untold.remove(trial.trial)
            decision = self.judged[trial.trial]
            written = {(line["trial"], line["epoch"]) for line in self.record.history.decisions}
            if (trial.trial, decision["epoch"]) not in written:
                self._write_decision(trial)
        if trial.status not in LIVE:
            self.judged.pop(trial.trial, None)
            return
        order = Order(
            trial.trial, trial.attempt, trial.config, trial.fidelity, trial.resume, told=trial.told, instead=own(trial),
            configs=trial.configs, **saving,
        )  # fmt: skip
        failure = failed(trial)
        self.last[order.holder] = {
            "failure": failure, "done": bool(failure) or bool(trial.epochs and trial.epochs[-1].done),
        }  # fmt: skip
        if failure and self._replace(order, failure):
            return
        status, reason = self._outcome(order)
        if status == "RETRY":
            self.retry(replace(order, attempt=order.attempt + 1))
        elif status == "INTERRUPTED":
            self.retry(order)
        else:
            self._end(order, status, reason)

    def decided(self, trial: str, decision: dict[str, Any]) -> None:
        """The scheduler judged a trial; written after the report that it judged."""
        self.judged[trial] = decision
        self.untold.add(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        order = Order(**trial.config["order"])
        told = json.loads(result["told"])
        failure, judged = told["failure"], result["judged"]
        history = self.record.history.trials[order.trial]
        for loss in told["lost"]:
            self._failure(order, loss, loss["seconds"])
            if loss["kind"] == "donor":
                self._take_back(history)
            if loss["afresh"] and self.population:
                self._begin_afresh(history)
        self._compare(history, told["repeated"])
        for report in told["reports"]:
            self.record.write("report", trial=order.trial, attempt=order.attempt, slot=told["slot"], **report)
            self.engine.keeper.reported(history)
            if failure is None and self.engine.spec.metric not in report["metrics"]:
                self.problem = halting.unknown_metric(self.engine.spec.metric, order.trial, list(report["metrics"]))
        exploits = len(history.exploits)
        if order.trial in self.untold:
            self.untold.remove(order.trial)
            self._write_decision(history)
        waits = self.population is not None and order.trial in self.population.waiting
        if judged and self.population:
            self.problem = self._cannot_evolve(history, self.population) or self.problem
        self.last[order.holder] = {"failure": failure, "done": told["done"]}
        if failure is None:
            self.unreported[order.trial] = self.unreported.get(order.trial, 0.0) + told["seconds"]
        else:
            self._failure(order, failure, told["seconds"])
            if failure["kind"] == "slots":
                self.problem = SweepFailed(f"{failure['message']}. Mend it, then `sweeps resume`.")
            if failure["kind"] == "storage":
                where = f"storage: {self.engine.folder}: {failure['message']}."
                self.problem = StorageError(f"{where} Free space or mend it, then `sweeps resume`.")
            if failure["kind"] == "error" and self._may_try_again(order):
                again = replace(order, attempt=order.attempt + 1, resume=history.resume, told=history.told)
                self.retry(again)
            self._replace(order, failure)
        order_now = self._now(trial)
        for name in result.keys() - {"training_iteration", "done"}:  # Tune would keep a record of each, for ever
            del result[name]
        decision = self.judged.get(order.trial, {})
        paused = decision.get("decision") == TrialScheduler.PAUSE or decision.get("paused", False)
        if waits:
            self.waiting[order.trial] = trial
        elif judged and not paused:
            self._post(order_now, history, exploits)
        self.look()
        if paused and not told["done"]:
            self.paused.add(trial.trial_id)
            trial.set_config({**trial.config, "order": {**order_now, "lease": order.lease + 1}})
            self.engine.pool.release.remote(order.holder)

    def _now(self, trial: Any) -> dict[str, Any]:
        """Have a Tune trial's order say where it stands: a lease that Tune starts again goes on from there."""
        order = trial.config["order"]
        history = self.record.history.trials[order["trial"]]
        found = {
            **order, "config": history.config, "resume": history.resume, "told": history.told,
            "instead": own(history),
        }  # fmt: skip
        trial.set_config({**trial.config, "order": found})
        return found

    def _post(self, order: dict[str, Any], history: TrialHistory, exploits: int) -> None:
        """Let a member go on: as it is, or if it had fewer exploits before, as the order now says."""
        given = Order(**order)
        self.engine.pool.post.remote(given.holder, history.told, given if len(history.exploits) > exploits else None)

    def look(self, *impatient: str, everybody: bool = False) -> None:
        """Let those members go on whose wait for a donor is over, and the given ones."""
        given = tuple(self.waiting) if everybody else impatient
        for name in self.population.reconsider(given) if self.population else ():
            history, trial = self.record.history.trials[name], self.waiting.pop(name)
            exploits = len(history.exploits)
            self.untold.remove(name)
            self._write_decision(history)
            self._post(self._now(trial), history, exploits)

    def _cannot_evolve(self, trial: TrialHistory, population: Population) -> SweepFailed | None:
        """Why no member can ever take over from this one, which came to an epoch at which it is compared."""
        if not trial.checkpoint:
            return SweepFailed(NO_CHECKPOINT.format(self.phase, trial.trial, trial.told))
        if trial.told not in population.phase.judged:
            due = max(epoch for epoch in population.phase.judged if epoch < trial.told)
            return SweepFailed(SKIPPED.format(self.phase, trial.trial, trial.told, due))
        return None

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins, or a paused one goes on: its lease will take any slot."""
        if trial.trial_id in self.paused:
            self.paused.remove(trial.trial_id)
            self.judged.pop(Order(**trial.config["order"]).trial, None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        order = Order(**trial.config["order"])
        self.engine.pool.release.remote(order.holder)
        trial.metric_n_steps.clear()  # means over its last results, which Tune would keep for ever: 3 kB
        status, reason = self._outcome(order)
        if status == "RETRY":
            self.judged.pop(order.trial, None)
            return
        self._end(order, status, reason)

    def _end(self, order: Order, status: str, reason: str) -> None:
        self.judged.pop(order.trial, None)
        last = self.last.pop(order.holder, None)
        self.record.write(
            "end", trial=order.trial, status=status, reason=reason, seconds=self.unreported.pop(order.trial, 0.0),
            whole=status == "FINISHED" and bool(last and last["done"]),
        )  # fmt: skip
        self.engine.keeper.ended(self.record.history.trials[order.trial])
        self._halt_if_in_vain(status)
        self.engine.trial_ended()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A lease died at work: Tune starts another for the trial, which finds its slot still held."""
        order = Order(**trial.config["order"])
        self.look(order.trial)
        trial.set_config({**trial.config, "order": {**trial.config["order"], "lease": order.lease + 1}})
        self._lease_lost(order)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A lease died while it started, which Tune does not try again: the same order is handed out anew."""
        order = Order(**trial.config["order"])
        self._lease_lost(order)
        if self.problem is None:
            told = self.record.history.trials[order.trial].told
            self.retry(replace(order, told=told, lease=order.lease + 1))

    def _compare(self, trial: TrialHistory, repeated: Mapping[str, Mapping[str, Any]]) -> None:
        """Say so, once a trial, when epochs that were trained again came out otherwise than the journal has them."""
        since = trial.exploits[-1].epoch if trial.exploits else 0  # another one's state gives other values before it
        for epoch in (told for told in trial.epochs if told.epoch > since):
            again = {name: float(value) for name, value in repeated.get(str(epoch.epoch), {}).items()}
            other = sorted(
                name
                for name, value in again.items()
                if not name.startswith(ASIDE) and not math.isnan(value) and value != epoch.metrics.get(name)
            )
            if other and trial.trial not in self.unequal:
                self.unequal.add(trial.trial)
                first = other[0]
                message = (
                    f"{trial.trial}: epoch {epoch.epoch} was trained again and gave {first} {again[first]:.6g}, not "
                    f"{epoch.metrics.get(first)}. Does the trial draw from generators that its checkpoint leaves out? "
                    "Has it operations on a GPU that torch.use_deterministic_algorithms(True) refuses?"
                )
                self.record.write("finding", finding="not_repeatable", severity="warn", message=message)

    def _write_decision(self, trial: TrialHistory) -> None:
        """Write what the scheduler decided; an exploit has a kind of its own, for it changes the trial."""
        decision = self.judged[trial.trial]
        if "donor" in decision:
            self.record.write("exploit", trial=trial.trial, attempt=trial.attempt, **decision)
        else:
            self.record.write("decision", trial=trial.trial, **decision)

    def _replace(self, order: Order, failure: Mapping[str, str]) -> bool:
        """Have a copy of a good member take the place of one that failed in a way that is its state's; whether it is
        so. An earlier driver may have written it and not lived to hand it out.
        """
        if self.population is None or failure["kind"] not in MENDED:
            return False
        trial = self.record.history.trials[order.trial]
        if not any(e.cause in MENDED and e.attempt == order.attempt for e in trial.exploits):
            found = self.population.replacement(trial, failure["kind"])
            if found is None:
                return False
            self.record.write("exploit", trial=order.trial, attempt=order.attempt, **found)
        self.last[order.holder] = {**self.last[order.holder], "replaced": True}
        self.retry(
            replace(
                order, attempt=order.attempt + 1, config=trial.config, resume=trial.resume, told=trial.told,
                instead=None, lease=1,
            )
        )  # fmt: skip
        return True

    def _take_back(self, trial: TrialHistory) -> None:
        """Write that a member's donor could not be read, and that it went on as it was."""
        exploit = trial.exploits[-1]
        self.record.write(
            "exploit", trial=trial.trial, attempt=trial.attempt, epoch=exploit.epoch, donor=trial.trial,
            checkpoint=trial.checkpoint, before=exploit.after, after=exploit.before, cause="donor",
        )  # fmt: skip

    def _begin_afresh(self, trial: TrialHistory) -> None:
        """Write that neither a member's own checkpoint nor its donor's could be read: it has no ancestors any more."""
        self.record.write(
            "exploit", trial=trial.trial, attempt=trial.attempt, epoch=trial.told, donor="", checkpoint=None,
            before=trial.config, after=trial.config, cause="torn",
        )  # fmt: skip

    def _lease_lost(self, order: Order) -> None:
        self.recovered[order.holder] = self.recovered.get(order.holder, 0) + 1
        self._failure(order, {"kind": "lease", "error": "LeaseLost", "message": "its lease died"}, 0.0)
        if self.recovered[order.holder] >= LEASE_LOSSES:
            times = f"{order.trial}: its lease died {LEASE_LOSSES} times."
            self.problem = SweepFailed(f"{times} Is the driver's node out of memory?")

    def _outcome(self, order: Order) -> tuple[str, str]:
        """Status and reason of a trial that Tune has ended."""
        report = self.last.get(order.holder)
        if report and report.get("replaced"):
            return "RETRY", ""
        if report and report["failure"]:
            failure = report["failure"]
            if failure["kind"] in ("non_finite", "memory"):
                return "INFEASIBLE", failure["message"]
            if failure["kind"] in ("storage", "slots"):  # nothing that the trial did
                return "INTERRUPTED", failure["message"]
            if failure["kind"] == "error" and self._may_try_again(order):
                return "RETRY", ""
            return "FAILED", f"{failure['error']}: {failure['message']}"
        if report and report["done"]:
            epoch = self.record.history.trials[order.trial].told
            whole = epoch >= order.fidelity["epochs"]
            return "FINISHED", "all epochs" if whole else f"ended by itself at epoch {epoch}"
        if order.trial in self.engine.asked:
            return "FINISHED", "stopped by `sweeps stop`"
        decision = self.judged.get(order.trial)
        if decision and decision["decision"] == TrialScheduler.STOP:
            return "FINISHED", f"stopped at rung {decision['rung']:g}"
        return "INTERRUPTED", self.engine.spent() or "the phase ended"

    def _may_try_again(self, order: Order) -> bool:
        """Whether a trial that raised is tried once more; what replaced a member of a population does not count."""
        raised = [f for f in self.record.history.trials[order.trial].failures if f["failure_kind"] == "error"]
        return len(raised) < ATTEMPTS

    def _failure(self, order: Order, failure: Mapping[str, str], seconds: float) -> None:
        """Write a failure; `seconds` is the work that it cost and that no report counts."""
        self.record.write(
            "failure", trial=order.trial, attempt=order.attempt, failure_kind=failure["kind"], error=failure["error"],
            message=failure["message"], traceback=failure.get("traceback", ""), seconds=seconds,
            log=f"logs/{order.trial}.log",
        )  # fmt: skip

    def _halt_if_in_vain(self, status: str) -> None:
        """Halt when the sweep's first trials all failed alike, or most of a search's first ones gave no value: that
        once, so that a person may go on all the same."""
        history = self.record.history
        drawn = history.phases[self.phase].kind in ("explore", "refine")  # a grid's first trials are alike
        if status == "FAILED" and (why := halting.alike(list(history.trials.values()))):
            self.problem = SweepFailed(why + self.last_failure())
        elif drawn and (why := halting.nothing_works(history.of_phase(self.phase))):
            message = f"{self.phase}: {why}. Narrow the space to what can work; did preflight's warnings say why?"
            self.record.write("finding", finding="nothing_works", severity="block", message=message)
            self.problem = SweepFailed(f"{message} `sweeps resume` goes on all the same.")

    def last_failure(self) -> str:
        """The newest failure's place in the user's code and its log, for an error message."""
        return halting.last_failure(self.record.history, self.engine.folder)


def own(trial: TrialHistory) -> tuple[dict[str, Any], str] | None:
    """Config and checkpoint with which a member goes on where its donor's cannot be read; None where there is no donor
    to be read."""
    newest = trial.exploits[-1] if trial.exploits else None
    if newest is None or newest.cause or newest.checkpoint != trial.resume or trial.checkpoint is None:
        return None
    return newest.before, trial.checkpoint


def failed(trial: TrialHistory) -> dict[str, str] | None:
    """What ended the newest attempt of an unfinished trial, as its slot reported it; None where nothing did."""
    kinds = ("error", "memory", "non_finite")
    final = [f for f in trial.failures if f["attempt"] == trial.attempt and f["failure_kind"] in kinds]
    if final:
        return {"kind": final[-1]["failure_kind"], "error": final[-1]["error"], "message": final[-1]["message"]}
    last = trial.epochs[-1] if trial.epochs else None
    return non_finite(last.epoch, last.metrics) if last and last.attempt == trial.attempt else None
