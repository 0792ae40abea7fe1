"""What is wrong with the data, as counts and row numbers: what a practitioner looks for before anything is trained.

Place in the flow: a slot answers `audit` with this for the baseline's data; the audit phase judges it. The rows are
read in parts, and what is kept of each is a few numbers (`data.sketch`), so a million rows fit where their data do.

Inputs are numbers (arrays, tables, images, series), or whole numbers that stand for words. Rows are told by their
number in their split, from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.contract import Config, Fidelity, Trainable
from trainables.data.raw import Array, Raw, open_raw
from trainables.data.similar import NEAR, digests, groups, near_pairs, near_texts, usual_distance
from trainables.data.sketch import BEYOND, SKETCH, Moments, Sketch, flat, of_words
from trainables.label_errors import LEAST, out_of_sample, suspects

EXAMPLES = 10
"""Rows that are named of each kind of trouble."""
FEW_COLUMNS = 4 * SKETCH
"""Labels of rows with more numbers are judged by what is kept of them."""
LABEL_ROWS = 10_000
"""So many training rows are looked at for labels that are wrong."""
SPREAD_ROWS = 50_000
"""So many rows tell how a column's numbers are spread."""
VOCABULARY = 2**22
"""Whole numbers from 0 to below this may be words."""
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
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    """By split the rows of each class, whose label is a text as in JSON; empty for numbers as targets."""
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
    """`looked_at` rows, `agreement` of quick classifiers with them, whether they `judged`, `suspected` rows,
    `examples` of (row, label, likelier label, its probability)."""


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
    found.columns, found.words = int(train.take(np.arange(1)).size), means_words(train)
    moments = {} if found.words else {name: Moments(raw) for name, raw in splits.items()}
    for name, raw in splits.items():
        if trouble := non_finite(raw, moments.get(name)):
            found.non_finite[name] = trouble
    if not found.words:
        columns_of(found, splits, moments)
    sketch = of_words if found.words else Sketch(train, moments["train"])
    alike(found, splits, flat if found.words else sketch)
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
        name: {str(int(label)): int(count) for label, count in zip(*pair, strict=True)}
        for name, pair in counted.items()
    }
    known = counted["train"][0]
    for name, (there, _) in counted.items():
        strange = there[(there < 0) | ~np.isin(there, known)]
        if len(strange):
            found.strange_labels[name] = [int(label) for label in strange]


def columns_of(found: Audit, splits: Mapping[str, Raw], moments: Mapping[str, Moments]) -> None:
    """What the columns of train hold, and how those of the other splits differ."""
    train, own = splits["train"], moments["train"]
    counted = np.setdiff1d(np.arange(own.columns), list(train.categories or {}))
    same = counted[(own.high <= own.low)[counted]]
    found.constant = [column_name(train, int(column)) for column in same]
    if not len(counted):
        return
    found.lowest, found.highest = float(own.low[counted].min()), float(own.high[counted].max())
    varying = counted[own.deviation[counted] > 0]
    if not len(varying):
        return
    spread = own.deviation[varying]
    few, many = np.quantile(spread, (0.1, 0.9))  # an image has pixels that hardly vary
    found.deviations = float(few), float(many)
    found.mean = float((np.abs(own.mean[varying]) / spread).max())
    found.outliers = outliers(train, varying)
    for name, other in moments.items():
        if name != "train" and other.columns == own.columns:
            found.shifts[name] = shift(own, other, varying)


def shift(train: Moments, other: Moments, columns: NDArray[np.int64]) -> dict[str, float]:
    """How the usual column of another split differs from train's: its deviation and its mean, in train's deviations."""
    deviation = train.deviation[columns]
    apart = np.abs(other.mean[columns] - train.mean[columns]) / deviation
    return {
        "deviation": float(np.median(other.deviation[columns] / deviation)),
        "mean": float(np.median(apart)),
    }


def non_finite(raw: Raw, moments: Moments | None) -> list[Any]:
    """Rows and columns with numbers that are none, and the first rows; empty where there are none.

    `moments` have counted the inputs; None where these are whole numbers.
    """
    rows: list[int] = []
    columns: set[int] = set()
    count = 0
    if moments and not moments.whole:
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


def alike(found: Audit, splits: Mapping[str, Raw], sketch: Callable[[Array], Array]) -> None:
    """Rows of train that are there twice, and rows of other splits that train has; `sketch`: what near ones are told
    by, of texts their words."""
    # Rows of another shape have no like there.
    like_train = {name: raw for name, raw in splits.items() if raw.take(np.arange(1)).size == found.columns}
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
            sketches.append(sketch(part))
    everything = np.concatenate(sketches)
    y = np.concatenate([raw.y.reshape(len(raw), -1)[:, 0] for raw in like_train.values()])
    ends = starts["train"] + len(splits["train"])
    same = groups(digest)
    exact_of = np.arange(rows)
    for group in same:
        exact_of[group] = group[0]
    first = np.flatnonzero(exact_of == np.arange(rows))
    different = everything[first]
    pairs = near_texts(different) if found.words else near_pairs(different, NEAR * usual_distance(different))
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
    judged: bool
    """Whether that is enough to suspect any."""
    rows: NDArray[np.int64]
    """The suspected ones, the most suspected first."""


def suspected_labels(features: NDArray[np.float32], y: NDArray[np.int64]) -> Suspected:
    """Look for wrong labels among rows of which each label has some, by standardised features of shape (rows, n)."""
    given = np.unique(y, return_inverse=True)[1].astype(np.int64)
    first = out_of_sample(features, given)
    agreement = float((first.argmax(1) == given).mean())
    if agreement < AGREEMENT:
        return Suspected(first, agreement, False, np.empty(0, np.int64))
    rows, second = suspects(first, features, given)
    return Suspected(second, agreement, True, rows)


def standardised(part: Array) -> NDArray[np.float32]:
    """Rows with columns of mean 0 and standard deviation 1, as far as they vary."""
    rows = flat(part)
    clean = np.where(np.isfinite(rows), rows, 0.0).astype(np.float64).clip(-BEYOND, BEYOND)
    spread = clean.std(0)
    standard: NDArray[np.float32] = ((clean - clean.mean(0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    return standard


def wrong_labels(found: Audit, train: Raw, sketch: Callable[[Array], NDArray[np.float32]]) -> None:
    """Training rows whose label is suspected; `sketch` for what is no table of few numbers."""
    rows = np.linspace(0, len(train) - 1, min(len(train), LABEL_ROWS)).astype(np.int64)
    known, codes, counts = np.unique(train.y[rows], return_inverse=True, return_counts=True)
    rows = rows[np.isin(codes, np.flatnonzero(counts >= LEAST))]
    known = np.unique(train.y[rows])
    if len(known) < 2:
        return
    features = sketch if found.words or found.columns > FEW_COLUMNS else standardised
    suspected = suspected_labels(features(train.take(rows)), train.y[rows])
    probable = suspected.probabilities
    likelier = probable[suspected.rows].argmax(1)
    found.label_errors = {
        "looked_at": len(rows),
        "agreement": suspected.agreement,
        "judged": suspected.judged,
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
