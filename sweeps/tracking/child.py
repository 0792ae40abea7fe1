"""The driver's side of the MLflow writer: start it, end it, replay with it. No mlflow import.

The child's standard input is the driver's sign of life: its end means that the driver is done, or dead by whatever
means, and either way the child writes what the journal still holds and ends by itself. The sweep never fails because
MLflow did: `finish` gives a message, and `sync` repeats the work from the journal whenever one likes.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from sweeps.errors import TrackingError
from sweeps.storage import Folder, at_hand, lock_file, place
from sweeps.tracking.uris import check

ENVIRONMENT = {
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its lines go through the writer's own handler, which hides secrets
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a retried create_run makes a second run: the writer looks up first
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
GAVE_UP = 1
"""The writer's exit code when it has told why MLflow will not have everything, and would end so again."""
AGAIN_S = 10.0
"""A writer that is killed again and again is started no more often than this."""


class Writer:
    """The process that follows a sweep's journal into MLflow, as its driver sees it."""

    def __init__(self, folder: Folder, uri: str) -> None:
        """Start it; it ends with this process, or by `finish`."""
        self.folder, self.uri = folder, uri
        self._begin(subprocess.PIPE)

    def _begin(self, stdin: int) -> None:
        self.began = time.monotonic()
        self.child = _popen(self.folder, self.uri, stdin)

    def mind(self) -> None:
        """Start it again when it was killed; not one that gave up by itself, which `finish` tells."""
        if self.child.poll() not in (None, 0, GAVE_UP) and time.monotonic() - self.began >= AGAIN_S:
            self._hang_up()
            self._begin(subprocess.PIPE)

    def finish(self, timeout_s: float) -> str:
        """Tell it that the journal is complete and wait for it. Empty when MLflow has everything, else a message.

        A writer that takes longer is left alone: it goes on by itself and gives up a minute after an unreachable
        server.
        """
        self._hang_up()
        if self.child.poll() not in (None, 0, GAVE_UP):
            self._begin(subprocess.DEVNULL)
        replay = f"Nothing is lost: `sweeps sync {shlex.quote(str(self.folder))}` writes what is missing."
        try:
            code = self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            still = f"MLflow: the writer (process {self.child.pid}) is still at work after {timeout_s:.0f} s."
            return f"{still}\n  {replay}"
        if code == 0:
            return ""
        log = log_file(self.folder)
        last = "\n  ".join(log.read_text(errors="replace").splitlines()[-5:])
        return f"MLflow: the writer ended with exit code {code}; its last words in {log}:\n  {last}\n  {replay}"

    def _hang_up(self) -> None:
        """Close our end of its standard input."""
        if self.child.stdin:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self.child.stdin.close()


def sync(folder: Folder, uri: str) -> None:
    """Write a finished or dead sweep into MLflow, which may already hold all, a part or nothing of it.

    Raises TrackingError when the URI cannot be used, when the sweep has a writer already, or when something is missing
    in the end.
    """
    check(uri)
    try:
        os.close(claim(folder))
    except BlockingIOError:
        raise TrackingError(
            f"tracking: {folder} is being written to MLflow already.\n  Wait until its sweep has ended."
        ) from None
    if problem := Writer(folder, uri).finish(math.inf):
        raise TrackingError(problem)


def claim(folder: Folder) -> int:
    """Become the sweep's only writer, for as long as the returned file stays open; two would create runs twice.

    Raises BlockingIOError when another process is it.
    """
    descriptor = os.open(lock_file(folder, "mlflow"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def log_file(folder: Folder) -> Path:
    """Where the writer's log is."""
    return at_hand(folder) / "logs" / "mlflow.log"


def _popen(folder: Folder, uri: str, stdin: int) -> subprocess.Popen[bytes]:
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    environment["MLFLOW_TRACKING_URI"] = uri  # not an argument: those can be read by anyone on the machine
    log_file(folder).parent.mkdir(parents=True, exist_ok=True)
    with open(log_file(folder), "ab") as log:
        return subprocess.Popen(
            # -P: a file called mlflow.py in the working directory is not MLflow
            [sys.executable, "-P", "-m", "sweeps.tracking.writer", str(place(folder))],
            env=environment,
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal stops the driver; the child then still drains
        )
