"""What `sweeps stop` asks of the driver: a file a request in the sweep's storage, removed as it is heeded.

The journal has one writer, the driver; whoever else wants something of a sweep leaves word here, wherever it runs.
"""

from __future__ import annotations

import contextlib
import time

from sweeps.errors import UsageError
from sweeps.history import LIVE, History
from sweeps.storage import Folder, files, opened

WHOLE = "sweep"
"""Asks for the end of the whole sweep; any other request is a trial's name."""
HEEDED_S = 30.0
"""A driver that lives has taken a request after so long."""


def stop(folder: Folder, trial: str | None = None) -> None:
    """Have the driver of a sweep stop a trial after its epoch, or the whole sweep; returns once it was told.

    Raises UsageError where there is no such trial at work, the sweep has ended, or no driver is there to be told.
    """
    history = History.open(folder)
    if history.end:
        raise UsageError(f"{folder} is not running: it is {history.status}.")
    if trial is not None and (trial not in history.trials or history.trials[trial].status not in LIVE):
        at_work = ", ".join(t.trial for t in history.trials.values() if t.status in LIVE) or "none"
        raise UsageError(f"{trial} is no trial at work in {folder}. At work: {at_work}.")
    request = trial or WHOLE
    filesystem, path = opened(folder / "requests")
    filesystem.create_dir(path)
    with filesystem.open_output_stream(f"{path}/{request}") as stream:
        stream.write(b"stop")
    deadline = time.monotonic() + HEEDED_S
    while time.monotonic() < deadline:
        if all(name != request for name, _ in files(folder / "requests")):
            return
        time.sleep(0.2)
    try:
        filesystem.delete_file(f"{path}/{request}")
    except FileNotFoundError:  # taken just now
        return
    raise UsageError(f"no driver is at work on {folder}: it has ended already. `sweeps resume` goes on with it.")


def taken(folder: Folder) -> set[str]:
    """The requests that are new; they are removed, so that a sweep that is resumed begins without."""
    found = set()
    with contextlib.suppress(OSError):  # a storage that fails is told by the next checkpoint or journal line
        filesystem, path = opened(folder / "requests")
        for name, _ in files(folder / "requests"):
            filesystem.delete_file(f"{path}/{name}")
            found.add(name)
    return found
