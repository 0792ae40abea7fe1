"""Rows that are alike: exactly, or nearly so, by hashing: a million rows take seconds, and no row meets all others.

Place in the flow: `trainables.audit` looks for duplicates in a split and for rows of one split in another.

Nothing is kept of a row but its digests, so that memory follows the number of rows, not their size; of the pairs that
share one, `at` gives the rows again.

Exact: rows of equal digests. Near, of texts: most words in common, found by MinHash (A. Broder, On the Resemblance and
Containment of Documents, 1997). Near, of numbers: locality-sensitive hashing with random projections cut into cells (M.
Datar et al., Locality-Sensitive Hashing Scheme Based on p-Stable Distributions, 2004); rows that share a cell are
compared, and count as near when their distance is a small share of what lies between a row and its nearest usually.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]
"""Of shape (pairs, 2): rows, the lower number first."""
Tokens = NDArray[np.int64]

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
PAIRS = 2**12
"""So many pairs are compared at a time."""


def digests(rows: NDArray[np.generic]) -> NDArray[np.uint64]:
    """A 64-bit digest of each row's bytes; takes four times the rows' memory."""
    flat = np.ascontiguousarray(rows.reshape(len(rows), math.prod(rows.shape[1:])))
    raw = flat.view(np.uint8)
    pad = -raw.shape[1] % 4
    if pad:
        raw = np.pad(raw, ((0, 0), (0, pad)))
    words = raw.view(np.uint32)
    factors = np.random.default_rng(0).integers(1, 2**63, words.shape[1], dtype=np.uint64) * 2 + 1
    mixed = (words + np.uint64(0x9E3779B97F4A7C15)) * factors
    mixed ^= mixed >> np.uint64(29)
    found: NDArray[np.uint64] = mixed.sum(1)
    return found


def first_of(digest: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Of each row the first one with its digest, itself where no earlier one has it."""
    order = digest.argsort(kind="stable")
    ordered = digest[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    found = np.empty(len(digest), np.int64)
    found[order] = np.repeat(order[starts], sizes)
    return found


def usual_distance(rows: Floats) -> float:
    """How far a row of a dense part of the data is from the nearest of many others: the lower quartile of that.

    0 where there is none. No two rows are equal.
    """
    draw = np.random.default_rng(0)
    order = draw.permutation(len(rows))[:USUAL_AMONG]
    others = rows[order]
    squares, nearest = (others**2).sum(1), []
    for start in range(0, min(USUAL_ROWS, len(others)), 64):
        some = slice(start, min(start + 64, USUAL_ROWS, len(others)))
        square = squares[some, None] + squares - 2 * others[some] @ others.T
        square[np.arange(len(square)), np.arange(some.start, some.stop)] = np.inf  # itself
        nearest.append(square.min(1))
    return float(np.sqrt(max(0.0, np.quantile(np.concatenate(nearest), 0.25)))) if len(rows) > 1 else 0.0


def cells(rows: Floats, bound: float) -> NDArray[np.uint32]:
    """Of each row, for each of TABLES draws, the cell that it is in; of shape (rows, TABLES)."""
    draw = np.random.default_rng(0)
    found = np.empty((len(rows), TABLES), np.uint32)
    for table in range(TABLES):
        directions = draw.standard_normal((rows.shape[1], PROJECTIONS)).astype(np.float32)
        offset = draw.random(PROJECTIONS).astype(np.float32)
        # A difference of length d has projections of standard deviation d.
        places = np.floor(rows @ directions / (CELL * bound) + offset).astype(np.int64)
        found[:, table] = digests(places).astype(np.uint32)
    return found


def bands(tokens: Tokens) -> NDArray[np.uint32]:
    """Of each text, for each of BANDS draws, what it is like; tokens of shape (texts, length), 0 for none."""
    words = np.where(tokens > 0, tokens, 0).astype(np.uint64)
    draw = np.random.default_rng(0)
    found = np.empty((len(words), BANDS), np.uint32)
    for number in range(BANDS):
        band = np.empty((len(words), HASHES), np.uint64)
        for place in range(HASHES):
            factor, shift = draw.integers(1, 2**63, 2, dtype=np.uint64)
            mixed = (words + np.uint64(1)) * (factor * np.uint64(2) + np.uint64(1)) + shift
            mixed ^= mixed >> np.uint64(31)
            mixed *= np.uint64(0x9E3779B97F4A7C15)
            mixed[words == 0] = np.uint64(2**64 - 1)
            band[:, place] = mixed.min(1)
        found[:, number] = digests(band).astype(np.uint32)
    return found


def near_pairs(
    signatures: NDArray[np.uint32], known: int, near: Callable[[Pairs], NDArray[np.bool_]]
) -> Iterator[Pairs]:
    """Pairs of rows that have a signature in common and are `near`, in parts, some more than once.

    The lower row of each is one of the first `known`. Of shape (rows, draws): `cells` or `bands`.
    """
    for signature in signatures.T:
        for pairs in sharing(signature):
            of_known = pairs[pairs[:, 0] < known]
            for start in range(0, len(of_known), PAIRS):
                some = of_known[start : start + PAIRS]
                yield some[near(some)]


def in_common(one: Tokens, other: Tokens) -> NDArray[np.bool_]:
    """Of pairs of texts whether they have most of their words in common."""
    sides = [np.sort(side, axis=1) for side in (one, other)]
    for side in sides:
        side[:, 1:][side[:, 1:] == side[:, :-1]] = 0  # each word once
        side[side < 0] = 0
    sizes = [(side > 0).sum(1) for side in sides]
    both = np.sort(np.concatenate(sides, axis=1), axis=1)
    shared = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] > 0)).sum(1)
    either = sizes[0] + sizes[1] - shared
    near: NDArray[np.bool_] = (shared >= COMMON * either) & (np.minimum(*sizes) >= SHORT)
    return near


def closer(one: Floats, other: Floats, bound: float) -> NDArray[np.bool_]:
    """Of pairs of rows whether they are closer than the bound."""
    near: NDArray[np.bool_] = ((one - other) ** 2).sum(1) < bound**2
    return near


def sharing(digest: NDArray[np.uint32]) -> Iterator[Pairs]:
    """The pairs of rows with equal digests, in parts; of a crowd those that are next to each other only."""
    order = digest.argsort(kind="stable")
    ordered = digest[order]
    for step in range(1, CROWD + 1):
        same = np.flatnonzero(ordered[step:] == ordered[:-step])
        if not len(same):
            break
        yield np.stack((order[same], order[same + step]), 1)
