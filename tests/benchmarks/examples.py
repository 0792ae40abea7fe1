"""Every example on real data from its first trial to its verdict: the table of the README, and what the sweeps gained.

Place in the flow: `make examples` runs it. The sweeps run one after the other, each as a user runs it, with all cores.
Names given as arguments run only those. The test split is read by the sweep's own verdict; nothing here chooses by it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev

import torch

from benchmarks.harness import ROOT, report
from sweeps import Sweep
from trainables.contract import Fidelity, instantiate, load
from trainables.data.rows import open_rows

EXAMPLES = {
    "digits": "images: which digit",
    "breast_cancer": "table of numbers: is a tumour malignant",
    "diabetes": "table of numbers: how far is the disease a year later",
    "films": "table with categories: do the critics like it",
    "glucose": "series: its change in half an hour",
    "docstrings": "text: which part of Python's library is it from",
}
"""Spec -> what its data are and what is asked of them."""
HEAD = (
    "spec", "data", "rows train / val / test", "network", "val/loss of the baseline", "of the winner", "verdict",
    "test/loss", "test accuracy or mae", "minutes",
)  # fmt: skip


def swept(name: str, storage: Path) -> tuple[Sweep, float]:
    """A sweep of an example, run by command; how many seconds it took."""
    began = time.perf_counter()
    spec = f"sweeps/examples/{name}.yaml"
    subprocess.run([sys.executable, "-m", "sweeps", "run", spec, "--storage", str(storage)], cwd=ROOT, check=True)
    wall = time.perf_counter() - began
    (folder,) = storage.glob(f"{name}-*")
    return Sweep.open(folder), wall


def row(name: str, sweep: Sweep, wall: float) -> tuple[str, ...]:
    """The line of the README's table."""
    verdict, test = sweep.verdict, sweep.history.verdict["test"]
    data = instantiate(load(sweep.spec.trainable)).data(verdict.best.config, Fidelity(1))
    rows = [len(open_rows(name, split, torch.device("cpu"))) for split in (data.train, data.val, data.test)]
    arms = {arm.arm: arm for arm in verdict.arms}
    baseline, candidate = arms["baseline"], arms[verdict.comparison.candidate]
    second = "test/accuracy" if "test/accuracy" in test["baseline"][0] else "test/mae"
    return (
        f"[{name}](sweeps/examples/{name}.yaml)",
        EXAMPLES[name],
        " / ".join(map(str, rows)),
        type(sweep.best.load()).__name__,
        spread(baseline.values),
        spread(candidate.values),
        f"{verdict.verdict}, {len(candidate.seeds)} seeds",
        before_after(test, candidate.arm, "test/loss"),
        before_after(test, candidate.arm, second),
        f"{wall / 60:.1f}",
    )


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation over seeds."""
    values = list(values)
    return f"{fmean(values):.3f} ± {stdev(values):.3f}"


def before_after(test: dict[str, list[dict[str, float]]], arm: str, metric: str) -> str:
    """A test metric of the baseline and of the winner, whose numbers are only there when it was better."""
    return " → ".join(spread(seed[metric] for seed in test[one]) if one in test else "–" for one in ("baseline", arm))


def gain(sweep: Sweep) -> float:
    """The low end of the interval by which the winner is better, as a share of the baseline's loss."""
    verdict = sweep.verdict
    return verdict.comparison.low / next(arm.mean for arm in verdict.arms if arm.arm == "baseline")


if __name__ == "__main__":
    names = sys.argv[1:] or list(EXAMPLES)
    storage = Path(tempfile.mkdtemp())
    lines, gains = [HEAD, ("---",) * len(HEAD)], []
    for name in names:
        sweep, wall = swept(name, storage)
        lines.append(row(name, sweep, wall))
        print(lines[-1], flush=True)
        gains.append((f"{name}: sure gain on val/loss", gain(sweep), "of the baseline's"))
    if names == list(EXAMPLES):  # else the goals of the others would count as missed
        report("examples", gains)
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))
