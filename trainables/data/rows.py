"""Splits as rows that are fetched by index.

Place in the flow: a trainable's `Data` holds splits of several kinds; `open_rows` makes each one `Rows`, so that the
loop alone decides which rows are seen and in what order: the order of an epoch depends on (seed, epoch) only, the
share of a cheaper fidelity on nothing but the data. That is what makes a resumed trial bit-identical and two trials
comparable.

Array pairs are moved to the device whole and batched with `index_select`, 1.1-1.2x faster than a DataLoader for small
networks and more for smaller ones. Datasets are read row by row by torch's DataLoader in the given order.

One rule of types for both: float64 becomes torch's default (numpy's float64 would meet float32 weights), integer
targets become int64 (what cross-entropy wants).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from trainables.contract import Batch, TrainableError
from trainables.data.tables import View, ViewRows

SUBSET_SEED = 0
"""Seed of the share of the training rows: never the trial's own, so that all trials of one fidelity see the same."""


class Rows(Protocol):
    """The rows of one split. `targets` are all rows' targets when they are at hand without reading the rows."""

    targets: Tensor | None

    def __len__(self) -> int: ...

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        """The rows at the indices `order` (on the CPU), in that order; the last batch may be smaller."""
        ...


class ArrayRows:
    """A pair of tensors, resident on the device."""

    def __init__(self, name: str, x: Any, y: Any, device: torch.device) -> None:
        inputs, labels = _tensor(f"{name}.x", x), _target(_tensor(f"{name}.y", y))
        if inputs.ndim == 0 or labels.ndim == 0 or len(inputs) != len(labels):
            raise TrainableError(
                f"data.{name}: x has shape {tuple(inputs.shape)} and y {tuple(labels.shape)}. "
                "Their first dimensions must be equal: one target a row"
            )
        self.targets: Tensor | None = labels
        self._x = inputs.contiguous().to(device)
        self._y = labels.contiguous().to(device)

    def __len__(self) -> int:
        return len(self._x)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        for rows in order.to(self._x.device).split(batch_size):
            yield self._x.index_select(0, rows), self._y.index_select(0, rows)


class DatasetRows:
    """A map-style Dataset of (x, y) rows, collated as torch's DataLoader does."""

    def __init__(self, name: str, dataset: Any, device: torch.device) -> None:
        self._name, self._dataset, self._device = name, dataset, device
        known = getattr(dataset, "targets", None)  # as torchvision's data sets have it
        usable = isinstance(known, Tensor | np.ndarray | list) and len(known) == len(dataset)
        self.targets: Tensor | None = _target(_tensor(f"{name}.targets", known)) if usable else None

    def __len__(self) -> int:
        return len(self._dataset)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        # A generator of its own: else every loader would draw a seed from the trial's and shift its dropout.
        loader = DataLoader(
            self._dataset,
            batch_sampler=[rows.tolist() for rows in order.split(batch_size)],
            generator=torch.Generator(),
        )
        for batch in loader:
            if not (isinstance(batch, list | tuple) and len(batch) == 2):
                raise TrainableError(
                    f"data.{self._name}: a row of {type(self._dataset).__name__} is not a pair. Return (x, y)"
                )
            x, y = batch
            inputs, labels = _tensor(f"{self._name}.x", x), _target(_tensor(f"{self._name}.y", y))
            yield inputs.to(self._device), labels.to(self._device)


def open_rows(name: str, split: Any, device: torch.device) -> Rows:
    """The rows of the split called `name`. Raises TrainableError for a kind that has no rows by index, or no rows."""
    rows: Rows
    if type(split) is TensorDataset and len(split.tensors) == 2:
        split = split.tensors
    if isinstance(split, View):
        rows = ViewRows(split, device)
    elif isinstance(split, tuple | list):
        if len(split) != 2:
            raise TrainableError(f"data.{name} is a {type(split).__name__} of {len(split)}. Give the pair (x, y)")
        x, y = split
        rows = ArrayRows(name, x, y, device)
    elif isinstance(split, DataLoader):
        raise TrainableError(f"data.{name} is a DataLoader; the order of rows is the loop's. Give its .dataset")
    elif isinstance(split, IterableDataset) or not (hasattr(split, "__getitem__") and hasattr(split, "__len__")):
        raise TrainableError(
            f"data.{name} is a {type(split).__name__}, whose rows cannot be fetched by index. "
            "Give a pair (x, y) of arrays, or a map-style Dataset with __len__ and __getitem__"
        )
    else:
        rows = DatasetRows(name, split, device)
    if len(rows) == 0:
        raise TrainableError(f"data.{name} has no rows. Check the path and the filter that made it")
    return rows


def subset(targets_or_n: Tensor | int, fraction: float, seed: int = SUBSET_SEED) -> Tensor:
    """The indices, rising, of a share of the rows: nested, and stratified for integer targets.

    The rows are put in one order, and a share is the first part of it; so the 10 % lie inside the 25 %. For integer
    targets of one dimension each class is spread evenly over that order and begins at its front: every class keeps
    its share, and at least one row. Given float targets or a mere number of rows, the order is random.
    """
    if not 0 < fraction <= 1:
        raise TrainableError(f"fidelity: data_fraction is {fraction}. It must be above 0 and at most 1")
    n = targets_or_n if isinstance(targets_or_n, int) else len(targets_or_n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    keep = max(1, round(fraction * n))
    if isinstance(targets_or_n, Tensor) and targets_or_n.ndim == 1 and not targets_or_n.is_floating_point():
        _, codes, counts = targets_or_n[order].unique(return_inverse=True, return_counts=True)
        by_class = codes.argsort(stable=True)
        starts = counts.cumsum(0) - counts
        grouped = codes[by_class]
        rank = torch.empty(n, dtype=torch.float64)  # how far into its class a row lies, in [0, 1)
        rank[by_class] = (torch.arange(n) - starts[grouped]).double() / counts[grouped]
        order = order[rank.argsort(stable=True)]
        keep = max(keep, len(counts))
    return order[:keep].sort().values


def drawn(n: int, seed: int, epoch: int) -> Tensor:
    """A permutation of n rows from (seed, epoch) alone: epochs count from 1, and 0 is free for other draws."""
    mixed = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64).item()
    return torch.randperm(n, generator=torch.Generator().manual_seed(mixed))


def _tensor(where: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.copy()  # torch has no read-only tensors, and warns
    try:
        tensor: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainableError(
            f"data.{where} is a {type(value).__name__} that is no tensor: {error}. "
            "Give numbers: encode text and categories first"
        ) from error
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor


def _target(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_floating_point() else tensor.long()
