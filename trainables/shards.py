"""Tensors of which each rank holds some rows, as fully sharded training makes them: in a checkpoint, and back.

Place in the flow: `parallel.network` shards a model; `state.snapshot` takes `parts` of what the ranks hold, each rank
writes its own, `state.load` makes them `joined` again, whole; `like` gives a live tensor's rank its rows of a whole
one. So a checkpoint loads into any number of workers, and wherever a whole one does.

torch.distributed.checkpoint would do the same, with pickled metadata, which is not to be loaded from storage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

SHARD = "shard of rows"
"""The only key of the dict that stands for a sharded tensor in a state; its value is one rank's rows."""


def is_sharded(tensor: Any) -> bool:
    """Whether it is a DTensor; asked of what it can do, because its module takes a second to import."""
    return hasattr(tensor, "full_tensor")


def part(tensor: Any) -> Any:
    """A copy on the CPU of a tensor, or of this rank's rows of a sharded one."""
    if is_sharded(tensor):
        return {SHARD: tensor.detach().to_local().to("cpu", copy=True)}
    return tensor.detach().to("cpu", copy=True)


def parts(value: Any) -> Iterator[Tensor]:
    """This rank's rows of all sharded tensors in a state, in order."""
    if isinstance(value, dict):
        if value.keys() == {SHARD}:
            yield value[SHARD]
        else:
            for item in value.values():
                yield from parts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)


def joined(value: Any, others: Sequence[Iterator[Tensor]]) -> Any:
    """Rank 0's state with its sharded tensors whole, by the other ranks' parts in the order of ranks."""
    if isinstance(value, dict):
        if value.keys() == {SHARD}:
            return torch.cat([value[SHARD], *(next(other) for other in others)])
        return {key: joined(item, others) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [joined(item, others) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def like(live: Any, given: Any) -> Any:
    """A whole tensor as a live one is held: this rank's rows of it where that is sharded."""
    if not is_sharded(live) or is_sharded(given) or given.shape != live.shape:
        return given
    from torch.distributed.tensor import distribute_tensor

    # Every rank has the whole, so nothing is sent.
    return distribute_tensor(given.to(live.device), live.device_mesh, live.placements, src_data_rank=None)


def rows_here(tensor: Any) -> Tensor:
    """This rank's rows of a sharded tensor, any other as it is; a change of them in place changes the tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """All rows of a sharded tensor, on every rank; all ranks take part. Any other tensor as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor
