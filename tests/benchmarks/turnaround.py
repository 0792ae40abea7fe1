"""What a trial costs besides its training: this platform, Ray Tune by hand, and the bare loop, side by side in one run.

Trials of three epochs of 50 ms, two at a time. Seconds are per trial, from the first trial's start to the last one's
end; the platform's include its journal and its MLflow writer. Issue-sized runs, more peers and goals come later; this
one guards the order of magnitude.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path

from ray import tune

from benchmarks.harness import report
from cluster.local import connect
from engine import run_toy

TRIALS, EPOCHS, SECONDS, REPEATS = 24, 3, 0.05, 3
SLOTS = 2


def bare(_: int) -> None:
    """One trial by itself."""
    for _epoch in range(EPOCHS):
        time.sleep(SECONDS)


def function(config: dict[str, float]) -> None:
    """One trial as a Tune function trainable."""
    for _epoch in range(EPOCHS):
        time.sleep(SECONDS)
        tune.report({"loss": config["value"]})


def with_bare_processes(scratch: Path) -> float:
    """Two processes that do nothing else."""
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
        pool.map(bare, range(SLOTS), chunksize=1)  # started and warm
        began = time.perf_counter()
        pool.map(bare, range(TRIALS), chunksize=1)
        return (time.perf_counter() - began) / TRIALS


def with_tune(scratch: Path) -> float:
    """A plain Tune function trainable, a process for each trial."""
    began = time.perf_counter()
    tune.Tuner(
        tune.with_resources(function, {"CPU": 1}),
        param_space={"value": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=TRIALS // 4, max_concurrent_trials=SLOTS),
        run_config=tune.RunConfig(storage_path=str(scratch), verbose=0),
    ).fit()
    return (time.perf_counter() - began) / (TRIALS // 4)  # a quarter of the trials: it is slow


def with_platform(scratch: Path) -> float:
    """This platform, slots and leases warm after the phase's first trials like in any sweep."""
    space = {"value": {"float": [0.0, 1.0]}, "seconds": SECONDS}
    phases = [{"kind": "explore", "trials": TRIALS, "epochs": EPOCHS, "reduction_factor": None}]
    trials = run_toy(scratch, space=space, phases=phases).history.trials.values()
    return (max(t.ended or 0.0 for t in trials) - min(t.started for t in trials)) / TRIALS


if __name__ == "__main__":
    cluster = connect()
    times: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for way in (with_bare_processes, with_tune, with_platform):
            times.setdefault(way.__name__, []).append(way(Path(tempfile.mkdtemp())))
    cluster.close()
    median = {name: statistics.median(found) for name, found in times.items()}
    report(
        "turnaround",
        [
            ("platform, seconds a trial", median["with_platform"], "s"),
            ("bare loop, seconds a trial", median["with_bare_processes"], "s"),
            ("Tune function trainable, seconds a trial", median["with_tune"], "s"),
            ("speed against Tune function trainable", median["with_tune"] / median["with_platform"], "x"),
            ("speed against bare loop", median["with_bare_processes"] / median["with_platform"], "x"),
        ],
    )
