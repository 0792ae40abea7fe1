"""Rows whose label is probably another: confident learning over cross-validated probabilities.

Place in the flow: `trainables.audit` asks for it. Quick classifiers say of each row, from other rows only, how probable
each class is (C. Northcutt, L. Jiang, I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021).
In two rounds, because wrong labels make their neighbours doubtful: the second learns from no row of which the first
thought otherwise. A row is suspected when its own label is hardly possible then, and another one likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.raw import AT_ONCE, EXAMPLES, Array, Raw
from trainables.data.sketch import BEYOND, flat

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
LABEL_ROWS = 10_000
"""So many training rows are looked at for labels that are wrong."""
AGREEMENT = 0.7
"""Classifiers that think otherwise of more rows know too little to judge labels."""
LEAST = 2 * FOLDS
"""Rows of a class that is to be looked at: fewer may be missing in a fold."""
HARDLY, LIKELY = 0.1, 0.5
"""Probabilities of the own label, at most, and of the other one, at least, of a row that is suspected."""


def out_of_sample(x: NDArray[np.float32], y: Ints, known: NDArray[np.bool_] | None = None) -> Floats:
    """The probability of each class for each row, of shape (rows, classes), from classifiers of the other folds.

    `y`: labels 0 … classes - 1, each of LEAST rows; `known`: the rows that may be learned from, by default all.
    """
    from sklearn.model_selection import StratifiedKFold

    found = np.zeros((len(y), int(y.max()) + 1))
    for learned, told in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, y):
        if known is not None:
            learned = learned[known[learned]]
        for model in classifiers():
            model.fit(x[learned], y[learned])
            found[np.ix_(told, model.classes_)] += model.predict_proba(x[told])
    found /= found.sum(1, keepdims=True)
    return found


def classifiers() -> Iterator[Any]:
    """Two that err in different ways, for standardised features."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.neighbors import KNeighborsClassifier

    yield KNeighborsClassifier(10, weights="distance")
    yield ExtraTreesClassifier(100, min_samples_leaf=2, random_state=0)


def suspects(first: Floats, x: NDArray[np.float32], y: Ints) -> tuple[Ints, Floats]:
    """The rows whose label is suspected, the most suspected first; and the probabilities of the second round.

    `first`: those of the first round.
    """
    second = out_of_sample(x, y, known=first.argmax(1) == y)
    own, other = second[np.arange(len(y)), y], second.max(1)
    doubtful = np.flatnonzero((own < HARDLY) & (other > LIKELY))
    return doubtful[np.argsort((own - other)[doubtful], kind="stable")], second


@dataclass(frozen=True)
class Suspected:
    """Of labelled rows those whose label is probably another."""

    probabilities: NDArray[np.float64]
    """Of shape (rows, labels in their order), from classifiers of other rows."""
    agreement: float
    """The share of rows of which these thought as their label says."""
    judged: bool
    """Whether that is enough to suspect any."""
    rows: NDArray[np.int64]
    """The suspected ones, the most suspected first."""


def suspected_labels(features: NDArray[np.float32], y: NDArray[np.int64]) -> Suspected:
    """Look for wrong labels among rows of which each label has some, by standardised features of shape (rows, n)."""
    given = np.unique(y, return_inverse=True)[1].astype(np.int64)
    first = out_of_sample(features, given)
    agreement = float((first.argmax(1) == given).mean())
    if agreement < AGREEMENT:
        return Suspected(first, agreement, False, np.empty(0, np.int64))
    rows, second = suspects(first, features, given)
    return Suspected(second, agreement, True, rows)


def standardised(part: Array) -> NDArray[np.float32]:
    """Rows with columns of mean 0 and standard deviation 1, as far as they vary."""
    rows = flat(part)
    clean = np.where(np.isfinite(rows), rows, 0.0).astype(np.float64).clip(-BEYOND, BEYOND)
    spread = clean.std(0)
    standard: NDArray[np.float32] = ((clean - clean.mean(0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    return standard


def wrong_labels(train: Raw, features: Callable[[Array], NDArray[np.float32]] | None) -> dict[str, Any]:
    """Training rows whose label is suspected, as `Audit.label_errors` has them, {} where there are too few to tell.

    `features`: what rows are told by; None: by their numbers, standardised.
    """
    rows = np.linspace(0, len(train) - 1, min(len(train), LABEL_ROWS)).astype(np.int64)
    known, codes, counts = np.unique(train.y[rows], return_inverse=True, return_counts=True)
    rows = rows[np.isin(codes, np.flatnonzero(counts >= LEAST))]
    known = np.unique(train.y[rows])
    if len(known) < 2:
        return {}
    like, step = features or flat, max(1, AT_ONCE // train.take(rows[:1]).size)
    told = np.concatenate([like(train.take(rows[start : start + step])) for start in range(0, len(rows), step)])
    suspected = suspected_labels(told if features else standardised(told), train.y[rows])
    probable = suspected.probabilities
    likelier = probable[suspected.rows].argmax(1)
    return {
        "looked_at": len(rows),
        "agreement": suspected.agreement,
        "judged": suspected.judged,
        "suspected": len(suspected.rows),
        "examples": [
            [
                *train.numbers([rows[row]]),
                int(train.y[rows[row]]),
                int(known[other]),
                float(probable[row, other]),
            ]
            for row, other in zip(suspected.rows[:EXAMPLES].tolist(), likelier.tolist(), strict=False)
        ],
    }
