"""Splits as they are given, faults included, in parts: for looking through what `rows.open_rows` would refuse.

Place in the flow: `trainables.audit` reads the splits of a trainable's `Data` through these; nothing trains on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from trainables.data.mapped import View

Array = NDArray[Any]
AT_ONCE = 2**22
"""So many numbers are read at a time."""
DATASET_ROWS = 20_000
"""Of a Dataset, which is read row by row, so many rows are looked at."""


@dataclass(frozen=True)
class Raw:
    """A split: `x` and `y` can be indexed by arrays of row numbers."""

    name: str
    x: Any
    y: Array
    rows: int
    """That there are; those looked at are as many as `y` has."""
    columns: list[str] | None = None
    categories: dict[int, int] | None = None
    """Of a table: column of codes -> how many there are."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Array) -> Array:
        """The inputs of some rows, as they are."""
        return np.asarray(self.x[index])

    def parts(self) -> Iterator[tuple[int, Array]]:
        """All inputs in parts, each with the number of its first row."""
        numbers = max(1, self.take(np.arange(1)).size)
        step = max(1, AT_ONCE // numbers)
        for start in range(0, len(self), step):
            yield start, self.take(np.arange(start, min(start + step, len(self))))


class Mapped:
    """The rows of a view by their numbers in it."""

    def __init__(self, view: View) -> None:
        self._table, self._index = view.table.x.numpy(), view.index.numpy()

    def __getitem__(self, index: Array) -> Array:
        return np.asarray(self._table[self._index[index]])


def open_raw(name: str, split: Any) -> Raw | None:
    """The rows of a split; None of a kind that has none by index, or whose rows are no pairs of equal shapes."""
    if isinstance(split, View):
        table = split.table
        y = table.y[split.index].numpy()
        return Raw(name, Mapped(split), y, len(split), getattr(table, "columns", None), dict(table.categories))
    if type(split) is TensorDataset:
        split = split.tensors
    if isinstance(split, tuple | list):
        if len(split) != 2:
            return None
        x, y = (array(part) for part in split)
        if x is None or y is None or not x.ndim or len(x) != len(y):
            return None
        return Raw(name, x, y, len(y))
    if not (hasattr(split, "__getitem__") and hasattr(split, "__len__")):
        return None
    return of_dataset(name, split)


def of_dataset(name: str, dataset: Any) -> Raw | None:
    """Rows of a Dataset, evenly spread where they are many."""
    chosen = torch.linspace(0, len(dataset) - 1, min(len(dataset), DATASET_ROWS), dtype=torch.float64).long().unique()
    read = [dataset[int(row)] for row in chosen]
    if not read or not all(isinstance(row, tuple | list) and len(row) == 2 for row in read):
        return None
    x, y = (array([np.asarray(row[part]) for row in read]) for part in (0, 1))
    if x is None or y is None:
        return None
    return Raw(name, x, y, len(dataset))


def array(value: Any) -> Array | None:
    """The numbers as an array; None for what is none."""
    if hasattr(value, "to_numpy"):  # of pandas
        value = value.to_numpy()
    try:
        found = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except (ValueError, TypeError):
        return None
    return found if found.dtype.kind in "biuf" else None
