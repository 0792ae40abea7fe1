"""Rows that are there twice: in a split, or in train and in another one.

Place in the flow: `trainables.audit` asks for them. The splits are read twice: for a digest of each row, which tells
exact copies, and for what near ones have in common (`data.similar`). A hundred bytes are kept of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.raw import AT_ONCE, EXAMPLES, Array, Raw
from trainables.data.similar import (
    BANDS,
    NEAR,
    TABLES,
    USUAL_AMONG,
    bands,
    cells,
    closer,
    digests,
    first_of,
    in_common,
    near_pairs,
    usual_distance,
)
from trainables.data.sketch import flat

Ints = NDArray[np.int64]
Like = Callable[[Array], Array]
"""What near rows are told by: a few numbers of each, or of texts their words."""


@dataclass(frozen=True)
class Joined:
    """Splits one after the other, train first."""

    splits: Mapping[str, Raw]
    starts: Mapping[str, int]
    """By split: the place of its first row among all."""

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    def parts(self) -> Iterator[tuple[int, Array]]:
        """All inputs in parts, each with the place of its first row."""
        for name, raw in self.splits.items():
            for start, part in raw.parts():
                yield self.starts[name] + start, part

    def take(self, places: Ints, like: Like) -> Array:
        """What near rows are told by, of some rows, of which there is at least one."""
        step = max(1, AT_ONCE // self.splits["train"].take(np.arange(1)).size)
        found: Array | None = None
        for name, raw in self.splits.items():
            at = np.flatnonzero((places >= self.starts[name]) & (places < self.starts[name] + len(raw)))
            for some in (at[start : start + step] for start in range(0, len(at), step)):
                rows = like(raw.take(places[some] - self.starts[name]))
                if found is None:
                    found = np.empty((len(places), rows.shape[1]), rows.dtype)
                found[some] = rows
        assert found is not None
        return found

    def targets(self) -> Array:
        """Of all rows; of several numbers the first."""
        return np.concatenate([raw.y.reshape(len(raw), -1)[:, 0] for raw in self.splits.values()])


def joined(splits: Mapping[str, Raw]) -> Joined:
    """The splits whose rows are of train's size: others have no like there."""
    size = splits["train"].take(np.arange(1)).size
    names = ["train", *(name for name in splits if name != "train")]
    alike = {name: splits[name] for name in names if splits[name].take(np.arange(1)).size == size}
    starts, rows = {}, 0
    for name, raw in alike.items():
        starts[name] = rows
        rows += len(raw)
    return Joined(alike, starts)


def copies(splits: Mapping[str, Raw], like: Like, words: bool, classes: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies within train, and of train in the other splits; as `Audit.duplicates` and `Audit.leakage` have them.

    `like`: what near rows are told by; `words`: whether that are words; `classes`: whether the targets are classes.
    """
    every, train = joined(splits), len(splits["train"])
    first = exact(every)
    lone = np.flatnonzero(first == np.arange(len(every)))
    nearest = near(every, lone, like, words)
    leakage = {}
    for name, raw in every.splits.items():
        if name != "train" and (found := leaked(every, name, raw, first, nearest)):
            leakage[name] = found
    y = every.targets()[:train] if classes else None
    return within(splits["train"], first[:train], nearest[:train], y), leakage


def exact(every: Joined) -> Ints:
    """Of each row the first one that equals it."""
    # One type for all splits, and one zero.
    kind = np.result_type(*(raw.take(np.arange(1)) for raw in every.splits.values()))
    digest = np.empty(len(every), np.uint64)
    for start, part in every.parts():
        rows = flat(part).astype(kind)
        digest[start : start + len(part)] = digests(rows + 0.0 if kind.kind == "f" else rows)
    return first_of(digest)


def near(every: Joined, lone: Ints, like: Like, words: bool) -> Ints:
    """Of each row the first of train that is near it and not equal, below it; -1 for none. `lone`: the rows that equal
    no earlier one."""
    found = np.full(len(every), len(every), np.int64)
    bound = 0.0
    if not words:
        some = np.random.default_rng(0).permutation(len(lone))[:USUAL_AMONG]
        bound = NEAR * usual_distance(every.take(lone[some], like))
    if words or bound > 0:
        signatures = np.empty((len(lone), BANDS if words else TABLES), np.uint32)
        for start, part in every.parts():
            low, high = np.searchsorted(lone, (start, start + len(part)))
            rows = like(part[lone[low:high] - start])
            signatures[low:high] = bands(rows) if words else cells(rows, bound)
        known = int(np.searchsorted(lone, len(every.splits["train"])))

        def compared(pairs: Ints) -> NDArray[np.bool_]:
            one, other = (every.take(lone[pairs[:, side]], like) for side in (0, 1))
            return in_common(one, other) if words else closer(one, other, bound)

        for pairs in near_pairs(signatures, known, compared):
            np.minimum.at(found, lone[pairs[:, 1]], lone[pairs[:, 0]])
    found[found == len(every)] = -1
    return found


def within(train: Raw, first: Ints, nearest: Ints, y: Array | None) -> dict[str, Any]:
    """Rows of train that an earlier one is like; `y`: their classes."""
    twice = np.flatnonzero(first != np.arange(len(first)))
    close = np.flatnonzero(nearest >= 0)
    if not len(twice) and not len(close):
        return {}
    shown = [np.flatnonzero(first == group)[:EXAMPLES] for group in np.unique(first[twice])[:EXAMPLES]]
    shown += [np.array((nearest[row], row)) for row in close[: EXAMPLES - len(shown)]]
    conflicting = 0 if y is None else len(np.unique(first[twice[y[twice] != y[first[twice]]]]))
    return {
        "exact": len(twice),
        "near": len(close),
        "examples": [train.numbers(group) for group in shown],
        "conflicting": conflicting,
    }


def leaked(every: Joined, name: str, raw: Raw, first: Ints, nearest: Ints) -> dict[str, Any]:
    """Rows of another split that one of train is like."""
    start, train = every.starts[name], every.splits["train"]
    own = slice(start, start + len(raw))
    same = np.flatnonzero(first[own] < len(train))
    close = np.setdiff1d(np.flatnonzero(nearest[own] >= 0), same, assume_unique=True)
    if not len(same) and not len(close):
        return {}
    rows = np.concatenate((same, close))[:EXAMPLES]
    of = np.concatenate((first[own][same], nearest[own][close]))[:EXAMPLES]
    examples = [list(pair) for pair in zip(raw.numbers(rows), train.numbers(of), strict=True)]
    return {"exact": len(same), "near": len(close), "examples": examples}
