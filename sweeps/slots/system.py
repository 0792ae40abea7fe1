"""What a trial takes of its machine: of its own process and its own GPU, never of its neighbours'.

Place in the flow: the worker adds it to each report, so it is journalled with the result that it belongs to, and there
is no second writer of metrics. Of several workers it is the first one's.

    system/memory_mb       resident memory of the process at the epoch's end, shared pages included
    system/cpu_cores       processors that it kept busy during the epoch, on average
    system/gpu_memory_mb   the most that it had reserved of its GPU since the slot began
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MB = 2**20


@dataclass(frozen=True)
class Since:
    """The clocks at an epoch's beginning."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Since:
        """The clocks now."""
        return cls(time.perf_counter(), time.process_time())


def system(since: Since, device: Any) -> dict[str, float]:
    """The metrics of an epoch that began then; `device` is a `torch.device`."""
    wall = time.perf_counter() - since.wall
    found = {"system/cpu_cores": (time.process_time() - since.processor) / wall if wall > 0 else 0.0}
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux
        found["system/memory_mb"] = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB
    if device is not None and device.type == "cuda":
        import torch

        found["system/gpu_memory_mb"] = torch.cuda.max_memory_reserved(device) / MB
    return found
