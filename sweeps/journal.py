"""The journal: everything that happens in a sweep, one JSON line each, appended by the driver, its only writer.

MLflow, the live view, the report and diagnosis read it; none reads another. A line is `{kind, at, …}`, `at` in unix
seconds, and is never changed once written. Kinds and what they carry besides:

    sweep      format, name, id, spec, generation, git, versions, hardware, began, warm_start, defaults
                                                                            a driver starts, or goes on
    pool       slots, nodes, came, left                                     nodes joined or left the cluster
    plan       phases, seconds_per_epoch, basis, total_s, footprint         what is expected, before and after measuring
    phase      phase, phase_kind, space, changes, comparison, trials        a phase begins with this space, and why
    trial      phase, trial, attempt, role, config, fidelity                a trial begins (again, with attempt > 1)
    report     trial, attempt, epoch, metrics, checkpoint, seconds, slot    an epoch ended
    decision   trial, epoch, rung, value, cutoff, decision, unstopped       a scheduler judged a trial at a rung
    exploit    trial, attempt, epoch, donor, checkpoint, before, after, cause      a member takes over another's state;
               rung, value, decision, ahead_of, others besides, where a decision was the reason
    failure    trial, attempt, failure_kind, error, message, traceback, seconds, log       an attempt did not end well
    finding    finding, severity, message, evidence                         something a person should know
    advice     phase, trial, of, finding, changes, message                  a trial tests advice for another one
    advice     the same, outcome                                            what came of it
    advice     (phase, before, after), finding, message                     a later phase has other epochs
    test       phase, arms                                                  the test split is about to be read
    verdict    phase, verdict, winner, arms, comparison, test, test_reads   what the confirm phase showed
    end        trial, status, reason, seconds, whole                        a trial ended
    end        (phase, seconds | time), status, reason                      a phase or the sweep ended

`seconds` is the work in a slot: a report's own; a failure's or an end's is what no report counts. A verdict's
differences are positive where the candidate is better, in both modes. Non-finite metric values are the strings "nan",
"inf", "-inf", so that every line is strict JSON.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sweeps.errors import JournalError
from sweeps.pens import is_journal_file, lock, object_name, pen_for
from sweeps.storage import Folder, RemotePath, files, first_words, lock_file, persistently

Line = dict[str, Any]
FORMAT = 1
"""Of the lines, as each driver writes it first; raised when an older version's could be misread."""
SYNCED = frozenset({"sweep", "pool", "plan", "phase", "decision", "exploit", "failure", "test", "verdict", "end"})
"""Kinds that are on a local disk before the driver goes on; reports and trials follow with the next of them."""
AWAITED = frozenset({"sweep", "plan", "phase", "test", "verdict"})
"""Kinds that are stored before the driver goes on in any storage; what was written before them is then, too."""
READERS = 16
"""So many objects of a journal are fetched at once."""


def _elapsed() -> float:
    """Seconds since the machine was started: on Linux those asleep as well."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


_BEGAN = time.time() - _elapsed()


def now() -> float:
    """Unix seconds that never go back in this process, whatever is done to the machine's clock meanwhile."""
    return _BEGAN + _elapsed()


class Journal:
    """The driver's pen. Claims the next generation of the sweep's journal."""

    def __init__(self, folder: Folder) -> None:
        """Raises StorageError when a driver is at work on the sweep, JournalError when it cannot be written."""
        self._lock: int | None = lock(lock_file(folder, "driver"), folder)
        try:
            self._pen = pen_for(folder / "journal")
        except BaseException:
            os.close(self._lock)  # else a second try would find this process at work
            raise
        self.generation = self._pen.generation
        self.ahead = 0.0
        """Seconds by which this journal's stamps are ahead of the clock, whose earlier drivers' was ahead of ours."""

    def append(self, kind: str, **fields: Any) -> Line:
        """Write one line and return it. Raises JournalError when the storage refuses it, or another driver has it."""
        line: Line = {"kind": kind, "at": now() + self.ahead, **fields}
        raw = json.dumps(finite(line), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        self._pen.write(raw, kind in SYNCED, kind in AWAITED)
        return line

    def once_stored(self, action: Callable[[], None]) -> None:
        """Do something that must not happen before what was written so far is stored: now, or within a second."""
        self._pen.once_stored(action)

    def close(self) -> None:
        """Let another driver have the sweep; the journal stays readable. Raises JournalError when lines are lost."""
        if self._lock is not None:
            descriptor, self._lock = self._lock, None
            try:
                self._pen.close()
            finally:
                os.close(descriptor)


class JournalReader:
    """Reads a journal as it grows: each `poll` gives the complete lines that are new since the last."""

    def __init__(self, folder: Folder) -> None:
        self.directory = folder / "journal"
        self._offsets: dict[str, int] = {}
        self._last: tuple[int, int] | None = None

    def poll(self) -> list[Line]:
        """New lines in the order they were written. Raises JournalError for a damaged line that is not a file's last.

        A last line without its end is being written, or was cut by a crash: it is left for the next poll.
        """
        lines: list[Line] = []
        for name, data in self._appended(self.directory) if isinstance(self.directory, Path) else self._stored():
            offset = self._offsets.get(name, 0)
            end = data.rfind(b"\n") + 1
            for number, raw in enumerate(data[:end].splitlines(), 1):
                try:
                    lines.append(parsed(raw))
                except ValueError as error:
                    where = f"{self.directory / name}, line {number} after byte {offset}"
                    mend = "Restore the file from a copy"
                    raise JournalError(f"journal: {where} is damaged: {error}. {mend}.") from error
            self._offsets[name] = offset + end
        return lines

    def _appended(self, directory: Path) -> Iterator[tuple[str, bytes]]:
        """The local files that have grown, and by what."""
        for path in sorted(path for path in directory.glob("*.jsonl") if is_journal_file(path.name)):
            offset = self._offsets.get(path.name, 0)
            if path.stat().st_size > offset:
                with open(path, "rb") as file:
                    file.seek(offset)
                    yield path.name, file.read()

    def _stored(self) -> list[tuple[str, bytes]]:
        """The objects that are new; after the first look without a listing, which grows with their number."""

        def fetch(name: str) -> bytes:
            return persistently((self.directory / name).read_bytes, self.directory)

        try:
            if self._last is None:
                listed = persistently(lambda: files(self.directory), self.directory)
                names = [name for name, _ in listed if is_journal_file(name)]
                if names:
                    generation, _, number = names[-1].removesuffix(".jsonl").partition("-")
                    self._last = int(generation), int(number)
                with ThreadPoolExecutor(READERS) as pool:
                    return list(zip(names, pool.map(fetch, names), strict=True))
            found: list[tuple[str, bytes]] = []
            following = True
            while following:
                following = False
                for candidate in ((self._last[0], self._last[1] + 1), (self._last[0] + 1, 0)):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((object_name(*candidate), fetch(object_name(*candidate))))
                        self._last, following = candidate, True
                        break
            return found
        except OSError as error:
            raise JournalError(f"journal: cannot read {self.directory}: {first_words(error)}") from error


def read(folder: Folder) -> list[Line]:
    """All complete lines of a sweep's journal."""
    return JournalReader(folder).poll()


def read_header(folder: Folder) -> Line | None:
    """The journal's first line, its `sweep` line, without reading the rest; None when there is none yet."""
    directory = folder / "journal"
    if isinstance(directory, RemotePath):
        try:
            raw = (directory / object_name(1, 0)).read_bytes().partition(b"\n")[0]
        except FileNotFoundError:
            return None
        return header_of(raw + b"\n", directory)
    for path in sorted(path for path in directory.glob("*.jsonl") if is_journal_file(path.name))[:1]:
        with open(path, "rb") as file:
            return header_of(file.readline(), path)
    return None


def parsed(raw: bytes) -> Line:
    """A line from its bytes. Raises ValueError for what is none."""
    line = json.loads(raw)
    if not isinstance(line, dict):
        raise ValueError(f"{line!r} is no object")
    return line


def header_of(raw: bytes, where: Folder) -> Line | None:
    """A journal's first line from its bytes; None while it has no end."""
    try:
        return parsed(raw) if raw.endswith(b"\n") else None
    except ValueError as error:
        raise JournalError(f"journal: the first line of {where} is damaged: {error}") from error


def finite(value: Any) -> Any:
    """The value with non-finite floats as strings, so that it is strict JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value
