"""What a trial costs besides its training: this platform beside the other ways to run many short trials.

Two trials at a time train for as many steps as take about 0.1 or 0.5 s, counted out at the start, by each way of
ways.py. In every repeat each way has its turn, and a ratio is the median over the repeats of the ratios within them:

    platform    a generator as the trainable, one explore phase in which nothing is stopped, with journal and MLflow
    documented  Ray's own pattern: a Tune function that calls TorchTrainer.fit() with TuneReportCallback
    function    a plain Tune function, each trial in a process of its own
    reused      the same with reuse_actors=True
    class       a Tune class written by hand, with reset_config and reuse_actors=True
    bare        two processes that run the loop and nothing else

Seconds a trial are from the handing out of the first trial to the end of the last one, over their number: what a way
starts for its trials counts (processes, imports, leases), what stands before any trial does not (Ray, the platform's
slots). The bare processes have nothing to start by then: beside them, and beside them only, stands what a trial costs
the platform once it is warm; the same with its start is a row of its own. The slow ways get fewer trials.

Two workers share their gradients at each step, which takes longer than the step: theirs are as many as take such a
pair, run bare, 0.1 s.

Two more sweeps of the platform show how it goes from one phase to the next. For a searcher that must wait for results
every few trials stands a row of short phases, each of which ends by waiting for all of its trials: at least as much as
such a searcher would ask for.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from pathlib import Path

from benchmarks import ways
from benchmarks.harness import report
from benchmarks.ways import SLOTS, WARM, Taken, Way, Work
from cluster.local import connect
from sweeps.history import History, TrialHistory

SHORT, LONG, EPOCH = 0.1, 0.5, 0.02
"""Seconds that a trial trains; that an epoch trains where there are many."""
EPOCHS, MANY = 5, 100
"""Of a trial; of one with many."""
REPEATS = 3
TRIALS = {SHORT: 60, LONG: 40}
"""Of the ways that keep their processes."""
LONG_TRIALS = 24
"""Of many epochs."""
PAIRS = 30
"""Trials of two workers on this platform."""
FRESH = 12
"""Trials of the ways that start a process for each."""
DOCUMENTED = 6
"""Trials of Ray's pattern."""
PHASE, ROUND, ROUNDS = 8, 4, 6
"""Trials of a phase; between two barriers, and how many such rounds."""


class Platform:
    """This platform; keeps what its sweeps show besides."""

    def __init__(self) -> None:
        self.first_step: list[float] = []
        self.idle: list[float] = []

    def __call__(self, scratch: Path, work: Work, trials: int) -> Taken:
        found, history = ways.explored(scratch, work, trials)
        self.first_step += [body(t) - t.started for t in list(history.trials.values())[WARM:]]
        self.idle += idle(history)
        return found


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
    rate = ways.steps_a_second()
    short, long = (Work(round(rate * seconds / EPOCHS), EPOCHS) for seconds in (SHORT, LONG))
    many = Work(round(rate * EPOCH), MANY)
    pair = Work(max(round(ways.pair_steps_a_second() * SHORT / EPOCHS), 1), EPOCHS)
    platform = Platform()
    compared: dict[str, tuple[Way, Work, int]] = {
        "platform, 0.1 s": (platform, short, TRIALS[SHORT]),
        "documented, 0.1 s": (ways.with_documented, short, DOCUMENTED),
        "function, 0.1 s": (ways.with_function, short, FRESH),
        "function reused, 0.1 s": (ways.with_function_reused, short, FRESH),
        "class, 0.1 s": (ways.with_class, short, TRIALS[SHORT]),
        "bare, 0.1 s": (ways.with_bare_processes, short, TRIALS[SHORT]),
        "platform, 0.5 s": (Platform(), long, TRIALS[LONG]),
        "class, 0.5 s": (ways.with_class, long, TRIALS[LONG]),
        "bare, 0.5 s": (ways.with_bare_processes, long, TRIALS[LONG]),
        "platform, 20 ms epochs": (Platform(), many, LONG_TRIALS),
        "bare, 20 ms epochs": (ways.with_bare_processes, many, LONG_TRIALS),
        "platform, two workers, 0.1 s": (ways.with_platform_pairs, pair, PAIRS),
        "documented, two workers, 0.1 s": (ways.with_documented_pairs, pair, DOCUMENTED),
    }
    seconds: dict[str, list[Taken]] = {name: [] for name in compared}
    phase_change: list[float] = []
    barriers: list[float] = []
    new_slots = {"phases": 0, "barriers": 0}
    for number in range(repeats):
        for name in list(compared)[:: -1 if number % 2 else 1]:
            way, work, trials = compared[name]
            with tempfile.TemporaryDirectory() as scratch:
                seconds[name].append(way(Path(scratch), work, max(round(trials * share), SLOTS + WARM)))
        with tempfile.TemporaryDirectory() as scratch:
            kinds = [{"kind": kind, "trials": PHASE} for kind in ("explore", "refine")]
            two = ways.sweep(Path(scratch) / "two", short, kinds)
            rounds = [{"kind": "explore", "name": f"round{n}", "trials": ROUND} for n in range(ROUNDS)]
            rows = ways.sweep(Path(scratch) / "many", short, rounds)
        phase_change += changes(two)
        barriers += changes(rows)
        new_slots = {"phases": new_slots["phases"] + started(two), "barriers": new_slots["barriers"] + started(rows)}

    def against(peer: str, kind: str, part: str = "whole") -> float:
        """How many times as fast as a peer the platform is."""
        pairs = zip(seconds[f"{peer}, {kind}"], seconds[f"platform, {kind}"], strict=True)
        return statistics.median(getattr(theirs, part) / getattr(ours, part) for theirs, ours in pairs)

    peers = ["documented", "function", "function reused", "class", "bare"]
    return [
        *((f"{name}: seconds a trial", statistics.median(f.whole for f in by), "s") for name, by in seconds.items()),
        *((f"{name}: warm", statistics.median(f.warm for f in by), "s") for name, by in seconds.items()),
        *((f"0.1 s: speed against {peer}", against(peer, "0.1 s"), "x") for peer in peers),
        ("0.1 s: speed against bare, warm", against("bare", "0.1 s", "warm"), "x"),
        ("0.5 s: speed against class", against("class", "0.5 s"), "x"),
        ("0.5 s: speed against class, warm", against("class", "0.5 s", "warm"), "x"),
        ("0.5 s: speed against bare", against("bare", "0.5 s"), "x"),
        ("0.5 s: speed against bare, warm", against("bare", "0.5 s", "warm"), "x"),
        ("20 ms epochs: speed against bare, warm", against("bare", "20 ms epochs", "warm"), "x"),
        ("two workers: speed against documented", against("documented", "two workers, 0.1 s"), "x"),
        ("config to first step, warm", 1000 * statistics.median(platform.first_step), "ms"),
        ("idle between trials", 1000 * statistics.median(platform.idle), "ms"),
        ("phase change", statistics.median(phase_change), "s"),
        ("phase change: slots started", new_slots["phases"], ""),
        (f"barrier every {ROUND} trials", statistics.median(barriers), "s"),
        (f"barrier every {ROUND} trials: slots started", new_slots["barriers"], ""),
    ]  # fmt: skip


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
