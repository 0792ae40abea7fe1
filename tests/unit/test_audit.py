"""Audit: what is planted in data is counted and told, clean data give nothing worse than advice."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from sweeps.insight.audit import judge
from trainables.audit import EXAMPLES, audit, audit_splits, standardised, suspected_labels
from trainables.contract import Data, Fidelity
from trainables.data.images import image_folder
from trainables.data.similar import near_pairs, near_texts
from trainables.data.tables import table
from trainables.examples.digits import Digits
from trainables.examples.glucose import Glucose
from unit.trainable_helpers import Pairs

ROWS = 300


def clean(seed=0, rows=ROWS, columns=6):
    """Two clouds of rows, and which one each is of."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 2, rows)
    return draw.standard_normal((rows, columns)).astype(np.float32) + 3 * y[:, None].astype(np.float32), y


def findings(train, val=None):
    """Severity by finding, without what was looked at."""
    found = judge(asdict(audit_splits({"train": train, "val": val or clean(1), "test": None})))
    assert found[0].finding == "data"
    assert all(one.message.endswith((".", "?")) for one in found)
    return {one.finding: one.severity for one in found[1:]}


def message(train, finding, val=None):
    """What is told of a finding."""
    found = judge(asdict(audit_splits({"train": train, "val": val or clean(1)})))
    (one,) = (one for one in found if one.finding == finding)
    return one.message


def changed(place, value, seed=0):
    x, y = clean(seed)
    x[place] = value
    return x, y


def test_clean_data_give_no_finding():
    assert findings(clean()) == {}
    assert findings(tuple(map(torch.as_tensor, clean())), tuple(map(torch.as_tensor, clean(1)))) == {}
    as_dataset = TensorDataset(*map(torch.as_tensor, clean()))
    assert findings(as_dataset) == {}
    assert findings(Pairs(*map(torch.as_tensor, clean()))) == {}


@pytest.mark.parametrize(
    ("train", "finding", "severity", "told"),
    [
        (changed((3, 2), np.nan), "non_finite_inputs", "block", "train: 1 rows, first 3"),
        (changed((3, 2), np.inf), "non_finite_inputs", "block", "missing or infinite"),
        (changed((slice(None), 2), 7.0), "constant_features", "info", "1 of 6 features"),
        (changed((slice(None), slice(5)), 7.0), "constant_features", "warn", "5 of 6 features"),
        (changed(slice(None), 7.0), "constant_features", "block", "Is the right file read?"),
        (changed((3, 2), 1e4), "outliers", "info", "1e+04 in column 2 of row 3"),
        (changed((slice(0, 9), 2), 1e4), "outliers", "warn", "9 training rows (3.0%)"),
        ((clean()[0] * 1000, clean()[1]), "unscaled_inputs", "info", "Standardise by the training rows"),
        ((clean()[0], np.where(np.arange(ROWS) == 5, -1, clean()[1])), "labels_out_of_range", "block", "below 0: -1"),
    ],
)  # fmt: skip
def test_what_is_planted_in_the_inputs_is_found(train, finding, severity, told):
    assert findings(train)[finding] == severity
    assert told in message(train, finding)


def test_a_class_that_train_lacks_is_a_label_out_of_range():
    x, y = clean(1)
    assert findings(clean(), (x, np.where(y == 1, 2, y))) == {"labels_out_of_range": "block"}


def test_rows_of_a_class_are_counted():
    x, y = clean()
    few = np.flatnonzero(y == 1)[8:]
    train = np.delete(x, few, 0), np.delete(y, few)
    assert findings(train, train) == {"imbalance": "warn", "too_little_data": "warn", "leakage": "block"}
    assert findings(train)["splits_differ"] == "warn"
    assert "class_weights: balanced" in message(train, "imbalance")
    assert "fewer than 10 training rows: 1" in message(train, "too_little_data")


def test_copies_within_train_and_between_splits():
    (x, y), (other, labels) = clean(), clean(1)
    twice = np.concatenate((x, x[:20])), np.concatenate((y, y[:20]))
    assert findings(twice) == {"duplicates": "warn"}
    assert "20 training rows (6.2%) are copies of others, 20 of them exact, such as 0, 300" in message(
        twice, "duplicates"
    )
    conflicting = np.concatenate((x, x[:20])), np.concatenate((y, 1 - y[:20]))
    assert findings(conflicting)["conflicting_labels"] == "warn"
    leaked = np.concatenate((other, x[:20])), np.concatenate((labels, y[:20]))
    assert findings((x, y), leaked) == {"leakage": "block"}
    assert "20 rows of val (6.2%; 20 of them exactly) are in train, such as val 300 and train 0" in message(
        (x, y), "leakage", leaked
    )
    double = np.concatenate((other.astype(np.float64), x[:20])), leaked[1]
    assert findings((x, y), double) == {"leakage": "block"}, "whatever the type"
    near = other.copy()
    near[:20] = x[:20] + 0.01
    assert findings((x, y), (near, labels)) == {"leakage": "warn"}
    assert "20 rows of val (6.7%; 0 of them exactly)" in message((x, y), "leakage", (near, labels))


def test_texts_with_most_words_in_common_are_near():
    draw = np.random.default_rng(0)
    texts = draw.integers(3, 5000, (400, 30))
    texts[:, 20:] = 0
    again = texts[:50].copy()
    again[:, 4] = 4999
    pairs = near_texts(np.concatenate((texts, again)))
    assert {tuple(pair) for pair in pairs.tolist()} >= {(n, 400 + n) for n in range(50)}
    assert len(pairs) <= 52
    found = audit_splits({"train": (texts, np.zeros(400, int)), "val": (again, np.zeros(50, int))})
    assert found.words
    assert found.leakage["val"]["near"] + found.leakage["val"]["exact"] == 50
    assert len(found.leakage["val"]["examples"]) == EXAMPLES


def test_near_rows_of_many_columns_are_found_by_their_sketch():
    draw = np.random.default_rng(0)
    images = draw.random((300, 1, 16, 16)).astype(np.float32)
    near = images[:30] + 0.02 * draw.standard_normal((30, 1, 16, 16)).astype(np.float32)
    found = audit_splits({"train": (images, np.zeros(300, int)), "val": (near, np.zeros(30, int))})
    assert (found.leakage["val"]["exact"], found.leakage["val"]["near"]) == (0, 30)
    assert found.duplicates == {}


def test_pairs_are_those_that_all_pairs_would_give():
    rows = np.random.default_rng(0).standard_normal((500, 3)).astype(np.float32)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    every = {(i, j) for i, j in zip(*np.nonzero(apart < 0.05), strict=True) if i < j}
    found = {tuple(pair) for pair in near_pairs(rows, 0.05).tolist()}
    assert found <= every
    assert len(found) >= 0.9 * len(every) > 0
    assert len(near_pairs(rows[:1], 0.05)) == len(near_pairs(rows, 0.0)) == 0


@pytest.mark.parametrize("share", [0.05, 0.1])
def test_wrong_labels_are_suspected_as_cleanlab_does_or_better(share):
    from cleanlab.filter import find_label_issues

    x, y = (part.numpy() for part in Digits().data({}, Fidelity(1)).train)
    draw = np.random.default_rng(7)
    wrong = draw.random(len(y)) < share
    given = np.where(wrong, (y + draw.integers(1, 10, len(y))) % 10, y)
    found = suspected_labels(standardised(x), given)
    planted = set(np.flatnonzero(wrong).tolist())
    ours = set(found.rows.tolist())
    assert len(ours & planted) >= 0.8 * len(planted)
    assert len(ours & planted) >= 0.8 * len(ours)
    assert found.agreement == pytest.approx(1 - share, abs=0.05)
    theirs = set(
        map(int, find_label_issues(given, found.probabilities, return_indices_ranked_by="self_confidence", n_jobs=1))
    )
    assert len(ours & theirs) >= 0.8 * len(theirs), "most of what cleanlab finds on the same probabilities"
    severities = {
        f.finding: f.severity for f in judge(asdict(audit_splits({"train": (x, given), "val": (x[:0], y[:0])})))
    }
    assert severities["label_errors"] == "warn"


def test_labels_that_quick_classifiers_cannot_tell_are_not_judged():
    draw = np.random.default_rng(0)
    train = draw.standard_normal((400, 5)), draw.integers(0, 2, 400)
    assert findings(train, (draw.standard_normal((50, 5)), draw.integers(0, 2, 50))) == {"labels_not_judged": "info"}


def test_every_kind_of_data_is_read(tmp_path):
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 256, (9, 7, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    images = image_folder(tmp_path / "images", cache=tmp_path)
    x, y = clean()
    import pyarrow as pa

    columns = {f"c{n}": x[:, n] for n in range(5)} | {"kind": np.where(x[:, 5] > 0, "a", "b"), "is": y.astype(str)}
    rows = table(pa.table(columns), target="is", cache=tmp_path)
    for splits, shape in ((images.split(0.5, 0.5), [3, 9, 7]), (rows.split(0.5, 0.5), [6])):
        found = audit_splits(dict(zip(("train", "val"), splits, strict=True)))
        assert found.unreadable == []
        assert found.splits["train"]["shape"] == shape
        assert len(found.classes["train"]) == 2
    assert found.constant == []
    assert found.columns == 6
    series = audit(Glucose(), {}, Fidelity(1))
    assert series.classes == {}
    assert set(series.splits) == {"train", "val", "test"}


def test_what_cannot_be_read_is_said_and_nothing_raises():
    class Stream:
        def __iter__(self):
            return iter(())

    assert findings(Stream()) == {"not_audited": "info"}
    assert findings([["a", "b"], [0, 1]]) == {"not_audited": "info"}
    assert findings((np.zeros((3, 2)), np.zeros(2))) == {"not_audited": "info"}
    empty = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    assert findings(empty)["not_audited"] == "info"
    one = np.zeros((1, 2), np.float32), np.zeros(1, np.int64)
    assert "constant_features" in findings(one, one)
    numbers = clean()[0], clean()[0][:, :2]
    assert findings(numbers, (clean(1)[0], clean(1)[0][:, :2])) == {}
    other_shape = clean(1, columns=4)
    assert findings(clean(), other_shape) == {}


STRANGE = {
    "one dimension": np.arange(50.0), "truths": np.arange(200).reshape(50, 4) % 3 == 0,
    "half": np.ones((50, 3), np.float16), "identifiers": np.full((50, 2), 2**60),
    "bytes": np.arange(50 * 48, dtype=np.uint8).reshape(50, 3, 4, 4), "below 0": np.arange(-100, 100).reshape(50, 4),
    "enormous": np.full((50, 2), 1e300) * np.arange(50)[:, None], "tiny": np.arange(100).reshape(50, 2) * 1e-40,
    "no columns": np.zeros((50, 0)), "nothing but NaN": np.full((50, 2), np.nan),
}  # fmt: skip
TARGETS = {
    "classes": np.arange(50) % 3, "numbers": np.arange(50.0), "pairs": np.ones((50, 2)),
    "truths": np.arange(50) % 2 == 0, "masks": np.zeros((50, 4, 4), int), "one class": np.zeros(50, int),
    "all different": np.arange(50), "NaN": np.full(50, np.nan),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("inputs", STRANGE)
def test_no_kind_of_numbers_makes_it_raise(inputs):
    for y in TARGETS.values():
        for val in ((STRANGE[inputs], y), (STRANGE[inputs][:1], y[:1]), ([1, 2], None)):
            found = judge(asdict(audit_splits({"train": (STRANGE[inputs], y), "val": val})))
            json.dumps([dict(one.evidence) for one in found])


def test_of_what_is_too_much_rows_are_left_out_and_told_by_their_own_numbers(monkeypatch):
    monkeypatch.setattr("trainables.data.raw.MOST_NUMBERS", ROWS * 6 // 2)
    monkeypatch.setattr("trainables.data.raw.DATASET_ROWS", ROWS // 2)
    x, y = clean()
    x[ROWS - 1, 2] = 1e4
    for split in ((x, y), Pairs(torch.as_tensor(x), torch.as_tensor(y))):
        found = audit_splits({"train": split, "val": (x[ROWS - 1 :], y[ROWS - 1 :])})
        assert found.splits["train"] == {"rows": ROWS, "looked_at": ROWS // 2, "shape": [6], "dtype": "float32"}
        assert found.outliers["examples"] == [[ROWS - 1, "2", 1e4]]
        assert found.leakage["val"]["examples"] == [[0, ROWS - 1]]
        assert "150 of them looked at" in judge(asdict(found))[0].message


def test_a_dataset_that_is_slow_to_read_is_looked_at_as_far_as_time_allows(monkeypatch):
    monkeypatch.setattr("trainables.data.raw.DATASET_S", 0.2)

    class Slow(Pairs):
        def __getitem__(self, row):
            time.sleep(0.002)
            return super().__getitem__(row)

    found = audit_splits({"train": Slow(*map(torch.as_tensor, clean()))})
    assert 1 < found.splits["train"]["looked_at"] < ROWS


def test_the_same_data_give_the_same_audit():
    assert audit(Digits(), {}, Fidelity(1)) == audit(Digits(), {}, Fidelity(1))
    assert isinstance(Digits().data({}, Fidelity(1)), Data)
