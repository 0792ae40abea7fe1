"""What runs inside a slot: trials of one trainable, one at a time, whatever happens turned into answers.

User code never raises through here: what it raises comes back as a report with a `failure`. Of several workers each
runs this, in step with the others; they are joined by the process group alone.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import cloudpickle

from sweeps.slots.failures import checked, failure, non_finite, poisons, storage_failures
from sweeps.slots.order import Answer, Order
from sweeps.slots.prints import prints_to
from sweeps.slots.system import Since, system
from sweeps.storage import Folder, RemotePath, opened, persistently


class Worker:
    """Runs trials of one trainable on one device, one at a time, and turns whatever happens into answers."""

    def __init__(self, trainable: Any, folder: Folder, device: Any, rank: int = 0, scratch: Path | None = None) -> None:
        """`trainable` by name, as an object, or as one that was pickled; `rank` among several workers.

        `folder` is the sweep's; `scratch` a local one, where the logs of a remote sweep grow before they are stored.
        """
        self.trainable, self.folder, self.device, self.rank = trainable, folder, device, rank
        self.logs: Path = folder / "logs" if isinstance(folder, Path) else (scratch or Path()) / "logs"
        self.home = os.getcwd()
        self.order: Order | None = None
        self.trial: Iterator[Any] | None = None
        self.session: Any = None
        self.epoch = 0
        self.reports: list[dict[str, Any]] = []
        """Of the command that is carried out."""
        self.begun = 0
        """After which epoch the trial began, or its config changed."""
        self.saved_at = 0.0

    def answer(self, name: str, argument: Any) -> Answer:
        """Carry out a command: one of the methods below."""
        began = time.perf_counter()
        self.reports = []
        if name == "start":
            self.order = argument
        log = self.logs / f"{self.order.trial}.log" if self.order else Path(os.devnull)
        if name == "start":
            self._fetch_log(log)
        with prints_to(log):
            try:
                found: Answer = getattr(self, name)(argument)
            except BaseException as error:  # noqa: BLE001  the trial's own code: its sys.exit must not end the slot
                found = {"reports": self.reports, "done": True, "failure": failure(error)}
                found["poisoned"] = poisons(error)
                with contextlib.suppress(OSError):  # the log's disk is full: see prints_to
                    traceback.print_exc()  # into the trial's own log
        if found.get("failure") or any(report["checkpoint"] for report in self.reports) or name == "close":
            self._store_log(log)
        own = {"slot": os.getpid(), "seconds": time.perf_counter() - began}
        return {"reports": [], "failure": None, "poisoned": False, **found, **own}

    def start(self, order: Order) -> Answer:
        """Begin a trial, from a checkpoint if the order names one; closes the one before, if there is one.

        Answers with `torn`, why the checkpoint cannot be read; the trial then begins afresh.
        """
        from trainables.state import CheckpointError

        self._stop()
        os.chdir(self.home)  # wherever the trial before this one went
        state, torn = None, ""
        if order.resume:
            try:
                state = self._load(order.resume)
            except CheckpointError as error:
                torn = str(error)
        self.epoch = int(order.resume.rpartition("/")[2]) if order.resume and state else 0
        self.saved_at = time.perf_counter()
        self._begin(state)
        return {"torn": torn}

    def _begin(self, state: dict[str, Any] | None) -> None:
        """Train from here on with what the order has for it."""
        from trainables.contract import Fidelity, Session, resolve

        assert self.order is not None
        self.session = Session(Fidelity(**self.order.fidelity), self.device, state)
        self.trial = iter(resolve(self._trainable())(self.order.config_after(self.epoch), self.session))
        self.begun = self.epoch

    def next(self, report_every: float) -> Answer:
        """Train for so many seconds, an epoch at least, and answer with the reports.

        It ends sooner with a checkpoint, which is written before the answer, so that a trial never goes on past a rung
        unjudged; and where the trial ends. `saves` tells whether it has anything to save.
        """
        from trainables import parallel

        began = time.perf_counter()
        self._change()
        while True:
            before = self.epoch
            done, failed = self._epoch()
            saves = self.session.capture is not None
            if done or failed or self.reports[-1]["checkpoint"] or self._rung_since(before):
                return {"reports": self.reports, "done": done or failed is not None, "failure": failed, "saves": saves}
            if parallel.of_first(time.perf_counter() - began >= report_every):
                return {"reports": self.reports, "done": False, "saves": saves}

    def _change(self) -> None:
        """Where the config is another one from here on, begin anew with that one, from the checkpoint of this epoch.

        The command before has ended with it, so that of several workers each finds it whole.
        """
        assert self.order is not None
        if self.epoch not in self.order.changes or self.begun == self.epoch:
            return
        if self.session.capture is None:
            raise RuntimeError(
                f"the config cannot change after epoch {self.epoch}: its loop never called session.checkpoint_with"
            )
        state = self._load(self._pointer())
        self._stop()
        self._begin(state)

    def _pointer(self) -> str:
        """The checkpoint of the trial's newest epoch."""
        assert self.order is not None
        return f"checkpoints/{self.order.trial}/{self.epoch}"

    def _epoch(self) -> tuple[bool, dict[str, str] | None]:
        """Train one epoch and add its report to those of the command: whether the trial is done, and what failed it."""
        from trainables import parallel
        from trainables.contract import Report

        assert self.trial is not None
        assert self.order is not None
        began = Since.now()
        report = next(self.trial, None)
        if report is None:  # a loop of the user's own that stopped by itself
            if self.epoch == 0:
                raise RuntimeError("the trial ended without a single Report. Yield one after each epoch")
            return True, None
        if not isinstance(report, Report):
            raise TypeError(f"the trial yielded a {type(report).__name__}. Yield Report(epoch, {{name: value}})")
        epoch, metrics = checked(report.epoch, report.metrics)
        metrics = {**system(began, self.device), **metrics}
        if epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} was reported after epoch {self.epoch}. Report each epoch once, from 1")
        before, self.epoch = self.epoch, epoch
        done = self.epoch >= self.session.fidelity.epochs or report.done
        found, checkpoint = non_finite(epoch, metrics), None
        if not found:
            late = time.perf_counter() - self.saved_at >= self.order.checkpoint_s
            due = done or self._rung_since(before) or parallel.of_first(late)
            # The journal has newer ones; its own of epochs that it trains again may be of what it was before.
            again = epoch <= self.order.told and epoch not in self.order.changes
            if due and not again and self.session.capture:
                checkpoint = self._save()
                self.saved_at = time.perf_counter()
        seconds = time.perf_counter() - began.wall
        told = {"epoch": epoch, "metrics": metrics, "checkpoint": checkpoint, "seconds": seconds}
        self.reports.append({**told, "done": True} if done else told)
        return done or found is not None, found

    def _rung_since(self, epoch: int) -> bool:
        """Whether one of the epochs after that one is to be judged, or checkpointed for another reason."""
        assert self.order is not None
        return any(epoch < due <= self.epoch for due in (*self.order.checkpoints, *self.order.changes))

    def close(self, _: None) -> Answer:
        """End the trial by closing its generator."""
        self._stop()
        self.order = None
        return {}

    def standard(self, _: Order) -> Answer:
        """The standard hyperparameters with the loop's defaults: asked here, so that the driver needs no torch."""
        from trainables.hyperparameters import STANDARD

        return {"standard": STANDARD}

    def describe(self, order: Order) -> Answer:
        """What a trial of this config will take: rows, parameters, bytes; {} for a loop of the user's own."""
        from trainables.contract import Fidelity, instantiate
        from trainables.footprint import describe
        from trainables.probes import device_bytes

        found = self._trainable()
        if inspect.isgeneratorfunction(found):
            return {"footprint": {}}
        told = describe(instantiate(found), order.config, Fidelity(**order.fidelity), self.device)
        return {"footprint": {**asdict(told), "device_bytes": device_bytes(self.device)}}

    def audit(self, order: Order) -> Answer:
        """What is wrong with the data of this config (`trainables.audit`); {} for a loop of the user's own."""
        from trainables.audit import audit
        from trainables.contract import Fidelity, instantiate

        found = self._trainable()
        if inspect.isgeneratorfunction(found):
            return {"audit": {}}
        return {"audit": asdict(audit(instantiate(found), order.config, Fidelity(**order.fidelity)))}

    def probe(self, order: Order) -> Answer:
        """What preflight asks of this config (`trainables.probes`); {} for a loop of the user's own."""
        from trainables import parallel
        from trainables.contract import Fidelity, instantiate
        from trainables.probes import probe

        found = self._trainable()
        if inspect.isgeneratorfunction(found):
            return {"probes": {}}
        with parallel.alone():  # each worker for itself: the checks part ways where their numbers differ
            return {"probes": asdict(probe(instantiate(found), order.config, Fidelity(**order.fidelity), self.device))}

    def batch_curve(self, order: Order) -> Answer:
        """Throughput and memory against the batch size (`trainables.batch_curve`), of each worker by itself; {} where
        the model is sharded, so that one out of memory would leave the others waiting."""
        from trainables import parallel
        from trainables.batch_curve import batch_curve
        from trainables.contract import Fidelity, instantiate

        if parallel.shards():
            return {"curve": {}}
        found, fidelity = instantiate(self._trainable()), Fidelity(**order.fidelity)
        with parallel.alone():
            return {"curve": asdict(batch_curve(found, order.config, fidelity, self.device, share=order.share))}

    def lr_range(self, order: Order) -> Answer:
        """The learning-rate range test of this config (`trainables.lr_range`); all workers take part."""
        from trainables.contract import Fidelity, instantiate
        from trainables.lr_range import lr_range

        found = lr_range(instantiate(self._trainable()), order.config, Fidelity(**order.fidelity), self.device)
        return {"range": asdict(found)}

    def evaluate(self, order: Order) -> Answer:
        """The test split's metrics of a finished trial's weights."""
        from trainables.contract import Fidelity, Session, instantiate
        from trainables.evaluation import evaluate_split

        assert order.resume is not None
        session = Session(Fidelity(**order.fidelity), self.device, self._load(order.resume))
        return {"metrics": evaluate_split(instantiate(self._trainable()), order.config, session, "test")}

    def errors(self, order: Order) -> Answer:
        """Where a finished trial's weights err on the validation rows; {} for a loop of the user's own."""
        from trainables.contract import Fidelity, Session, instantiate
        from trainables.error_analysis import error_analysis

        found = self._trainable()
        if inspect.isgeneratorfunction(found) or order.resume is None:
            return {"errors": {}}
        session = Session(Fidelity(**order.fidelity), self.device, self._load(order.resume))
        return {"errors": asdict(error_analysis(instantiate(found), order.config, session))}

    def _trainable(self) -> Any:
        """The trainable itself; found here and not before, so that what goes wrong with that is an answer."""
        from trainables.contract import load

        if isinstance(self.trainable, bytes):
            self.trainable = cloudpickle.loads(self.trainable)
        return load(self.trainable) if isinstance(self.trainable, str) else self.trainable

    def _stop(self) -> None:
        trial, self.trial, self.session = self.trial, None, None
        if trial is not None and hasattr(trial, "close"):
            trial.close()

    def _load(self, pointer: str) -> dict[str, Any]:
        from trainables import state

        where = self.folder / pointer
        with storage_failures():
            return dict(persistently(lambda: state.load(*opened(where)), where))

    def _save(self) -> str:
        from trainables import state

        pointer = self._pointer()
        captured = self.session.capture()  # all workers take part
        where = self.folder / pointer
        with storage_failures():
            state.save(captured, *opened(where), self.epoch, lambda write: persistently(write, where))
        return pointer

    def _fetch_log(self, log: Path) -> None:
        """Have what a trial that goes on has printed in both places: here, where it grows, and in the storage.

        Another node may have begun it; a slot that was lost stored nothing after its last checkpoint.
        """
        assert self.order is not None
        again = self.order.attempt > 1 or self.order.resume
        if again and log.exists():
            self._store_log(log)
        elif again and isinstance(self.folder, RemotePath) and self.rank == 0:
            with contextlib.suppress(OSError):  # none was stored: a slot that is killed stores none
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_bytes((self.folder / "logs" / log.name).read_bytes())

    def _store_log(self, log: Path) -> None:
        if isinstance(self.folder, RemotePath) and self.rank == 0 and log.is_file() and log.stat().st_size:
            with contextlib.suppress(OSError):  # prints are not worth a trial; a storage that is gone stops it anyway
                (self.folder / "logs" / log.name).write_bytes(log.read_bytes())
