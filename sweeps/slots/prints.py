"""Where what a trial prints goes: into its log."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def flush() -> None:
    """Flush what was printed; a stream that a trial closed is opened again."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        try:
            getattr(sys, name).flush()
        except ValueError:
            setattr(sys, name, os.fdopen(descriptor, "w", buffering=1, closefd=False))
        except OSError:  # a disk that is full: what it does not take is lost
            pass


@contextlib.contextmanager
def prints_to(path: Path) -> Iterator[None]:
    """Send everything that the process prints meanwhile, libraries and subprocesses included, to the end of a file."""
    flush()
    kept = os.dup(1), os.dup(2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:  # a storage that is full or gone: prints are not worth a trial, the next checkpoint tells
        target = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (target, *kept):
            os.close(descriptor)
