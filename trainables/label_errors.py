"""Rows whose label is probably another: confident learning over cross-validated probabilities.

Place in the flow: `trainables.audit` asks for it. Quick classifiers say of each row, from other rows only, how probable
each class is (C. Northcutt, L. Jiang, I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021).
In two rounds, because wrong labels make their neighbours doubtful: the second learns from no row of which the first
thought otherwise. A row is suspected when its own label is hardly possible then, and another one likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
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
