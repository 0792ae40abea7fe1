"""The journal: everything that happens in a sweep, one JSON line each, appended by the driver, its only writer.

MLflow, the live view, the report and diagnosis read it; none reads another. A line is `{kind, at, …}`, `at` in unix
seconds, and is never changed once written. Kinds and what they carry besides:

    sweep      name, spec, generation, git, versions, hardware, began       a driver starts, or goes on
    plan       phases, seconds_per_epoch, basis, total_s, footprint         what is expected, before and after measuring
    phase      phase, phase_kind, space, changes, comparison, trials        a phase begins with this space, and why
    trial      phase, trial, attempt, role, config, fidelity                a trial begins (again, with attempt > 1)
    report     trial, attempt, epoch, metrics, checkpoint, seconds, slot    an epoch ended
    decision   trial, epoch, rung, value, cutoff, decision                  a scheduler judged a trial at a rung
    failure    trial, attempt, failure_kind, error, message, traceback, seconds, log       an attempt did not end well
    finding    finding, severity, message                                   something a person should know
    test       phase, arms                                                  the test split is about to be read
    verdict    verdict, winner, arms, comparison, test, test_reads          what the confirm phase showed
    end        trial, status, reason, seconds, whole                        a trial ended
    end        (phase, seconds | time), status, reason                      a phase or the sweep ended

`seconds` is the work in a slot: a report's own; a failure's or an end's is what no report counts. A verdict's
differences are positive where the candidate is better, in both modes. Non-finite metric values are the strings "nan",
"inf", "-inf", so that every line is strict JSON.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sweeps.errors import JournalError, StorageError

Line = dict[str, Any]
SYNCED = frozenset({"sweep", "plan", "phase", "decision", "failure", "test", "verdict", "end"})
"""Kinds that are on disk before the driver goes on; reports and trials follow with the next of them."""


def storage_folder(storage: str) -> Path:
    """The folder that holds sweeps, absolute. Raises StorageError when it cannot be one."""
    if "://" in storage and not storage.startswith("file://"):
        scheme = storage.split("://")[0]
        raise StorageError(
            f"storage: {scheme}:// is not supported by this version. Give a folder that all nodes mount."
        )
    path = Path(storage.removeprefix("file://")).expanduser().absolute()
    if strange := sorted(set(str(path)) & set("%?#")):
        mend = "Choose a path without it: MLflow's URIs read it as something else."
        raise StorageError(f"storage: {path} holds {strange[0]!r}. {mend}")
    if path.exists() and not path.is_dir():
        raise StorageError(f"storage: {path} is a file. Give a folder.")
    return path


def new_sweep_folder(storage: Path, name: str) -> Path:
    """Make the folder of a new sweep, `<name>-<date>-<time>`, never one that is there. Raises StorageError."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        folder = storage / f"{stem}{suffix}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(
                f"storage: cannot make {folder}: {error.strerror}. Check the path and its permissions."
            ) from None
    raise StorageError(f"storage: {storage} already holds a hundred sweeps called {stem}. Wait a second.")


def find_sweep(path: str | Path, storage: str = "./runs") -> Path:
    """The folder of a sweep given by path, or by name under `storage`. Raises StorageError when there is none."""
    for folder in (Path(path).expanduser(), storage_folder(storage) / path):
        if (folder / "journal").is_dir():
            return folder.absolute()
    raise StorageError(f"there is no sweep at {path}, nor under {storage}. Give the folder that `sweeps run` printed.")


class Journal:
    """The driver's pen. Claims the next generation of the sweep's journal by creating its file.

    A lock keeps a second driver of the machine out. Where a file system has no locks that hold between machines, the
    newer driver has the higher generation, and the older one stops before its next line.
    """

    def __init__(self, folder: Path) -> None:
        """Raises StorageError when a driver is at work on the sweep, JournalError when it cannot be written."""
        directory = folder / "journal"
        try:
            directory.mkdir(exist_ok=True)
            self._lock = lock(folder / "driver.lock")
            self.generation = 1 + max((int(p.name.split("-")[0]) for p in directory.glob("*.jsonl")), default=0)
            self.path, self._next = (directory / f"{self.generation + n:04d}-0000.jsonl" for n in (0, 1))
            self._file = open(self.path, "xb")  # noqa: SIM115  (open for the driver's life)
        except OSError as error:
            raise JournalError(f"journal: cannot write in {directory}: {error.strerror}") from error

    def append(self, kind: str, **fields: Any) -> Line:
        """Write one line and return it. Raises JournalError when the storage refuses it, or another driver has it."""
        if self._next.exists():
            raise JournalError(f"journal: another driver has taken {self.path.parent.parent} over. This one stops.")
        line: Line = {"kind": kind, "at": time.time(), **fields}
        try:
            self._file.write(json.dumps(finite(line), allow_nan=False, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            if kind in SYNCED:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(
                f"journal: cannot write {self.path}: {error.strerror}. Free space or mend the storage."
            ) from error
        return line

    def close(self) -> None:
        """Close the file and let another driver have the sweep; the journal stays readable."""
        if not self._file.closed:
            self._file.close()
            os.close(self._lock)


def lock(path: Path) -> int:
    """Take the drivers' lock; the returned descriptor holds it until it is closed or the process ends, however.

    Raises StorageError when another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise StorageError(f"{path.parent} is at work: {who} drives it. Wait for its end, or end it first.") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return descriptor


class JournalReader:
    """Reads a journal as it grows: each `poll` gives the complete lines that are new since the last."""

    def __init__(self, folder: Path) -> None:
        self.directory = folder / "journal"
        self._offsets: dict[str, int] = {}

    def poll(self) -> list[Line]:
        """New lines in the order they were written. Raises JournalError for a damaged line that is not a file's last.

        A last line without its end is being written, or was cut by a crash: it is left for the next poll.
        """
        lines: list[Line] = []
        for path in sorted(self.directory.glob("*.jsonl")):
            offset = self._offsets.get(path.name, 0)
            if path.stat().st_size <= offset:
                continue
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read()
            end = data.rfind(b"\n") + 1
            for number, raw in enumerate(data[:end].splitlines(), 1):
                try:
                    lines.append(json.loads(raw))
                except ValueError as error:
                    raise JournalError(
                        f"journal: {path}, line {number} after byte {offset} is damaged: {error}"
                    ) from error
            self._offsets[path.name] = offset + end
        return lines


def read(folder: Path) -> list[Line]:
    """All complete lines of a sweep's journal."""
    return JournalReader(folder).poll()


def read_header(folder: Path) -> Line | None:
    """The journal's first line, its `sweep` line, without reading the rest; None when there is none yet."""
    for path in sorted((folder / "journal").glob("*.jsonl"))[:1]:
        with open(path, "rb") as file:
            raw = file.readline()
        try:
            return dict(json.loads(raw)) if raw.endswith(b"\n") else None
        except ValueError as error:
            raise JournalError(f"journal: the first line of {path} is damaged: {error}") from error
    return None


def finite(value: Any) -> Any:
    """The value with non-finite floats as strings, so that it is strict JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value
