"""Where sweeps keep their folders: a local folder, or one on any other file system that pyarrow knows (`s3://…`).

A folder is a `Path`, or a `RemotePath` with the part of pathlib that a sweep needs, so that those who read and write a
sweep rarely ask which. What they must know of an object store: a file appears whole or not at all, it never grows, and
each call costs tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from sweeps.errors import StorageError

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")
STAMP = re.compile(r"-(\d{8}-\d{6})")
NEWEST = 20
PATIENCE_S = 30.0
"""How long a remote storage may be out of reach before that is an error."""


@dataclass(frozen=True)
class RemotePath:
    """A path on a file system that is not the local one, with pathlib's names for what a sweep does with it."""

    scheme: str
    path: str
    """Without scheme and slashes around it; for an object store the bucket comes first."""
    options: str = ""
    """How to reach it: the query of the URI."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}{self.options and '?'}{self.options}"

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.scheme, f"{self.path}/{name}", self.options)

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """All but the last part."""
        return RemotePath(self.scheme, self.path.rpartition("/")[0], self.options)

    def exists(self) -> bool:
        """Whether there is a file here, or anything below it."""
        filesystem, path = opened(self)
        return bool(filesystem.get_file_info(path).type.value)  # NotFound is 0

    def read_bytes(self) -> bytes:
        """The file's content. Raises FileNotFoundError."""
        filesystem, path = opened(self)
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.readall())

    def write_bytes(self, content: bytes) -> None:
        """Make or replace the file, whole or not at all."""
        filesystem, path = opened(self)
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)


Folder = Path | RemotePath


def place(where: str | Path | RemotePath) -> Folder:
    """The folder of that path or URI, absolute. Raises StorageError for a URI that cannot be one."""
    if isinstance(where, RemotePath):
        return where
    text = str(where)
    if slip := re.match(r"(\w+):/(?!/)", text):
        raise StorageError(f"storage: {text} has one slash after {slip[1]}:. Write {slip[1]}://…")
    if "://" not in text or text.startswith("file://"):
        return Path(text.removeprefix("file://")).expanduser().absolute()
    parts = urlsplit(text)
    if "@" in parts.netloc:  # it would stand in the journal, in logs, in the list of processes
        mend = "Leave it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use the machine's role"
        raise StorageError(f"storage: {parts.scheme}://…@{parts.hostname} holds a secret. {mend}.")
    if parts.fragment or text.endswith("#"):
        raise StorageError(f"storage: {text} holds a '#', which ends a URI's path. Choose a path without it.")
    return RemotePath(parts.scheme, f"{parts.netloc}{parts.path}".strip("/"), parts.query)


def opened(folder: Folder) -> tuple[FileSystem, str]:
    """The file system that a folder is on, and its path there. Raises StorageError when pyarrow does not know it."""
    from pyarrow.fs import LocalFileSystem

    if isinstance(folder, Path):
        return LocalFileSystem(), str(folder)
    return connected(folder.scheme, folder.path.partition("/")[0], folder.options), folder.path


@lru_cache
def connected(scheme: str, root: str, options: str) -> FileSystem:
    """One connection a process to each file system. Raises OSError when it cannot be reached."""
    from pyarrow.fs import FileSystem

    uri = f"{scheme}://{root}{options and '?'}{options}"
    try:
        return FileSystem.from_uri(uri)[0]
    except (ValueError, NotImplementedError) as error:  # ArrowInvalid is a ValueError
        mend = "Give a folder, or e.g. s3://bucket/sweeps"
        raise StorageError(f"storage: {uri}: {first_words(error)}. {mend}.") from None


def files(folder: Folder) -> list[tuple[str, int]]:
    """Every file below a folder: its path from there, and its bytes; none for a folder that is not there."""
    from pyarrow.fs import FileSelector, FileType

    filesystem, path = opened(folder)
    found: list[FileInfo] = filesystem.get_file_info(FileSelector(path, allow_not_found=True, recursive=True))
    return sorted((info.path[len(path) + 1 :], info.size) for info in found if info.type == FileType.File)


def remove(folder: Folder, first: str) -> None:
    """Remove a folder: its file `first` before the rest, so that a half removed one can be told."""
    if isinstance(folder, Path):
        (folder / first).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # what stays behind is litter
        if folder.parent.is_dir() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
        return
    filesystem, path = opened(folder)
    for delete, what in ((filesystem.delete_file, f"{path}/{first}"), (filesystem.delete_dir, path)):
        with contextlib.suppress(FileNotFoundError):  # a driver that died may have come so far
            delete(what)


def persistently(action: Callable[[], T], folder: Folder) -> T:
    """The action's result; on a remote storage that is out of reach it is tried again for PATIENCE_S."""
    deadline, pause = time.monotonic() + PATIENCE_S, 0.5
    while True:
        try:
            return action()
        except (FileNotFoundError, PermissionError):
            raise  # an answer, not an outage
        except OSError:
            if isinstance(folder, Path) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause *= 2


def storage_folder(storage: str) -> Folder:
    """The folder that holds sweeps. Raises StorageError when it cannot be one, or not be reached."""
    folder = place(storage)
    if isinstance(folder, RemotePath):
        bucket = RemotePath(folder.scheme, folder.path.partition("/")[0], folder.options)
        try:
            if bucket.exists():
                return folder
        except OSError as error:
            raise StorageError(
                f"storage: {folder} cannot be reached: {first_words(error)}. "
                "Are the credentials of this machine right, and AWS_REGION or AWS_ENDPOINT_URL if it needs them?"
            ) from None
        raise StorageError(f"storage: {bucket} is not there. Make it first, or mend the name.")
    if strange := sorted(set(str(folder)) & set("%?#")):
        mend = "Choose a path without it: MLflow's URIs read it as something else."
        raise StorageError(f"storage: {folder} holds {strange[0]!r}. {mend}")
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"storage: {folder} is a file. Give a folder.")
    return folder


def new_sweep_folder(storage: Folder, name: str) -> Folder:
    """The folder of a new sweep, `<name>-<date>-<time>`, never one that is there. Raises StorageError."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        folder = storage / f"{stem}{suffix}"
        try:
            if isinstance(folder, Path):
                folder.mkdir(parents=True)
            elif folder.exists():
                continue
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            why = error.strerror or first_words(error)
            raise StorageError(f"storage: cannot make {folder}: {why}. Check the path and its permissions.") from None
    raise StorageError(f"storage: {storage} already holds a hundred sweeps called {stem}. Wait a second.")


def find_sweep(path: str | Path | RemotePath, storage: str = "./runs") -> Folder:
    """The folder of a sweep given by path, or by name under `storage`. Raises StorageError when there is none."""
    given = place(path)
    for folder in (given, *([place(storage) / str(path)] if isinstance(given, Path) else [])):
        try:
            if (folder / "journal").exists():
                return folder
        except OSError as error:
            mend = "Is the storage up, and are this machine's credentials right?"
            raise StorageError(f"{folder} cannot be read: {first_words(error)}. {mend}") from None
    under = f", nor under {storage}" if isinstance(given, Path) else ""
    raise StorageError(f"there is no sweep at {path}{under}. Give the folder that `sweeps run` printed.")


def newest_sweeps(storage: Folder) -> list[Folder]:
    """The sweeps in a storage, the newest first; of a remote one the newest few by their names, for each is a call."""
    if isinstance(storage, Path):
        journals = sorted(storage.glob("*/journal"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [journal.parent for journal in journals]
    from pyarrow.fs import FileSelector, FileType

    filesystem, path = opened(storage)
    found: list[FileInfo] = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
    names = [info.base_name for info in found if info.type == FileType.Directory and STAMP.search(info.base_name)]
    newest = sorted(names, key=lambda name: STAMP.findall(name)[-1], reverse=True)
    return [storage / name for name in newest[:NEWEST]]


def at_hand(folder: Folder) -> Path:
    """The local folder for what can only lie in one: the report as it is drawn, MLflow's default database and log.

    That is the sweep's own folder, or for a remote sweep `./runs/<its name>`.
    """
    return folder if isinstance(folder, Path) else Path("runs").absolute() / folder.name


def lock_file(folder: Folder, name: str) -> Path:
    """The file whose lock keeps other processes of this machine from a sweep."""
    if isinstance(folder, Path):
        return folder / f"{name}.lock"
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tunewright-{os.getuid()}-{digest}-{name}.lock"


def first_words(error: BaseException) -> str:
    """The first line of an error, without the details that Arrow puts after it."""
    return (str(error).splitlines() or [repr(error)])[0].partition(". Detail:")[0].rstrip(".")
