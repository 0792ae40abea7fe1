"""The pool of slots, and what runs inside one. The only module that knows ray.train.

Tune keeps no process for us between trials, phases or at a barrier, and a Ray Train run costs seconds to start. So the
sweep owns slots for its whole life: Ray actors with the trial's real resources, each with one long Ray Train run whose
loop takes commands from a mailbox. A trial then starts in milliseconds, on a warm process and device.

    lease ── acquire / replace ──► Pool ── owns ──► Slot ── mailbox ──► serve(): Worker
      └────────────── command("start" | "next") ─────►┘

User code never raises through here: what it raises comes back as a report with a `failure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import operator
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

Answer = dict[str, Any]
CLOSE_S = 10.0
"""A trial that has not let go of its slot after this long loses the slot's process."""
CALL_S = 1800.0
"""A command of the driver's own loads data and trains nothing: one that takes longer hangs."""
ASIDE = ("grad/", "time/", "system/", "hp/")
"""What is reported beside results: a gradient norm may overflow in a step that is then skipped."""
MAX_STARTS = 3
"""A slot that cannot be started this often in a row is given up, with the reason."""


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

    @property
    def holder(self) -> str:
        """Who holds a slot: an attempt of a trial, so that a late release never touches the next attempt."""
        return f"{self.trial}.{self.attempt}"


class Mailbox:
    """Joins the slot's command thread with the Ray Train loop in the same process (local mode, one worker)."""

    def __init__(self) -> None:
        self.commands: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()


def serve(loop_config: dict[str, Any]) -> None:
    """The per-worker loop of one long Ray Train run: a command in, an answer out, until `exit`."""
    from ray.train.torch import get_device

    mailbox: Mailbox = loop_config["mailbox"]
    worker = Worker(loop_config["trainable"], Path(loop_config["folder"]), get_device())
    while True:
        name, argument = mailbox.commands.get()
        if name == "exit":
            mailbox.answers.put({})
            return
        mailbox.answers.put(worker.answer(name, argument))


class Worker:
    """Runs trials of one trainable on one device, one at a time, and turns whatever happens into answers."""

    def __init__(self, trainable: Any, folder: Path, device: Any) -> None:
        """`trainable` by name, as an object, or as one that was pickled."""
        self.trainable, self.folder, self.device = trainable, folder, device
        self.home = os.getcwd()
        self.order: Order | None = None
        self.trial: Iterator[Any] | None = None
        self.session: Any = None
        self.epoch = 0

    def answer(self, name: str, argument: Any) -> Answer:
        """Carry out a command: `start`, `next`, `close`, `standard`, `describe`, `probe` or `evaluate`."""
        began = time.perf_counter()
        if name == "start":
            self.order = argument
        log = self.folder / "logs" / f"{self.order.trial}.log" if self.order else Path(os.devnull)
        with prints_to(log):
            try:
                found: Answer = getattr(self, name)(argument)
            except BaseException as error:  # noqa: BLE001  the trial's own code: its sys.exit must not end the slot
                found = {"epoch": self.epoch, "metrics": {}, "done": True, "failure": failure(error)}
                traceback.print_exc()  # into the trial's own log
        own = {"slot": os.getpid(), "seconds": time.perf_counter() - began}
        return {"checkpoint": None, "failure": None, **found, **own}

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
        self.session = Session(Fidelity(**order.fidelity), self.device, state)
        self.trial = iter(resolve(self._trainable())(order.config, self.session))
        return {"torn": torn}

    def next(self, _: None) -> Answer:
        """Train one epoch; write the checkpoint that is due before answering with its report."""
        from trainables.contract import Report

        assert self.trial is not None
        assert self.order is not None
        report = next(self.trial, None)
        if report is None:  # a loop of the user's own that stopped by itself
            if self.epoch == 0:
                raise RuntimeError("the trial ended without a single Report. Yield one after each epoch")
            return {"epoch": self.epoch, "metrics": {}, "done": True}
        if not isinstance(report, Report):
            raise TypeError(f"the trial yielded a {type(report).__name__}. Yield Report(epoch, {{name: value}})")
        epoch, metrics = checked(report.epoch, report.metrics)
        if epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} was reported after epoch {self.epoch}. Report each epoch once, from 1")
        before, self.epoch = self.epoch, epoch
        done = self.epoch >= self.session.fidelity.epochs
        if found := non_finite(self.epoch, metrics):
            return {"epoch": self.epoch, "metrics": metrics, "done": True, "failure": found}
        due = done or any(before < due <= epoch for due in self.order.checkpoints)
        checkpoint = self._save() if due and self.session.capture else None
        return {"epoch": self.epoch, "metrics": metrics, "done": done, "checkpoint": checkpoint}

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

        found = self._trainable()
        if inspect.isgeneratorfunction(found):
            return {"footprint": {}}
        return {
            "footprint": asdict(describe(instantiate(found), order.config, Fidelity(**order.fidelity), self.device))
        }

    def probe(self, order: Order) -> Answer:
        """What preflight asks of this config (`trainables.probes`); {} for a loop of the user's own."""
        from trainables.contract import Fidelity, instantiate
        from trainables.probes import probe

        found = self._trainable()
        if inspect.isgeneratorfunction(found):
            return {"probes": {}}
        return {"probes": asdict(probe(instantiate(found), order.config, Fidelity(**order.fidelity), self.device))}

    def evaluate(self, order: Order) -> Answer:
        """The test split's metrics of a finished trial's weights."""
        from trainables.contract import Fidelity, Session, instantiate
        from trainables.evaluation import evaluate_split

        assert order.resume is not None
        session = Session(Fidelity(**order.fidelity), self.device, self._load(order.resume))
        return {"metrics": evaluate_split(instantiate(self._trainable()), order.config, session, "test")}

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
        from pyarrow.fs import LocalFileSystem

        from trainables import state

        return dict(state.load(LocalFileSystem(), str(self.folder / pointer)))

    def _save(self) -> str:
        from pyarrow.fs import LocalFileSystem

        from trainables import state

        assert self.order is not None
        pointer = f"checkpoints/{self.order.trial}/{self.epoch}"
        state.save(self.session.capture(), LocalFileSystem(), str(self.folder / pointer), self.epoch)
        return pointer


def failure(error: BaseException) -> dict[str, str]:
    """An exception as data: its kind, type, message, and the traceback without our own machinery."""
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    frames = traceback.extract_tb(error.__traceback__)
    machinery = Path(__file__).parents[1] / "trainables"  # its own modules; the examples under it are trainables
    own = [f for f in frames if Path(f.filename) != Path(__file__) and Path(f.filename).parent != machinery]
    return {
        "kind": "memory" if out_of_memory else "error",
        "error": type(error).__name__,
        "message": str(error) or repr(error),
        "traceback": "".join(traceback.format_list(own)),
    }


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


@contextlib.contextmanager
def prints_to(path: Path) -> Iterator[None]:
    """Send everything that the process prints meanwhile, libraries and subprocesses included, to the end of a file."""
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(parents=True, exist_ok=True)
    flush()
    kept = os.dup(1), os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
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


@ray.remote
class Slot:
    """One warm place for a trial: a process with the trial's resources and a Ray Train run that lives as long."""

    def __init__(self, trainable: Any, folder: str, scratch: str, path: list[str]) -> None:
        """`path` is the driver's import path: what it can import by name, a slot can."""
        sys.path.extend(entry for entry in path if entry not in sys.path)
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        self.mailbox = Mailbox()
        trainer = TorchTrainer(
            serve,
            train_loop_config={"mailbox": self.mailbox, "trainable": trainable, "folder": folder},
            scaling_config=ScalingConfig(num_workers=0, use_gpu=bool(ray.get_gpu_ids())),
            run_config=RunConfig(name=f"slot-{os.getpid()}", storage_path=scratch),
        )
        self.thread = threading.Thread(target=trainer.fit, daemon=True)
        self.thread.start()

    def identify(self) -> dict[str, Any]:
        """The slot's process and node."""
        return {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}

    def command(self, name: str, argument: Any = None) -> Answer:
        """Hand a command to the Ray Train loop and wait for its answer. Raises RuntimeError when the loop is gone."""
        self.mailbox.commands.put((name, argument))
        while True:
            try:
                return self.mailbox.answers.get(timeout=1.0)
            except queue.Empty:
                if not self.thread.is_alive():
                    raise RuntimeError("the Ray Train run of this slot has ended") from None


@ray.remote(num_cpus=0)
class Pool:
    """Owns the slots; lends each to one trial at a time; replaces the ones that are lost."""

    def __init__(self, count: int, resources: dict[str, float], *arguments: Any) -> None:
        """`count` slots with `resources` each (`num_cpus`, `num_gpus`); `arguments` are Slot's."""
        self.resources, self.arguments = resources, arguments
        self.free: list[Any] = []
        self.held: dict[str, Any] = {}
        self.changed = asyncio.Condition()
        self.alive = count
        """Slots that are up or being started; the rest was given up."""
        self.problem = ""
        self.starting = [asyncio.ensure_future(self._start()) for _ in range(count)]

    async def ready(self, limit_s: float) -> int:
        """Wait until every slot is up or given up, but not longer than that; how many are up."""
        done, _ = await asyncio.wait(self.starting, timeout=limit_s)
        return sum(starting.result() is not None for starting in done)

    async def acquire(self, holder: str) -> Any:
        """Lend a free slot, the same again to a holder that has one. Raises RuntimeError when all were given up."""
        async with self.changed:
            if holder not in self.held:
                await self.changed.wait_for(lambda: self.free or not self.alive)
                if not self.free:
                    raise RuntimeError(self.problem)
                self.held[holder] = self.free.pop()
            return self.held[holder]

    async def release(self, holder: str) -> None:
        """Close the trial and free its slot; a slot that does not answer in time is replaced."""
        slot = self.held.get(holder)
        if slot is None:
            return
        try:
            await asyncio.wait_for(slot.command.remote("close"), CLOSE_S)
        except (TimeoutError, ray.exceptions.RayError):
            await self.replace(holder)
            return
        async with self.changed:
            if self.held.pop(holder, None) is not None:
                self.free.append(slot)
                self.changed.notify_all()

    async def replace(self, holder: str) -> None:
        """Kill the slot that is held and start another in its place."""
        slot = self.held.pop(holder, None)
        if slot is not None:
            ray.kill(slot)
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
        slots = [*self.free, *self.held.values()]
        self.free, self.held, self.alive, self.problem = [], {}, 0, "the pool has ended"
        ends = (asyncio.wait_for(slot.command.remote("exit"), limit_s) for slot in slots)
        await asyncio.gather(*ends, return_exceptions=True)  # one that does not answer is killed all the same
        for slot in slots:
            ray.kill(slot)

    async def call(self, name: str, order: Order) -> Answer:
        """Have any free slot carry out one command for the driver."""
        slot = await self.acquire(order.holder)
        try:
            return dict(await asyncio.wait_for(slot.command.remote(name, order), CALL_S))
        finally:
            await self.release(order.holder)

    async def _start(self) -> dict[str, Any] | None:
        for _ in range(MAX_STARTS):
            slot = Slot.options(**self.resources).remote(*self.arguments)  # type: ignore[attr-defined]
            try:
                who: dict[str, Any] = await slot.identify.remote()
            except ray.exceptions.RayError as error:
                problem = f"a slot could not be started: {error}"
                continue
            async with self.changed:
                self.free.append(slot)
                self.changed.notify_all()
            return who
        async with self.changed:
            self.alive -= 1
            self.problem = problem
            self.changed.notify_all()
        return None
