"""What MLflow costs a sweep and what arrives there: one server over PostgreSQL, as a team has it, and one writer.

The server is started by `sweeps tracking up`. A team has it on another machine, where it takes no processor from the
driver: so it and its database are kept to one processor here, all else to the others. The database's fsync is off,
which spares the disk and no processor. What is said to have arrived was counted there.

    driver  the same sweep of trials that report at once, its writer writing to the server, and without a writer (a
            process that does nothing in its place), in turns, each in a process of its own; the next turn begins
            when all has arrived. The same reports through Ray Tune alone with Ray's MLflowLoggerCallback on the same
            server: as many metrics a report and reports a trial, a class Trainable with reuse_actors, the fastest way
            by hand, as many trials at once. Both log their own numbers beside, as they do for a user. Ray's gets fewer
            trials: it makes a call for each number in Tune's loop. Rates are reports per second once the first trials
            are over, by the journal's stamps and by when Tune has handled a result. On a machine of few cores trials
            that train nothing end faster than the server can take them, so a part is written after the sweep.
    drain   a feeder appends reports of 64 trials side by side to a journal, faster than the goal asks, and one writer
            follows: all points over the seconds from the first report to the last point in the database, the
            writer's start included.
    scale   a finished sweep of 1,000 trials, 50 epochs each, is synced. Then a headless chromium opens the sweep's
            link: seconds from asking for the address, nothing cached, until the table tells the 100 runs that MLflow
            loads at first, the best, and until as many curves are drawn.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import driver, made
from benchmarks.callback import with_callback
from benchmarks.driver import EPOCHS
from benchmarks.harness import report
from benchmarks.hub import Hub, hub, opened, points_of
from benchmarks.made import METRICS
from sweeps import tracking
from sweeps.history import History
from sweeps.journal import read
from sweeps.tracking.uris import experiment_id
from sweeps.tracking.views import MOST_CURVES, views

TRIALS, REPEATS = 600, 3
"""Of a driver's sweep; turns."""
RAY_TRIALS = 14
"""Of Ray Tune with Ray's callback."""
FED_TRIALS, FED_EPOCHS, FED_PER_S = 64, 512, 4000
"""Of the drain: trials at once, reports of each, metrics a second."""
SCALE_TRIALS, SCALE_EPOCHS = 1000, 50
LIMIT_S = 900


def swept(found: Hub, trials: int, writer: bool) -> driver.Run:
    """A driver's sweep, in a process of its own; all of it is in MLflow when this returns."""
    with tempfile.TemporaryDirectory() as name:
        run = driver.apart(
            trials, writer, None, {"trainable": "benchmarks.made:trial", "storage": name, "tracking": found.url}
        )
        (folder,) = Path(name).iterdir()
        if writer:
            found.wait_for(folder, points_of(read(folder)).total(), LIMIT_S)
            complete(found, folder)
    return run


def complete(found: Hub, folder: Path) -> None:
    """Raises RuntimeError unless the database has the sweep, once."""
    lost, more, runs = found.compared(folder)
    if lost or more or runs:
        raise RuntimeError(f"{folder.name}: {lost} points lost, {more} and {runs} runs duplicated")


def driven(found: Hub, trials: int, repeats: int) -> list[tuple[str, float, str]]:
    """The rows of the driver."""
    with_: list[driver.Run] = []
    without: list[driver.Run] = []
    rays: list[float] = []
    for number in range(repeats):
        for writer in (True, False)[:: -1 if number % 2 else 1]:
            (with_ if writer else without).append(swept(found, trials, writer))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rays.append(pool.submit(with_callback, RAY_TRIALS, EPOCHS, found.url).result())
    over = statistics.median(run.reports_per_s / ray for run, ray in zip(with_, rays, strict=True))
    return [
        ("driver: reports per second", statistics.median(run.reports_per_s for run in with_), "1/s"),
        ("driver: reports per second, without writer", statistics.median(run.reports_per_s for run in without), "1/s"),
        ("driver: reports per second, Ray's callback", statistics.median(rays), "1/s"),
        ("driver: with writer over without", driver.ratio(with_, without), "x"),
        ("driver: with writer over Ray's callback", over, "x"),
    ]


def drained(found: Hub, scratch: Path) -> list[tuple[str, float, str]]:
    """The rows of the drain."""
    folder, points = scratch / "drain", FED_TRIALS * FED_EPOCHS * METRICS
    feeder = multiprocessing.get_context("spawn").Process(
        target=made.feed, args=(folder, FED_TRIALS, FED_EPOCHS, FED_PER_S / METRICS)
    )
    feeder.start()
    while not folder.exists():
        time.sleep(0.01)
    writer = tracking.Writer(folder, found.url)
    found.wait_for(folder, points, LIMIT_S)
    over = time.time()
    feeder.join()
    if problem := writer.finish(math.inf):
        raise RuntimeError(problem)
    complete(found, folder)
    stamps = [line["at"] for line in read(folder) if line["kind"] == "report"]
    return [
        ("drain: metrics per second", points / (over - stamps[0]), "1/s"),
        ("drain: metrics per second, fed", points / (stamps[-1] - stamps[0]), "1/s"),
        ("drain: behind the last report", over - stamps[-1], "s"),
    ]


def scaled(found: Hub, scratch: Path, trials: int) -> list[tuple[str, float, str]]:
    """The rows of the large sweep."""
    folder = scratch / "scale"
    made.finished(folder, trials, SCALE_EPOCHS)
    began = time.monotonic()
    tracking.sync(folder, found.url)
    seconds = time.monotonic() - began
    lost, more, runs = found.compared(folder)
    history = History.open(folder)
    assert history.spec is not None
    link = f"{found.url}/{views(history)[0].link(experiment_id(found.url, history.spec.name))}"
    shown = opened(link, min(trials, MOST_CURVES))
    return [
        ("scale: points lost", lost, ""),
        ("scale: points duplicated", more, ""),
        ("scale: runs duplicated", runs, ""),
        ("scale: seconds", seconds, "s"),
        ("scale: metrics per second", trials * SCALE_EPOCHS * METRICS / seconds, "1/s"),
        ("scale: page opens, table", shown["table"], "s"),
        ("scale: page opens, curves", shown["curves"], "s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=TRIALS, help="of a driver's sweep")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--scale-trials", type=int, default=SCALE_TRIALS)
    chosen = parser.parse_args()
    with hub() as found, tempfile.TemporaryDirectory() as name:
        rows = driven(found, chosen.trials, chosen.repeats)
        rows += drained(found, Path(name))
        rows += scaled(found, Path(name), chosen.scale_trials)
    report("tracking", rows)


if __name__ == "__main__":
    main()
