"""Audit: what is planted in data is counted and told, clean data give nothing worse than advice."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections import Counter
from dataclasses import asdict
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from sweeps.insight.audit import judge
from trainables.audit import audit, audit_splits
from trainables.contract import Data, Fidelity, Session, TrainableError, resolve
from trainables.data.images import image_folder
from trainables.data.raw import EXAMPLES
from trainables.data.similar import bands, cells, closer, in_common, near_pairs
from trainables.data.tables import table
from trainables.data.words import looks_up
from trainables.examples.digits import Digits
from trainables.examples.docstrings import Docstrings
from trainables.examples.glucose import Glucose
from trainables.label_errors import standardised, suspected_labels
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
        ((clean()[0], clean()[1] * 0), "imbalance", "block", "all 300 training rows are of class 0"),
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


def test_few_rows_are_uneven_by_luck():
    x, _ = clean()
    counts = (3, 2, 9, 3, 1, 8, 10, 1, 7, 8, 7, 1)
    few = x[: sum(counts)], np.repeat(np.arange(len(counts)), counts)
    assert "imbalance" not in findings(few, few)


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
    both = np.concatenate((texts, again))
    parts = near_pairs(bands(both), 400, lambda pairs: in_common(both[pairs[:, 0]], both[pairs[:, 1]]))
    found = {tuple(pair) for part in parts for pair in part.tolist()}
    assert found >= {(n, 400 + n) for n in range(50)}
    assert len(found) <= 52
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
    rows = np.random.default_rng(0).standard_normal((3000, 3)).astype(np.float32)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    every, closest = ({(i, j) for i, j in zip(*np.nonzero(apart < d), strict=True) if i < j} for d in (0.08, 0.04))

    def pairs(known):
        parts = near_pairs(cells(rows, 0.08), known, lambda p: closer(rows[p[:, 0]], rows[p[:, 1]], 0.08))
        return {tuple(pair) for part in parts for pair in part.tolist()}

    found = pairs(3000)
    assert found <= every
    assert len(found) >= 0.7 * len(every) > 100
    assert len(found & closest) >= 0.9 * len(closest) > 20
    assert pairs(2000) == {pair for pair in found if pair[0] < 2000}, "of those that are known"


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


def test_classifiers_that_know_only_which_class_is_frequent_judge_no_label():
    """They agree with four labels in five, and would suspect every row of the rare class."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((1000, 6)).astype(np.float32)
    y = (draw.random(1000) < 0.1 + 0.2 * (x[:, 0] > 0)).astype(int)
    found = findings((x[:800], y[:800]), (x[800:], y[800:]))
    assert found == {"labels_not_judged": "info"}


def test_texts_that_are_all_the_same_are_constant_and_no_leak():
    words, labels = np.zeros((200, 12), np.int64), np.arange(200) % 3
    found = findings((words[:150], labels[:150]), (words[150:], labels[150:]))
    assert found["constant_features"] == "block"
    assert "leakage" not in found


def test_rows_that_are_near_each_other_everywhere_are_no_leak():
    """Near copies across splits are told as such where training rows are not as often each other's."""
    seen = asdict(audit_splits({"train": clean(), "val": clean(1)}))
    near = {"leakage": {"val": {"exact": 0, "near": 60, "examples": [[0, 1]]}}}
    for within, severity in ((0, "warn"), (60, "info")):
        copies = {"exact": 0, "near": within, "examples": [[0, 1]], "conflicting": 0}
        found = {one.finding: one for one in judge({**seen, **near, "duplicates": copies})}
        assert found["leakage"].severity == severity


def test_every_kind_of_data_is_read(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = draw.integers(0, 256, (9, 7, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    images = image_folder(tmp_path / "images", cache=tmp_path)
    x, y = clean()
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


class Gaps:
    """A table that is read once a process, as the examples do it."""

    def __init__(self, source, cache, **settings):
        self.read = lru_cache(lambda: table(source, "y", cache=cache, **settings).split(0.5, 0.5))

    def data(self, config, fidelity):
        return Data(*self.read())

    def model(self, config, data):
        return nn.Linear(2, 2)


def gappy(rows=200):
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, rows)
    source = {"a": draw.standard_normal(rows) + 3 * y, "b": draw.standard_normal(rows), "y": y.astype(str)}
    source["a"][[7, 9, 30]] = np.nan
    source["b"][7] = np.inf
    return pa.table(source)


def test_what_a_table_lacks_is_told_at_once_and_refused_by_training(tmp_path):
    source = gappy()
    y = source["y"].to_pylist()
    y[12] = y[40] = None
    b = [str(value) for value in source["b"].to_pylist()]
    b[7], b[50] = "?", "n/a"
    source = source.set_column(1, "b", pa.array(b)).set_column(2, "y", pa.array(y))
    gaps = Gaps(source, tmp_path)
    found = audit(gaps, {}, Fidelity(1))
    assert not list(tmp_path.glob("*.arrow")), "what has faults is not kept"
    assert sum(found.non_finite[split][0] for split in ("train", "val")) == 4
    by_column = Counter()
    for rows, columns, examples, named in found.non_finite.values():
        by_column.update(named)
        assert len(examples) == rows
        assert columns == len(named)
    assert by_column == {"a": 3, "b": 2}
    view = gaps.read()[0]
    lacking = [row for row, number in enumerate(view.index.tolist()) if number in (7, 9, 30, 50)]
    assert found.non_finite["train"][2] == lacking, "rows are told by their number in the split"
    assert sum(split["rows"] - split["looked_at"] for split in found.splits.values()) == 2
    told = {one.finding: one for one in judge(asdict(found))}
    assert (told["missing_targets"].severity, told["non_finite_inputs"].severity) == ("block", "block")
    assert "the target 'y' is missing in row 12 (from 0). Drop such rows." in told["missing_targets"].message
    assert (
        "Training refuses the first: table: column 'a' is nan in row 7 (from 0)." in told["non_finite_inputs"].message
    )
    messages = [message for _, one in found.faults["train"].items() for message in one["messages"]]
    assert any("column 'b' is of numbers, but '?' in row 7" in message for message in messages)
    assert found.classes["train"].keys() == {"0", "1"}
    json.dumps(asdict(found))
    with pytest.raises(TrainableError, match=r"^data: table: column 'a' is nan in row 7 \(from 0\)\. Fill in or drop"):
        next(resolve(gaps)({"batch_size": 8}, Session(Fidelity(1))))  # with what the audit has read
    with pytest.raises(TrainableError, match=r"^data: table: column 'a' is nan in row 7"):
        table(source, "y", cache=tmp_path)


def test_targets_that_are_missing_or_infinite_numbers(tmp_path):
    source = gappy().set_column(2, "y", pa.array([None, 1e300, *np.arange(198.0)]))
    found = audit(Gaps(source, tmp_path), {}, Fidelity(1))
    assert (
        sum(faults["missing_targets"]["rows"] for faults in found.faults.values() if "missing_targets" in faults) == 1
    )
    assert sum(trouble[3].get("the targets", 0) for trouble in found.non_finite.values()) == 1


def test_whole_numbers_are_words_where_a_network_looks_them_up(tmp_path):
    draw = np.random.default_rng(0)
    same = draw.integers(0, 100, (300, 10))  # nothing tells what these are
    given = {"train": (same, np.zeros(300, int)), "val": (same[:50] + 1, np.zeros(50, int))}

    class Reads(nn.Module):
        def __init__(self, embeds):
            super().__init__()
            self.words, self.places = nn.Embedding(101 if embeds else 10, 4), nn.Embedding(10, 4)
            self.embeds, self.last = embeds, nn.Linear(10, 2)

        def forward(self, x):
            place = self.places(torch.arange(10))
            return (self.words(x) + place).mean(1) if self.embeds else self.last(x.float()) + place.sum()

    assert audit_splits(given, lambda: Reads(True)).words
    assert not audit_splits(given, lambda: Reads(False)).words
    assert not audit_splits(given).words
    state = torch.get_rng_state()
    assert looks_up(lambda: Reads(True), same[:2])
    assert looks_up(lambda: nn.Linear(3, 2), same[:2]) is None, "it cannot read them"
    assert torch.equal(torch.get_rng_state(), state)


def whole_numbers():
    """Whole numbers, and whether they are words."""
    draw = np.random.default_rng(0)
    texts = Docstrings().data({}, Fidelity(1)).train[0].numpy()
    read = texts[texts > 0]
    yield "padded texts", texts, True
    yield "texts without padding", read[: len(read) // 32 * 32].reshape(-1, 32), True
    yield "texts with a first word of all", np.pad(texts, ((0, 0), (1, 0)), constant_values=101), True
    yield "texts padded in front", texts[:, ::-1].copy(), True
    yield "counts", draw.poisson(2, (2000, 40)), False
    yield "larger counts", draw.poisson(50, (2000, 20)), False
    yield "one-hot", np.eye(50, dtype=int)[draw.integers(0, 50, 2000)], False
    yield "pixels", (Digits().data({}, Fidelity(1)).train[0].flatten(1) * 16).long().numpy(), False
    steps = draw.integers(-3, 4, (2000, 48)).cumsum(1)
    yield "series", steps - steps.min(), False
    ages, incomes = draw.integers(17, 90, 2000), draw.integers(0, 10**5, 2000)
    columns = (ages, incomes, draw.integers(0, 6, 2000), draw.integers(1900, 2024, 2000), draw.random(2000) < 0.1)
    yield "columns", np.stack(columns, 1), False
    yield "words that are counted", np.where(draw.random((2000, 200)) < 0.02, draw.zipf(1.8, (2000, 200)), 0), False


def test_columns_of_whole_numbers_are_told_from_words():
    for name, rows, words in whole_numbers():
        found = audit_splits({"train": (rows.astype(np.int64), np.zeros(len(rows), int))})
        assert found.words is words, name


@pytest.fixture
def pictures(tmp_path):
    """A folder of images: 60 of the usual size, and odd ones."""
    draw = np.random.default_rng(0)

    def save(name, height, width, mode="RGB"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)

    for number in range(60):
        save(f"{'ab'[number % 2]}/{number:02}.png", 40 + number % 3, 50)
    save("a/small.png", 9, 10)
    save("a/inner/wide.png", 20, 190)
    save("b/grey.png", 40, 50, "L")
    save("b/print.jpg", 40, 50, "CMYK")
    save("b/mask.png", 40, 50, "RGBA")
    return tmp_path / "pictures"


def seen_in(folder, size):
    """The findings on a folder of images that is one split, and the audit."""

    class Folder:
        def data(self, config, fidelity):
            every = image_folder(folder, size, cache=folder.parent / "cache")
            return Data(every.rows(range(len(every))), every.rows([0, 1]))

        def model(self, config, data): ...

    found = audit(Folder(), {}, Fidelity(1))
    json.dumps(asdict(found))
    return {one.finding: one for one in judge(asdict(found))}, found


def test_files_of_odd_sizes_are_found(pictures):
    told, found = seen_in(pictures, (32, 32))
    sizes = found.sizes["train"]
    assert (sizes["rows"], sizes["usual"], sizes["size"]) == (65, [41, 50], [32, 32])
    assert sizes["odd"] == {"rows": 2, "examples": [["a/inner/wide.png", 20, 190], ["a/small.png", 9, 10]]}
    assert sizes["enlarged"] == {"rows": 1, "examples": [["a/small.png", 9, 10]]}
    assert sizes["stretched"] == {"rows": 1, "examples": [["a/inner/wide.png", 20, 190]]}
    assert told["odd_sizes"].severity == "info"
    assert "1 (1.5%) of train are blurred, enlarged more than 2 times, such as a/small.png of 9 x 10" in (
        told["odd_sizes"].message
    )
    assert told["image_modes"].evidence == {"modes": {"RGB": 64, "L": 1, "CMYK": 1, "RGBA": 1}}
    assert seen_in(pictures, (200, 200))[0]["odd_sizes"].severity == "warn", "all are enlarged"
    assert not seen_in(pictures, (32, 32))[1].faults


def test_files_that_are_no_images_or_of_another_size_are_all_named(pictures):
    for name in ("a/small.png", "a/inner/wide.png"):
        (pictures / name).unlink()
    (pictures / "a" / "cut.png").write_bytes((pictures / "a" / "00.png").read_bytes()[:-30])
    (pictures / "b" / "none.png").write_bytes(b"no image")
    told, found = seen_in(pictures, None)
    assert told["unreadable_images"].severity == told["odd_sizes"].severity == "block"
    messages = found.faults["train"]["unreadable_images"]["messages"]
    assert ["b/none.png is no image" in messages[0], "a/cut.png cannot be decoded" in messages[1]] == [True, True]
    assert "there are images that are none (train 2)" in told["unreadable_images"].message
    assert (
        "there are images of another size than most (train 40, val 1), and none is given" in told["odd_sizes"].message
    )
    assert found.splits["train"]["rows"] - found.splits["train"]["looked_at"] == 42
    assert "blank_images" not in told, "what was not read is not looked at"
    with pytest.raises(TrainableError, match=r"b/none\.png is no image"):
        image_folder(pictures, cache=pictures.parent / "cache")


def photographs(rows=120, sides=(32, 40), seed=0):
    """Images that vary slowly and reach their edges, as (rows, 3, height, width) bytes."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(30, 226, (rows, 3, sides[0] // 8, sides[1] // 8)).repeat(8, 2).repeat(8, 3)
    return (coarse + draw.integers(-20, 21, coarse.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("form", ["bytes", "floats", "channels last"])
def test_bars_at_the_edges_and_blank_images_are_found(form):
    images = photographs()
    images[3:13, :, :5] = images[3:13, :, -5:] = 2  # as of a film
    images[20:24, :, :, -6:] = 255  # padded on one side
    images[30:32] = 7
    forms = {"bytes": images, "floats": images / 255.0, "channels last": images.transpose(0, 2, 3, 1)}
    y = np.zeros(len(images), int)
    found = audit_splits({"train": (forms[form], y), "val": (photographs(seed=1), y)})
    assert found.frames == {
        "train": {
            "barred": {"rows": 14, "examples": list(range(3, 13))}, "blank": {"rows": 2, "examples": [30, 31]},
        }
    }  # fmt: skip
    told = {one.finding: one for one in judge(asdict(found))}
    assert told["constant_borders"].severity == "warn"
    assert "14 (11.7%) of train, such as row 3, have bars of one value" in told["constant_borders"].message
    assert told["blank_images"].severity == "warn"


def test_a_plain_background_is_no_bar():
    ink = np.zeros((80, 28, 28), np.uint8)
    for number, image in enumerate(ink):  # strokes in the middle, as of written digits, some of them straight
        image[5:23, 12 + number % 4 : 15 + number % 4] = 200
        image[6 : 8 + number % 9, 8:20] = 250
    assert audit_splits({"train": (ink, np.zeros(80, int))}).frames == {}
    assert audit(Digits(), {}, Fidelity(1)).frames == {}


def test_memory_does_not_follow_the_data():
    """A table and images of 80 MB: what the audit holds beside them is a part of that."""
    draw = np.random.default_rng(0)
    kinds = {
        "table": draw.standard_normal((200_000, 100), dtype=np.float32),
        "images": draw.integers(0, 256, (6500, 3, 64, 64), dtype=np.uint8),
    }
    for kind, x in kinds.items():
        y = np.arange(len(x), dtype=np.float32)
        tracemalloc.start()
        audit_splits({"train": (x[: len(x) // 2], y[: len(x) // 2]), "val": (x[len(x) // 2 :], y[len(x) // 2 :])})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < x.nbytes, kind


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
