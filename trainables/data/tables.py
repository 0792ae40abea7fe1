"""Tables as rows that all slots of a node share: converted once into an Arrow file, and mapped into memory.

    found = table("houses.parquet", target="price")
    return Data(*found.split(0.8, 0.2), …)

Place in the flow: a trainable's `data` calls `table` and gives views of it as splits; `open_rows` reads batches from
the map. A page of the file is in memory once, however many trials read it, where a copy in each slot's process would be
there as often as there are slots.

Numbers become float32, texts and categories the codes of their values in sorted order, in a column of floats that
`models.mlp.Mlp` embeds. The target becomes int64 classes, or float32 for a number. The file lies in the node's cache
under the digest of what it was made from, so a changed source is converted anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import torch
from torch import Tensor

from trainables.contract import Batch, TrainableError

FORMAT = 1
"""Of the converted files: part of their digest."""
MOMENT_ROWS = 65536
"""So many rows at a time are summed up."""


@dataclass(frozen=True)
class Table:
    """A converted table, mapped into memory: read it, never write into it."""

    x: Tensor
    """Features, float32 of shape (rows, columns)."""
    y: Tensor
    """The target of each row: int64 classes or float32."""
    columns: list[str]
    """Names of the features, in order."""
    categories: dict[int, int]
    """Column -> number of its categories, for those that hold codes; as `Mlp` takes it."""
    values: dict[str, list[str]]
    """Column of categories -> what its codes mean."""
    classes: list[str] | None
    """What the classes of the target mean; None for a number."""

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, index: Tensor | Any) -> View:
        """Some of the rows as a split of `Data`, by their numbers."""
        return View(self, torch.as_tensor(index, dtype=torch.int64))

    def split(self, *shares: float, seed: int = 0) -> list[View]:
        """Splits of these shares of the rows, drawn from the seed, stratified by class where there are any.

        Raises TrainableError for shares that make more than the whole.
        """
        if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
            raise TrainableError(
                f"table: shares {shares} do not divide the rows. Give shares above 0, of sum 1 at most"
            )
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        if self.classes is not None:  # each class spread evenly over the order
            by_class = self.y[order].argsort(stable=True)
            _, counts = self.y.unique(return_counts=True)
            place = torch.cat([(torch.arange(count) + 0.5) / count for count in counts.tolist()])
            order = order[by_class[place.argsort(stable=True)]]
        ends = [round(sum(shares[: n + 1]) * len(self)) for n in range(len(shares))]
        return [self.rows(order[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class View:
    """Some rows of a table, by their numbers: a split of `Data`."""

    table: Table
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each column over these rows, as `Mlp` takes them; 0 and 1 for codes.

        Of the training rows only: what validation looks like is not for the network to know.
        """
        # In parts: a copy of all rows would be this process's own, where the map is shared.
        parts = [self.table.x.index_select(0, rows).double() for rows in self.index.split(MOMENT_ROWS)]
        mean = torch.stack([part.sum(0) for part in parts]).sum(0) / len(self)
        spread = (torch.stack([(part - mean).square().sum(0) for part in parts]).sum(0) / len(self)).sqrt()
        codes = list(self.table.categories)
        mean[codes], spread[codes] = 0.0, 1.0
        return mean.float(), spread.where(spread > 0, 1.0).float()


class ViewRows:
    """The rows of a view; see `rows.Rows`."""

    def __init__(self, view: View, device: torch.device) -> None:
        self._x, self._y, self._index, self._device = view.table.x, view.table.y, view.index, device
        self.targets: Tensor | None = view.table.y[view.index]

    def __len__(self) -> int:
        return len(self._index)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        for rows in self._index[order].split(batch_size):
            yield self._x.index_select(0, rows).to(self._device), self._y.index_select(0, rows).to(self._device)


def table(source: Any, target: str, categories: tuple[str, ...] = (), cache: str | Path | None = None) -> Table:
    """The table at a path (.parquet, .csv, .arrow, .feather) or in an Arrow table or pandas DataFrame.

    `categories` names columns of numbers that are codes. Raises TrainableError, with column, file and row, for what
    cannot be read or trained on.
    """
    usual = Path(tempfile.gettempdir()) / f"tunewright-{os.getuid()}"
    place = Path(cache or os.environ.get("TUNEWRIGHT_CACHE") or usual)
    place.mkdir(parents=True, exist_ok=True)
    path = Path(source) if isinstance(source, str | Path) else None
    given = in_memory(source) if path is None else None
    name = digest(path, given, target, categories)
    file = place / f"{name}.arrow"
    with open(place / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one slot converts, the others wait for it
        if not file.exists():
            read = given if path is None else read_file(path)
            write(convert(read, target, categories, str(path or "table")), file)
    return mapped(file)


def digest(path: Path | None, given: Any, target: str, categories: tuple[str, ...]) -> str:
    """What a conversion depends on, in short."""
    found = hashlib.sha256(json.dumps([FORMAT, target, sorted(categories), path and path.suffix]).encode())
    if path is not None:
        try:
            with open(path, "rb") as file:
                while chunk := file.read(2**20):
                    found.update(chunk)
        except OSError as error:
            raise TrainableError(f"data: {path} cannot be read: {error.strerror}. Check the path") from None
    else:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, given.schema) as stream:
            stream.write_table(given)
        found.update(sink.getvalue())
    return found.hexdigest()[:32]


def in_memory(source: Any) -> pa.Table:
    """An Arrow table of what is in memory already."""
    if isinstance(source, pa.Table):
        return source
    try:
        return pa.Table.from_pandas(source, preserve_index=False)
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise TrainableError(
            f"data: a {type(source).__name__} is no table ({error}). Give a path, an Arrow table or a DataFrame"
        ) from None


def read_file(path: Path) -> pa.Table:
    """The table in a file, by the ending of its name."""
    readers = {
        ".parquet": pyarrow.parquet.read_table, ".csv": pyarrow.csv.read_csv,
        ".arrow": lambda p: pa.ipc.open_file(p).read_all(), ".feather": lambda p: pa.ipc.open_file(p).read_all(),
    }  # fmt: skip
    if path.suffix not in readers:
        raise TrainableError(f"data: {path} is none of {', '.join(readers)}. Convert it to one of them")
    try:
        return readers[path.suffix](str(path))
    except (pa.ArrowException, OSError) as error:
        why = str(error).splitlines()[0]
        raise TrainableError(f"data: {path} cannot be read as {path.suffix}: {why}. Is it whole?") from None


def convert(read: pa.Table, target: str, categories: tuple[str, ...], where: str) -> pa.Table:
    """Features and target as they are mapped: `x`, a list of floats a row, and `y`; what codes mean in the metadata."""
    for name in (target, *categories):
        if name not in read.column_names:
            raise TrainableError(f"data: {where} has no column {name!r}, only {', '.join(read.column_names)}")
    if not len(read):
        raise TrainableError(f"data: {where} has no rows")
    columns = [name for name in read.column_names if name != target]
    features, values = [], {}
    for name in columns:
        column = read[name].combine_chunks()
        numbers = is_number(column.type) and name not in categories
        if numbers:
            floats = column.cast(pa.float32(), safe=False)
        else:
            floats, values[name] = coded(column, name, where)
        found = floats.to_numpy(zero_copy_only=False).astype(np.float32)
        if numbers and not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found))[0])
            raise TrainableError(
                f"data: {where}: column {name!r} is {found[row]} in row {row} (from 0). Fill in or drop what is missing"
            )
        features.append(found)
    x = np.stack(features, axis=1) if features else np.zeros((len(read), 0), np.float32)
    goal = read[target].combine_chunks()
    if goal.null_count:
        row = pc.index(pc.is_null(goal), True).as_py()
        raise TrainableError(f"data: {where}: the target {target!r} is missing in row {row} (from 0). Drop such rows")
    classes: list[str] | None = None
    if pa.types.is_floating(goal.type):
        y = goal.cast(pa.float32())
    else:
        codes, classes = coded(goal, target, where)
        y = codes.cast(pa.int64())
    meaning = {"columns": columns, "values": values, "classes": classes}
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), max(1, len(columns)))
    return pa.table({"x": lists, "y": y}).replace_schema_metadata({"meaning": json.dumps(meaning)})


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type is one of numbers."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def coded(column: pa.Array, name: str, where: str) -> tuple[pa.Array, list[str]]:
    """The codes of a column's values in their sorted order, as floats or, of a missing one, null; and the values."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        known = pc.array_sort_indices(pc.unique(column.drop_null()))
        ordered = pc.unique(column.drop_null()).take(known)
        codes = pc.index_in(column, ordered)
    except pa.ArrowException as error:
        raise TrainableError(f"data: {where}: column {name!r} of {column.type} has no categories: {error}") from None
    # A value that is missing is one more category, which the embedding has for what it does not know.
    filled = pc.fill_null(codes, len(ordered))
    return filled.cast(pa.float32()), [str(value) for value in ordered.to_pylist()]


def write(converted: pa.Table, file: Path) -> None:
    """Write the file whole or not at all."""
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")
    with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, converted.schema) as writer:
        writer.write_table(converted, max_chunksize=max(1, len(converted)))
    unfinished.replace(file)


def mapped(file: Path) -> Table:
    """The table in a converted file, its pages shared with every process that maps it."""
    found = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    meaning = json.loads(found.schema.metadata[b"meaning"])
    lists, y = found["x"].chunk(0), found["y"].chunk(0)
    x = torch.from_dlpack(lists.values).reshape(len(y), -1)
    categories = {meaning["columns"].index(name): len(values) for name, values in meaning["values"].items()}
    return Table(
        x[:, : len(meaning["columns"])], torch.from_dlpack(y), meaning["columns"], categories, meaning["values"],
        meaning["classes"],
    )  # fmt: skip
