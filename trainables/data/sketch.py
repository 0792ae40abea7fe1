"""Rows in a few numbers each, so that many of them can be compared; and what their columns are like.

Place in the flow: `trainables.audit` looks for similar rows and wrong labels by these, and at columns by `Moments`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trainables.data.raw import Array, Raw

SKETCH = 64
"""So many numbers are kept of a row."""
WORDS = 2**14
"""Words have so many directions; rare ones share."""
BEYOND = 1e150
"""Larger numbers count as this one: their squares would be infinite."""


class Moments:
    """Of each column of a split its range, mean and standard deviation, numbers that are none left out."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.count = np.zeros(self.columns)
        self.sum, self.squares = np.zeros(self.columns), np.zeros(self.columns)
        self.low, self.high = np.full(self.columns, np.inf), np.full(self.columns, -np.inf)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each column."""
        return self.sum / np.maximum(self.count, 1)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Of each column."""
        square = np.maximum(self.squares / np.maximum(self.count, 1) - self.mean**2, 0.0)
        return np.where(self.high <= self.low, 0.0, np.sqrt(square))

    def add(self, part: Array) -> None:
        """Take in some rows."""
        rows = flat(part)
        finite = np.isfinite(rows)
        clean = np.where(finite, rows, 0.0).astype(np.float64).clip(-BEYOND, BEYOND)
        self.count += finite.sum(0)
        self.sum += clean.sum(0)
        self.squares += (clean**2).sum(0)
        self.low = np.minimum(self.low, np.where(finite, rows, np.inf).min(0))
        self.high = np.maximum(self.high, np.where(finite, rows, -np.inf).max(0))


class Sketch:
    """A few numbers for each row, such that rows which are close have close ones."""

    def __init__(self, train: Raw, moments: Moments) -> None:
        self._categories, self._mean = train.categories or {}, moments.mean
        deviation = moments.deviation
        self._scale = np.where(deviation > 0, 1 / np.maximum(deviation, 1e-30), 0.0)
        self._directions = None
        if moments.columns > SKETCH:
            draw = np.random.default_rng(0)
            self._directions = draw.standard_normal((moments.columns, SKETCH)).astype(np.float32) / np.sqrt(SKETCH)

    def __call__(self, part: Array) -> NDArray[np.float32]:
        """Of some rows, of shape (rows, at most SKETCH)."""
        rows = flat(part)
        clean = np.where(np.isfinite(rows), rows, self._mean).astype(np.float64).clip(-BEYOND, BEYOND)
        standard: NDArray[np.float32] = ((clean - self._mean) * self._scale).astype(np.float32)
        for column in self._categories:
            standard[:, column] = numbers_of(rows[:, column].astype(np.int64), column)
        return standard if self._directions is None else standard @ self._directions


def of_words(part: Array) -> NDArray[np.float32]:
    """The same of texts: the sum of a random direction for each word, of length 1; padding (0) does not count."""
    rows = flat(part)
    directions = np.random.default_rng(1).standard_normal((WORDS, SKETCH)).astype(np.float32)
    directions[0] = 0.0
    found = np.zeros((len(rows), SKETCH), np.float32)
    for column in rows.T:
        found += directions[np.where(column > 0, (column - 1) % (WORDS - 1) + 1, 0)]
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    return found


def numbers_of(codes: NDArray[np.int64], column: int) -> NDArray[np.float32]:
    """A number for each code of a category, the same each time, spread as a standardised column."""
    mixed = (codes.astype(np.uint64) + np.uint64(1 + column)) * np.uint64(0x9E3779B97F4A7C15)
    uniform = (mixed >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    spread: NDArray[np.float32] = (uniform - np.float32(0.5)) * np.float32(12**0.5)
    return spread


def flat(part: Array) -> Array:
    """Rows as one dimension each."""
    return part.reshape(len(part), math.prod(part.shape[1:]))
