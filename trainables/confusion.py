"""What a classifier takes for what: pairs of classes, and each class's recall and precision.

Place in the flow: `error_analysis` asks for both of the rows that it looked at.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WORST_CLASSES = WORST_PAIRS = 20


def confusions(truth: Tensor, guess: Tensor) -> Tensor:
    """The pairs of classes that are confused, of shape (pairs, 3): class, what it is taken for, in how many rows.

    `truth` and `guess` are labels of shape (rows,). Most rows first, of equals the lower class; only pairs that occur,
    not all that there could be.
    """
    wrong, count = truth != guess, int(max(truth.max(), guess.max())) + 1
    pairs, times = (truth[wrong] * count + guess[wrong]).unique(return_counts=True)
    found = torch.stack((pairs // count, pairs % count, times), 1)
    return found[times.argsort(descending=True, stable=True)]


def by_pair(truth: Tensor, guess: Tensor) -> list[dict[str, Any]]:
    """The most frequent confusions: `label`, `taken_for`, `rows`, their `share` of the rows of that label."""
    there = torch.bincount(truth)
    return [
        {"label": label, "taken_for": other, "rows": rows, "share": rows / int(there[label])}
        for label, other, rows in confusions(truth, guess)[:WORST_PAIRS].tolist()
    ]


def by_class(truth: Tensor, guess: Tensor) -> list[dict[str, Any]]:
    """Recall and precision of the classes that rows have, the lowest recall first."""
    count = int(max(truth.max(), guess.max())) + 1
    right = torch.bincount(truth[truth == guess], minlength=count)
    there, taken = torch.bincount(truth, minlength=count), torch.bincount(guess, minlength=count)
    taken_for: dict[int, int] = {}
    for label, other, _ in confusions(truth, guess).tolist():
        taken_for.setdefault(label, other)
    found = [
        {
            "label": label,
            "rows": int(there[label]),
            "recall": float(right[label] / there[label]),
            "precision": float(right[label] / taken[label]) if taken[label] else None,
            "taken_for": taken_for.get(label),
        }
        for label in there.nonzero().flatten().tolist()
    ]
    return sorted(found, key=lambda one: one["recall"])[:WORST_CLASSES]
