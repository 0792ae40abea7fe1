"""Whether cutting the learning rate range by the range test pays: the first search with the cut and without it.

For each example the trials of its explore phase are trained whole (no early stopping) at that phase's fidelity, once
over the spec's range of `lr` and once over what preflight's range tests leave of it, from the same points of the same
Sobol sequence, for several seeds. Told are the best value that each found, as the ratio cut / whole (losses: below 1 is
better), and how many of the trials came within a tenth of the best of either.
"""

from __future__ import annotations

import math
import statistics
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.harness import ROOT, report
from sweeps.phases import opening
from sweeps.plan import baseline_of
from sweeps.search import sobol
from sweeps.space import Choice, Config, Space
from sweeps.spec import Explore, SweepSpec, read_spec
from trainables.contract import Fidelity, Session, instantiate, load, resolve
from trainables.hyperparameters import STANDARD
from trainables.lr_range import lr_range

EXAMPLES = ("digits", "breast_cancer", "diabetes")
SEEDS = 5
NEAR = 1.1


def cut(spec: SweepSpec, seed: int) -> Space:
    """The space as preflight's range tests on the baseline leave it."""
    baseline = baseline_of(spec, STANDARD)
    domain = spec.space.root.get("optimizer")
    tested = []
    for optimizer in domain.choice if isinstance(domain, Choice) else (baseline.get("optimizer"),):
        config = baseline if optimizer is None else {**baseline, "optimizer": optimizer}
        found = lr_range(instantiate(load(spec.trainable)), config, Fidelity(1, seed=seed))
        evidence = {"optimizer": optimizer, "low": found.low, "high": found.high}
        tested.append({"finding": "lr_range", "evidence": evidence})
    history: Any = SimpleNamespace(findings=tested)
    engine: Any = SimpleNamespace(spec=spec, record=SimpleNamespace(history=history))
    return opening.cut(engine)[0]


def searched(spec: SweepSpec, space: Space, phase: Explore, seed: int) -> list[float]:
    """The last value of each trial; infinite of one that diverged."""
    draw = sobol(space, seed)
    fidelity = Fidelity(phase.epochs, phase.data_fraction, seed)
    return [trained(spec, draw(number), fidelity) for number in range(phase.trials)]


def trained(spec: SweepSpec, config: Config, fidelity: Fidelity) -> float:
    """The metric of a config after its last epoch."""
    *_, last = resolve(spec.trainable)(config, Session(fidelity))
    value = last.metrics.get(spec.metric, math.nan)
    return value if math.isfinite(value) else math.inf


def compare(name: str) -> list[tuple[str, float, str]]:
    """The rows of one example."""
    spec = read_spec(ROOT / "sweeps" / "examples" / f"{name}.yaml")
    phase = next(phase for phase in spec.phases if isinstance(phase, Explore))
    ratios, near = [], {"whole": 0, "cut": 0}
    for seed in range(SEEDS):
        values = {"whole": searched(spec, spec.space, phase, seed), "cut": searched(spec, cut(spec, seed), phase, seed)}
        ratios.append(min(values["cut"]) / min(values["whole"]))
        best = min(map(min, values.values()))
        for way, found in values.items():
            near[way] += sum(value <= NEAR * best for value in found)
    trials = SEEDS * phase.trials
    return [
        (f"{name}: best loss, cut / whole, median of {SEEDS} seeds", statistics.median(ratios), "ratio"),
        (f"{name}: the same, worst seed", max(ratios), "ratio"),
        *((f"{name}: trials near the best, {way}", count / trials, "share") for way, count in near.items()),
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("lr_cut", [row for name in EXAMPLES for row in compare(name)])
