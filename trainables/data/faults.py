"""Faults in what is read: numbers that are missing, rows without a label, files that are no images.

Place in the flow: `tables` and `images` tell each fault here as they convert. Training refuses the data with the first
one's words. The audit reads them `as_they_are`, so that it can tell all faults at once and look at the rest; what is
read so is not kept for others, and `open_rows` refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from trainables.contract import TrainableError

_AS_THEY_ARE: ContextVar[bool] = ContextVar("data_as_they_are", default=False)


@dataclass(frozen=True)
class Fault:
    """Something in the source that training refuses."""

    finding: str
    """The id of the audit's finding."""
    message: str
    """What training refuses it with: what, where, and the mend."""
    rows: list[int] = field(default_factory=list)
    """Converted rows of which nothing can be said, because they have no inputs or no label."""


@contextmanager
def as_they_are() -> Iterator[None]:
    """Read data with their faults, to look at them."""
    token = _AS_THEY_ARE.set(True)
    try:
        yield
    finally:
        _AS_THEY_ARE.reset(token)


def met(fault: Fault) -> Fault:
    """The fault, where data are read as they are; else raises TrainableError with its words."""
    if not _AS_THEY_ARE.get():
        raise TrainableError(fault.message) from None
    return fault
