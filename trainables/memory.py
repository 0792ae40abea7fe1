"""How much memory this process holds, held at most, and may take: of its device, or on the CPU of its host.

Place in the flow: `batch_curve` measures batches by it. On the CPU Linux tells, without any package: the peak of
resident memory (VmHWM) can be put back to what is held now, and `getrusage` then tells it from there too. Pages of
mapped files are not counted, because the kernel takes them back when it needs them. Elsewhere nothing is known.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import torch

SAFE = 0.8
"""Of a host: Ray ends a worker at 0.95 of it, the kernel at the whole."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"
REACHED = 1.05
"""A peak that was forgotten is what is held now, and little more."""
CGROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Limit and usage of the container, of version 2 and 1."""


def forget_peak(device: torch.device) -> bool:
    """Begin to measure anew; whether that can be done here. On a GPU what torch keeps for later is given back."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return True
    give_back()
    try:
        CLEAR.write_text(FORGET_PEAK)
        found = status()
        return found["VmHWM"] <= REACHED * found["VmRSS"]
    except (OSError, KeyError):
        return False


def give_back() -> None:
    """Give the host what was freed and the C library keeps for later: it would hide what is taken next."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def held(device: torch.device) -> int:
    """Bytes that this process holds now; on a GPU of what torch has reserved."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    found = status()
    return found["VmRSS"] - found.get("RssFile", 0)


def peak(device: torch.device) -> int:
    """The most that it held since the peak was forgotten."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    found = status()
    return found["VmHWM"] - found.get("RssFile", 0)


def limit(device: torch.device, share: float) -> int:
    """Bytes that this process may come to hold: of the host so safe a part of its share, and never more than is free.

    Of a GPU all that torch may reserve: what is beyond fails by itself, and can be caught.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        whole = torch.cuda.get_device_properties(device).total_memory
        asked = int(torch.cuda.get_per_process_memory_fraction(device) * whole)
        return min(asked, int(free) + int(torch.cuda.memory_reserved(device)))
    whole, free = host()
    return int(min(SAFE * whole * share, held(device) + SAFE * free))


def host() -> tuple[int, int]:
    """The memory of the host, or of the container where it has a limit, and what is free of it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = whole
    for line in lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            free = kilobytes(line)
    for names in CGROUPS:
        try:
            most, used = (int((Path("/sys/fs/cgroup") / name).read_text()) for name in names)
        except (OSError, ValueError):  # not there, or "max"
            continue
        if most < whole:
            whole, free = most, min(free, max(most - used, 0))
    return whole, free


def status() -> dict[str, int]:
    """What the kernel says of this process's memory, in bytes by name; empty where there is no such kernel."""
    found = (line for line in lines(STATUS) if line.startswith(("Vm", "Rss")))
    return {line.partition(":")[0]: kilobytes(line) for line in found}


def lines(file: Path) -> list[str]:
    """The lines of a file of the kernel's; none where there is no such file."""
    return file.read_text().splitlines() if file.exists() else []


def kilobytes(line: str) -> int:
    """The bytes of `Name:   123 kB`."""
    return int(line.split()[1]) * 1024
