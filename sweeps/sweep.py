"""The sweep: the recipe through the phases, and what a person asks of the result.

`Sweep(spec).run()` goes the way of the data once: plan, slots, phases, verdict, report. Everything it learns is in the
journal; `Sweep.open(path)` reads it from there, of a finished sweep or of one that still runs.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import ray

from cluster.local import connect, in_job
from sweeps import requests, tracking, warm_start
from sweeps.best import Best
from sweeps.engine import Engine, replan
from sweeps.errors import StorageError, SweepFailed, SweepsError, UsageError
from sweeps.foresight import MEASURE_S, foresee
from sweeps.history import History, Record, TrialHistory
from sweeps.insight import verdict as verdicts
from sweeps.insight.curves import best_trial
from sweeps.insight.diagnose import as_table, diagnose
from sweeps.insight.lineage import schedule
from sweeps.insight.runs import of_history
from sweeps.insight.search import with_lengths
from sweeps.journal import now
from sweeps.launch import inspect_trainable, pool_of, standard_hyperparameters
from sweeps.phases import advice, audit, confirm, evolve, explore, grid, preflight, refine, replay
from sweeps.plan import (
    UNKNOWN,
    baseline_of,
    earlier_seconds_per_epoch,
    make_plan,
    needs,
    render,
    sized,
    slots_on,
)
from sweeps.provenance import header, note_changed_code
from sweeps.report import html
from sweeps.report.live import Live
from sweeps.report.summary import summary
from sweeps.resume import accepted, extended, replayed
from sweeps.retention import Keeper
from sweeps.spec import SweepSpec, name_of
from sweeps.storage import Folder, find_sweep, new_sweep_folder, storage_folder
from sweeps.tracking import registry
from sweeps.tracking.views import pages

if TYPE_CHECKING:
    import pyarrow as pa

RUN: Mapping[str, Any] = {
    "audit": audit.run,
    "preflight": preflight.run,
    "explore": explore.run,
    "refine": refine.run,
    "grid": grid.run,
    "evolve": evolve.run,
    "confirm": confirm.run,
    "replay": replay.run,
}
DRAIN_S, STALLED_S = 120.0, 20.0
"""How long the end of a sweep waits for MLflow to catch up, and for one that takes nothing: the writer goes on by
itself."""
READY_S = 30.0
"""How long the first slots wait for the last ones: what others hold of a shared cluster may stay held."""
INTERRUPTED_DRAIN_S = 4.0
"""After Ctrl-C; the writer goes on by itself."""


class Sweep:
    """A sweep, to be run or already in a folder."""

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self._history: History | None = None

    @classmethod
    def open(cls, path: str | Folder) -> Sweep:
        """The sweep in a folder, finished or running. Raises StorageError when there is none."""
        history = History.open(find_sweep(path))
        if history.spec is None:
            raise SweepFailed(f"the journal of {path} has not begun: its run ended at once. Run the sweep anew.")
        sweep = cls(history.spec)
        sweep._history = history
        return sweep

    @classmethod
    def quick(cls, trainable: Any, space: Mapping[str, Any], *, hours: float, **fields: Any) -> Sweep:
        """A sweep for people in a hurry: the default phases, as long as the hours allow, ended when they are spent.

        Trains the baseline on this machine for up to 20 s to size the phases. A loop of the user's own cannot be
        measured so: an earlier sweep of it tells the time, else the phases keep their default length. `fields` are
        further keys of the spec (`metric`, `mode`, `baseline`, `storage` …). Raises PlanError when the hours are too
        few, UsageError when the baseline fails.
        """
        if not isinstance(hours, int | float) or not hours > 0:
            raise UsageError(f"hours: {hours!r} is not a number above 0. Give e.g. hours=0.5.")
        spec = SweepSpec(trainable=trainable, space=space, **fields)
        plan = None if "phases" in fields else foresee(spec, MEASURE_S)
        if plan is None or plan.seconds_per_epoch is None:
            return cls(spec.model_copy(update={"budget": spec.budget.model_copy(update={"hours": hours})}))
        return cls(sized(spec, hours, plan.phases[0].concurrency, plan.seconds_per_epoch))

    @property
    def history(self) -> History:
        """What the journal says so far. Raises UsageError before the sweep was run."""
        if self._history is None:
            raise UsageError("this sweep has not run yet. Call .run(), or Sweep.open(path).")
        return self._history

    @property
    def folder(self) -> Folder:
        """The sweep's folder: a `Path`, or for a remote storage an object that prints as its URI."""
        return self.history.folder

    @property
    def verdict(self) -> verdicts.Verdict | None:
        """What the confirm phase showed; None without one, or before it ended."""
        line = self.history.verdict
        return verdicts.read(line) if line else None

    @property
    def best(self) -> Best:
        """The confirmed winner, else the best trial of the last search. Raises SweepFailed when there is none."""
        trial = best_trial(self.history)
        if trial is None:
            raise SweepFailed("no trial has a result yet.")
        return self._as_best(trial)

    def _as_best(self, trial: TrialHistory) -> Best:
        checkpoint = self.folder / trial.checkpoint if trial.checkpoint else None
        saved = next((epoch for epoch in reversed(trial.epochs) if epoch.checkpoint), trial.epochs[-1])
        configs = schedule(self.history, trial)
        return Best(
            trial.trial, trial.config, configs if len(configs) > 1 else (), saved.metrics, checkpoint,
            self.spec.trainable, trial.fidelity,
        )  # fmt: skip

    def table(self) -> pa.Table:
        """Every report as an Arrow table: trial, phase, epoch, …, metrics under their names, `config/…`."""
        return self.history.table()

    def diagnose(self) -> pa.Table:
        """What each trial that has reported suffered from: trial, finding, severity, message, its likeliest first."""
        return as_table(diagnose(run) for run in of_history(self.history))

    def report(self) -> Path:
        """Write the report from the journal as it stands, of a remote sweep here and there; its path here."""
        return html.write(self.history, self.folder)

    def register(self, name: str | None = None, *, alias: str = registry.ALIAS, tracking: str | None = None) -> str:
        """Make the best's model a version of a registered model in MLflow; its reference, models:/<name>/<version>.

        The name is the spec's unless given, MLflow the one that the sweep is in. The alias points to the version
        afterwards, also when the same model was registered before, which makes no second one. What no verdict stands
        behind is registered as not confirmed. Raises UsageError for a loop of the user's own, TrackingError when
        MLflow lacks the trial or the model cannot be exported.
        """
        best = self.best
        best.check()
        return registry.register(
            self.history, self.history.trials[best.trial], self.spec.name if name is None else name, alias, tracking
        )

    def run(self, *, out: TextIO | None = None, began: float | None = None) -> Sweep:
        """Run all phases and return this sweep. `out` gets the live view and the answer; `began` is when the user did.

        Raises UsageError before anything is written when the call cannot work, SweepFailed when the sweep halts.
        """
        out = out or sys.stdout
        storage = storage_folder(self.spec.storage)
        if in_job() and isinstance(storage, Path) and not Path(self.spec.storage).is_absolute():
            say(out, f"storage: {storage} goes away with the job's files; give an absolute --storage that lasts.")
        began = began or now()
        with (
            new_folder(storage, self.spec.name) as folder,
            warm_start.resolved(self.spec, folder, partial(say, out)) as (spec, origins),
        ):
            return self._drive(spec, out, began, folder, origins)

    def resume(self, *, spec: SweepSpec | None = None, out: TextIO | None = None, began: float | None = None) -> Sweep:
        """Go on with a sweep that was interrupted, killed or halted, to its end, and return this sweep.

        Ended trials stay as they are; each unfinished one goes on from its newest checkpoint that the journal names.
        `spec` may differ from the sweep's own in what changes no result: budget, resources, tracking, which checkpoints
        are kept. Raises UsageError when there is nothing to resume, StorageError when a driver is at work on it.
        """
        if self.history.status == "FINISHED":
            raise UsageError(f"{self.folder} has finished. `sweeps extend` adds trials to it.")
        return self._go_on(self._accepted(spec), out, began)

    def extend(
        self, trials: int, *, spec: SweepSpec | None = None, out: TextIO | None = None, began: float | None = None
    ) -> Sweep:
        """Give the last search phase of a finished sweep so many more trials, confirm anew, and return this sweep.

        `spec` may have another budget, as in `resume`. Raises UsageError for a sweep that has not finished, or whose
        last search was a grid.
        """
        if self.history.status != "FINISHED":
            raise UsageError(f"{self.folder} has not finished. `sweeps resume` it first.")
        return self._go_on(extended(self._accepted(spec), trials), out, began)

    def replay(
        self, trial: str, *, seeds: int = 3, spec: SweepSpec | None = None, out: TextIO | None = None,
        began: float | None = None,
    ) -> Sweep:  # fmt: skip
        """Train a trial of a finished sweep again from scratch, by the schedule that its chain of ancestors had, over
        so many seeds, its own first; return this sweep, with a phase more and the finding `replayed`.

        `spec` may have another budget, as in `resume`. Raises UsageError for a sweep that has not finished, or that
        has no such trial with a result.
        """
        if self.history.status != "FINISHED":
            raise UsageError(f"{self.folder} has not finished. `sweeps resume` it first.")
        known = self.history.trials.get(trial)
        if known is None or not replay.may(known, self.spec.metric):
            near = difflib.get_close_matches(trial, list(self.history.trials), n=1)
            mend = f"Did you mean {near[0]}?" if known is None and near else "`sweeps report` shows those that have."
            raise UsageError(f"trial: {self.folder} has no {trial} with a result. {mend}")
        return self._go_on(replayed(self._accepted(spec), trial, seeds), out, began)

    def _accepted(self, spec: SweepSpec | None) -> SweepSpec:
        """The spec to go on with, where a person may give one anew; it refers to what the sweep began with."""
        return accepted(self.spec, warm_start.meant(spec, warm_start.origins_of(self.history))) if spec else self.spec

    def _go_on(self, spec: SweepSpec, out: TextIO | None, began: float | None) -> Sweep:
        folder, out = self.folder, out or sys.stdout
        if name_of(spec.trainable).startswith("__main__:"):
            raise UsageError(f"{name_of(spec.trainable)} was defined in a script. Put it in a module, and run anew.")
        record = Record(folder)
        try:
            origins = warm_start.origins_of(record.history)
            return self._drive(spec, out, began or now(), folder, origins, record)
        finally:
            record.close()

    def _drive(
        self,
        spec: SweepSpec,
        out: TextIO,
        began: float,
        folder: Folder,
        origins: Sequence[warm_start.Origin],
        record: Record | None = None,
    ) -> Sweep:
        """Be the sweep's driver; `record` is that of a sweep that has begun, `origins` where its weights come from."""
        if spec.tracking:
            tracking.check(spec.tracking)
        say(out, f"sweep {spec.name}: starting Ray …")
        cluster = connect()
        try:
            measured = record.history.measured if record else {}
            need = needs(spec, cluster.nodes.values(), measured)
            slots = slots_on(cluster.nodes.values(), spec, need)
            make_plan(spec, slots)  # refuses what cannot fit
            say(out, f"Ray is up; starting {slots} slots …")
            with (
                tempfile.TemporaryDirectory() as scratch,
                pool_of(spec, slots, need, folder, scratch) as (pool, pool_name),
            ):
                standard = standard_hyperparameters(pool)
                baseline = baseline_of(spec, standard)
                say(out, "the first slot is up; building the baseline's data and model …")
                footprint = inspect_trainable(spec, baseline, pool)
                device_bytes = footprint.pop("device_bytes", 0)
                footprint |= measured
                if spec.resources.gpus_per_worker == "auto":
                    footprint["gpus"] = need["gpus"]
                earlier = earlier_seconds_per_epoch(spec, folder.parent)
                seconds, basis = (earlier[0], f"as in {earlier[1]}") if earlier else (None, UNKNOWN)
                plan = make_plan(spec, slots, footprint, seconds, basis)
                up = ray.get(pool.ready.remote(READY_S))
                if up < slots:
                    say(out, f"{up} of {slots} slots are up; the others join as soon as the cluster has room for them.")
                record = record or Record(folder)
                self._history = record.history
                code_before = record.history.header.get("git")
                header(record, spec, slots, cluster, began, origins, standard if "parameters" in footprint else {})
                self.spec = spec
                note_changed_code(record, code_before)
                record.write("plan", **plan.document())
                say(out, f"sweep in {folder}\n{render(plan, spec)}")
                keeper = Keeper(record)
                keeper.clean()
                requests.taken(folder)  # what was asked of an earlier driver
                engine = Engine(
                    with_lengths(spec, record.history.lengths),
                    baseline,
                    folder,
                    record,
                    keeper,
                    pool,
                    pool_name,
                    cluster.nodes,
                    slots,
                    footprint,
                    frozenset(standard),
                    Path(scratch),
                )
                if measured:  # on another machine another share
                    engine.share(measured["peak_bytes"], device_bytes)
                if spec.budget.hours is not None:
                    spent = sum(driver.last - driver.began for driver in record.history.drivers[:-1])
                    engine.deadline = began + spec.budget.hours * 3600 - spent
                self._phases(engine, out)
        finally:
            cluster.close()
        return self

    def _phases(self, engine: Engine, out: TextIO) -> None:
        """Run the phases with MLflow and the live view beside them; close whatever happens."""
        spec, record = self.spec, engine.record
        uri = spec.tracking or tracking.default_uri(engine.folder)
        writer = tracking.Writer(engine.folder, uri)
        engine.beside = writer.mind
        status, reason = "INTERRUPTED", "interrupted"
        try:
            with Live(record.history, out, record.lock) as live:
                engine.trial_ended = partial(replan, engine)
                engine.note = live.note
                for number in range(len(spec.phases)):
                    phase = engine.spec.phases[number]  # which advice may have given other epochs
                    RUN[phase.kind](engine, phase)
                    if engine.spent():
                        break
            if not engine.spent():
                advice.conclude(engine)
            engine.keeper.clean()
            status, reason = ("INTERRUPTED", engine.spent()) if engine.spent() else ("FINISHED", "all phases")
        except Exception as error:
            status, reason = "FAILED", str(error) if isinstance(error, SweepsError) else repr(error)
            raise
        finally:
            try:
                with contextlib.closing(record):
                    record.write("end", status=status, reason=reason, time=split(record.history, engine.slots))
                try:
                    report = str(self.report())
                except StorageError as error:
                    report = f"not written: {error}"
            finally:  # whatever became of the storage
                problem = writer.finish(INTERRUPTED_DRAIN_S if reason == "interrupted" else DRAIN_S, STALLED_S)
            command = tracking.open_command(engine.folder, uri)
            answer = summary(record.history, report=report, open_command=command, pages=pages(record.history, uri))
            say(out, answer)
            if problem:
                print(problem, file=sys.stderr, flush=True)


@contextlib.contextmanager
def new_folder(storage: Folder, name: str) -> Iterator[Folder]:
    """A new sweep's folder; removed again when the sweep never began to write its journal."""
    there = storage.exists() if isinstance(storage, Path) else True
    folder = new_sweep_folder(storage, name)
    try:
        yield folder
    finally:
        if isinstance(folder, Path) and not (folder / "journal").exists():
            with contextlib.suppress(OSError):  # not empty: then it holds something worth a look
                folder.rmdir()
                if not there:
                    folder.parent.rmdir()


def say(out: TextIO, text: str) -> None:
    """Print; a sweep goes on without its terminal, as the live view does."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=out, flush=True)


def split(history: History, slots: int) -> dict[str, float]:
    """How the wall time of all drivers divides: start-up until the slots are ready, training in them, the rest."""
    wall = max(0.0, now() - history.drivers[-1].last) + sum(driver.last - driver.began for driver in history.drivers)
    startup = sum(driver.ready - driver.began for driver in history.drivers)
    training = history.seconds / max(slots, 1)
    return {
        "wall_s": wall, "startup_s": startup, "training_s": training, "bookkeeping_s": wall - startup - training,
        "slots": slots, "gpu_hours": history.gpu_hours,
    }  # fmt: skip
