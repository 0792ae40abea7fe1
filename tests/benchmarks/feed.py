"""How fast a table reaches the training, and what memory each further process pays for it.

A Parquet file of 200,000 rows and 64 columns is converted by `table` and read through `open_rows` in batches of 128,
in a drawn order, against torch's DataLoader over the same rows as a map-style Dataset: in the training's own process,
and with a worker for each core. Ratios are medians over rounds in which each reads one epoch.

The first batch is timed from `table` on the converted file, its digest included, as a slot meets it when it begins
another trial on the same data.

Memory is what a process has to itself (clean and dirty private pages, from /proc: Linux only) after it has read an
epoch, beyond what a process of the same imports has that read nothing. A page that one process alone maps counts as
its own, and one not yet written back as dirty: so the file is synced, and this process and all readers hold it until
the last has been asked.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import report
from trainables.contract import Batch
from trainables.data.rows import Rows, drawn, open_rows
from trainables.data.tables import table

ROWS, COLUMNS, BATCH = 200_000, 64, 128
ROUNDS, FIRST_BATCHES, READERS = 5, 21, 3
CPU = torch.device("cpu")


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """The rows, one at a time."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


def made(folder: Path) -> Path:
    """A table of numbers and classes."""
    numbers = np.random.default_rng(0)
    columns = {f"c{number}": numbers.normal(size=ROWS).astype(np.float32) for number in range(COLUMNS)}
    path = folder / "table.parquet"
    pa.parquet.write_table(pa.table({**columns, "y": numbers.integers(0, 10, ROWS)}), path)
    return path


def opened(path: Path) -> Rows:
    """All rows of the table; converted when it is asked for the first time."""
    found = table(path, target="y", cache=path.parent)
    return open_rows("train", found.rows(torch.arange(len(found))), CPU)


def seconds_of(batches: Iterator[Batch]) -> float:
    """Seconds to read an epoch."""
    began = time.perf_counter()
    rows = sum(len(batch[1]) for batch in batches)
    seconds = time.perf_counter() - began
    if rows != ROWS:
        raise RuntimeError(f"an epoch had {rows} rows, not {ROWS}")
    return seconds


def epochs(path: Path) -> dict[str, list[float]]:
    """Way -> seconds of an epoch in each round."""
    rows, (x, y) = opened(path), next(opened(path).batches(torch.arange(ROWS), ROWS))  # these copied into memory
    samples, workers = Samples(x, y), len(os.sched_getaffinity(0))
    found: dict[str, list[float]] = {}
    for number in range(ROUNDS + 1):
        taken = {
            "the platform": seconds_of(rows.batches(drawn(ROWS, 0, number), BATCH)),
            "a DataLoader": seconds_of(iter(DataLoader(samples, BATCH, shuffle=True))),
            "a DataLoader with workers": seconds_of(
                iter(DataLoader(samples, BATCH, shuffle=True, num_workers=workers))
            ),
        }
        for way, seconds in taken.items() if number else ():  # the first warms up
            found.setdefault(way, []).append(seconds)
    return found


def first_batch_ms(path: Path) -> float:
    """Milliseconds from `table` to a batch in hand."""
    order = drawn(ROWS, 0, 1)
    began = time.perf_counter()
    next(opened(path).batches(order, BATCH))
    return (time.perf_counter() - began) * 1e3


def reader(path: Path | None, pipe: Connection) -> None:
    """A further process: reads an epoch, or nothing, says what memory it has to itself, and waits to be released."""
    rows = None if path is None else opened(path)
    if rows is not None:
        seconds_of(rows.batches(drawn(ROWS, 0, 1), BATCH))
    pipe.send("ready")
    pipe.recv()
    pipe.send(own_bytes())
    pipe.recv()


def own_bytes() -> int:
    """Memory that would be free if this process ended."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    sizes = [int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:"))]
    return sum(sizes) * 1024


def further_bytes(path: Path) -> int:
    """What the most expensive further process has to itself beyond one that read nothing."""
    here = opened(path)
    seconds_of(here.batches(drawn(ROWS, 0, 1), BATCH))
    context = multiprocessing.get_context("spawn")
    held = []
    for given in (None, *[path] * READERS):
        ours, theirs = context.Pipe()
        process = context.Process(target=reader, args=(given, theirs))
        process.start()
        held.append((process, ours))
    for _, pipe in held:
        pipe.recv()
    sizes = []
    for _, pipe in held:
        pipe.send("measure")
        sizes.append(pipe.recv())
    for process, pipe in held:
        pipe.send("end")
        process.join()
    idle, *readers = sizes
    return max(readers) - idle


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        source = made(Path(folder))
        began = time.perf_counter()
        opened(source)
        conversion = time.perf_counter() - began
        for converted in Path(folder).glob("*.arrow"):
            with open(converted, "rb") as file:
                os.fsync(file.fileno())
        further = further_bytes(source)
        first = statistics.median(first_batch_ms(source) for _ in range(FIRST_BATCHES))
        taken = epochs(source)
    ours, *others = taken
    report(
        "feed",
        [
            *(
                (
                    f"against {way}",
                    statistics.median(theirs / own for own, theirs in zip(taken[ours], taken[way], strict=True)),
                    "x",
                )
                for way in others
            ),
            *((way, ROWS / statistics.median(found), "rows/s") for way, found in taken.items()),
            ("first batch", first, "ms"),
            ("conversion, once a node", conversion, "s"),
            ("memory of each further process", further / 2**20, "MB"),
        ],
    )
