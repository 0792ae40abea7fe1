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
from trainables.data.feed import ahead
from trainables.data.mapped import View, ViewRows

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
        for part, tensor in (("x", inputs), ("y", labels)):
            _finite(f"{name}.{part}", tensor)
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
        yield from ahead(self._pairs(loader), self._device)

    def _pairs(self, loader: DataLoader[Any]) -> Iterator[Batch]:
        for batch in loader:
            if not (isinstance(batch, list | tuple) and len(batch) == 2):
                raise TrainableError(
                    f"data.{self._name}: a row of {type(self._dataset).__name__} is not a pair. Return (x, y)"
                )
            x, y = batch
            yield _tensor(f"{self._name}.x", x), _target(_tensor(f"{self._name}.y", y))


class ClassRows:
    """The rows of some classes of other rows, with labels from 0 in the order of the old ones."""

    def __init__(self, rows: Rows, classes: Tensor) -> None:
        """`rows` have their targets at hand; `classes`: the labels that stay."""
        assert rows.targets is not None
        self.whole = rows
        """The rows of all classes."""
        self.available = len(rows.targets.unique())
        """Classes that there are."""
        self._index = torch.isin(rows.targets, classes).nonzero().flatten()
        self._label = torch.full((int(rows.targets.max()) + 1,), -1)
        kept = classes.sort().values
        self._label[kept[kept < len(self._label)]] = torch.arange(len(kept))[kept < len(self._label)]
        self.targets: Tensor | None = self._label[rows.targets[self._index]]

    def __len__(self) -> int:
        return len(self._index)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        for x, y in self.whole.batches(self._index[order], batch_size):
            yield x, self._label.to(y.device)[y]


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


def of_classes(splits: dict[str, Rows], count: int) -> dict[str, Rows]:
    """The splits with the rows of so many classes only: those with most training rows, of equals the lower label.

    They nest: two classes lie among five. Raises TrainableError where the splits are not of at least so many classes.
    """
    for name, rows in splits.items():
        if rows.targets is None or rows.targets.ndim != 1 or rows.targets.is_floating_point():
            what = "not at hand" if rows.targets is None else f"{tuple(rows.targets.shape)}, {rows.targets.dtype}"
            raise TrainableError(
                f"fidelity: classes is {count}, but the targets of data.{name} are {what}. Give whole numbers, one a "
                "row (a Dataset: in its attribute `targets`), or leave classes out"
            )
    assert splits["train"].targets is not None
    labels, counts = splits["train"].targets.unique(return_counts=True)
    if not 2 <= count <= len(labels):
        raise TrainableError(f"fidelity: classes is {count}, and train has {len(labels)}. Give 2 … {len(labels)}")
    most = labels[counts.argsort(descending=True, stable=True)][:count]
    fewer = {name: ClassRows(rows, most) for name, rows in splits.items()}
    for name in (name for name, rows in fewer.items() if not len(rows)):
        which = ", ".join(map(str, sorted(most.tolist())))
        raise TrainableError(f"fidelity: classes is {count}, and data.{name} has no row of the classes {which}")
    return dict(fewer)


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
    if hasattr(value, "to_numpy"):  # of pandas
        value = value.to_numpy()
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


def _finite(where: str, tensor: Tensor) -> None:
    # A sum is not finite where a number is not, and is read off at once; it may also overflow.
    if not tensor.is_floating_point() or bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all()):
        return
    at = (~tensor.isfinite()).nonzero()[0].tolist()
    place = f"row {at[0]}" + (f", place {', '.join(map(str, at[1:]))}" if at[1:] else "")
    raise TrainableError(
        f"data.{where} is {tensor[tuple(at)].item()} in {place} (from 0). Fill in what is missing, or drop such rows"
    )


def _target(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_floating_point() else tensor.long()
