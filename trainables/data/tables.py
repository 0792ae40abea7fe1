"""Tables as rows that all slots of a node share: converted once into an Arrow file, and mapped into memory.

    found = table("houses.parquet", target="price")
    return Data(*found.split(0.8, 0.2), …)

Place in the flow: a trainable's `data` calls `table` and gives views of it as splits (`data.mapped`).

Numbers become float32 (whole numbers above 2^24 are rounded), texts and categories the codes of their values in sorted
order, in a column of floats that `models.mlp.Mlp` embeds. The target becomes int64 classes, or float32 for a number.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from trainables.contract import TrainableError
from trainables.data import mapped
from trainables.data.faults import Fault, met


@dataclass(frozen=True)
class Origin:
    """Where the rows of a table are from, for messages."""

    name: str
    parts: list[tuple[str, int]]
    """Files, or the one table, in order, and how many rows each has."""

    def at(self, row: int) -> str:
        """Such as `row 7 of parts/a.csv (from 0)`."""
        ends = list(accumulate(rows for _, rows in self.parts))
        part = bisect_right(ends, row)
        within = row - (ends[part - 1] if part else 0)
        return f"row {within} of {self.parts[part][0]} (from 0)" if len(self.parts) > 1 else f"row {row} (from 0)"


@dataclass(frozen=True)
class Table(mapped.Mapped):
    """A converted table; `x` is float32 of shape (rows, columns)."""

    columns: list[str] = field(default_factory=list)
    """Names of the features, in order."""
    values: dict[str, list[str]] = field(default_factory=dict)
    """Column of categories -> what its codes mean."""


def table(
    source: Any,
    target: str,
    categories: tuple[str, ...] = (),
    cache: str | Path | None = None,
    regression: bool = False,
) -> Table:
    """The table in a file (.parquet, .csv, .arrow, .feather), in a folder of such files of one schema, or in an Arrow
    table or pandas DataFrame.

    `categories` names columns of numbers that are codes. A target of whole numbers, texts or booleans is one of
    classes; `regression`: whole numbers are to be predicted as numbers. Raises TrainableError, with column, file and
    row, for what cannot be read or trained on.
    """
    place = mapped.cache_at(cache)
    settings = ["table", target, sorted(categories), regression]
    if isinstance(source, str | Path):
        path = Path(source)
        files = files_of(path)
        name = mapped.digest([*settings, path.suffix], mapped.digest_of_files(files, place))
        stored = mapped.converted(place, name, lambda: convert(*read(files), target, categories, regression))
    else:
        given = in_memory(source)
        name = mapped.digest(settings, digest_of(given))
        stored = mapped.converted(
            place,
            name,
            lambda: convert(given, Origin("table", [("table", len(given))]), target, categories, regression),
        )
    x, y, meaning = mapped.unpacked(stored)
    codes = {meaning["columns"].index(column): len(values) for column, values in meaning["values"].items()}
    return Table(x, y, meaning["classes"], codes, meaning["faults"], meaning["columns"], meaning["values"])


def digest_of(given: pa.Table) -> str:
    """The digest of what a table holds."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema) as stream:
        stream.write_table(given)
    return hashlib.sha256(sink.getvalue()).hexdigest()


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


def read_ipc(path: str) -> pa.Table:
    """The table in a file of Arrow's own format."""
    return pa.ipc.open_file(path).read_all()


READERS = {
    ".parquet": pyarrow.parquet.read_table, ".csv": pyarrow.csv.read_csv,
    ".arrow": read_ipc, ".feather": read_ipc,
}  # fmt: skip


def files_of(path: Path) -> list[Path]:
    """The file itself, or those of a folder in the order of their names. Raises TrainableError for what is neither."""
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS)
        if not found:
            raise TrainableError(f"data: {path} holds no file of {', '.join(READERS)}. Check the path")
        return found
    if path.suffix.lower() not in READERS:
        raise TrainableError(f"data: {path} is none of {', '.join(READERS)}. Convert it to one of them")
    return [path]


def read(files: list[Path]) -> tuple[pa.Table, Origin]:
    """The tables in the files as one. Raises TrainableError, with the file, for one that cannot be read or differs."""
    tables = [read_file(file) for file in files]
    first = tables[0].schema.remove_metadata()
    for file, other in zip(files, tables, strict=True):
        schema = other.schema.remove_metadata()
        for name in dict.fromkeys((*first.names, *schema.names)):
            kinds = [kind(one.field(name).type) if name in one.names else "not there" for one in (first, schema)]
            if kinds[0] != kinds[1]:
                raise TrainableError(
                    f"data: column {name!r} is {kinds[0]} in {files[0]} and {kinds[1]} in {file}. Give all files "
                    "the same columns and types"
                )
    try:
        whole = pa.concat_tables([other.select(first.names) for other in tables], promote_options="permissive")
    except pa.ArrowException as error:
        raise TrainableError(f"data: {files[0].parent}: its files are not one table: {error}") from None
    origin = files[0] if len(files) == 1 else files[0].parent
    return whole, Origin(str(origin), [(str(file), len(part)) for file, part in zip(files, tables, strict=True)])


def kind(column: pa.DataType) -> str:
    """What a column holds, however wide."""
    tests = {
        "whole numbers": pa.types.is_integer, "numbers": pa.types.is_floating,
        "text": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t),
    }  # fmt: skip
    return next((name for name, test in tests.items() if test(column)), str(column))


def read_file(path: Path) -> pa.Table:
    """The table in a file, by the ending of its name."""
    try:
        return READERS[path.suffix.lower()](str(path))
    except (pa.ArrowException, OSError) as error:
        why = str(error).splitlines()[0]
        raise TrainableError(f"data: {path} cannot be read as {path.suffix}: {why}. Is it whole?") from None


def convert(
    read: pa.Table, origin: Origin, target: str, categories: tuple[str, ...], regression: bool = False
) -> pa.Table:
    """Features and target as they are mapped: `x`, a list of floats a row, and `y`; what codes mean in the metadata."""
    where = origin.name
    for name in (target, *categories):
        if name not in read.column_names:
            raise TrainableError(f"data: {where} has no column {name!r}, only {', '.join(read.column_names)}")
    if not len(read):
        raise TrainableError(f"data: {where} has no rows")
    columns = [name for name in read.column_names if name != target]
    if twice := sorted({name for name in read.column_names if read.column_names.count(name) > 1}):
        raise TrainableError(f"data: {where} has several columns called {', '.join(twice)}. Rename or drop all but one")
    if not columns:
        raise TrainableError(f"data: {where} has no column besides the target {target!r} to predict it from")
    features, values, faults = [], {}, []
    for name in columns:
        column = read[name].combine_chunks()
        marked = None if name in categories else marker(column, name, origin)
        if marked:
            faults.append(met(marked))
            column = numbers_of(column)
        elif name in categories or not is_number(column.type):
            codes, values[name] = coded(column, name, where)
            features.append(codes.to_numpy(zero_copy_only=False).astype(np.float32))
            continue
        found = column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32)
        strange = np.flatnonzero(~np.isfinite(found))
        if len(strange) and not marked:
            row = int(strange[0])
            why = f"column {name!r} is {found[row]} in {origin.at(row)}. Fill in or drop what is missing"
            faults.append(met(Fault("non_finite_inputs", f"data: {where}: {why}")))
        features.append(found)
    x = np.stack(features, axis=1) if features else np.zeros((len(read), 0), np.float32)
    goal = read[target].combine_chunks()
    if goal.null_count:
        rows = np.flatnonzero(pc.is_null(goal).to_numpy(zero_copy_only=False)).tolist()
        why = f"the target {target!r} is missing in {origin.at(rows[0])}. Drop such rows"
        faults.append(met(Fault("missing_targets", f"data: {where}: {why}", rows)))
    classes: list[str] | None = None
    if regression or pa.types.is_floating(goal.type) or pa.types.is_decimal(goal.type):
        if not is_number(goal.type):
            raise TrainableError(f"data: {where}: the target {target!r} is {goal.type}, no number to be predicted")
        y = goal.cast(pa.float32(), safe=False)
        numbers = y.to_numpy(zero_copy_only=False)
        if not goal.null_count and not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            why = f"is {numbers[row]} in {origin.at(row)}. Drop such rows, or scale what is beyond float32"
            faults.append(met(Fault("non_finite_inputs", f"data: {where}: the target {target!r} {why}")))
        y = pa.array(numbers)
    else:
        codes, classes = coded(goal, target, where)
        y = codes.cast(pa.int64())
    meaning = {"columns": columns, "values": values, "classes": classes}
    return mapped.packed(x, y, meaning, faults)


def marker(column: pa.Array, name: str, origin: Origin) -> Fault | None:
    """Of a column of texts most of which are numbers, the other one: a marker such as `?` that made it one of texts."""
    if kind(column.type) != "text":
        return None
    known = pc.unique(column.drop_null()).to_pylist()
    strange = [value for value in known if not NUMBER.fullmatch(value.strip())]
    if strange and len(strange) < len(known) / 2:
        row = pc.index(column, strange[0]).as_py()
        return Fault(
            "non_finite_inputs",
            f"data: {origin.name}: column {name!r} is of numbers, but {strange[0]!r} in {origin.at(row)}. Fill in or "
            f"drop what is missing, or give categories=({name!r},) where its values are codes",
        )
    return None


def numbers_of(column: pa.Array) -> pa.Array:
    """The numbers that texts are, null for those that are none."""
    return pa.array(
        [float(value) if value and NUMBER.fullmatch(value.strip()) else None for value in column.to_pylist()]
    )


NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


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
