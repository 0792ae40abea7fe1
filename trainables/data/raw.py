"""Splits as they are given, faults included, in parts: for looking through what `rows.open_rows` would refuse.

Place in the flow: `trainables.audit` reads the splits of a trainable's `Data` through these; nothing trains on them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from trainables.data.faults import Fault
from trainables.data.images import Images
from trainables.data.mapped import View

Array = NDArray[Any]
AT_ONCE = 2**20
"""So many numbers are read at a time."""
EXAMPLES = 10
"""Rows that are named of each kind of trouble."""
MOST_ROWS = 2**22
"""A hundred bytes are held of each row that is looked at, however small it is."""
MOST_NUMBERS = 2**29
"""Of larger splits rows are left out, evenly: what is looked at takes a minute at most."""
DATASET_ROWS, DATASET_NUMBERS, DATASET_S = 20_000, 2**26, 20.0
"""Of a Dataset, which is read row by row and then held, so many rows, numbers and about so many seconds at most."""
TIMED_ROWS = 16


@dataclass(frozen=True)
class Raw:
    """A split: some of its rows, or all."""

    name: str
    x: Any
    """Can be indexed by an array of row numbers."""
    y: Array
    """Of the rows looked at."""
    rows: int
    """That there are."""
    chosen: NDArray[np.int64]
    """The numbers of the rows looked at."""
    columns: list[str] | None = None
    categories: dict[int, int] | None = None
    """Of a table: column of codes -> how many there are."""
    faults: list[Fault] = field(default_factory=list)
    """Why training refuses them; their `rows` are those of this split, and not looked at."""
    files: pa.Table | None = None
    """Of a folder of images what its files held, of all rows that can be looked at; as `images.Images` has it."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, places: Array) -> Array:
        """The inputs of some of the rows looked at, by their places among them, as they are."""
        return np.asarray(self.x[self.chosen[places]])

    def parts(self) -> Iterator[tuple[int, Array]]:
        """All inputs in parts, each with the place of its first row."""
        step = max(1, AT_ONCE // self.take(np.arange(1)).size)
        for start in range(0, len(self), step):
            yield start, self.take(np.arange(start, min(start + step, len(self))))

    def numbers(self, places: Any) -> list[int]:
        """The row numbers of some places."""
        return [int(row) for row in self.chosen[np.asarray(places, np.int64)]]


class Mapped:
    """The rows of a view by their numbers in it."""

    def __init__(self, view: View) -> None:
        self._table, self._index = view.table.x.numpy(), view.index.numpy()

    def __getitem__(self, index: Array) -> Array:
        return np.asarray(self._table[self._index[index]])


class Read:
    """Rows of a Dataset that were read, by their numbers in it."""

    def __init__(self, x: Array, chosen: NDArray[np.int64]) -> None:
        self._x, self._chosen = x, chosen

    def __getitem__(self, index: Array) -> Array:
        return np.asarray(self._x[np.searchsorted(self._chosen, index)])


def open_raw(name: str, split: Any) -> Raw | None:
    """The rows of a split; None of a kind that has none by index, or whose rows are no pairs of equal shapes."""
    if isinstance(split, View):
        return of_view(name, split)
    if type(split) is TensorDataset:
        split = split.tensors
    if isinstance(split, tuple | list):
        if len(split) != 2:
            return None
        x, y = (array(part) for part in split)
        if x is None or y is None or not x.ndim or not y.ndim or len(x) != len(y) or (len(x) and not x[:1].size):
            return None
        chosen = spread(len(y), int(x[:1].size), MOST_NUMBERS)
        return Raw(name, x, y[chosen], len(y), chosen)
    if not (hasattr(split, "__getitem__") and hasattr(split, "__len__")):
        return None
    return of_dataset(name, split)


def of_view(name: str, view: View) -> Raw:
    """Rows of a table, without those of which nothing can be said."""
    table, index = view.table, view.index.numpy()
    without = np.zeros(len(table), bool)
    faults = []
    for fault in table.faults:
        own = np.flatnonzero(np.isin(index, fault.rows))
        if len(own) or not fault.rows:
            faults.append(replace(fault, rows=own.tolist()))
        without[fault.rows] = True
    usable = np.flatnonzero(~without[index])
    chosen = usable[spread(len(usable), int(table.x[:1].numel()), MOST_NUMBERS)]
    columns, categories = getattr(table, "columns", None), dict(table.categories)
    files = table.files.take(index[usable]) if isinstance(table, Images) else None
    y = table.y.numpy()[index[chosen]]
    return Raw(name, Mapped(view), y, len(view), chosen, columns, categories, faults, files)


def spread(rows: int, numbers: int, most: int) -> NDArray[np.int64]:
    """Row numbers, evenly spread where the rows have more numbers than are to be looked at."""
    count = min(rows, MOST_ROWS, max(1, most // max(1, numbers)))
    return np.unique(np.linspace(0, max(0, rows - 1), count).astype(np.int64)) if rows else np.empty(0, np.int64)


def of_dataset(name: str, dataset: Any) -> Raw | None:
    """Rows of a Dataset, evenly spread where they are many, large or slow to read."""
    if not len(dataset):
        return None
    began = time.perf_counter()
    timed = [dataset[int(row)] for row in spread(len(dataset), 1, TIMED_ROWS)]
    each = (time.perf_counter() - began) / len(timed)
    if not all(isinstance(row, tuple | list) and len(row) == 2 for row in timed):
        return None
    size = np.asarray(timed[0][0]).size
    count = min(DATASET_ROWS, DATASET_NUMBERS // max(1, size), int(DATASET_S / max(each, 1e-6)))
    chosen = spread(len(dataset), 1, max(1, count))
    first = [array(row[0]) for row in timed]
    if any(inputs is None for inputs in first):
        return None
    x = np.empty((len(chosen), *np.shape(timed[0][0])), np.result_type(*first))
    targets = []
    for place, number in enumerate(chosen):
        row = dataset[int(number)]
        if np.shape(row[0]) != x.shape[1:]:
            return None
        x[place] = np.asarray(row[0])
        targets.append(np.asarray(row[1]))
    y = array(targets)
    if y is None:
        return None
    return Raw(name, Read(x, chosen), y, len(dataset), chosen)


def array(value: Any) -> Array | None:
    """The numbers as an array; None for what is none."""
    if hasattr(value, "to_numpy"):  # of pandas
        value = value.to_numpy()
    try:
        found = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except (ValueError, TypeError):
        return None
    return found if found.dtype.kind in "biuf" else None
