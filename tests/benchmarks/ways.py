"""The ways to run many short trials that turnaround.py compares, each as a function of the same shape.

All train the same small network by the same function, with one thread each. Tune is configured for all of them as the
platform does it, and the bare processes have the low priority that Ray gives its workers, so that what else runs takes
as much from all.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray import tune
from torch import nn

from engine import run_toy
from sweeps import Sweep
from sweeps.history import History
from trainables.contract import Report, Session

BATCH, WIDTH = 64, 64
SLOTS = 2
WARM = 2
"""Trials at the beginning that wait for what starts with them."""
RAY_NICE = 15
"""The priority of Ray's workers."""


@dataclass(frozen=True)
class Work:
    """What each trial trains."""

    steps: int
    """An epoch."""
    epochs: int = 5


@dataclass(frozen=True)
class Taken:
    """Seconds a trial."""

    whole: float
    """From the handing out of the first trial to the end of the last one, over their number."""
    warm: float
    """Between two ends, the first trials left out."""


Way = Callable[[Path, Work, int], Taken]
"""Runs so many trials of such work; files go into the folder."""


def taken(began: float, ends: Sequence[float]) -> Taken:
    """Of trials that were handed out from then on and ended at these times."""
    late = sorted(ends)[WARM - 1 :]  # the first ones end side by side, and so do the last ones
    return Taken((max(ends) - began) / len(ends), (late[-1] - late[0]) / (len(late) - 1))


def train(steps: int, epochs: int) -> Iterator[float]:
    """The loss after each epoch of so many steps; the workers of a group share their gradients."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, WIDTH), torch.randn(BATCH, 1)
    model: nn.Module = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
    if dist.is_initialized() and dist.get_world_size() > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(epochs):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        yield loss.item()


def steps_a_second() -> float:
    """How many steps a second of CPU has room for."""
    seconds = []
    for _ in range(5):
        began = time.thread_time()
        for _ in train(100, 5):
            pass
        seconds.append(time.thread_time() - began)
    return 500 / min(seconds)  # the first one warms up


def pair_steps_a_second() -> float:
    """How many steps a second has room for when two workers share their gradients."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(2) as pool:
        return min(pool.starmap(in_pair, [(rank, folder) for rank in range(2)], chunksize=1))


def in_pair(rank: int, folder: str) -> float:
    """Steps a second of one of two bare workers."""
    os.nice(RAY_NICE)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in train(20, 5):
            pass
        seconds.append(time.perf_counter() - began)
    dist.destroy_process_group()
    return 100 / statistics.median(seconds)


def trial(config: Mapping[str, Any], session: Session) -> Iterator[Report]:
    """A trial as the platform takes it; it tells when its body began and when each epoch ended."""
    began = time.time()
    for epoch, loss in enumerate(train(config["steps"], session.fidelity.epochs), 1):
        yield Report(epoch, {"val/loss": loss, "time/began": began, "time/now": time.time()})


def sweep(scratch: Path, work: Work, phases: Sequence[Mapping[str, Any]], **fields: Any) -> History:
    """A sweep of the platform, with journal and MLflow, in which nothing is stopped."""
    shape = {"epochs": work.epochs, "reduction_factor": None, "data_fraction": 1.0}
    space = {"value": {"float": [0.0, 1.0]}, "steps": work.steps}
    whole = [{**shape, **phase} for phase in phases]
    found: Sweep = run_toy(
        scratch, "benchmarks.ways:trial", space=space, phases=whole, checkpoint_every=None, **fields
    )  # fmt: skip
    return found.history


def explored(scratch: Path, work: Work, trials: int, **fields: Any) -> tuple[Taken, History]:
    """A sweep of one phase."""
    history = sweep(scratch, work, [{"kind": "explore", "trials": trials}], **fields)
    found = list(history.trials.values())
    return taken(min(t.started for t in found), [t.ended or 0.0 for t in found]), history


def with_platform_pairs(scratch: Path, work: Work, trials: int) -> Taken:
    """This platform with two DDP workers a trial, one trial at a time."""
    return explored(scratch, work, trials, resources={"workers": 2, "cpus_per_worker": 1})[0]


def function(config: Mapping[str, Any]) -> None:
    """A trial as a Tune function."""
    for loss in train(config["steps"], config["epochs"]):
        tune.report({"loss": loss})


class Reused(tune.Trainable):  # type: ignore[misc]
    """A trial as a Tune class whose actor takes the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.epochs = config["epochs"]
        self.losses = train(config["steps"], self.epochs)

    def step(self) -> dict[str, Any]:
        return {"loss": next(self.losses), "done": self.iteration + 1 == self.epochs}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""


def worker(config: Mapping[str, Any]) -> None:
    """What Ray's pattern runs in each worker."""
    import ray.train

    for loss in train(config["steps"], config["epochs"]):
        ray.train.report({"loss": loss})


def documented(config: Mapping[str, Any]) -> None:
    """A trial by Ray's pattern: a Train run inside a Tune function."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        worker,
        train_loop_config=dict(config),
        # Less than a core: the Tune functions around the workers need their small share, too.
        scaling_config=ScalingConfig(num_workers=config["workers"], resources_per_worker={"CPU": 0.9}),
        run_config=RunConfig(
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=config["scratch"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


class Clock(tune.Callback):  # type: ignore[misc]
    """From Tune's first step, which asks for the first trial, to the end of each trial."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ends: list[float] = []

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ends.append(time.perf_counter())


def with_tune(trainable: Any, scratch: Path, work: Work, trials: int, reuse: bool | None, workers: int = 1) -> Taken:
    """A trainable under Ray Tune, as many trials at once as their workers have slots."""
    clock = Clock()
    fixed = {"steps": work.steps, "epochs": work.epochs, "workers": workers, "scratch": str(scratch)}
    results = tune.Tuner(
        trainable,
        param_space={"value": tune.uniform(0, 1), **fixed},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=SLOTS // workers, reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=str(scratch), verbose=0, callbacks=[clock]),
    ).fit()
    if results.errors or len(results) != trials:
        raise RuntimeError(f"{len(results.errors)} of {len(results)} trials failed: {results.errors[:1]}")
    return taken(clock.began, clock.ends)


def with_documented(scratch: Path, work: Work, trials: int) -> Taken:
    """Ray's pattern."""
    return with_tune(tune.with_resources(documented, {"CPU": 0.001}), scratch, work, trials, None)


def with_documented_pairs(scratch: Path, work: Work, trials: int) -> Taken:
    """Ray's pattern with two workers a trial, one trial at a time."""
    return with_tune(tune.with_resources(documented, {"CPU": 0.001}), scratch, work, trials, None, workers=2)


def with_function(scratch: Path, work: Work, trials: int) -> Taken:
    """A Tune function without reuse."""
    return with_tune(tune.with_resources(function, {"CPU": 1}), scratch, work, trials, False)


def with_function_reused(scratch: Path, work: Work, trials: int) -> Taken:
    """A Tune function with reuse."""
    return with_tune(tune.with_resources(function, {"CPU": 1}), scratch, work, trials, True)


def with_class(scratch: Path, work: Work, trials: int) -> Taken:
    """A Tune class with reuse."""
    return with_tune(tune.with_resources(Reused, {"CPU": 1}), scratch, work, trials, True)


def with_bare_processes(scratch: Path, work: Work, trials: int) -> Taken:
    """Two processes that do nothing else."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(SLOTS, initializer=bare_begins, initargs=(context.Barrier(SLOTS),)) as pool:
        pool.map(bare_meets, range(SLOTS), chunksize=1)
        began = time.perf_counter()
        ends = pool.starmap(bare, [(work.steps, work.epochs)] * trials, chunksize=1)
        return taken(began, ends)


barrier: Barrier
"""Of the bare processes."""


def bare_begins(given: Barrier) -> None:
    """Warm a process up."""
    global barrier
    barrier = given
    os.nice(RAY_NICE)
    bare(1, 1)


def bare_meets(_: int) -> None:
    """Wait until all processes are warm."""
    barrier.wait()


def bare(steps: int, epochs: int) -> float:
    """One trial; when it ended, by the clock that all processes of a machine share."""
    for _ in train(steps, epochs):
        pass
    return time.perf_counter()
