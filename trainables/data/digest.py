"""Which data set it is, in short, so that results over different ones are not taken for the same.

Place in the flow: `footprint.describe` tells it with the size of a trial; the journal's plan and MLflow have it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

from trainables.data.rows import ClassRows, DatasetRows, Rows

MOST_ROWS = 4096
"""So many rows of a split are read, evenly spread: to read all of a large one would take longer than a trial."""
AT_ONCE = 256


def digest_of(splits: Mapping[str, Rows]) -> str:
    """16 hexadecimal digits that differ when a split has another number of rows, other targets, or other inputs among
    `MOST_ROWS` of them.

    The rows of a Dataset are not read, which may take long and draw at random: its inputs do not count. Of a fidelity
    with fewer classes it is the digest of the whole.
    """
    found = hashlib.sha256()
    for name, split in splits.items():
        rows = split.whole if isinstance(split, ClassRows) else split
        found.update(f"{name} {len(rows)}".encode())
        if rows.targets is not None:
            add(found, rows.targets)
        if not isinstance(rows, DatasetRows):
            read = torch.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS), dtype=torch.float64).long()
            for x, _ in rows.batches(read, AT_ONCE):
                add(found, x)
    return found.hexdigest()[:16]


def add(found: hashlib._Hash, tensor: torch.Tensor) -> None:
    """Take up a tensor's type, shape and numbers."""
    found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
