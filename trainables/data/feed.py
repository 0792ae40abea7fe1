"""Batches on their way to the device, one ahead of the training.

Place in the flow: whatever reads batches on the host (`mapped`, `rows`) sends them through `ahead`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from trainables.contract import Batch


def ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on the device. For a GPU each is copied from pinned memory on a stream of its own while the one
    before it is computed on, so that the copy costs no time; on the CPU nothing is copied."""
    if device.type != "cuda":
        for x, y in batches:
            yield x.to(device), y.to(device)
        return
    stream = torch.cuda.Stream(device)
    pending: tuple[Batch, torch.cuda.Event] | None = None
    for x, y in batches:
        with torch.cuda.stream(stream):
            copied = sent(x, device), sent(y, device)
        following = copied, stream.record_event()
        if pending is not None:
            yield arrived(*pending)
        pending = following
    if pending is not None:
        yield arrived(*pending)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on its way to the device; one of a user's Dataset may be there already."""
    return tensor.pin_memory().to(device, non_blocking=True) if tensor.device.type == "cpu" else tensor.to(device)


def arrived(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """A batch that the computing stream may use: it waits there for the copy, and keeps the memory until it is done."""
    computing = torch.cuda.current_stream(batch[0].device)
    computing.wait_event(copied)
    for tensor in batch:
        tensor.record_stream(computing)
    return batch
