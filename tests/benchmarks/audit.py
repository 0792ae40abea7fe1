"""What the audit finds of what was planted in real data, and what it costs.

label errors   the digits with labels changed at random at 0, 5 and 10 %: recall and precision of the suspected rows,
               beside those of cleanlab on the same probabilities.
copies         the digits, the docstrings and a table of noise, with rows of train put into val and into train again,
               as they are and nearly so: of numbers with noise of a fiftieth of each column's deviation, of texts with
               one word in twenty another. Recall, and what is found in the data as they were.
size           a million rows of 50 columns: seconds, and the memory that it takes beside the data, as a share of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import report
from trainables.audit import audit_splits
from trainables.contract import Fidelity
from trainables.examples.digits import Digits
from trainables.examples.docstrings import Docstrings
from trainables.label_errors import out_of_sample, standardised, suspected_labels

SEEDS = 5
PLANTED = 40
NOISE = 0.02
WORDS_CHANGED = 0.05
FIDELITY = Fidelity(1)


def label_errors(share: float, seed: int) -> dict[str, tuple[float, float]]:
    """Recall and precision, ours and those of cleanlab on the probabilities of the first round."""
    from cleanlab.filter import find_label_issues

    x, y = (part.numpy() for part in Digits().data({}, FIDELITY).train)
    draw = np.random.default_rng(seed)
    wrong = draw.random(len(y)) < share
    given = np.where(wrong, (y + draw.integers(1, 10, len(y))) % 10, y)
    planted = set(np.flatnonzero(wrong).tolist())
    ours = suspected_labels(standardised(x), given).rows
    theirs = find_label_issues(
        given, out_of_sample(standardised(x), given), return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return {"ours": scored(set(ours.tolist()), planted), "cleanlab": scored(set(map(int, theirs)), planted)}


def scored(found: set[int], planted: set[int]) -> tuple[float, float]:
    """Recall and precision."""
    right = len(found & planted)
    return right / max(1, len(planted)), right / max(1, len(found))


def copied(x: np.ndarray[Any, Any], seed: int, near: bool) -> np.ndarray[Any, Any]:
    """Some rows again, as they are or nearly so."""
    draw = np.random.default_rng(seed)
    rows = x[draw.choice(len(x), PLANTED, replace=False)].copy()
    if near and rows.dtype.kind == "f":
        rows += (NOISE * x.std(0) * draw.standard_normal(rows.shape)).astype(rows.dtype)
    elif near:
        other = draw.integers(3, x.max(), rows.shape)
        rows = np.where((draw.random(rows.shape) < WORDS_CHANGED) & (rows > 0), other, rows)
    return rows


def copies(x: np.ndarray[Any, Any], seed: int, near: bool) -> dict[str, float]:
    """Which shares of the rows planted in val, and again in train, were found; and how many others were."""
    half = len(x) * 2 // 3
    train, val = x[:half], x[half:]
    before = audit_splits({"train": (train, np.zeros(len(train))), "val": (val, np.zeros(len(val)))})
    leaked, again = copied(train, seed, near), copied(train, seed + 100, near)
    after = audit_splits(
        {
            "train": (np.concatenate((train, again)), np.zeros(len(train) + PLANTED)),
            "val": (np.concatenate((val, leaked)), np.zeros(len(val) + PLANTED)),
        }
    )

    def count(found: dict[str, Any]) -> int:
        return int(found.get("exact", 0) + found.get("near", 0))

    extra = count(before.leakage.get("val", {})) + count(before.duplicates)
    return {
        "leaks": (count(after.leakage["val"]) - count(before.leakage.get("val", {}))) / PLANTED,
        "duplicates": (count(after.duplicates) - count(before.duplicates)) / PLANTED,
        "before": extra / len(x),
    }


def data_sets() -> dict[str, np.ndarray[Any, Any]]:
    """Inputs: images, texts, a table."""
    digits = torch.cat([split[0] for split in (Digits().data({}, FIDELITY).train, Digits().data({}, FIDELITY).val)])
    texts = Docstrings().data({}, FIDELITY)
    return {
        "digits": digits.numpy(),
        "docstrings": torch.cat((texts.train[0], texts.val[0])).numpy(),
        "table": np.random.default_rng(0).standard_normal((20_000, 20)).astype(np.float32),
    }


def clear_peak() -> None:
    """Forget how much memory was held at most so far."""
    Path("/proc/self/clear_refs").write_text("5")


def status(key: str) -> int:
    """Bytes, of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def size(rows: int = 1_000_000, columns: int = 50) -> list[tuple[str, float, str]]:
    """The rows of a large table."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((rows, columns)).astype(np.float32)
    y = (x[:, :3].sum(1) > 0).astype(np.int64)
    clear_peak()
    before, began = status("VmRSS"), time.perf_counter()
    found = audit_splits(
        {"train": (x[: rows * 9 // 10], y[: rows * 9 // 10]), "val": (x[rows * 9 // 10 :], y[rows * 9 // 10 :])}
    )
    seconds = time.perf_counter() - began
    held = status("VmHWM") - before
    assert found.columns == columns
    return [
        ("a million rows of 50 columns", seconds, "s"),
        ("a million rows: memory beside the data, of the data", held / x.nbytes, "x"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = range(parser.parse_args().seeds)
    rows = size()
    for share in (0.0, 0.05, 0.1):
        found = [label_errors(share, seed) for seed in seeds]
        for whose in ("ours", "cleanlab"):
            recall, precision = (statistics.fmean(one[whose][n] for one in found) for n in (0, 1))
            if share:
                rows.append((f"label errors, {share:.0%}: recall, {whose}", recall, ""))
                rows.append((f"label errors, {share:.0%}: precision, {whose}", precision, ""))
    for name, x in data_sets().items():
        for near in (False, True):
            planted = [copies(x, seed, near) for seed in seeds]
            kind = "near" if near else "exact"
            rows += [
                (f"{name}: {kind} {what} found", statistics.fmean(one[what] for one in planted), "")
                for what in ("leaks", "duplicates")
            ]
        rows.append((f"{name}: copies in the data as they were", planted[0]["before"], "of the rows"))
    report("audit", rows)


if __name__ == "__main__":
    main()
