"""Rows that are alike: exactly, or nearly so, by hashing: a million rows take seconds, and no row meets all others.

Place in the flow: `trainables.audit` looks for duplicates in a split and for rows of one split in another.

Exact: rows of equal digests. Near, of texts: most words in common, found by MinHash (A. Broder, On the Resemblance and
Containment of Documents, 1997). Near, of numbers: locality-sensitive hashing with random projections cut into cells (M.
Datar et al., Locality-Sensitive Hashing Scheme Based on p-Stable Distributions, 2004); rows that share a cell are
compared, and count as near when their distance is a small share of what lies between a row and its nearest usually.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]
"""Of shape (pairs, 2): rows, the lower number first."""

TABLES, PROJECTIONS = 8, 10
"""Each table has cells of so many projections."""
NEAR = 0.3
"""Of the usual distance to the nearest neighbour: rows that are closer are near duplicates."""
USUAL_ROWS = 512
"""So many rows tell what is usual, among so many others as follow."""
USUAL_AMONG = 8192
BANDS, HASHES = 12, 4
"""Texts are compared when they agree in all of a band's hashes."""
COMMON = 0.7
"""Of two texts' words: near duplicates have so many in common, of at least SHORT words."""
SHORT = 5
CELL = 4.0
"""Width of a cell in distances that count as near."""
CROWD = 50
"""Neighbours in a cell that a row is compared with at most: a crowded cell tells nothing."""


def digests(rows: NDArray[np.generic]) -> NDArray[np.uint64]:
    """A 64-bit digest of each row's bytes."""
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1))
    raw = flat.view(np.uint8).reshape(len(rows), -1)
    pad = -raw.shape[1] % 4
    if pad:
        raw = np.pad(raw, ((0, 0), (0, pad)))
    words = raw.view(np.uint32)
    factors = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64) * 2 + 1
    found = np.zeros(len(rows), np.uint64)
    for column, factor in zip(words.T, factors, strict=True):
        mixed = (column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)) * factor
        found += mixed ^ (mixed >> np.uint64(29))
    return found


def groups(digest: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """The rows that have their digest in common, each group in rising order, the groups by their first row."""
    order = digest.argsort(kind="stable")
    ordered = digest[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    found = [order[start : start + size] for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True)]
    return sorted(found, key=lambda group: int(group[0]))


def usual_distance(rows: Floats) -> float:
    """How far a row of a dense part of the data is from the nearest of many others: the lower quartile of that.

    0 where there is none. No two rows are equal.
    """
    draw = np.random.default_rng(0)
    order = draw.permutation(len(rows))[:USUAL_AMONG]
    others, some = rows[order], rows[order[:USUAL_ROWS]]
    square = (some**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * some @ others.T
    np.fill_diagonal(square, np.inf)  # itself
    return float(np.sqrt(max(0.0, np.quantile(square.min(1), 0.25)))) if len(rows) > 1 else 0.0


def near_pairs(rows: Floats, bound: float) -> Pairs:
    """Pairs of different rows that are closer than the bound, nearly all of them."""
    if bound <= 0 or len(rows) < 2:
        return np.empty((0, 2), np.int64)
    draw = np.random.default_rng(0)
    found: list[Pairs] = []
    for _ in range(TABLES):
        directions = draw.standard_normal((rows.shape[1], PROJECTIONS)).astype(np.float32)
        # A difference of length d has projections of standard deviation d.
        width = CELL * bound
        offset = draw.random(PROJECTIONS).astype(np.float32)
        cells = np.floor(rows @ directions / width + offset).astype(np.int64)
        found.append(within(cells, rows, bound))
    return np.unique(np.concatenate(found), axis=0)


def near_texts(tokens: Pairs) -> Pairs:
    """Pairs of texts with most of their words in common; tokens of shape (texts, length), 0 for none."""
    words = np.where(tokens > 0, tokens, 0).astype(np.uint64)
    draw = np.random.default_rng(0)
    found: list[Pairs] = []
    for _ in range(BANDS):
        band = np.empty((len(words), HASHES), np.uint64)
        for number in range(HASHES):
            factor, shift = draw.integers(1, 2**63, 2, dtype=np.uint64)
            mixed = (words + np.uint64(1)) * (factor * np.uint64(2) + np.uint64(1)) + shift
            mixed ^= mixed >> np.uint64(31)
            band[:, number] = np.where(words > 0, mixed * np.uint64(0x9E3779B97F4A7C15), np.uint64(2**64 - 1)).min(1)
        pairs = sharing(digests(band))
        found.append(pairs[np.concatenate([*in_common(tokens, pairs), np.empty(0, bool)])])
    return np.unique(np.concatenate(found), axis=0)


def in_common(tokens: Pairs, pairs: Pairs, at_once: int = 2**12) -> Iterable[NDArray[np.bool_]]:
    """Of each pair of texts whether they have most of their words in common."""
    for some in (pairs[start : start + at_once] for start in range(0, len(pairs), at_once)):
        one, other = (np.sort(tokens[some[:, side]], axis=1) for side in (0, 1))
        first = [np.diff(side, axis=1, prepend=-1) != 0 for side in (one, other)]
        distinct = [(new & (side > 0)) for new, side in zip(first, (one, other), strict=True)]
        shared = ((one[:, :, None] == other[:, None, :]).any(2) & distinct[0]).sum(1)
        sizes = [mask.sum(1) for mask in distinct]
        either = sizes[0] + sizes[1] - shared
        yield (shared >= COMMON * either) & (np.minimum(*sizes) >= SHORT)


def within(cells: Pairs, rows: Floats, bound: float) -> Pairs:
    """The pairs that share a cell and are closer than the bound."""
    pairs = sharing(digests(cells))
    close: Pairs = pairs[np.concatenate([*closer(rows, pairs, bound), np.empty(0, bool)])]
    return close


def sharing(digest: NDArray[np.uint64]) -> Pairs:
    """The pairs of rows with equal digests; of a crowd those that are next to each other only."""
    order = digest.argsort(kind="stable")
    ordered = digest[order]
    found = [np.empty((0, 2), np.int64)]
    for step in range(1, CROWD + 1):
        same = np.flatnonzero(ordered[step:] == ordered[:-step])
        if not len(same):
            break
        found.append(np.sort(np.stack((order[same], order[same + step]), 1), axis=1))
    return np.concatenate(found)


def closer(rows: Floats, pairs: Pairs, bound: float, at_once: int = 2**16) -> Iterable[NDArray[np.bool_]]:
    """Of each pair whether it is closer than the bound."""
    for some in (pairs[start : start + at_once] for start in range(0, len(pairs), at_once)):
        apart = rows[some[:, 0]] - rows[some[:, 1]]
        yield (apart**2).sum(1) < bound**2
