"""What a trial's failure is: an exception, or a result that is not finite, as data that the driver decides on."""

from __future__ import annotations

import contextlib
import math
import operator
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeps.storage import first_words

ASIDE = ("grad/", "time/", "system/", "hp/")
"""What is reported beside results: a gradient norm may overflow in a step that is then skipped."""
NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUDA driver error: out of memory", "ALLOC_FAILED")
"""What is said where an allocation failed and torch has no exception of its own: on the host, for pinned memory and
contexts, in cuBLAS and cuDNN (CUBLAS_STATUS_ALLOC_FAILED)."""
BROKEN = ("CUDA error", "CUDA driver error", "cuDNN error")
"""What its libraries' errors begin with, which are mere RuntimeErrors."""


class StorageFailure(Exception):
    """The sweep's storage failed the trial; the trial itself did nothing wrong."""


@contextlib.contextmanager
def storage_failures() -> Iterator[None]:
    """Tell an error of the storage from one of the trial's own."""
    try:
        yield
    except OSError as error:
        raise StorageFailure(error.strerror or first_words(error)) from error


def failure(error: BaseException) -> dict[str, str]:
    """An exception as data: its kind, type, message, and the traceback without our own machinery."""
    frames = traceback.extract_tb(error.__traceback__)
    here = Path(__file__)
    machinery = (here.parent, here.parents[2] / "trainables")  # its own modules; examples under it are trainables
    own = [f for f in frames if Path(f.filename).parent not in machinery]
    return {
        "kind": kind_of(error),
        "error": type(error).__name__,
        "message": str(error) or repr(error),
        "traceback": "".join(traceback.format_list(own)),
    }


def kind_of(error: BaseException) -> str:
    """What a failure means: that of the storage is told first, since its text may be anything."""
    if isinstance(error, StorageFailure):
        return "storage"
    if lost_peer(error):
        return "lost"
    return "memory" if no_memory(error) else "error"


def lost_peer(error: BaseException) -> bool:
    """Whether a collective failed because another worker is gone; gloo has no exception of its own for that."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def no_memory(error: BaseException) -> bool:
    """Whether an allocation failed."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in NO_MEMORY)


def poisons(error: BaseException) -> bool:
    """Whether the process is of no use after an error: the device's context may be broken, its memory in pieces."""
    import torch

    of_device = isinstance(error, torch.AcceleratorError | torch.OutOfMemoryError) or str(error).startswith(BROKEN)
    return of_device and torch.cuda.is_initialized()


def checked(epoch: Any, metrics: Any) -> tuple[int, dict[str, float]]:
    """A report's epoch and metrics as plain numbers. Raises TypeError for what is none, with its name."""
    try:
        number = operator.index(epoch)
    except TypeError:
        raise TypeError(f"epoch {epoch!r} was reported. Report whole epochs, from 1") from None
    if not metrics:
        raise TypeError(f"epoch {number} was reported without metrics. Yield Report(epoch, {{name: value}})")
    found: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"epoch {number}: {name} is {value!r}. Report a number") from None
    return number, found


def non_finite(epoch: int, metrics: Mapping[str, float]) -> dict[str, str] | None:
    """The failure that a report with a result that is not finite means; None where all are."""
    bad = sorted(name for name, value in metrics.items() if not name.startswith(ASIDE) and not math.isfinite(value))
    if not bad:
        return None
    message = f"non-finite {', '.join(bad)} at epoch {epoch}"
    return {"kind": "non_finite", "error": "non-finite", "message": message, "traceback": ""}
