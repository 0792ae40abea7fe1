"""Tables converted once and mapped: what becomes of each kind of column, sharing, and what cannot be trained on."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from trainables.contract import Data, Fidelity, Session, TrainableError, resolve
from trainables.data.mapped import converted, packed
from trainables.data.rows import open_rows
from trainables.data.tables import table
from trainables.models.mlp import Mlp

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def frame(rows=60):
    """Columns of every kind; the class follows from two of them."""
    draw = np.random.default_rng(0)
    colour = draw.choice(["red", "green", "blue"], rows)
    size = draw.normal(size=rows)
    return pd.DataFrame(
        {
            "size": size, "count": draw.integers(0, 9, rows), "flag": draw.random(rows) > 0.5, "colour": colour,
            "zip": draw.choice([8001, 3011], rows), "class": np.where((colour == "red") | (size > 1), "yes", "no"),
        }
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["frame", "arrow", "csv", "parquet", "feather"])
def test_every_source_gives_the_same_table(tmp_path, kind):
    source = frame()
    if kind == "arrow":
        source = pa.Table.from_pandas(source)
    elif kind != "frame":
        path = tmp_path / f"a.{kind}"
        made = pa.Table.from_pandas(source, preserve_index=False)
        if kind == "csv":
            source.to_csv(path, index=False)
        elif kind == "parquet":
            pyarrow.parquet.write_table(made, path, row_group_size=7)
        else:
            with pa.ipc.new_file(str(path), made.schema) as writer:
                writer.write_table(made, max_chunksize=9)
        source = path
    found = table(source, "class", categories=("zip",))
    expected = frame()
    assert found.columns == ["size", "count", "flag", "colour", "zip"]
    assert found.classes == ["no", "yes"]
    assert found.categories == {3: 3, 4: 2}
    assert found.values == {"colour": ["blue", "green", "red"], "zip": ["3011", "8001"]}
    assert (found.x.dtype, found.y.dtype) == (torch.float32, torch.int64)
    assert found.x[:, 0].tolist() == pytest.approx(expected["size"].tolist(), rel=1e-6)
    assert found.x[:, 2].tolist() == expected["flag"].astype(float).tolist()
    assert [found.values["colour"][int(code)] for code in found.x[:, 3]] == expected["colour"].tolist()
    assert [found.classes[code] for code in found.y] == expected["class"].tolist()


def test_a_number_to_be_told_stays_one():
    found = table(frame().drop(columns="class"), "size")
    assert found.classes is None
    assert found.y.dtype == torch.float32
    assert found.y.tolist() == pytest.approx(frame()["size"].tolist(), rel=1e-6)


def test_a_source_is_converted_once_and_again_when_it_changes(tmp_path, cache):
    path = tmp_path / "a.csv"
    frame().to_csv(path, index=False)
    table(path, "class")
    (file,) = cache.glob("*.arrow")
    before = file.stat().st_mtime_ns
    table(path, "class")
    assert file.stat().st_mtime_ns == before
    frame(61).to_csv(path, index=False)
    assert len(table(path, "class")) == 61
    table(path, "class", categories=("zip",))
    assert len(list(cache.glob("*.arrow"))) == 3
    assert not list(cache.glob("*.tmp"))


def test_a_category_that_is_missing_is_the_one_for_the_unknown():
    source = frame()
    source.loc[3, "colour"] = None
    found = table(source, "class")
    assert float(found.x[3, 3]) == 3.0 == found.categories[3]
    model = Mlp(5, 2, categories=found.categories)
    assert bool(model(found.x).isfinite().all())


def test_splits_are_disjoint_stratified_and_repeatable():
    found = table(frame(200), "class")
    parts = found.split(0.5, 0.3, 0.2)
    assert [len(part) for part in parts] == [100, 60, 40]
    rows = torch.cat([part.index for part in parts])
    assert len(rows.unique()) == 200
    share = float(found.y.float().mean())
    assert all(abs(float(found.y[part.index].float().mean()) - share) < 0.03 for part in parts)
    again = found.split(0.5, 0.3, 0.2)
    assert all(torch.equal(one.index, other.index) for one, other in zip(parts, again, strict=True))
    assert not torch.equal(found.split(0.5, seed=1)[0].index, parts[0].index)
    with pytest.raises(TrainableError, match="do not divide the rows"):
        found.split(0.9, 0.3)


def test_a_view_is_rows():
    found = table(frame(), "class")
    view = found.rows([5, 9, 2, 40])
    rows = open_rows("train", view, CPU)
    assert len(rows) == 4
    assert torch.equal(rows.targets, found.y[view.index])
    (x, y), (last, _) = rows.batches(torch.tensor([3, 0, 2]), 2)
    assert torch.equal(x, found.x[[40, 5]])
    assert torch.equal(y, found.y[[40, 5]])
    assert torch.equal(last, found.x[[2]])


class Learns:
    def data(self, config, fidelity):
        return Data(*table(frame(400), "class", categories=("zip",)).split(0.7, 0.3))

    def model(self, config, data):
        source = data.train.table
        return Mlp(len(source.columns), 2, width=32, categories=source.categories, moments=data.train.moments)


def test_a_network_learns_from_a_table():
    reports = list(resolve(Learns())({"lr": 1e-2, "batch_size": 32}, Session(Fidelity(8))))
    assert reports[-1].metrics["val/accuracy"] > 0.9


def test_another_process_shares_the_pages(tmp_path):
    """What a second process has for itself of a mapped table is little, however large the table."""
    path = tmp_path / "big.parquet"
    rows = 200_000
    columns = {f"c{n}": np.random.default_rng(n).random(rows, dtype=np.float32) for n in range(20)}
    pyarrow.parquet.write_table(pa.table({**columns, "y": np.arange(rows) % 3}), path)
    held = table(path, "y")  # a page that one process alone maps would count as its own
    assert float(held.x.sum()) > 0
    size = held.x.nbytes
    code = f"""
import os
from trainables.data.tables import table

def private():
    lines = [line.split() for line in open("/proc/self/smaps_rollup") if line.startswith("Private_")]
    return sum(int(size) for _, size, _ in lines) * 1024

before = private()
found = table({str(path)!r}, "y")
assert float(found.x.sum()) > 0  # every page was read
print(private() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < size / 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(size=f["size"].where(f.index != 7)), r"column 'size' is nan in row 7 \(from 0\)\. Fill in"),
        (lambda f: f.assign(size=np.where(f.index == 2, math.inf, 1.0)), r"column 'size' is inf in row 2"),
        (lambda f: f.assign(**{"class": f["class"].where(f.index != 4)}), r"target 'class' is missing in row 4"),
        (lambda f: f.drop(columns="class"), r"has no column 'class', only size, count"),
        (lambda f: f.iloc[:0], "has no rows"),
    ],
)
def test_what_cannot_be_trained_on_is_named(change, message):
    with pytest.raises(TrainableError, match=message):
        table(change(frame()), "class")


def test_files_that_cannot_be_read_are_named(tmp_path):
    whole = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pandas(frame()), whole)
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "a.xlsx").write_bytes(b"")
    for name, message in (
        ("cut.parquet", r"cut\.parquet cannot be read as \.parquet: .*Is it whole\?"),
        ("a.xlsx", r"a\.xlsx is none of \.parquet, \.csv"),
        ("none.csv", r"none\.csv cannot be read: No such file"),
    ):
        with pytest.raises(TrainableError, match=message):
            table(tmp_path / name, "class")
    with pytest.raises(TrainableError, match="a int is no table"):
        table(3, "class")


def test_moments_are_those_of_the_rows_of_a_view_and_leave_codes_alone():
    found = table(frame(), "class", categories=("zip",))
    view = found.rows(range(10, 40))
    numbers = [column for column in range(5) if column not in found.categories]
    mean, spread = view.moments
    seen = found.x[10:40][:, numbers].double()
    assert torch.allclose(mean[numbers].double(), seen.mean(0), rtol=1e-6)
    assert torch.allclose(spread[numbers].double(), seen.std(0, correction=0), rtol=1e-5)
    assert [(mean[c].item(), spread[c].item()) for c in found.categories] == [(0.0, 1.0)] * 2


def test_a_column_that_does_not_vary_stays_finite():
    found = table(pd.DataFrame({"a": [1.0, 2.0], "same": [7.0, 7.0], "t": ["x", "y"]}), "t")
    out = Mlp(2, 2, moments=found.rows([0, 1]).moments).eval()(found.x)
    assert bool(out.isfinite().all())


def test_a_network_with_moments_sees_columns_of_any_scale_alike():
    torch.manual_seed(0)
    found = table(pd.DataFrame({"a": [0.0, 1.0, 4.0], "b": [3.0, 1.0, 2.0], "t": ["x", "y", "x"]}), "t")
    scaled = table(pd.DataFrame({"a": [0.0, 1e6, 4e6], "b": [-3.0, -5.0, -4.0], "t": ["x", "y", "x"]}), "t")
    states = [Mlp(2, 2, moments=one.rows(range(3)).moments).eval() for one in (found, scaled)]
    weights = {k: v for k, v in states[0].state_dict().items() if not k.startswith("scale.")}
    states[1].load_state_dict(weights, strict=False)
    assert torch.allclose(states[0](found.x), states[1](scaled.x), atol=1e-5)


def test_a_folder_of_files_of_one_schema_is_one_table(tmp_path):
    whole = frame(60)
    (tmp_path / "parts").mkdir()
    whole[:25].to_csv(tmp_path / "parts" / "a.csv", index=False)
    pyarrow.parquet.write_table(
        pa.Table.from_pandas(whole[25:], preserve_index=False), tmp_path / "parts" / "b.parquet"
    )
    (tmp_path / "parts" / "notes.txt").write_text("no data")
    found, expected = table(tmp_path / "parts", "class"), table(whole, "class")
    assert torch.allclose(found.x, expected.x)
    assert torch.equal(found.y, expected.y)
    assert found.values == expected.values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.assign(count=f["count"] + 0.5),
            r"column 'count' is whole numbers in .*a\.csv and numbers in .*b\.csv",
        ),
        (lambda f: f.drop(columns="size"), r"column 'size' is numbers in .*a\.csv and not there in .*b\.csv"),
        (
            lambda f: f.assign(extra=1),
            r"column 'extra' is not there in .*a\.csv and whole numbers in .*b\.csv",
        ),
    ],
)
def test_files_of_mixed_schemas_are_named(tmp_path, change, message):
    frame().to_csv(tmp_path / "a.csv", index=False)
    change(frame()).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(TrainableError, match=message):
        table(tmp_path, "class")
    (tmp_path / "none").mkdir()
    with pytest.raises(TrainableError, match=r"none holds no file of \.parquet"):
        table(tmp_path / "none", "class")


def test_a_file_that_did_not_change_is_not_read_again(tmp_path, cache):
    path = tmp_path / "a.csv"
    frame().to_csv(path, index=False)
    first = table(path, "class")
    (known,) = cache.glob("*.digest")
    known.write_text("another")  # what only reading the file would tell
    table(path, "class")
    assert len(list(cache.glob("*.arrow"))) == 2, "the digest was taken as it is known"
    os.utime(path)
    assert torch.equal(table(path, "class").x, first.x)
    assert len(list(cache.glob("*.arrow"))) == 2, "read again, and found converted"


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (pa.table({"a": [1.0, 2.0], "y": [0.5, math.nan]}), {}, r"target 'y' is nan in row 1 \(from 0\)"),
        (pa.table({"a": [1.0, 2.0], "y": [1e300, 1.0]}), {}, r"target 'y' is inf in row 0"),
        (pa.table([[1.0], [2.0], [0]], names=["a", "a", "y"]), {}, r"several columns called a\. Rename"),
        (pa.table({"y": [0, 1]}), {}, r"no column besides the target 'y'"),
        (pa.table({"a": [1.0], "y": ["x"]}), {"regression": True}, r"target 'y' is string, no number"),
    ],
)
def test_targets_and_columns_that_cannot_be_are_named(source, arguments, message):
    with pytest.raises(TrainableError, match=message):
        table(source, "y", **arguments)


def test_whole_numbers_are_classes_unless_a_number_is_asked_for():
    prices = pa.table({"a": [1.0, 2.0, 3.0], "y": [300, 100, 300]})
    assert table(prices, "y").classes == ["100", "300"]
    found = table(prices, "y", regression=True)
    assert (found.classes, found.y.tolist()) == (None, [300.0, 100.0, 300.0])
    decimals = prices.set_column(1, "y", prices["y"].cast(pa.decimal128(25, 2)))
    assert table(decimals, "y").y.tolist() == [300.0, 100.0, 300.0]


def test_a_mask_chooses_rows():
    found = table(frame(), "class")
    assert torch.equal(found.rows(found.y == 1).index, (found.y == 1).nonzero().flatten())


def test_a_torn_conversion_is_made_again(cache):
    first = table(frame(), "class")
    (file,) = cache.glob("*.arrow")
    file.unlink()  # a map of it is held
    file.write_bytes(b"torn")
    assert torch.equal(table(frame(), "class").x, first.x)


def test_a_cache_that_cannot_be_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(TrainableError, match=r"file, for converted files, cannot be made: .*Set TUNEWRIGHT_CACHE"):
        table(frame(), "class")


class Apart:
    """Splits of two tables whose codes mean other things."""

    def data(self, config, fidelity):
        one, other = frame(), frame().assign(colour="red")
        return Data(*(table(source, "class").rows(range(60)) for source in (one, other)))

    def model(self, config, data):
        return Mlp(5, 2)


def test_splits_of_tables_with_other_codes_are_refused():
    with pytest.raises(TrainableError, match=r"data\.val is of a table whose classes or categories have other codes"):
        next(iter(resolve(Apart())({}, Session(Fidelity(1)))))


def test_the_file_of_a_folder_that_lacks_a_number_is_named(tmp_path):
    frame().to_csv(tmp_path / "a.csv", index=False)
    later = frame()
    later.assign(size=later["size"].where(later.index != 3)).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(TrainableError, match=r"column 'size' is nan in row 3 of .*b\.csv \(from 0\)"):
        table(tmp_path, "class")


def test_a_marker_for_what_is_missing_is_no_category():
    texts = frame().assign(size=lambda f: f["size"].astype(str).where(f.index != 5, "?"))
    with pytest.raises(
        TrainableError, match=r"column 'size' is of numbers, but '\?' in row 5 .*categories=\('size',\)"
    ):
        table(texts, "class")
    assert "?" in table(texts, "class", categories=("size",)).values["size"]


def test_one_of_many_that_want_a_file_makes_it(tmp_path):
    made = []

    def slow():
        made.append(1)
        time.sleep(0.3)
        return packed(np.zeros((4, 2), np.float32), pa.array([0, 1, 0, 1]), {})

    (tmp_path / "a.4711.tmp").write_bytes(b"of a process that was killed")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: converted(tmp_path, "a", slow), range(4)))
    assert made == [1]
    assert all(len(one) == 4 for one in found)
    assert not list(tmp_path.glob("*.tmp"))
