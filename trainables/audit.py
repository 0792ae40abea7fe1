"""What is wrong with the data, as counts and row numbers: what a practitioner looks for before anything is trained.

Place in the flow: a slot answers `audit` with this for the baseline's data; the audit phase judges it. The rows are
read in parts, and what is kept of each is a few numbers (`SKETCH`), so a million rows fit where their data do.

Inputs are numbers (arrays, tables, images, series), or whole numbers that stand for words. Rows are told by their
number in their split, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.contract import Config, Fidelity, Trainable
from trainables.data.raw import Array, Raw, open_raw
from trainables.data.similar import NEAR, digests, groups, near_pairs, near_texts, usual_distance
from trainables.label_errors import LEAST, out_of_sample, suspects

EXAMPLES = 10
"""Rows that are named of each kind of trouble."""
SKETCH = 64
"""So many numbers are kept of a row for finding similar ones."""
LABEL_ROWS = 10_000
"""So many training rows are looked at for labels that are wrong."""
SPREAD_ROWS = 50_000
"""So many rows tell how a column's numbers are spread."""
VOCABULARY = 2**22
BEYOND = 1e150
"""Larger numbers count as this one: their squares would be infinite."""
AGREEMENT = 0.7
"""Classifiers that think otherwise of more rows know too little to judge labels."""
FAR = 12.0
"""A number so many times the middle half's width away from the median is an outlier."""


@dataclass
class Audit:
    """What was found; of each kind of trouble how many, and up to EXAMPLES of them."""

    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By split: `rows`, `looked_at`, `shape` and `dtype` of a row's inputs."""
    unreadable: list[str] = field(default_factory=list)
    """Splits whose rows are no pairs of numbers that can be fetched by index."""
    classes: dict[str, dict[int, int]] = field(default_factory=dict)
    """By split the rows of each class; empty for numbers as targets."""
    strange_labels: dict[str, list[int]] = field(default_factory=dict)
    """By split, labels that are negative, or that train does not have."""
    non_finite: dict[str, list[Any]] = field(default_factory=dict)
    """By split `[rows with one, columns with one, examples]`; the targets count as a column."""
    constant: list[str] = field(default_factory=list)
    """Columns with one value in all training rows."""
    columns: int = 0
    """Numbers of a row."""
    lowest: float = 0.0
    highest: float = 0.0
    deviations: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of the columns that vary: what a tenth of them are below, and a tenth above."""
    mean: float = 0.0
    """Largest mean of a column, as a share of its standard deviation."""
    shifts: dict[str, dict[str, float]] = field(default_factory=dict)
    """By split, of the median column: `deviation` over train's, and how far the `mean` is from train's, in those."""
    words: bool = False
    """Whether the inputs are whole numbers that stand for words."""
    outliers: dict[str, Any] = field(default_factory=dict)
    """`rows` with a number far from all others, `examples` of (row, column, value)."""
    duplicates: dict[str, Any] = field(default_factory=dict)
    """Within train: `exact` and `near` rows beyond the first of each group, `examples` of groups, and `conflicting`,
    groups of equal rows with different labels."""
    leakage: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By split: its rows that train has, `exact` or `near`, `examples` of (row, row of train)."""
    label_errors: dict[str, Any] = field(default_factory=dict)
    """`looked_at` rows, `agreement` of quick classifiers with them, `suspected` rows, `examples` of (row, label,
    likelier label, its probability)."""


def audit(trainable: Trainable, config: Config, fidelity: Fidelity) -> Audit:
    """Look through a trainable's data."""
    data = trainable.data(config, fidelity)
    return audit_splits({"train": data.train, "val": data.val, "test": data.test})


def audit_splits(given: Mapping[str, Any]) -> Audit:
    """Look through splits, of which `train` is one."""
    found = Audit()
    splits: dict[str, Raw] = {}
    for name, split in given.items():
        if split is None:
            continue
        raw = open_raw(name, split)
        if raw is None or not len(raw):
            found.unreadable.append(name)
        else:
            splits[name] = raw
            shape = list(raw.take(np.arange(1)).shape[1:])
            dtype = str(raw.take(np.arange(1)).dtype)
            found.splits[name] = {"rows": raw.rows, "looked_at": len(raw), "shape": shape, "dtype": dtype}
    if "train" not in splits:
        return found
    labels(found, splits)
    train = splits["train"]
    found.words = means_words(train)
    sketch = Sketch(train, found.words)
    numbers(found, splits, sketch)
    alike(found, splits, sketch)
    if found.classes:
        wrong_labels(found, train, sketch)
    return found


def means_words(raw: Raw) -> bool:
    """Whether inputs are whole numbers in rows of several, none below 0 or above what a vocabulary has."""
    first = raw.take(np.arange(1))
    if first.dtype.kind not in "iu" or first.dtype.itemsize == 1 or first.ndim != 2:
        return False
    return all(part.min() >= 0 and part.max() < VOCABULARY for _, part in raw.parts())


def labels(found: Audit, splits: Mapping[str, Raw]) -> None:
    """Classes, and labels that cannot be."""
    if any(raw.y.dtype.kind not in "iub" or raw.y.ndim != 1 for raw in splits.values()):
        return
    counted = {name: np.unique(raw.y, return_counts=True) for name, raw in splits.items()}
    found.classes = {
        name: {int(label): int(count) for label, count in zip(*pair, strict=True)} for name, pair in counted.items()
    }
    known = set(found.classes["train"])
    for name, classes in found.classes.items():
        if strange := sorted(label for label in classes if label < 0 or label not in known):
            found.strange_labels[name] = strange


class Moments:
    """Of each column of a split its range, mean and standard deviation, numbers that are none left out."""

    def __init__(self, raw: Raw) -> None:
        self.columns = int(raw.take(np.arange(1)).size)
        self.count = np.zeros(self.columns)
        self.sum, self.squares = np.zeros(self.columns), np.zeros(self.columns)
        self.low, self.high = np.full(self.columns, np.inf), np.full(self.columns, -np.inf)
        for _, part in raw.parts():
            self._add(flat(part))
        filled = np.maximum(self.count, 1)
        self.mean = self.sum / filled
        self.deviation = np.sqrt(np.maximum(self.squares / filled - self.mean**2, 0.0))
        self.deviation[self.high <= self.low] = 0.0

    def _add(self, rows: Array) -> None:
        finite = np.isfinite(rows)
        clean = np.where(finite, rows, 0.0).astype(np.float64).clip(-BEYOND, BEYOND)
        self.count += finite.sum(0)
        self.sum += clean.sum(0)
        self.squares += (clean**2).sum(0)
        self.low = np.minimum(self.low, np.where(finite, rows, np.inf).min(0))
        self.high = np.maximum(self.high, np.where(finite, rows, -np.inf).max(0))


class Sketch:
    """A few numbers for each row, such that rows which are close have close ones."""

    def __init__(self, train: Raw, words: bool) -> None:
        self.words, self.train, self.moments = words, train, Moments(train)
        deviation = self.moments.deviation
        self.scale = np.where(deviation > 0, 1 / np.maximum(deviation, 1e-30), 0.0)
        self.directions = None
        if not words and self.moments.columns > SKETCH:
            draw = np.random.default_rng(0)
            self.directions = draw.standard_normal((self.moments.columns, SKETCH)).astype(np.float32) / np.sqrt(SKETCH)

    def __call__(self, part: Array) -> NDArray[np.float32]:
        """Of some rows, of shape (rows, at most SKETCH)."""
        rows = flat(part)
        if self.words:
            return self._of_words(rows)
        clean = np.where(np.isfinite(rows), rows, self.moments.mean).astype(np.float64).clip(-BEYOND, BEYOND)
        standard: NDArray[np.float32] = ((clean - self.moments.mean) * self.scale).astype(np.float32)
        for column in self.train.categories or {}:
            standard[:, column] = numbers_of(rows[:, column].astype(np.int64), column)
        return standard if self.directions is None else standard @ self.directions

    def _of_words(self, rows: Array) -> NDArray[np.float32]:
        """The sum of a random direction for each word, of length 1; padding (0) does not count."""
        whole = rows.astype(np.int64)
        size = int(whole.max(initial=0)) + 1
        directions = np.random.default_rng(1).standard_normal((max(size, 1), SKETCH)).astype(np.float32)
        directions[0] = 0.0
        found = np.zeros((len(whole), SKETCH), np.float32)
        for column in whole.T:
            found += directions[np.maximum(column, 0)]
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
    return part.reshape(len(part), -1)


def numbers(found: Audit, splits: Mapping[str, Raw], sketch: Sketch) -> None:
    """What the columns of train hold, and numbers that are none in any split."""
    train, moments = splits["train"], sketch.moments
    found.columns = moments.columns
    for name, raw in splits.items():
        if trouble := non_finite(raw):
            found.non_finite[name] = trouble
    if sketch.words:
        return
    counted = np.setdiff1d(np.arange(moments.columns), list(train.categories or {}))
    same = counted[(moments.high <= moments.low)[counted]]
    found.constant = [column_name(train, int(column)) for column in same]
    if not len(counted):
        return
    found.lowest, found.highest = float(moments.low[counted].min()), float(moments.high[counted].max())
    varying = counted[moments.deviation[counted] > 0]
    if len(varying):
        spread = moments.deviation[varying]
        few, many = np.quantile(spread, (0.1, 0.9))  # an image has pixels that hardly vary
        found.deviations = float(few), float(many)
        found.mean = float((np.abs(moments.mean[varying]) / spread).max())
        found.outliers = outliers(train, varying)
        for name, raw in splits.items():
            if name != "train" and raw.take(np.arange(1)).size == moments.columns:
                found.shifts[name] = shift(moments, Moments(raw), varying)


def shift(train: Moments, other: Moments, columns: NDArray[np.int64]) -> dict[str, float]:
    """How the usual column of another split differs from train's: its deviation and its mean, in train's deviations."""
    deviation = train.deviation[columns]
    apart = np.abs(other.mean[columns] - train.mean[columns]) / deviation
    return {
        "deviation": float(np.median(other.deviation[columns] / deviation)),
        "mean": float(np.median(apart)),
    }


def non_finite(raw: Raw) -> list[Any]:
    """Rows and columns with numbers that are none, and the first rows; empty where there are none."""
    rows: list[int] = []
    columns: set[int] = set()
    count = 0
    if raw.take(np.arange(1)).dtype.kind == "f":
        for start, part in raw.parts():
            bad = ~np.isfinite(flat(part))
            at = np.flatnonzero(bad.any(1))
            count += len(at)
            columns.update(np.flatnonzero(bad.any(0)).tolist())
            rows += raw.numbers(start + at[: EXAMPLES - len(rows)])
    if raw.y.dtype.kind == "f" and not np.isfinite(raw.y).all():
        at = np.flatnonzero(~np.isfinite(raw.y).reshape(len(raw), -1).all(1))
        count += len(at)
        columns.add(-1)
        rows += raw.numbers(at[: EXAMPLES - len(rows)])
    return [count, len(columns), rows] if count else []


def column_name(raw: Raw, column: int) -> str:
    """A table's name of a column, else its number."""
    return raw.columns[column] if raw.columns else str(column)


def outliers(train: Raw, columns: NDArray[np.int64]) -> dict[str, Any]:
    """Numbers far beyond the middle half of their column; of a column whose middle half is one number none."""
    some = np.linspace(0, len(train) - 1, min(len(train), SPREAD_ROWS)).astype(np.int64)
    sample = flat(train.take(some))[:, columns].astype(np.float64)
    sample[~np.isfinite(sample)] = np.nan
    low, middle, high = np.nanquantile(sample, (0.25, 0.5, 0.75), axis=0)
    width = high - low
    bound = np.where(width > 0, FAR * width, np.inf)
    count = 0
    examples: list[list[Any]] = []
    for start, part in train.parts():
        rows = flat(part)[:, columns]
        far = np.isfinite(rows) & (np.abs(rows - middle) > bound)
        at = np.flatnonzero(far.any(1))
        count += len(at)
        for row in at[: EXAMPLES - len(examples)]:
            place = int(far[row].argmax())
            examples.append(
                [*train.numbers([start + row]), column_name(train, int(columns[place])), float(rows[row, place])]
            )
    return {"rows": count, "examples": examples} if count else {}


def alike(found: Audit, splits: Mapping[str, Raw], sketch: Sketch) -> None:
    """Rows of train that are there twice, and rows of other splits that train has."""
    like_train = {
        name: raw for name, raw in splits.items() if raw.take(np.arange(1)).size == sketch.moments.columns
    }  # rows of another shape have no like there
    starts, rows = {}, 0
    for name, raw in like_train.items():
        starts[name] = rows
        rows += len(raw)
    digest, sketches = np.empty(rows, np.uint64), []
    for name, raw in like_train.items():
        for start, part in raw.parts():
            place = starts[name] + start
            # One type for all splits, and one zero.
            digest[place : place + len(part)] = digests(flat(part).astype(np.float64) + 0.0)
            sketches.append(flat(part) if sketch.words else sketch(part))
    everything = np.concatenate(sketches)
    y = np.concatenate([raw.y.reshape(len(raw), -1)[:, 0] for raw in like_train.values()])
    ends = starts["train"] + len(splits["train"])
    same = groups(digest)
    exact_of = np.arange(rows)
    for group in same:
        exact_of[group] = group[0]
    first = np.flatnonzero(exact_of == np.arange(rows))
    different = everything[first]
    pairs = near_texts(different) if sketch.words else near_pairs(different, NEAR * usual_distance(different))
    near = first[pairs]

    in_train = [group[group < ends] for group in same]
    in_train = [group for group in in_train if len(group) > 1]
    near_train = near[(near < ends).all(1)]
    extra = sum(len(group) - 1 for group in in_train)
    near_extra = len(set(near_train[:, 1].tolist()))
    conflicting = sum(len(np.unique(y[group])) > 1 for group in in_train) if found.classes else 0
    if extra or near_extra:
        shown = [splits["train"].numbers(group[:EXAMPLES]) for group in [*in_train, *near_train][:EXAMPLES]]
        found.duplicates = {
            "exact": extra, "near": near_extra, "examples": shown, "conflicting": conflicting,
        }  # fmt: skip
    owner = {name: (starts[name], starts[name] + len(raw)) for name, raw in like_train.items() if name != "train"}
    for name, (start, end) in owner.items():
        copies = {int(row): int(group[0]) for group in same if group[0] < ends for row in group if start <= row < end}
        close = {
            int(other): int(one)
            for one, other in near.tolist()
            if one < ends and start <= other < end and other not in copies
        }
        if copies or close:
            some = [*copies.items(), *close.items()][:EXAMPLES]
            own, of = (
                splits[name].numbers([row - start for row, _ in some]),
                splits["train"].numbers([o for _, o in some]),
            )
            examples = [list(pair) for pair in zip(own, of, strict=True)]
            found.leakage[name] = {"exact": len(copies), "near": len(close), "examples": examples}


@dataclass(frozen=True)
class Suspected:
    """Of labelled rows those whose label is probably another."""

    probabilities: NDArray[np.float64]
    """Of shape (rows, labels in their order), from classifiers of other rows."""
    agreement: float
    """The share of rows of which these thought as their label says."""
    rows: NDArray[np.int64]
    """The suspected ones, the most suspected first; none where the classifiers agree with too few."""


def suspected_labels(x: Array, y: NDArray[np.int64], sketch: Sketch | None = None) -> Suspected:
    """Look for wrong labels among rows of which each label has some; `sketch` for what is no table of few numbers."""
    given = np.unique(y, return_inverse=True)[1].astype(np.int64)
    plain = flat(x)
    few = sketch is None or (not sketch.words and plain.shape[1] <= 4 * SKETCH)
    features = standardised(plain) if few or sketch is None else sketch(x)
    first = out_of_sample(features, given)
    agreement = float((first.argmax(1) == given).mean())
    if agreement < AGREEMENT:
        return Suspected(first, agreement, np.empty(0, np.int64))
    rows, second = suspects(first, features, given)
    return Suspected(second, agreement, rows)


def standardised(rows: Array) -> NDArray[np.float32]:
    """Columns of mean 0 and standard deviation 1, as far as they vary."""
    clean = np.where(np.isfinite(rows), rows, 0.0).astype(np.float64).clip(-BEYOND, BEYOND)
    spread = clean.std(0)
    standard: NDArray[np.float32] = ((clean - clean.mean(0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    return standard


def wrong_labels(found: Audit, train: Raw, sketch: Sketch) -> None:
    """Training rows whose label is suspected."""
    rows = np.linspace(0, len(train) - 1, min(len(train), LABEL_ROWS)).astype(np.int64)
    known, codes, counts = np.unique(train.y[rows], return_inverse=True, return_counts=True)
    rows = rows[np.isin(codes, np.flatnonzero(counts >= LEAST))]
    known = np.unique(train.y[rows])
    if len(known) < 2:
        return
    suspected = suspected_labels(train.take(rows), train.y[rows], sketch)
    probable = suspected.probabilities
    likelier = probable[suspected.rows].argmax(1)
    found.label_errors = {
        "looked_at": len(rows),
        "agreement": suspected.agreement,
        "suspected": len(suspected.rows),
        "examples": [
            [
                *train.numbers([rows[row]]),
                int(train.y[rows[row]]),
                int(known[other]),
                float(probable[row, other]),
            ]
            for row, other in zip(suspected.rows[:EXAMPLES].tolist(), likelier.tolist(), strict=False)
        ],
    }
