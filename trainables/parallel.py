"""Several processes as one training, with the same numbers as one process.

Place in the flow: whoever starts the processes (a slot of several workers, a test) makes the process group, of gloo or
NCCL; `training`, `loop` and `evaluation` ask here, and without a group there is one rank and nothing is sent.

The batch size of a config is the global one. Rank r takes the rows r, r + world_size, … of each batch; its mean loss is
weighted by its share of the rows, so that the mean over ranks, which DDP makes of the gradients, is the batch's. Sums
of an evaluation are added over ranks. What stays different from one process: BatchNorm normalises by each rank's rows
(its running statistics are rank 0's), and random layers draw from a generator of each rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_alone = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Have this process train by itself meanwhile, though it is one of a group."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def own(rows: Tensor, batch_size: int) -> tuple[Tensor, int]:
    """This rank's rows of each batch of `rows`, one after the other, and how many that is of a full batch."""
    world = world_size()
    if world == 1:
        return rows, batch_size
    mine = torch.cat([batch[rank() :: world] for batch in rows.split(batch_size)])
    return mine, len(range(rank(), batch_size, world))


def share(local: int, whole: int) -> float:
    """The weight of this rank's mean loss in the mean over ranks, for so many of a batch's rows."""
    return local * world_size() / whole


def total(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather(value: Any) -> list[Any]:
    """What each rank gave, in the order of ranks, on all of them."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def network(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as training calls it: itself, or with its gradients averaged over ranks (DDP)."""
    if world_size() == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def unsent(network: nn.Module, unsent: bool) -> contextlib.AbstractContextManager[None]:
    """The context of a backward pass whose gradients wait for a later one's, instead of being averaged over ranks."""
    if unsent and isinstance(network, DistributedDataParallel):
        waiting: contextlib.AbstractContextManager[None] = network.no_sync()
        return waiting
    return contextlib.nullcontext()


def same_buffers(model: nn.Module) -> None:
    """Give all ranks rank 0's buffers (running statistics), as DDP does before each forward pass of training."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
