"""Whether advice helps: the faulty trainings of `planted` again, with what `diagnose` and `remedies` say to change.

    python tests/benchmarks/advise.py                               all families, three seeds
    python tests/benchmarks/advise.py --families mlp --tries 2      the first two remedies for each training

Of each faulty training the likeliest finding is taken, as a sweep would, and where it has a remedy in the config, the
changed config is trained with the same fault and seed. It counts as better where its validation loss at the end is
below that of the faulty training by more than the standard deviation of the faulty ones over seeds. Faults that no
config mends (labels that are shuffled, a layer that is frozen) get no advice and do not count. Remedies were chosen on
mlp and cnn; series and text are reported.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import planted
from benchmarks.diagnose import Job, run_of, train_all
from benchmarks.harness import report
from benchmarks.planted import CALIBRATED, FAMILIES, HARMLESS, HEALTHY, RECIPES
from sweeps.insight.diagnose import diagnose
from sweeps.insight.losses import end
from sweeps.insight.remedies import applied, remedies_for
from sweeps.insight.runs import Run
from sweeps.space import Space
from trainables.hyperparameters import STANDARD

SEEDS, TRIES = 3, 1
ANYTHING = Space.model_validate({"unused": {"float": [0.0, 1.0]}})
"""A space that limits no parameter of these configs."""
CHOSEN_ON = ("mlp", "cnn")


@dataclass(frozen=True)
class Tried:
    """A remedy for a faulty training."""

    job: Job
    finding: str
    changes: dict[str, tuple[Any, Any]]
    before: float
    noise: float
    after: float = math.inf

    @property
    def better(self) -> bool:
        """Beyond seed noise."""
        return self.after < self.before - self.noise


def level(run: Run) -> float:
    """The validation loss at the end; infinite where it is none."""
    values = run.curves["val/loss"]
    if run.config.get("restore_best"):
        return float(values[-1])  # of the weights of the best epoch
    return end(values) if math.isfinite(values[-1]) else math.inf


def advised(job: Job, run: Run, noise: float, tries: int) -> list[Tried]:
    """The first remedies for the likeliest finding of a training; none where it has none."""
    finding = diagnose(run).likeliest
    if finding is None:
        return []
    changes = [applied(remedy, run, ANYTHING, STANDARD) for remedy in remedies_for(finding)]
    known = [found for found in changes if found][:tries]
    return [Tried(job, finding.finding, found, level(run), noise) for found in known]


def again(tried: Tried) -> Tried:
    """The training with the remedy: the same fault, the same seed."""
    family, kind, seed = tried.job
    case = RECIPES[kind].plant(HEALTHY[family])
    config = {**case.config, **{name: after for name, (_, after) in tried.changes.items()}}
    curve, _ = planted.train(replace(case, config=config), seed)
    found = {"curve": curve, "config": config, "probes": {}, "audit": {}}
    return replace(tried, after=level(run_of(tried.job, found)))


def all_again(todo: list[Tried]) -> list[Tried]:
    """All of them, as many at a time as there are cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return pool.map(again, todo, chunksize=1)


def share(tried: Iterable[Tried]) -> float:
    """Of those that are better."""
    found = [one.better for one in tried]
    return statistics.fmean(found) if found else math.nan


def table(tried: Iterable[Tried]) -> str:
    """A line a finding and remedy: how often it was better, the median change, for which kinds."""
    groups: dict[tuple[str, str], list[Tried]] = {}
    for one in tried:
        groups.setdefault((one.finding, " and ".join(one.changes)), []).append(one)
    lines = []
    for (finding, parameters), those in sorted(groups.items()):
        change = statistics.median(one.after / one.before - 1 if math.isfinite(one.before) else -1.0 for one in those)
        kinds = Counter(f"{one.job[1]}{'' if one.job[1] in CALIBRATED else '*'}" for one in those)
        said = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        lines.append(f"{finding:<20} {parameters:<26} {share(those):>5.0%} of {len(those):<3} {change:>+7.0%}  {said}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--kinds", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    chosen = parser.parse_args()
    kinds = [
        (family, kind)
        for family in chosen.families
        for kind in chosen.kinds
        if family in RECIPES[kind].families and (family, kind) not in HARMLESS
    ]
    jobs = [(family, kind, seed) for family, kind in kinds for seed in range(chosen.seeds)]
    seen = dict(zip(jobs, train_all(jobs), strict=True))
    runs = {job: run_of(job, found) for job, found in seen.items() if "refused" not in found}
    todo: list[Tried] = []
    for family, kind in kinds:
        own = [job for job in runs if job[:2] == (family, kind)]
        levels = [level(runs[job]) for job in own]
        finite = [value for value in levels if math.isfinite(value)]
        noise = statistics.stdev(finite) if len(finite) > 1 else 0.0
        for job in own:
            todo += advised(job, runs[job], noise, chosen.tries)
    tried = all_again(todo)
    print(table(tried), "* not calibrated on", sep="\n")
    rows: list[tuple[str, float, str]] = [("better beyond seed noise", share(tried), f"of {len(tried)}")]
    parts = {"mlp and cnn": CHOSEN_ON, **{name: (name,) for name in chosen.families if name not in CHOSEN_ON}}
    for name, families in parts.items():
        part = [one for one in tried if one.job[0] in families]
        rows.append((f"{name}: better beyond seed noise", share(part), f"of {len(part)}"))
    report("advise", rows)


if __name__ == "__main__":
    main()
