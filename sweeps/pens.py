"""How the driver's lines reach the storage: appended to a file, or stored as one immutable object after another.

A lock keeps a second driver of the machine out. Where none holds between machines, each driver claims the next
generation, and one whose claim is no longer the newest stops before its next line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from sweeps.errors import JournalError, StorageError, SweepsError
from sweeps.storage import Folder, RemotePath, at_hand, files, first_words, lock_file, persistently

FLUSH_S = 1.0
"""A line waits at most this long for the object that it is stored in."""


class Pen(Protocol):
    """What a journal writes with."""

    generation: int

    def write(self, line: bytes, durable: bool, awaited: bool) -> None:
        """Write a line: `durable` on disk when this returns, where that is cheap; `awaited` in any storage.

        Raises JournalError when the storage refuses it, or another driver has the sweep.
        """

    def once_stored(self, action: Callable[[], None]) -> None:
        """Do something, which raises nothing, when everything written so far is stored."""

    def close(self) -> None:
        """Store what is left. Raises JournalError when that fails."""


def pen_for(directory: Folder) -> Pen:
    """The pen for a journal's directory, of the next generation. Raises JournalError when it cannot be written."""
    return FilePen(directory) if isinstance(directory, Path) else ObjectPen(directory)


class FilePen:
    """Appends to one local file."""

    def __init__(self, directory: Path) -> None:
        self._problem: JournalError | None = None
        try:
            directory.mkdir(exist_ok=True)
            self.generation = next_generation(path.name for path in directory.glob("*.jsonl"))
            self.path, self._next = (directory / f"{self.generation + n:04d}-0000.jsonl" for n in (0, 1))
            self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115  (open for the driver's life)
        except OSError as error:
            raise JournalError(f"journal: cannot write in {directory}: {error.strerror}") from error

    def write(self, line: bytes, durable: bool, awaited: bool) -> None:
        if self._next.exists():
            raise taken_over(self.path.parent)
        if self._problem:  # what follows a part of a line would make it a damaged one
            raise self._problem
        with self._told():
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if durable or awaited:
                os.fsync(self._file.fileno())
            if not os.fstat(self._file.fileno()).st_nlink:  # the system goes on writing into nowhere
                raise FileNotFoundError(errno.ENOENT, "it was removed")

    def once_stored(self, action: Callable[[], None]) -> None:
        if not self._problem:
            with self._told():
                os.fsync(self._file.fileno())
            action()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the system refuses into the journal's problem."""
        try:
            yield
        except OSError as error:
            mend = "Free space or mend the storage, then `sweeps resume`."
            self._problem = JournalError(f"journal: cannot write {self.path}: {error.strerror}. {mend}")
            raise self._problem from error

    def close(self) -> None:
        self._file.close()


class ObjectPen:
    """Collects lines and stores them as one object at most a second later; lines become visible in their order."""

    def __init__(self, directory: RemotePath) -> None:
        self.directory = directory
        self._claim = f"process {os.getpid()} on {socket.gethostname()}, {uuid.uuid4().hex}".encode()
        try:
            self.generation = next_generation(name for name, _ in files(directory))
            (directory / "claim").write_bytes(self._claim)
        except OSError as error:
            raise JournalError(f"journal: cannot write in {directory}: {first_words(error)}") from error
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._actions: list[Callable[[], None]] = []
        self._objects = self._written = self._stored = 0
        self._hurry = self._closing = False
        self._problem: SweepsError | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, line: bytes, durable: bool, awaited: bool) -> None:
        with self._changed:
            self._check()
            self._lines.append(line)
            self._written += 1
            if awaited:
                self._hurry, number = True, self._written
            self._changed.notify_all()
            if awaited:
                self._changed.wait_for(lambda: self._stored >= number or self._problem)
                self._check()

    def once_stored(self, action: Callable[[], None]) -> None:
        with self._changed:
            self._actions.append(action)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._problem:
            raise self._problem

    def _run(self) -> None:
        last = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._actions or self._closing)
                wait = last + FLUSH_S - time.monotonic()
                self._changed.wait_for(lambda: self._hurry or self._closing, timeout=max(wait, 0.0))
                lines, actions, self._lines, self._actions, self._hurry = self._lines, self._actions, [], [], False
                closing = self._closing
            problem: SweepsError | None = None
            try:
                if lines:
                    persistently(partial(self._store, b"".join(lines)), self.directory)
                    last = time.monotonic()
            except Exception as error:  # noqa: BLE001  told to the driver at its next line
                problem = error if isinstance(error, SweepsError) else self._given_up(error, lines)
            self._tell(len(lines), problem)
            if problem:
                return
            try:
                for action in actions:
                    action()
            except Exception as error:  # noqa: BLE001  without this thread the driver would wait for ever
                self._tell(
                    0, JournalError(f"journal: {error!r}, after its lines were stored. Go on by `sweeps resume`.")
                )
                return
            if closing and not self._lines and not self._actions:
                return

    def _tell(self, stored: int, problem: SweepsError | None) -> None:
        """Wake the driver, if it waits for these lines."""
        with self._changed:
            self._stored += stored
            self._problem = problem
            self._changed.notify_all()

    def _store(self, content: bytes) -> None:
        try:
            if (self.directory / "claim").read_bytes() != self._claim:
                raise taken_over(self.directory)
        except FileNotFoundError:
            raise JournalError(f"journal: {self.directory} was removed while its sweep was at work.") from None
        (self.directory / object_name(self.generation, self._objects)).write_bytes(content)
        self._objects += 1

    def _given_up(self, error: Exception, lines: list[bytes]) -> JournalError:
        """The error for a storage that stays out of reach; all lines that it did not take are kept at hand."""
        with self._changed:
            unstored, self._lines = [*lines, *self._lines], []
        told = f"journal: cannot write in {self.directory}: {first_words(error)}."
        name = object_name(self.generation, self._objects)
        kept = at_hand(self.directory.parent) / "unstored" / name
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(b"".join(unstored))
        except OSError as other:
            lost = f"The last {len(unstored)} lines are lost, for {kept} cannot be written either: {first_words(other)}"
            return JournalError(f"{told}\n  {lost}.\n  Mend the storage, then `sweeps resume`: it trains them again.")
        mend = f"Mend the storage, copy {kept} to {self.directory / name}, then `sweeps resume`"
        return JournalError(f"{told}\n  {mend}; without the copy, its {len(unstored)} lines are done again.")


def is_journal_file(name: str) -> bool:
    """Whether a file in the journal's folder is one of its own; a copy that a person left there is not."""
    return re.fullmatch(r"\d{4,}-\d{4,}\.jsonl", name) is not None


def next_generation(names: Iterable[str]) -> int:
    """The generation after those of the files."""
    return 1 + max((int(name.partition("-")[0]) for name in names if is_journal_file(name)), default=0)


def object_name(generation: int, number: int) -> str:
    """The name of an object of the journal; they sort in the order in which they were written."""
    return f"{generation:04d}-{number:06d}.jsonl"


def taken_over(directory: Folder) -> JournalError:
    """The error of a driver that finds another one's claim."""
    return JournalError(f"journal: another driver has taken {directory.parent} over. This one stops.")


def lock(path: Path, folder: Folder) -> int:
    """Take the drivers' lock; the returned descriptor holds it until it is closed or the process ends, however.

    Raises StorageError when another process has it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        mend = "Mend the permissions, or copy the sweep to where you may write"
        raise StorageError(f"{folder} cannot be gone on with: {path}: {error.strerror}. {mend}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise StorageError(f"{folder} is at work: {who} drives it. Wait for its end, or end it first.") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return descriptor


def at_work(folder: Folder) -> bool:
    """Whether a driver on this machine has the sweep's lock."""
    path = lock_file(folder, "driver")
    if not path.exists():
        return False
    with open(path) as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
