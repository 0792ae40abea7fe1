"""Data converted once a node into an Arrow file, and mapped into memory by every slot that reads it.

Place in the flow: `tables.table` and `images.image_folder` convert what they are given and map the result; a
trainable's `data` gives views of it as splits; `rows.open_rows` reads batches from the map. A page of the file is in
memory once, however many trials read it, where a copy in each slot's process would be there once a slot.

The file lies in the node's cache under the digest of what it was made from, so a changed source is converted anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trainables.contract import Batch, TrainableError
from trainables.data.faults import Fault
from trainables.data.feed import ahead

FORMAT = 3
"""Of the converted files: part of their digest."""
MOMENT_ROWS = 65536
"""So many rows at a time are summed up."""


@dataclass(frozen=True)
class Mapped:
    """Rows mapped into memory: read them, never write into them."""

    x: Tensor
    """Of shape (rows, …): float32, or uint8 for pixels, which batches have as floats from 0 to 1."""
    y: Tensor
    """The target of each row: int64 classes or float32."""
    classes: list[str] | None
    """What the classes of the target mean; None for a number."""
    categories: dict[int, int] = field(default_factory=dict)
    """Of a table: column -> number of its categories, for those that hold codes; as `Mlp` takes it."""
    faults: list[Fault] = field(default_factory=list)
    """Why these rows cannot be trained on; there are some only where the audit reads."""

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, index: Tensor | Any) -> View:
        """Some of the rows as a split of `Data`, by their numbers, or by a truth for each row."""
        given = torch.as_tensor(index)
        return View(self, given.nonzero().flatten() if given.dtype == torch.bool else given.long())

    def split(self, *shares: float, seed: int = 0) -> list[View]:
        """Splits of these shares of the rows, drawn from the seed, stratified by class where there are any.

        Raises TrainableError for shares that make more than the whole.
        """
        if not shares or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
            raise TrainableError(f"data: shares {shares} do not divide the rows. Give shares above 0, of sum 1 at most")
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
    """Some mapped rows, by their numbers: a split of `Data`."""

    table: Any
    """The `Mapped` that they are of."""
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
        if view.table.faults:  # kept by a trainable since the audit
            raise TrainableError(view.table.faults[0].message)
        self._x, self._y, self._index, self._device = view.table.x, view.table.y, view.index, device
        self.targets: Tensor | None = view.table.y[view.index]

    def __len__(self) -> int:
        return len(self._index)

    def batches(self, order: Tensor, batch_size: int) -> Iterator[Batch]:
        every = (self._index[some] for some in order.split(batch_size))
        read = ((self._x.index_select(0, rows), self._y.index_select(0, rows)) for rows in every)
        for x, y in ahead(read, self._device):
            yield (x.float() / 255 if x.dtype == torch.uint8 else x), y


def cache_at(given: str | Path | None) -> Path:
    """The folder of converted files: the one given, or TUNEWRIGHT_CACHE's, or one of this user's on the node."""
    usual = Path(tempfile.gettempdir()) / f"tunewright-{os.getuid()}"
    place = Path(given or os.environ.get("TUNEWRIGHT_CACHE") or usual)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{place}, for converted files, cannot be made: {error.strerror}. Set TUNEWRIGHT_CACHE to a folder"
        raise TrainableError(f"data: {why}") from None
    if not os.access(place, os.W_OK):
        raise TrainableError(f"data: {place} is for converted files, and not ours to write. Set TUNEWRIGHT_CACHE")
    return place


def digest(settings: Any, contents: str) -> str:
    """What a conversion depends on, in short: its settings, and the digest of what is converted."""
    return hashlib.sha256(json.dumps([FORMAT, settings, contents]).encode()).hexdigest()[:32]


def digest_of_files(files: Sequence[Path], cache: Path) -> str:
    """The digest of the files' contents, read only where one is new or changed by its size or time.

    Raises TrainableError for a file that cannot be read.
    """
    try:
        found_at = [(str(file.resolve()), file.stat()) for file in files]
        stats = [(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for path, s in found_at]
        known = cache / f"{hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]}.digest"
        if known.exists():
            return known.read_text()
        found = hashlib.sha256()
        for path in files:
            found.update(json.dumps([path.name, path.stat().st_size]).encode())
            with open(path, "rb") as file:
                while chunk := file.read(2**20):
                    found.update(chunk)
    except OSError as error:
        raise TrainableError(f"data: {error.filename} cannot be read: {error.strerror}. Check the path") from None
    unfinished = known.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(found.hexdigest())
    unfinished.replace(known)
    return found.hexdigest()


def converted(cache: Path, name: str, convert: Callable[[], pa.Table]) -> pa.Table:
    """The converted file of that name, mapped; made first where there is none. One process makes it, others wait.

    What has faults is given as it was made, and not kept.
    """
    file = cache / f"{name}.arrow"
    if not whole(file):
        with open(cache / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole(file):
                for left in cache.glob(f"{name}.*.tmp"):  # of a process that was killed at it
                    left.unlink()
                made = convert()
                if meaning_of(made).get("faults"):
                    return made
                write(made, file)
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def whole(file: Path) -> bool:
    """Whether a converted file is there and can be read: a disk that failed may have left a torn one."""
    try:
        pa.ipc.open_file(pa.memory_map(str(file)))
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return True


def check_alike(splits: dict[str, Any]) -> None:
    """Raises TrainableError for splits of tables in which the same code means something else."""
    views = {name: split.table for name, split in splits.items() if isinstance(split, View)}
    for name, other in views.items():
        first = next(iter(views.values()))
        meanings = [(one.classes, getattr(one, "values", {})) for one in (first, other)]
        if meanings[0] != meanings[1]:
            raise TrainableError(
                f"data.{name} is of a table whose classes or categories have other codes than {next(iter(views))}'s. "
                "Read all splits as one table, a folder of files or one column that says which, and take its rows()"
            )


def write(made: pa.Table, file: Path) -> None:
    """Write the file whole or not at all."""
    unfinished = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, made.schema) as writer:
            writer.write_table(made, max_chunksize=max(1, len(made)))
        unfinished.replace(file)
    except OSError as error:
        why = error.strerror or str(error)
        raise TrainableError(f"data: {file.parent}, for converted files: {why}. Set TUNEWRIGHT_CACHE") from None
    finally:
        unfinished.unlink(missing_ok=True)  # it is still there only when the disk was full or failed


def packed(
    x: np.ndarray[Any, Any], y: pa.Array, meaning: dict[str, Any], faults: Sequence[Fault] = (), **more: pa.Array
) -> pa.Table:
    """Rows as they are stored: `x`, a list of fixed size a row, `y`, and `more` that is known of each; shape, meaning
    and faults in the metadata."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), max(1, math.prod(x.shape[1:])))
    told = {**meaning, "shape": x.shape[1:], "faults": [asdict(fault) for fault in faults]}
    return pa.table({"x": lists, "y": y, **more}).replace_schema_metadata({"meaning": json.dumps(told)})


def meaning_of(stored: pa.Table) -> dict[str, Any]:
    """What was told of the rows when they were packed, their faults with it."""
    meaning: dict[str, Any] = json.loads(stored.schema.metadata[b"meaning"])
    return {**meaning, "faults": [Fault(**fault) for fault in meaning["faults"]]}


def unpacked(stored: pa.Table) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """What was packed, as tensors that share the map."""
    meaning = meaning_of(stored)
    lists, y = stored["x"].chunk(0), stored["y"].chunk(0)
    numbers = math.prod(meaning["shape"])  # a list of no numbers is stored as one of one
    x = torch.from_dlpack(lists.values).reshape(len(y), -1)[:, :numbers].reshape(len(y), *meaning["shape"])
    return x, torch.from_dlpack(y), meaning
