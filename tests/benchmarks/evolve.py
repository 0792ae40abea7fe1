"""Whether a population pays: evolve against other ways to spend the same epochs, over seeds.

real tasks   the space of an example's spec, one budget of epochs, as nearly as ASHA's luck allows (it is told).
             `evolve`: a population; `refine`: explore and refine under ASHA; `constant`: the population's number of
             configs, each trained whole, the best of them the best constant config. Each sweep's best by validation
             is compared by the loss that it has, by its loss on the test split, which nothing was chosen by, and by
             the mean loss that its config or schedule gives from scratch under further seeds (`sweeps replay`).
             Ratios below 1: the population was better.
noisy        a task whose best schedule is known (`toys.noisy`): the population's best against the least that any
             constant rate gives, and against the least that any schedule gives.
busy         the same members with and without taking over, each in a slot of its own, epochs that only wait:
             seconds from first to last report, without over with. What a member trains again because its donor was
             behind counts against the population.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import ROOT, report
from cluster.local import connect
from sweeps import Sweep
from sweeps.spec import SweepSpec, read_spec
from toys import least_constant, least_possible
from trainables.contract import Fidelity, Session, instantiate, load
from trainables.evaluation import evaluate_split

SEEDS = 5
MEMBERS, EPOCHS, INTERVAL = 8, 12, 2
TASKS = ("digits", "films")
WAYS: dict[str, list[dict[str, Any]]] = {
    "evolve": [{"kind": "evolve", "population": MEMBERS, "epochs": EPOCHS, "interval": INTERVAL}],
    "refine": [
        {"kind": "explore", "trials": 10, "epochs": 4, "data_fraction": 1.0},
        {"kind": "refine", "trials": 14, "epochs": EPOCHS},
    ],
    "constant": [
        {"kind": "explore", "trials": MEMBERS, "epochs": EPOCHS, "data_fraction": 1.0, "reduction_factor": None}
    ],
}
NOISY_EPOCHS = 24
FURTHER = 2
"""Seeds from scratch beside the best trial's own."""


def swept(storage: Path, spec: SweepSpec, **changes: Any) -> Sweep:
    """The sweep, run; what it prints is dropped."""
    document = {**spec.document(), "storage": str(storage), **changes}
    return Sweep(SweepSpec.model_validate(document)).run(out=io.StringIO())


def measured(sweep: Sweep) -> dict[str, float]:
    """What the sweep found: the loss of its best, that on the test split, that from scratch; epochs trained for it."""
    best, metric = sweep.best, sweep.spec.metric
    epochs = sum(len(trial.epochs) for trial in sweep.history.trials.values())
    trainable = instantiate(load(sweep.spec.trainable))
    session = Session(Fidelity(**best.fidelity), torch.device("cpu"), best.state())
    test = evaluate_split(trainable, best.config, session, "test")["test/loss"]
    sweep.replay(best.trial, seeds=1 + FURTHER, out=io.StringIO())
    again = [trial for trial in sweep.history.of_phase("replay") if trial.fidelity["seed"] != best.fidelity["seed"]]
    scratch = statistics.fmean(trial.curve(metric)[-1][1] for trial in again)
    return {"val": best.metrics[metric], "test": test, "from scratch": scratch, "epochs": epochs}


def real(task: str, seeds: int) -> list[tuple[str, float, str]]:
    """The rows of an example."""
    spec = read_spec(ROOT / "sweeps" / "examples" / f"{task}.yaml")
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for seed in range(seeds):
        for way, phases in WAYS.items():
            with tempfile.TemporaryDirectory() as name:
                found[way].append(measured(swept(Path(name), spec, phases=phases, seed=seed)))
    rows = [(f"{task}: epochs, {way}", statistics.fmean(f["epochs"] for f in found[way]), "") for way in WAYS]
    for way in ("refine", "constant"):
        for what in ("val", "test", "from scratch"):
            ratios = [e[what] / o[what] for e, o in zip(found["evolve"], found[way], strict=True)]
            label = f"{task}: {what} loss, evolve over {way}"
            rows += [
                (f"{label}, median of {seeds} seeds", statistics.median(ratios), "x"),
                (f"{label}, worst seed", max(ratios), "x"),
                (f"{label}, seeds won", sum(ratio < 1 for ratio in ratios), f"of {seeds}"),
            ]
    return rows


def noisy(seeds: int) -> list[tuple[str, float, str]]:
    """The rows of the task whose best schedule is known."""
    mutations = {"lr": {"factors": [0.5, 1.5]}}
    spec = SweepSpec.model_validate(
        {
            "trainable": "toys:noisy", "space": {"lr": {"log": [1e-3, 1.0]}}, "report_every": 0.0,
            "phases": [
                {"kind": "evolve", "population": 8, "epochs": NOISY_EPOCHS, "interval": 1, "mutations": mutations}
            ],
            "resources": {"cpus_per_worker": 0.1, "concurrency": 8},
        }
    )  # fmt: skip
    values = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            values.append(swept(Path(name), spec, seed=seed).best.metrics["val/loss"])
    constant, possible = least_constant(NOISY_EPOCHS), least_possible(NOISY_EPOCHS)
    return [
        ("noisy: loss, evolve over the best constant rate, median", statistics.median(values) / constant, "x"),
        ("noisy: loss, evolve over the best constant rate, worst seed", max(values) / constant, "x"),
        ("noisy: loss, evolve over the best schedule, median", statistics.median(values) / possible, "x"),
        ("noisy: loss, the best constant rate over the best schedule", constant / possible, "x"),
    ]


def busy(seeds: int) -> list[tuple[str, float, str]]:
    """The row of the slots' work."""
    spec = SweepSpec.model_validate(
        {
            "trainable": "toys:annealed", "space": {"lr": {"log": [1e-2, 1.0]}, "seconds": 0.5}, "report_every": 0.0,
            "phases": [
                {"kind": "explore", "trials": 4, "epochs": EPOCHS, "data_fraction": 1.0, "reduction_factor": None},
                {"kind": "evolve", "population": 4, "epochs": EPOCHS, "interval": INTERVAL},
            ],
            "resources": {"cpus_per_worker": 0.1, "concurrency": 4},
        }
    )  # fmt: skip
    ratios = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as name:
            history = swept(Path(name), spec, seed=seed).history
            spans = [
                sum(trial.epochs[-1].at - trial.epochs[0].at for trial in history.of_phase(phase))
                for phase in ("explore", "evolve")
            ]
            ratios.append(spans[0] / spans[1])
    return [("busy: training without over with taking over, median", statistics.median(ratios), "x")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    chosen = parser.parse_args()
    cluster = connect()
    try:
        rows = [*noisy(chosen.seeds), *busy(chosen.seeds)]
        for task in chosen.tasks:
            rows += real(task, chosen.seeds)
    finally:
        cluster.close()
    report("evolve", rows)


if __name__ == "__main__":
    main()
