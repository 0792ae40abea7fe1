"""The driver's side of the MLflow writer: start it, end it, replay with it. No mlflow import.

The child's standard input is the driver's sign of life: its end means that the driver is done, or dead by whatever
means, and either way the child writes what the journal still holds and ends by itself. A pipe the other way is the
child's: a byte for each trial that MLflow has taken, so that `finish` need not wait for a server that takes none. The
sweep never fails because MLflow did: `finish` gives a message, and `sync` repeats the work from the journal whenever
one likes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

from sweeps.errors import TrackingError
from sweeps.history import History
from sweeps.journal import JournalReader
from sweeps.pens import at_work
from sweeps.storage import Folder, at_hand, lock_file, place
from sweeps.tracking.uris import SQLITE, check

ENVIRONMENT = {
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its lines go through the writer's own handler, which hides secrets
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a retried create_run makes a second run: the writer looks up first
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
GAVE_UP = 1
"""The writer's exit code when it has told why MLflow will not have everything, and would end so again."""
LEFT_ALONE: list[subprocess.Popen[bytes]] = []
"""Writers that outlive their driver's interest in them: Python complains of a process that is forgotten at work."""
LOOK_S = 2.0
"""Between two looks at whether a sweep that is followed has ended."""
AGAIN_S = 10.0
"""A writer that is killed again and again is started no more often than this."""


class Writer:
    """The process that follows a sweep's journal into MLflow, as its driver sees it."""

    def __init__(self, folder: Folder, uri: str) -> None:
        """Start it; it ends with this process, or by `finish`."""
        self.folder, self.uri = folder, uri
        self.child: subprocess.Popen[bytes] | None = None
        self._begin(subprocess.PIPE)

    def _begin(self, stdin: int) -> None:
        """Start it; what hinders is told at the end: a sweep never fails because MLflow did."""
        self.began = time.monotonic()
        self.problem = ""
        try:
            self.signs, theirs = os.pipe()
            os.set_blocking(theirs, False)  # nobody reads them before the end
            try:
                self.child = _popen(self.folder, self.uri, stdin, theirs)
            except OSError:
                os.close(self.signs)
                raise
            finally:
                os.close(theirs)
        except OSError as error:  # no memory, no descriptors, a folder that is not ours
            self.child, self.problem = None, f"MLflow: its writer cannot be started: {error}."

    def mind(self) -> None:
        """Start it again when it was killed; not one that gave up by itself, which `finish` tells."""
        if self._killed() and time.monotonic() - self.began >= AGAIN_S:
            self._let_go()
            self._begin(subprocess.PIPE)

    def finish(self, timeout_s: float, stalled_s: float = math.inf) -> str:
        """Tell it that the journal is complete and wait for it. Empty when MLflow has everything, else a message.

        A writer that takes longer, or from which MLflow takes nothing any more for `stalled_s`, is left alone: it goes
        on by itself and gives up a minute after an unreachable server.
        """
        self._hang_up()
        if self._killed():
            self._let_go()
            self._begin(subprocess.DEVNULL)
        replay = f"Nothing is lost: `sweeps sync {shlex.quote(str(self.folder))}` writes what is missing."
        if self.child is None:
            return f"{self.problem}\n  {replay}"
        code = self._wait(self.child, timeout_s, stalled_s)
        if code is None:
            LEFT_ALONE.append(self.child)
            return f"MLflow: the writer (process {self.child.pid}) is still at work, and goes on by itself.\n  {replay}"
        self._let_go()
        if code == 0:
            return ""
        log = log_file(self.folder)
        last = "\n  ".join(log.read_text(errors="replace").splitlines()[-5:])
        return f"MLflow: the writer ended with exit code {code}; its last words in {log}:\n  {last}\n  {replay}"

    def _killed(self) -> bool:
        """Whether it did not end by itself, or never began."""
        return self.child is None or self.child.poll() not in (None, 0, GAVE_UP)

    def _wait(self, child: subprocess.Popen[bytes], timeout_s: float, stalled_s: float) -> int | None:
        """Its exit code; None when it takes too long."""
        ends = time.monotonic() + timeout_s
        patience = math.inf  # until it has begun: its imports may take long where others are at work
        signs = select.poll()
        signs.register(self.signs, select.POLLIN)
        while (left := min(ends, patience) - time.monotonic()) > 0:
            if signs.poll(1000 * min(left, LOOK_S)):
                if not os.read(self.signs, 2**16):  # it closes them by ending
                    return child.wait()
                patience = time.monotonic() + stalled_s
        return child.poll()

    def _hang_up(self) -> None:
        """Close our end of its standard input."""
        if self.child and self.child.stdin:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self.child.stdin.close()

    def _let_go(self) -> None:
        """Close what is left of one that has ended."""
        self._hang_up()
        if self.child:
            os.close(self.signs)


def sync(folder: Folder, uri: str, *, to_the_end: bool = False) -> None:
    """Write a sweep into MLflow, which may already hold all, a part or nothing of it.

    A sweep that is not over is one whose driver is dead, unless it is followed `to_the_end`, through whatever drivers
    it takes; interrupted, that leaves in MLflow what is there by then.

    Raises TrackingError when the URI cannot be used, when the sweep has a writer to it already, or when something is
    missing in the end.
    """
    check(uri)
    if not to_the_end and at_work(folder):
        raise TrackingError(f"tracking: the driver of {folder} is at work.\n  Add --follow to go on until it ends.")
    try:
        os.close(claim(folder, uri))
    except BlockingIOError:
        raise TrackingError(
            f"tracking: {folder} is being written to MLflow already.\n  Wait until its sweep has ended."
        ) from None
    writer = Writer(folder, uri)
    if to_the_end:
        try:
            _wait_for_end(folder, writer)
        except KeyboardInterrupt:
            if writer.child:
                writer.child.kill()  # closing its input would tell it that the driver is no more
            raise
    if problem := writer.finish(math.inf):
        raise TrackingError(problem)


def _wait_for_end(folder: Folder, writer: Writer) -> None:
    """Wait until the journal has the sweep's end, or the writer has given up."""
    reader, history = JournalReader(folder), History(folder)
    while writer.child and writer.child.poll() != GAVE_UP:
        history.extend(reader.poll())
        if history.status != "RUNNING":
            return
        writer.mind()
        time.sleep(LOOK_S)


def claim(folder: Folder, uri: str) -> int:
    """Become the sweep's only writer to that MLflow, for as long as the returned file stays open; two would create runs
    twice. Of a remote sweep it keeps out others on this machine only.

    Raises BlockingIOError when another process is it.
    """
    path = uri.removeprefix(SQLITE)
    meant = os.path.abspath(path) if path != uri else uri.rstrip("/").lower()  # however it is spelled
    name = f"mlflow-{hashlib.sha256(meant.encode()).hexdigest()[:12]}"
    descriptor = os.open(lock_file(folder, name), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def log_file(folder: Folder) -> Path:
    """Where the writer's log is."""
    return at_hand(folder) / "logs" / "mlflow.log"


def _popen(folder: Folder, uri: str, stdin: int, signs: int) -> subprocess.Popen[bytes]:
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    environment["MLFLOW_TRACKING_URI"] = uri  # not an argument: those can be read by anyone on the machine
    log_file(folder).parent.mkdir(parents=True, exist_ok=True)
    with open(log_file(folder), "ab") as log:
        return subprocess.Popen(
            # -P: a file called mlflow.py in the working directory is not MLflow
            [sys.executable, "-P", "-m", "sweeps.tracking.writer", str(place(folder)), str(signs)],
            env=environment,
            stdin=stdin,
            pass_fds=[signs],
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal stops the driver; the child then still drains
        )
