"""How many reports the driver keeps up with: a long sweep of trials that train nothing.

Each trial yields its reports at once, so that all of the time is the platform's: Ray Tune's loop, the way to the slots
and back, the journal, the live view. The same sweep runs with its MLflow writer and without it, in turns, each in a
process of its own. A sweep always has a writer; "without" puts a process that does nothing in its place.

Rates are of the journal's own stamps, those of the first trials left out. Memory, open files and files on disk are
looked at from a thread while the sweep runs, as what grows from the first look to the last; disk means the sweep's
folder without checkpoints, its scratch folder, and what Tune leaves with Ray's session. `--profile` runs once, without
the writer, and tells where the driver's own thread spends its time; it then judges no rows.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import multiprocessing
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, report
from sweeps import Sweep, SweepSpec, tracking
from sweeps.errors import UsageError
from sweeps.history import History
from trainables.contract import Report, Session

TRIALS, EPOCHS, REPEATS = 3000, 3, 3
SKIPPED, WINDOW = 20, 500
"""Trials at the beginning, which wait for imports and leases; trials at either end whose rates are compared."""
LOOK_S = 0.25
EVERY = 100
"""Trials between two looks at memory and files."""
LINES = 60
"""Of a profile."""


def trial(config: Mapping[str, Any], session: Session) -> Iterator[Report]:
    """A trial that reports at once."""
    for epoch in range(1, session.fidelity.epochs + 1):
        yield Report(epoch, {"val/loss": config["value"] + 0.5**epoch})


@dataclass(frozen=True)
class Look:
    """The driver's process and its files after so many trials."""

    trials: int
    uss_mb: float
    descriptors: int
    files: int
    folders: int


@dataclass(frozen=True)
class Run:
    """What one sweep showed."""

    reports_per_s: float
    late_over_early: float
    looks: tuple[Look, ...]


class Watch(threading.Thread):
    """Looks at the driver each EVERY trials, from beside: its own thread is what is measured."""

    def __init__(self, sweep: Sweep, root: Path) -> None:
        super().__init__(daemon=True)
        self.sweep, self.root = sweep, root
        self.looks: list[Look] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(LOOK_S):
            try:
                history = self.sweep.history
            except UsageError:  # it has not begun
                continue
            if len(history.trials) >= (self.looks[-1].trials if self.looks else 0) + EVERY:
                self.look(history)

    def look(self, history: History) -> None:
        """Look now."""
        descriptors = len(os.listdir("/proc/self/fd"))
        self.looks.append(Look(len(history.trials), uss_mb(), descriptors, *written(self.root)))


def uss_mb() -> float:
    """Memory that only this process has."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def written(root: Path) -> tuple[int, int]:
    """Files and folders below one; of Ray's session only what Tune keeps there, of the sweep no checkpoints."""
    found = [0, 0]
    for folder, folders, names in os.walk(root):
        if Path(folder).name.startswith("session_"):
            folders[:] = [name for name in folders if name == "artifacts"]
            continue  # its own files are Ray's, not a trial's
        folders[:] = [name for name in folders if name not in ("checkpoints", "mlartifacts")]
        found = [found[0] + len(names), found[1] + len(folders)]
    return found[0], found[1]


class NoWriter(tracking.Writer):
    """In the writer's place: a process that waits, as the writer does, until its standard input ends."""

    def _begin(self, stdin: int) -> None:
        self.signs, theirs = os.pipe()  # of life: it closes its end by ending
        self.child = subprocess.Popen(["sh", "-c", "cat > /dev/null"], stdin=stdin, pass_fds=[theirs])
        os.close(theirs)


def run(trials: int, writer: bool, profile: Path | None = None, fields: Mapping[str, Any] | None = None) -> Run:
    """A sweep of so many trials, in this process; `fields` are what its spec has otherwise."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["RAY_TMPDIR"] = tempfile.tempdir = name  # where Ray's session and the sweep's scratch go
        (root / "ray").mkdir()
        if not writer:
            tracking.Writer = NoWriter  # type: ignore[misc]
        given = {
            "name": "driver",
            "trainable": "benchmarks.driver:trial",
            "space": {"value": {"float": [0.0, 1.0]}},
            "phases": [{"kind": "explore", "trials": trials, "epochs": EPOCHS, "reduction_factor": None}],
            "storage": str(root / "runs"),
            **(fields or {}),
        }
        sweep = Sweep(SweepSpec.model_validate(given))
        watch = Watch(sweep, root)
        watch.start()
        profiler = cProfile.Profile()
        try:
            if profile:
                profiler.enable()
            sweep.run(out=io.StringIO())
            profiler.disable()
        finally:
            watch.over.set()
            watch.join()
            tempfile.tempdir = None
        if profile:
            profile.parent.mkdir(parents=True, exist_ok=True)
            profiler.dump_stats(profile)
        return Run(*rates(sweep.history), tuple(watch.looks))


def rates(history: History) -> tuple[float, float]:
    """Reports per second after the first trials; those of the last trials over those of the first."""
    ended = sorted(trial.ended for trial in history.trials.values() if trial.ended is not None)[SKIPPED:]
    window = min(WINDOW, len(ended) // 2)
    early, late = ended[window - 1] - ended[0], ended[-1] - ended[-window]
    return EPOCHS * (len(ended) - 1) / (ended[-1] - ended[0]), early / late


def growth(looks: tuple[Look, ...], what: str) -> float:
    """What a trial adds, by a line through the looks."""
    return statistics.linear_regression([look.trials for look in looks], [getattr(look, what) for look in looks]).slope


def apart(*arguments: Any) -> Run:
    """The same in a process of its own, so that no run begins with what another left."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def rows(with_: list[Run], without: list[Run]) -> list[tuple[str, float, str]]:
    """The rows of the report."""
    median = statistics.median
    late = [look for found in with_ for look in found.looks[-1:]]
    early = [look for found in with_ for look in found.looks[:1]]
    opened = [b.descriptors - a.descriptors for a, b in zip(early, late, strict=True)]
    return [
        ("reports per second", median(found.reports_per_s for found in with_), "1/s"),
        ("reports per second, without writer", median(found.reports_per_s for found in without), "1/s"),
        ("with writer over without", ratio(with_, without), "x"),
        ("last trials over first", median(found.late_over_early for found in with_), "x"),
        ("last trials over first, without writer", median(found.late_over_early for found in without), "x"),
        ("memory per 1,000 trials", 1000 * median(growth(found.looks, "uss_mb") for found in with_), "MB"),
        ("files a trial", round(median(growth(found.looks, "files") for found in with_), 2), ""),
        ("folders a trial", round(median(growth(found.looks, "folders") for found in with_), 2), ""),
        ("open files, growth", median(opened), ""),
    ]


def ratio(with_: list[Run], without: list[Run]) -> float:
    """Of those that ran next to each other: the machine's own speed swings."""
    return statistics.median(a.reports_per_s / b.reports_per_s for a, b in zip(with_, without, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--profile", action="store_true", help="of the driver's thread, by cumulative time")
    chosen = parser.parse_args()
    if chosen.profile:
        path = ROOT / "build" / "bench" / "driver.prof"
        found = apart(chosen.trials, False, path)
        print(f"{found.reports_per_s:.1f} reports/s, last over first {found.late_over_early:.2f}; {path}")
        pstats.Stats(str(path), stream=sys.stdout).sort_stats("cumulative").print_stats(LINES)
        return
    with_: list[Run] = []
    without: list[Run] = []
    for number in range(chosen.repeats):
        for writer in (True, False)[:: -1 if number % 2 else 1]:
            (with_ if writer else without).append(apart(chosen.trials, writer))
    report("driver", rows(with_, without))


if __name__ == "__main__":
    main()
