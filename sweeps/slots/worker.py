"""What runs inside a slot: trials of one trainable, one at a time, whatever happens turned into answers.

User code never raises through here: what it raises comes back as a report with a `failure`. Of several workers each
runs this, in step with the others; they are joined by the process group alone.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import operator
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle

from sweeps.slots.system import Since, system
from sweeps.storage import Folder, RemotePath, first_words, opened, persistently

Answer = dict[str, Any]
ASIDE = ("grad/", "time/", "system/", "hp/")
"""What is reported beside results: a gradient norm may overflow in a step that is then skipped."""


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
    told: int = 0
    """Epochs up to this one are in the journal: they are trained again silently, and leave no checkpoints but it."""

    @property
    def holder(self) -> str:
        """Who holds a slot: an attempt of a trial, so that a late release never touches the next attempt."""
        return f"{self.trial}.{self.attempt}"


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
        from trainables.contract import Fidelity, Session, resolve
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
        self.session = Session(Fidelity(**order.fidelity), self.device, state)
        self.trial = iter(resolve(self._trainable())(order.config, self.session))
        return {"torn": torn}

    def next(self, report_every: float) -> Answer:
        """Train for so many seconds, an epoch at least, and answer with the reports.

        It ends sooner with a checkpoint, which is written before the answer, so that a trial never goes on past a rung
        unjudged; and where the trial ends. `saves` tells whether it has anything to save.
        """
        from trainables import parallel

        began = time.perf_counter()
        while True:
            before = self.epoch
            done, failed = self._epoch()
            saves = self.session.capture is not None
            if done or failed or self.reports[-1]["checkpoint"] or self._rung_since(before):
                return {"reports": self.reports, "done": done or failed is not None, "failure": failed, "saves": saves}
            if parallel.of_first(time.perf_counter() - began >= report_every):
                return {"reports": self.reports, "done": False, "saves": saves}

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
            if due and epoch >= self.order.told and self.session.capture:
                checkpoint = self._save()
                self.saved_at = time.perf_counter()
        seconds = time.perf_counter() - began.wall
        told = {"epoch": epoch, "metrics": metrics, "checkpoint": checkpoint, "seconds": seconds}
        self.reports.append({**told, "done": True} if done else told)
        return done or found is not None, found

    def _rung_since(self, epoch: int) -> bool:
        """Whether one of the epochs after that one is to be judged, or checkpointed for another reason."""
        assert self.order is not None
        return any(epoch < due <= self.epoch for due in self.order.checkpoints)

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

        assert self.order is not None
        pointer = f"checkpoints/{self.order.trial}/{self.epoch}"
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


class StorageFailure(Exception):
    """The sweep's storage failed the trial; the trial itself did nothing wrong."""


@contextlib.contextmanager
def storage_failures() -> Iterator[None]:
    """Tell an error of the storage from one of the trial's own."""
    try:
        yield
    except OSError as error:
        raise StorageFailure(error.strerror or first_words(error)) from error


def failure(error: BaseException) -> dict[str, str]:
    """An exception as data: its kind, type, message, and the traceback without our own machinery."""
    frames = traceback.extract_tb(error.__traceback__)
    machinery = Path(__file__).parents[2] / "trainables"  # its own modules; the examples under it are trainables
    own = [f for f in frames if Path(f.filename) != Path(__file__) and Path(f.filename).parent != machinery]
    return {
        "kind": kind_of(error),
        "error": type(error).__name__,
        "message": str(error) or repr(error),
        "traceback": "".join(traceback.format_list(own)),
    }


def kind_of(error: BaseException) -> str:
    """What a failure means: that of the storage is told first, since its text may be anything."""
    if isinstance(error, StorageFailure):
        return "storage"
    if lost_peer(error):
        return "lost"
    return "memory" if no_memory(error) else "error"


def lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another worker is gone; gloo has no exception of its own for that."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def no_memory(error: BaseException) -> bool:
    """Whether an allocation failed; on the host torch has no exception of its own for that."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def poisons(error: BaseException) -> bool:
    """Whether the process is of no use after an error: the device's context may be broken, its memory in pieces."""
    import torch

    return isinstance(error, torch.AcceleratorError | torch.OutOfMemoryError) and torch.cuda.is_initialized()


def checked(epoch: Any, metrics: Any) -> tuple[int, dict[str, float]]:
    """A report's epoch and metrics as plain numbers. Raises TypeError for what is none, with its name."""
    try:
        number = operator.index(epoch)
    except TypeError:
        raise TypeError(f"epoch {epoch!r} was reported. Report whole epochs, from 1") from None
    if not metrics:
        raise TypeError(f"epoch {number} was reported without metrics. Yield Report(epoch, {{name: value}})")
    found: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"epoch {number}: {name} is {value!r}. Report a number") from None
    return number, found


def non_finite(epoch: int, metrics: Mapping[str, float]) -> dict[str, str] | None:
    """The failure that a report with a result that is not finite means; None where all are."""
    bad = sorted(name for name, value in metrics.items() if not name.startswith(ASIDE) and not math.isfinite(value))
    if not bad:
        return None
    message = f"non-finite {', '.join(bad)} at epoch {epoch}"
    return {"kind": "non_finite", "error": "non-finite", "message": message, "traceback": ""}


def flush() -> None:
    """Flush what was printed; a stream that a trial closed is opened again."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        try:
            getattr(sys, name).flush()
        except ValueError:
            setattr(sys, name, os.fdopen(descriptor, "w", buffering=1, closefd=False))
        except OSError:  # a disk that is full: what it does not take is lost
            pass


@contextlib.contextmanager
def prints_to(path: Path) -> Iterator[None]:
    """Send everything that the process prints meanwhile, libraries and subprocesses included, to the end of a file."""
    flush()
    kept = os.dup(1), os.dup(2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:  # a storage that is full or gone: prints are not worth a trial, the next checkpoint tells
        target = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (target, *kept):
            os.close(descriptor)
