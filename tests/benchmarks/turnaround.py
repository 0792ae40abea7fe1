"""What a trial costs besides its training: this platform beside the other ways to run many short trials.

All ways train the same small network by the same function, two trials at a time with one thread each, for as many steps
as take about 0.1 or 0.5 s of CPU, counted out at the start. In every repeat each way has its turn, and a ratio is the
median over the repeats of the ratios within them. The ways:

    platform    a generator as the trainable, one explore phase in which nothing is stopped, with journal and MLflow
    documented  Ray's own pattern: a Tune function that calls TorchTrainer.fit() with TuneReportCallback
    function    a plain Tune function, each trial in a process of its own
    reused      the same with reuse_actors=True
    class       a Tune class written by hand, with reset_config and reuse_actors=True
    bare        two processes that run the loop and nothing else

Seconds a trial are from the handing out of the first trial to the end of the last one, over their number: what a way
starts for its trials counts (processes, imports, leases), what stands before any trial does not (Ray, the platform's
slots, the bare processes). The slow ways get fewer trials. Tune is configured for all ways as the platform does, and
the bare processes have the low priority that Ray gives its workers, so that what else runs takes as much from all.

Two more sweeps of the platform show how it goes from one phase to the next. For a searcher that must wait for results
every few trials stands a row of short phases, each of which ends by waiting for all of its trials: at least as much as
such a searcher would ask for.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ray import tune
from torch import nn

from benchmarks.harness import report
from cluster.local import connect
from engine import run_toy
from sweeps import Sweep
from sweeps.history import History, TrialHistory
from trainables.contract import Report, Session

SHORT, LONG = 0.1, 0.5
"""Seconds of CPU that a trial trains."""
EPOCHS, BATCH, WIDTH = 5, 64, 64
SLOTS, REPEATS = 2, 3
TRIALS = {SHORT: 60, LONG: 40}
"""Of the ways that keep their processes."""
PAIRS = 30
"""Trials of two workers on this platform."""
FRESH = 12
"""Trials of the ways that start a process for each."""
DOCUMENTED = 6
"""Trials of Ray's pattern."""
PHASE, ROUND, ROUNDS = 8, 4, 6
"""Trials of a phase; between two barriers, and how many such rounds."""
WARM = 2
"""Trials at the beginning of a sweep that wait for what starts with it."""
RAY_NICE = 15
"""The priority of Ray's workers."""

Space = Mapping[str, Any]
Way = Callable[[Path, int, int], float]
"""Seconds a trial, of so many trials of so many steps an epoch; files go into the folder."""


def train(steps: int) -> Iterator[float]:
    """The loss after each epoch of so many steps; the workers of a group share their gradients."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, WIDTH), torch.randn(BATCH, 1)
    model: nn.Module = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
    if dist.is_initialized() and dist.get_world_size() > 1:
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(EPOCHS):
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        yield loss.item()


def steps_for(seconds: float) -> int:
    """Steps an epoch for a trial of so many seconds of CPU."""
    taken = []
    for _ in range(5):
        began = time.thread_time()
        for _ in train(100):
            pass
        taken.append(time.thread_time() - began)
    return round(100 * seconds / min(taken))  # the first one warms up


def trial(config: Mapping[str, Any], session: Session) -> Iterator[Report]:
    """A trial as the platform takes it; it tells when its body began and when each epoch ended."""
    began = time.time()
    for epoch, loss in enumerate(train(config["steps"]), 1):
        yield Report(epoch, {"val/loss": loss, "time/began": began, "time/now": time.time()})


def function(config: Mapping[str, Any]) -> None:
    """A trial as a Tune function."""
    for loss in train(config["steps"]):
        tune.report({"loss": loss})


class Reused(tune.Trainable):  # type: ignore[misc]
    """A trial as a Tune class whose actor takes the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.losses = train(config["steps"])

    def step(self) -> dict[str, Any]:
        return {"loss": next(self.losses), "done": self.iteration + 1 == EPOCHS}

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

    for loss in train(config["steps"]):
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
    """From Tune's first step, which asks for the first trial, to the end of the last trial."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ended = time.perf_counter()


def with_tune(trainable: Any, scratch: Path, space: Space, trials: int, at_once: int = SLOTS, **more: Any) -> float:
    """Seconds a trial of a trainable under Ray Tune."""
    clock = Clock()
    results = tune.Tuner(
        trainable,
        param_space={"value": tune.uniform(0, 1), **space},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=at_once, **more),
        run_config=tune.RunConfig(storage_path=str(scratch), verbose=0, callbacks=[clock]),
    ).fit()
    if results.errors or len(results) != trials:
        raise RuntimeError(f"{len(results.errors)} of {len(results)} trials failed: {results.errors[:1]}")
    return (clock.ended - clock.began) / trials


def with_documented(scratch: Path, steps: int, trials: int, workers: int = 1) -> float:
    """Ray's pattern."""
    space = {"steps": steps, "workers": workers, "scratch": str(scratch)}
    at_once = SLOTS // workers
    return with_tune(tune.with_resources(documented, {"CPU": 0.001}), scratch, space, trials, at_once)


def with_documented_pairs(scratch: Path, steps: int, trials: int) -> float:
    """Ray's pattern with two workers a trial, one trial at a time."""
    return with_documented(scratch, steps, trials, workers=2)


def with_function(scratch: Path, steps: int, trials: int) -> float:
    """A Tune function without reuse."""
    return with_tune(tune.with_resources(function, {"CPU": 1}), scratch, {"steps": steps}, trials, reuse_actors=False)


def with_function_reused(scratch: Path, steps: int, trials: int) -> float:
    """A Tune function with reuse."""
    return with_tune(tune.with_resources(function, {"CPU": 1}), scratch, {"steps": steps}, trials, reuse_actors=True)


def with_class(scratch: Path, steps: int, trials: int) -> float:
    """A Tune class with reuse."""
    return with_tune(tune.with_resources(Reused, {"CPU": 1}), scratch, {"steps": steps}, trials, reuse_actors=True)


def with_bare_processes(scratch: Path, steps: int, trials: int) -> float:
    """Two processes that do nothing else."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(SLOTS, initializer=bare_begins, initargs=(context.Barrier(SLOTS),)) as pool:
        pool.map(bare_meets, range(SLOTS), chunksize=1)
        began = time.perf_counter()
        pool.map(bare, [steps] * trials, chunksize=1)
        return (time.perf_counter() - began) / trials


barrier: Barrier
"""Of the bare processes."""


def bare_begins(given: Barrier) -> None:
    """Warm a process up."""
    global barrier
    barrier = given
    os.nice(RAY_NICE)
    bare(1)


def bare_meets(_: int) -> None:
    """Wait until all processes are warm."""
    barrier.wait()


def bare(steps: int) -> None:
    """One trial."""
    for _ in train(steps):
        pass


def sweep(scratch: Path, steps: int, phases: Sequence[Mapping[str, Any]], **fields: Any) -> History:
    """A sweep of the platform."""
    shape = {"epochs": EPOCHS, "reduction_factor": None, "data_fraction": 1.0}
    space = {"value": {"float": [0.0, 1.0]}, "steps": steps}
    whole = [{**shape, **phase} for phase in phases]
    found: Sweep = run_toy(scratch, "benchmarks.turnaround:trial", space=space, phases=whole, **fields)
    return found.history


def explored(scratch: Path, steps: int, trials: int, **fields: Any) -> tuple[float, History]:
    """Seconds a trial of a sweep of one phase, and the sweep."""
    history = sweep(scratch, steps, [{"kind": "explore", "trials": trials}], **fields)
    found = list(history.trials.values())
    return (max(t.ended or 0.0 for t in found) - min(t.started for t in found)) / trials, history


class Platform:
    """This platform; keeps what its sweeps show besides."""

    def __init__(self) -> None:
        self.warm: list[float] = []
        """Seconds a trial, what starts with the first ones left out."""
        self.first_step: list[float] = []
        self.idle: list[float] = []

    def __call__(self, scratch: Path, steps: int, trials: int) -> float:
        seconds, history = explored(scratch, steps, trials)
        ends = sorted(t.ended or 0.0 for t in history.trials.values())[WARM:]
        self.warm.append((ends[-1] - ends[0]) / max(len(ends) - 1, 1))
        self.first_step += [body(t) - t.started for t in list(history.trials.values())[WARM:]]
        self.idle += idle(history)
        return seconds


def with_platform_pairs(scratch: Path, steps: int, trials: int) -> float:
    """This platform with two DDP workers a trial, one trial at a time."""
    return explored(scratch, steps, trials, resources={"workers": 2, "cpus_per_worker": 1})[0]


def body(trial: TrialHistory) -> float:
    """When the trial's own code began."""
    return trial.epochs[0].metrics["time/began"]


def over(trial: TrialHistory) -> float:
    """When its last epoch was over."""
    return trial.epochs[-1].metrics["time/now"]


def idle(history: History) -> list[float]:
    """For each trial but a slot's first, how long its slot had nothing to train before it."""
    last: dict[int, float] = {}
    found = []
    for trial in sorted(history.trials.values(), key=body):
        slot = trial.epochs[0].slot
        if slot in last:
            found.append(body(trial) - last[slot])
        last[slot] = over(trial)
    return found


def changes(history: History) -> list[float]:
    """Seconds from the last epoch of each phase to the first step of the next."""
    phases = [history.of_phase(name) for name in history.phases]
    return [
        min(map(body, after)) - max(map(over, before))
        for before, after in itertools.pairwise(trials for trials in phases if trials)
    ]


def started(history: History) -> int:
    """Slot processes beyond those that the sweep began with."""
    return max(len({epoch.slot for trial in history.trials.values() for epoch in trial.epochs}) - SLOTS, 0)


def measure(repeats: int, share: float) -> list[tuple[str, float, str]]:
    """The rows of the report; `share` of the trials, for a look while developing."""
    short, long = steps_for(SHORT), steps_for(LONG)
    quick, slow = Platform(), Platform()
    ways: dict[str, tuple[Way, int, int]] = {
        "platform, 0.1 s": (quick, short, TRIALS[SHORT]),
        "documented, 0.1 s": (with_documented, short, DOCUMENTED),
        "function, 0.1 s": (with_function, short, FRESH),
        "function reused, 0.1 s": (with_function_reused, short, FRESH),
        "class, 0.1 s": (with_class, short, TRIALS[SHORT]),
        "bare, 0.1 s": (with_bare_processes, short, TRIALS[SHORT]),
        "platform, 0.5 s": (slow, long, TRIALS[LONG]),
        "class, 0.5 s": (with_class, long, TRIALS[LONG]),
        "bare, 0.5 s": (with_bare_processes, long, TRIALS[LONG]),
        "platform, two workers, 0.1 s": (with_platform_pairs, short, PAIRS),
        "documented, two workers, 0.1 s": (with_documented_pairs, short, DOCUMENTED),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    phase_change: list[float] = []
    barriers: list[float] = []
    new_slots = {"phases": 0, "barriers": 0}
    for number in range(repeats):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            way, steps, trials = ways[name]
            with tempfile.TemporaryDirectory() as scratch:
                seconds[name].append(way(Path(scratch), steps, max(round(trials * share), SLOTS + WARM)))
        with tempfile.TemporaryDirectory() as scratch:
            kinds = [{"kind": kind, "trials": PHASE} for kind in ("explore", "refine")]
            two = sweep(Path(scratch) / "two", short, kinds)
            rounds = [{"kind": "explore", "name": f"round{n}", "trials": ROUND} for n in range(ROUNDS)]
            many = sweep(Path(scratch) / "many", short, rounds)
        phase_change += changes(two)
        barriers += changes(many)
        new_slots = {"phases": new_slots["phases"] + started(two), "barriers": new_slots["barriers"] + started(many)}

    def times(slower: str, faster: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[slower], seconds[faster], strict=True))

    return [
        *((f"{name}: seconds a trial", statistics.median(found), "s") for name, found in seconds.items()),
        ("0.1 s: speed against documented", times("documented, 0.1 s", "platform, 0.1 s"), "x"),
        ("0.1 s: speed against function", times("function, 0.1 s", "platform, 0.1 s"), "x"),
        ("0.1 s: speed against function reused", times("function reused, 0.1 s", "platform, 0.1 s"), "x"),
        ("0.1 s: speed against class", times("class, 0.1 s", "platform, 0.1 s"), "x"),
        ("0.1 s: speed against bare", times("bare, 0.1 s", "platform, 0.1 s"), "x"),
        ("0.5 s: speed against class", times("class, 0.5 s", "platform, 0.5 s"), "x"),
        ("0.5 s: speed against bare", times("bare, 0.5 s", "platform, 0.5 s"), "x"),
        (
            "two workers: speed against documented",
            times("documented, two workers, 0.1 s", "platform, two workers, 0.1 s"),
            "x",
        ),
        ("platform, 0.1 s: seconds a trial, warm", statistics.median(quick.warm), "s"),
        ("platform, 0.5 s: seconds a trial, warm", statistics.median(slow.warm), "s"),
        ("config to first step, warm", 1000 * statistics.median(quick.first_step), "ms"),
        ("idle between trials", 1000 * statistics.median(quick.idle), "ms"),
        ("phase change", statistics.median(phase_change), "s"),
        ("phase change: slots started", new_slots["phases"], ""),
        (f"barrier every {ROUND} trials", statistics.median(barriers), "s"),
        (f"barrier every {ROUND} trials: slots started", new_slots["barriers"], ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--share", type=float, default=1.0, help="of each way's trials")
    chosen = parser.parse_args()
    cluster = connect()
    try:
        rows = measure(chosen.repeats, chosen.share)
    finally:
        cluster.close()
    report("turnaround", rows)


if __name__ == "__main__":
    main()
