"""Whether whole numbers stand for words.

Place in the flow: `trainables.audit` looks at texts by their words and at tables by their columns. What the numbers are
is for the network to say: words are what it looks up in an embedding, row by row. Where there is none to ask, words
have one vocabulary in all places, numbers that are near each other have nothing in common, and a few are most of them
or rows end in padding; the columns of a table, or the pixels of images, each have a range of their own or rise and fall
together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from trainables.data.raw import Raw

VOCABULARY = 2**22
"""Whole numbers from 0 to below this may be words."""
SEEN_ROWS = 4096
"""So many rows are looked at."""
FEW = 32
"""Fewer different numbers are codes or counts; of texts in characters there are more."""
APART = 0.3
"""Largest difference of the cumulated shares that a place's numbers and all have."""
MOST = 0.8
"""Of the places: so many are alike."""
TOGETHER = 0.3
"""Median correlation of neighbours' ranks from which they rise and fall together."""
GAPS = 0.05
"""Of the numbers of a row, from its first to its last: more zeros are no padding."""
ENDED = 0.05
"""Of the rows: so many end in padding."""
FREQUENT, COMMON = 0.1, 0.4
"""So small a share of the different words makes up so much of a text."""


def means_words(raw: Raw, network: Callable[[], nn.Module] | None) -> bool:
    """Whether inputs are whole numbers that stand for words; `network`: makes the one that reads them."""
    first = raw.take(np.arange(min(2, len(raw))))
    if first.dtype.kind not in "iu" or first.dtype.itemsize == 1 or first.ndim != 2:
        return False
    if not all(part.min() >= 0 and part.max() < VOCABULARY for _, part in raw.parts()):
        return False
    said = None if network is None else looks_up(network, first)
    if said is not None:
        return said
    rows = np.linspace(0, len(raw) - 1, min(len(raw), SEEN_ROWS)).astype(np.int64)
    return like_words(raw.take(rows))


class _LookUps(TorchFunctionMode):  # type: ignore[misc]
    """Notes whether something is looked up that has all the numbers."""

    def __init__(self, numbers: torch.Tensor) -> None:
        super().__init__()
        self._values, self._counts = numbers.unique(return_counts=True)
        self.found = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in (functional.embedding, functional.embedding_bag) and isinstance(args[0], torch.Tensor):
            asked = args[0].flatten()
            counts = (asked[None] == self._values[:, None]).sum(1)
            self.found |= bool((counts >= self._counts).all())
        return func(*args, **(kwargs or {}))


def looks_up(network: Callable[[], nn.Module], rows: NDArray[Any]) -> bool | None:
    """Whether the network looks rows up in an embedding, each number of them; None where it cannot be asked."""
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            asked, given = network().eval(), torch.as_tensor(rows)
            watch = _LookUps(given)
            with watch:
                asked(given)
    except Exception:  # noqa: BLE001  whatever the user's network raises; preflight will tell
        return None
    return watch.found


def like_words(rows: NDArray[Any]) -> bool:
    """Whether rows of whole numbers from 0 are like texts."""
    values, codes, counts = np.unique(rows, return_inverse=True, return_counts=True)
    real = values > 0  # 0 is padding, or nothing
    counts = counts * real
    if real.sum() < FEW:
        return False
    codes = codes.reshape(rows.shape)
    whole = np.cumsum(counts) / counts.sum()
    apart = []
    for place in codes.T:
        own = np.bincount(place, minlength=len(values)) * real
        if own.sum() >= FEW:
            apart.append(np.abs(np.cumsum(own) / own.sum() - whole).max())
    if not apart or np.mean(np.array(apart) <= APART) < MOST or neighbours(codes) > TOGETHER:
        return False
    ended, gaps = zeros(rows)
    if gaps > GAPS:
        return False
    frequent = np.sort(counts)[::-1][: max(1, int(FREQUENT * real.sum()))]
    return ended >= ENDED or bool(frequent.sum() >= COMMON * counts.sum())


def neighbours(codes: NDArray[np.int64]) -> float:
    """The median correlation of a place's numbers with the next one's, of rows that have both."""
    found = []
    for one, other in zip(codes.T[:-1], codes.T[1:], strict=True):
        both = (one > 0) & (other > 0)
        if both.sum() >= FEW and one[both].std() > 0 and other[both].std() > 0:
            found.append(abs(np.corrcoef(one[both], other[both])[0, 1]))
    return float(np.median(found)) if found else 0.0


def zeros(rows: NDArray[Any]) -> tuple[float, float]:
    """The share of rows that end in a zero, and of zeros between the first and the last other number of a row."""
    there = rows != 0
    within = np.maximum.accumulate(there, axis=1) & np.maximum.accumulate(there[:, ::-1], axis=1)[:, ::-1]
    return float((~there[:, -1]).mean()), float((within & ~there).sum() / max(1, within.sum()))
