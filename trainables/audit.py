"""What is wrong with the data, as counts and row numbers: what a practitioner looks for before anything is trained.

Place in the flow: a slot answers `audit` with this for the baseline's data; the audit phase judges it. The rows are
read in parts, in a few passes, and a hundred bytes are kept of each (`data.copies`), so memory hardly follows the data.

Inputs are numbers (arrays, tables, images, series), or whole numbers that stand for words. Rows are told by their
number in their split, from 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from trainables.contract import Config, Fidelity, Trainable
from trainables.data.copies import copies
from trainables.data.faults import as_they_are
from trainables.data.pictures import Frames, are_pictures, sizes
from trainables.data.raw import EXAMPLES, Raw, open_raw
from trainables.data.sketch import SKETCH, Moments, Sketch, flat, of_words
from trainables.data.words import means_words
from trainables.label_errors import wrong_labels

FEW_COLUMNS = 4 * SKETCH
"""Labels of rows with more numbers are judged by what is kept of them."""
SPREAD_ROWS, SPREAD_NUMBERS = 50_000, 2**22
"""So many rows, or numbers, tell how a column's numbers are spread."""
FAR = 12.0
"""A number so many times the middle half's width away from the median is an outlier."""


@dataclass
class Audit:
    """What was found; of each kind of trouble how many, and up to EXAMPLES of them."""

    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By split: `rows`, `looked_at`, `shape` and `dtype` of a row's inputs."""
    unreadable: list[str] = field(default_factory=list)
    """Splits whose rows are no pairs of numbers that can be fetched by index."""
    faults: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """By split and finding why training refuses its source: `messages`, how many `rows` are not looked at for that, and
    `examples` of them."""
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    """By split the rows of each class, whose label is a text as in JSON; empty for numbers as targets."""
    strange_labels: dict[str, list[int]] = field(default_factory=dict)
    """By split, labels that are negative, or that train does not have."""
    non_finite: dict[str, list[Any]] = field(default_factory=dict)
    """By split `[rows with one, columns with one, examples, rows by the name of a column]`, of the columns those with
    most; the targets count as a column."""
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
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By split of a folder of images, what its files are like, as `pictures.sizes` has it."""
    frames: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By split of images: `blank` and `barred` ones, their number and `examples` of rows."""
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
    with as_they_are():
        data = trainable.data(config, fidelity)
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return audit_splits(splits, lambda: trainable.model(config, data))


def audit_splits(given: Mapping[str, Any], network: Callable[[], nn.Module] | None = None) -> Audit:
    """Look through splits, of which `train` is one; `network`: makes the one that reads them, where there is one."""
    found = Audit()
    splits = opened(found, given)
    if "train" not in splits:
        return found
    labels(found, splits)
    train = splits["train"]
    found.columns, found.words = int(train.take(np.arange(1)).size), means_words(train, network)
    moments = {} if found.words else {name: passed(found, name, raw) for name, raw in splits.items()}
    for name, raw in splits.items():
        if trouble := non_finite(raw, moments.get(name)):
            found.non_finite[name] = trouble
    if not found.words:
        columns_of(found, splits, moments)
    sketch = of_words if found.words else Sketch(train, moments["train"])
    found.duplicates, found.leakage = copies(splits, flat if found.words else sketch, found.words, bool(found.classes))
    if found.classes:
        found.label_errors = wrong_labels(train, sketch if found.words or found.columns > FEW_COLUMNS else None)
    return found


def opened(found: Audit, given: Mapping[str, Any]) -> dict[str, Raw]:
    """The splits that can be read; and what is known of them before that."""
    splits = {}
    for name, split in given.items():
        if split is None:
            continue
        raw = open_raw(name, split)
        for fault in raw.faults if raw is not None else ():
            of_split = found.faults.setdefault(name, {})
            told = of_split.setdefault(fault.finding, {"messages": [], "rows": 0, "examples": []})
            told["messages"] += [fault.message][: EXAMPLES - len(told["messages"])]
            told["rows"] += len(fault.rows)
            told["examples"] += fault.rows[: EXAMPLES - len(told["examples"])]
        if raw is None or not len(raw):
            found.unreadable.append(name)
            continue
        splits[name] = raw
        first = raw.take(np.arange(1))
        found.splits[name] = {
            "rows": raw.rows, "looked_at": len(raw), "shape": list(first.shape[1:]), "dtype": str(first.dtype),
        }  # fmt: skip
        if raw.files is not None:
            found.sizes[name] = sizes(raw.files, first.shape[-2:])
    return splits


def passed(found: Audit, name: str, raw: Raw) -> Moments:
    """Go through the rows of a split for what is seen in one pass: what its columns are like, and frames of images."""
    first = raw.take(np.arange(1))
    moments, frames = Moments(first.size), Frames() if are_pictures(first) else None
    for start, part in raw.parts():
        moments.add(part)
        if frames:
            frames.add(start, part)
    if frames and (frames.blanks or frames.bars):
        found.frames[name] = {
            "blank": {"rows": frames.blanks, "examples": raw.numbers(frames.blank)},
            "barred": {"rows": frames.bars, "examples": raw.numbers(frames.barred)},
        }
    return moments


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
    by_column = np.zeros(moments.columns if moments else 0, np.int64)
    count = 0
    if moments and (moments.count < len(raw)).any():
        for start, part in raw.parts():
            bad = ~np.isfinite(flat(part))
            at = np.flatnonzero(bad.any(1))
            count += len(at)
            by_column += bad.sum(0)
            rows += raw.numbers(start + at[: EXAMPLES - len(rows)])
    worst = np.argsort(-by_column, kind="stable")[:EXAMPLES]
    named = {column_name(raw, int(column)): int(by_column[column]) for column in worst if by_column[column]}
    columns = int((by_column > 0).sum())
    if raw.y.dtype.kind == "f" and not np.isfinite(raw.y).all():
        at = np.flatnonzero(~np.isfinite(raw.y).reshape(len(raw), -1).all(1))
        count += len(at)
        columns += 1
        named["the targets"] = len(at)
        rows += raw.numbers(at[: EXAMPLES - len(rows)])
    return [count, columns, rows, named] if count else []


def column_name(raw: Raw, column: int) -> str:
    """A table's name of a column, else its number."""
    return raw.columns[column] if raw.columns else str(column)


def outliers(train: Raw, columns: NDArray[np.int64]) -> dict[str, Any]:
    """Numbers far beyond the middle half of their column; of a column whose middle half is one number none."""
    middle, bound = (measure[columns] for measure in spread_of(train))
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


def spread_of(train: Raw) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each column its median, and how far from it an outlier is: infinite where the middle half is one number."""
    columns = train.take(np.arange(1)).size
    count = min(len(train), SPREAD_ROWS, max(1, SPREAD_NUMBERS // columns))
    sample = flat(train.take(np.linspace(0, len(train) - 1, count).astype(np.int64)))
    middle, bound = np.empty(columns), np.empty(columns)
    step = max(1, SPREAD_NUMBERS // 8 // count)
    for start in range(0, columns, step):
        block = sample[:, start : start + step].astype(np.float64)
        block[~np.isfinite(block)] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # columns without a number
            low, middle[start : start + step], high = np.nanquantile(block, (0.25, 0.5, 0.75), axis=0)
        width = high - low
        bound[start : start + step] = np.where(width > 0, FAR * width, np.inf)
    return middle, bound
