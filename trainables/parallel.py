"""Several processes as one training, with the same numbers as one process.

Place in the flow: whoever starts the processes (a slot of several workers, a test) makes the process group, of gloo or
NCCL, and says how models are spread over it; `training`, `loop` and `evaluation` ask here, and without a group there is
one rank and nothing is sent.

`ddp`: each rank has the whole model, and gradients are averaged. `fsdp`: each has a share of every parameter, gradient
and optimizer state, and a block of the model is whole on a rank only while it computes (torch's FSDP2, `fully_shard`).

The batch size of a config is the global one. Rank r takes the rows r, r + world_size, … of each batch; its mean loss is
weighted by its share of the rows, so that the mean over ranks, which DDP makes of the gradients, is the batch's. Sums
of an evaluation are added over ranks. What stays different from one process: BatchNorm normalises by each rank's rows
(its running statistics are rank 0's), and random layers draw from a generator of each rank.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainables.contract import TrainableError

KINDS = ("ddp", "fsdp")
_alone = False
_sharded = False


def spread(kind: str) -> None:
    """Say how models are spread over the ranks from now on: one of KINDS. All ranks say the same."""
    global _sharded
    _sharded = kind == "fsdp"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Have this process train by itself meanwhile, though it is one of a group.

    A model that is sharded stays so, and all ranks then do the same at the same time: see `agreed`.
    """
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


def of_first(condition: bool) -> bool:
    """What rank 0 says, of whatever ranks must do together and each would see by its own clock."""
    return _said_by_first(condition) if world_size() > 1 else condition


def agreed(condition: bool) -> bool:
    """What rank 0 says, where ranks that share a sharded model must go on or stop together."""
    return _said_by_first(condition) if shards() else condition


def _said_by_first(condition: bool) -> bool:
    said = [condition]
    dist.broadcast_object_list(said, src=0)
    return said[0]


def shards() -> bool:
    """Whether models are spread over several ranks, each of which has a part."""
    return _sharded and dist.is_initialized() and dist.get_world_size() > 1


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device; where it is to be sharded it waits on the host, for it may be too large for one."""
    return model if shards() else model.to(device)


def network(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as training calls it: itself, or with its gradients averaged over ranks (DDP), or sharded in place."""
    if shards():
        return sharded(model, device)
    return model if world_size() == 1 else replicated(model, device)


def replicated(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with its gradients averaged over all ranks, each of which has it whole."""
    devices = [device] if device.type == "cuda" else None
    # The gradients lie in the buckets that are sent: else they are there twice.
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)


def sharded(model: nn.Module, device: torch.device) -> nn.Module:
    """The same model with its parameters sharded over all ranks, block by block.

    Its parameters are others from then on: an optimizer is built after.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    shardable(model)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    # Also what is in no block is to be given up after each forward pass: an evaluation has no backward pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    return model.to(device)  # buffers of no block's


def shardable(model: nn.Module) -> None:
    """Make parameters contiguous. Raises TrainableError for those that FSDP2 cannot share, by name."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.contiguous()
        if not parameter.ndim or not parameter.numel():
            raise TrainableError(
                f"model: fsdp cannot share the parameter {name} of shape {tuple(parameter.shape)}. Give it a shape "
                "such as (1,), or leave resources.parallelism at ddp"
            )
    kinds = {parameter.dtype: name for name, parameter in model.named_parameters()}
    if len(kinds) > 1:
        which = ", ".join(f"{name} is {dtype}" for dtype, name in kinds.items())
        raise TrainableError(f"model: fsdp shares parameters of one dtype, and {which}. Bring them to one, or use ddp")


def blocks(model: nn.Module) -> list[nn.Module]:
    """What is whole at one time: the members of the model's lists and sequences of modules, wherever these stand.

    Left to the model itself are members that share a parameter with anything else, and all that is in no list.
    """
    users = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))

    def members(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if isinstance(child, nn.Sequential | nn.ModuleList):
                yield from members(child)
            elif isinstance(module, nn.Sequential | nn.ModuleList):
                yield child
            else:
                yield from members(child)

    found = [(member, list(member.parameters())) for member in members(model)]
    return [member for member, own in found if own and all(users[id(parameter)] == 1 for parameter in own)]


def unsent(network: nn.Module, unsent: bool) -> contextlib.AbstractContextManager[None]:
    """The context of a backward pass whose gradients wait for a later one's, instead of being averaged over ranks."""
    if shards():
        network.set_requires_gradient_sync(not unsent)
    elif unsent and isinstance(network, DistributedDataParallel):
        waiting: contextlib.AbstractContextManager[None] = network.no_sync()
        return waiting
    return contextlib.nullcontext()


def in_step(model: nn.Module, x: Tensor, batches: int, most: int) -> None:
    """Call a sharded model again where this rank had fewer batches than the one with most: all gather its blocks."""
    for _ in range(most - batches if shards() else 0):
        model(x)


def same_weights(model: nn.Module, device: torch.device) -> None:
    """Give all ranks rank 0's weights and buffers, before anything is made of them."""
    if world_size() > 1 or shards():
        for tensor in (*model.parameters(), *model.buffers()):
            there = tensor.data.to(device)  # one at a time: NCCL sends from the device only
            dist.broadcast(there, src=0)
            tensor.data.copy_(there)


def same_buffers(model: nn.Module) -> None:
    """Give all ranks rank 0's buffers (running statistics), as DDP does before each forward pass of training."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
